/* The experiment `exits`: events that just happen, by turns with a bare machine's. */
#ifndef STRATA_MEASURE_EXITS_EVENTS_H
#define STRATA_MEASURE_EXITS_EVENTS_H

#include "vmm/measure/exits.h"

/* All figures of these events. 0; -errno as exits_command, or with run->error set. */
int exits_events(struct exits *x);

#endif
