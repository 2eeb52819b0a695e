/* The first write to a page since KVM has been logging what is written (faults.h). */
#ifndef STRATA_MEASURE_FAULT_LOGGED_H
#define STRATA_MEASURE_FAULT_LOGGED_H

#include "vmm/measure/faults.h"

int fault_logged(struct faults *faults);

#endif
