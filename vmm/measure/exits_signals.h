/*
 * The experiment `exits`: what goes between the guest and threads of the host. Each function
 * makes its figures and returns 0, or -errno as exits_command.
 */
#ifndef STRATA_MEASURE_EXITS_SIGNALS_H
#define STRATA_MEASURE_EXITS_SIGNALS_H

#include <stdbool.h>

#include "vmm/measure/exits.h"

/* The guest's clock against the host's. False: they do not run together, nothing is known. */
int exits_signals_compare_clocks(struct exits *x, bool *together);

int exits_signals_store_to_thread(struct exits *x, unsigned count);
int exits_signals_irqfd_running(struct exits *x, unsigned count);
int exits_signals_irqfd_halted(struct exits *x, unsigned count);

#endif
