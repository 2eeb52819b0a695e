/*
 * Copies on write: by the guest's kernel after fork, and by the host behind the guest's back
 * (faults.h).
 */
#ifndef STRATA_MEASURE_FAULT_COPIES_H
#define STRATA_MEASURE_FAULT_COPIES_H

#include "vmm/measure/faults.h"

int fault_copies(struct faults *faults);
int fault_copies_native(struct faults *faults);

#endif
