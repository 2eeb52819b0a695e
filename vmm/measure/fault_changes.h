/*
 * Taking permissions or pages away, by mprotect and munmap, which other CPUs must be told of
 * if they share the address space (faults.h).
 */
#ifndef STRATA_MEASURE_FAULT_CHANGES_H
#define STRATA_MEASURE_FAULT_CHANGES_H

#include "vmm/measure/faults.h"

int fault_changes(struct faults *faults);
int fault_changes_native(struct faults *faults);

#endif
