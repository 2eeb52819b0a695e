/*
 * The crash report: why a run ended, the registers, the instruction, the last exits.
 */
#ifndef STRATA_CLI_REPORT_H
#define STRATA_CLI_REPORT_H

#include <stdbool.h>
#include <stdio.h>

#include "vmm/machine/vm.h"

/* Whether the end is one that people need a report about. */
bool report_wanted(const struct vm_end *end);

/* Writes the report of an ended VM to `out`. */
void report_crash(FILE *out, const struct vm *vm);

#endif
