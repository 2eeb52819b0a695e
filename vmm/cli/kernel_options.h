/*
 * What `strata run` says about a kernel of one's own. Misuse ends the process.
 */
#ifndef STRATA_CLI_KERNEL_OPTIONS_H
#define STRATA_CLI_KERNEL_OPTIONS_H

#include "vmm/boot/source.h"
#include "vmm/cli/options.h"

/* --flat GPA[:ENTRY][,BITS]; whether it fits the kernel and memory is for boot to say. */
struct boot_flat parse_flat(const struct command_line *line, const char *text);

/* --debug-exit: a port, or 0 for "off". */
unsigned parse_debug_exit(const struct command_line *line, const char *text);

#endif
