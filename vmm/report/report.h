/*
 * The report on a guest that did not end well: why, and of every vCPU what it was doing, the
 * registers, the code around rip, the page walks of rip and rsp, and the last exits; then
 * the last console output.
 */
#ifndef STRATA_REPORT_REPORT_H
#define STRATA_REPORT_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "vmm/machine/vm.h"

struct console;

/* Whether the end is one that people need a report about. */
bool report_wanted(const struct vm_end *end);

/*
 * The report on an ended VM, as JSON; the caller's to free. `console` is what its consoles
 * wrote to; `hang` says what the watchdog found, and may be NULL.
 */
json_t *report_json(const struct vm *vm, const struct console *console, const char *hang);

/*
 * One line on a VM that a signal ended while vCPUs had interrupts off, because such a guest
 * may have been dead; else nothing.
 */
void report_stopped(FILE *out, const struct vm *vm);

#endif
