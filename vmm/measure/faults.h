/*
 * The experiment `faults`, of which each part is a file: fault_kinds.h, fault_copies.h,
 * fault_logged.h, fault_changes.h. All measure by commands to one session and, where a part is
 * called native, to this process; each returns 0, or -errno with session->program.failure or
 * run->error set. While a native part runs no machine may be there, whose memory would be
 * forked with it; of the session it uses nothing but what is in struct faults itself.
 */
#ifndef STRATA_MEASURE_FAULTS_H
#define STRATA_MEASURE_FAULTS_H

#include <stdbool.h>

#include "vmm/measure/measure.h"
#include "vmm/measure/session.h"
#include "vmm/measure/test_region.h"

struct faults {
    struct measure_run *run;
    struct session *session;
    struct test_region region[2]; /* by the guest's page size; open all the while */
    double floor, native_floor;   /* ticks of an empty pair */
    double ns_per_tick;
    bool shadow;       /* KVM shadows the guest's tables: there is no second stage */
    unsigned pages[2]; /* of a test region, by the guest's page size */
    unsigned warm_up, batches;
};

#endif
