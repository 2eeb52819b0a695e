/*
 * The exit status of `strata run` (strata(1), EXIT STATUS).
 */
#ifndef STRATA_CLI_RUN_STATUS_H
#define STRATA_CLI_RUN_STATUS_H

#include <stdbool.h>

struct vm_end;

/* How a kernel of the user's ended, where it did not say a status itself. */
enum {
    STATUS_GUEST_RESET = 16,
    STATUS_GUEST_PANIC = 17,
    STATUS_TRIPLE_FAULT = 18,
    STATUS_INTERNAL_ERROR = 19, /* KVM could not go on: an instruction it cannot emulate, … */
    STATUS_FAIL_ENTRY = 20,     /* the processor refused the guest's state */
    STATUS_UNKNOWN_EXIT = 21,   /* KVM asked for something that strata does not know */
    STATUS_RUN_ERROR = 22,      /* KVM_RUN itself failed */
    STATUS_HUNG = 23,           /* --watchdog found no progress */
};

/*
 * 0 after a poweroff, the status that the guest gave, 128 and a signal's number, or one of
 * the above; for the bundled guest 1 instead of those, whatever it was.
 */
int run_status(const struct vm_end *end, bool bundled);

#endif
