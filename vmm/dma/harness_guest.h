/*
 * Calls from the test harness into its program in the guest (guest/abi/harness.h). Between calls
 * the program waits, and the world stands still (vmm/launch/program.h).
 */
#ifndef STRATA_DMA_HARNESS_GUEST_H
#define STRATA_DMA_HARNESS_GUEST_H

#include <stdint.h>

#include "guest/abi/harness.h"
#include "vmm/launch/program.h"

struct vm;

struct harness_guest {
    struct program program;
    struct abi_harness *page; /* in guest memory */
    uint64_t challenge;
    uint64_t calls;
};

/* The board's checkpoint callback is then program_checkpoint, its owner guest->program. */
void harness_guest_init(struct harness_guest *guest, struct vm *vm);
void harness_guest_destroy(struct harness_guest *guest);

/* Waits for the program's first checkpoint: 0, or -errno with guest->program.failure. */
int harness_guest_wait_ready(struct harness_guest *guest, unsigned timeout_ms);

/*
 * Lets the program carry out n commands: post starts, collect waits for its end and takes
 * the results. -ETIMEDOUT: not yet, may be called again (guest->program.failure stays empty).
 */
int harness_guest_post(struct harness_guest *guest, const struct abi_harness_command *commands,
                       unsigned n);
int harness_guest_collect(struct harness_guest *guest, struct abi_harness_command *commands,
                          unsigned n, unsigned timeout_ms);

/* The flag of the program's page; also while the program runs. */
uint64_t harness_guest_flag(const struct harness_guest *guest);
void harness_guest_set_flag(struct harness_guest *guest, uint64_t flag);

/* Where the program's byte at va lies: 0 if it is not mapped. */
uint64_t harness_guest_gpa(const struct harness_guest *guest, uint64_t va);

/* The program ends, if it can; then nobody waits in a checkpoint any more. */
void harness_guest_release(struct harness_guest *guest);

#endif
