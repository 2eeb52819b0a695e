/*
 * The parts of the experiment `faults`, a file each. All measure by orders to one session and
 * to this process; each returns 0 or -errno with session->failure or run->error set.
 */
#ifndef STRATA_MEASURE_FAULTS_H
#define STRATA_MEASURE_FAULTS_H

#include <stdbool.h>

#include "vmm/measure/field.h"
#include "vmm/measure/measure.h"
#include "vmm/measure/session.h"

struct faults {
    struct measure_run *run;
    struct session *session;
    struct field field[2];      /* by the guest's page size; open all the while */
    double floor, native_floor; /* ticks of an empty pair */
    double ns_per_tick;
    bool shadow;       /* KVM shadows the guest's tables: there is no second stage */
    unsigned pages[2]; /* of a field, by the guest's page size */
    unsigned warm_up, batches;
};

/* One distribution, and what guest and KVM counted meanwhile. */
struct fault_case {
    struct abi_histogram histogram;
    uint64_t counts[FIELD_COUNTS];
};

/* Orders timed touches of a field, and adds what came of them. */
int fault_touch_timed(struct field *field, uint64_t stride, uint32_t flags,
                      struct fault_case *result);

/* PREFIX/ns, PREFIX/guest-faults and PREFIX/kvm-faults. */
void fault_report(const struct faults *faults, const struct fault_case *result, const char *format,
                  ...) __attribute__((format(printf, 3, 4)));

#define FAULT_SIZE_UNKNOWN "the host does not tell the size of its pages; be root"

/* "4k" or "2m". */
const char *fault_page_name(bool huge);

/* ---- The parts ---- */

int fault_kinds(struct faults *faults);   /* which side faults */
int fault_copies(struct faults *faults);  /* copy on write */
int fault_logged(struct faults *faults);  /* first write under dirty logging */
int fault_changes(struct faults *faults); /* munmap and mprotect, with and without shootdown */

/*
 * The same in this process; no machine may be there, whose memory would be forked with it.
 * Of the session, only what is in `faults` itself is used.
 */
int fault_native(struct faults *faults);
int fault_native_copies(struct faults *faults);
int fault_native_changes(struct faults *faults);

#endif
