/*
 * What `strata run` was asked for.
 */
#ifndef STRATA_CLI_RUN_OPTIONS_H
#define STRATA_CLI_RUN_OPTIONS_H

#include "vmm/cli/options.h"
#include "vmm/launch/config.h"

struct run_options {
    struct vm_config config;
    bool force; /* start a kernel that will not work here */
    const char *exec, *json, *control;
    unsigned watchdog_seconds; /* 0: none */
};

extern const struct command_line run_line;

/*
 * Reads the command line; does not return where it is wrong, or asks for help. The
 * configuration is checked then.
 */
void run_options_parse(struct run_options *options, int argc, char **argv);
void run_options_free(struct run_options *options);

/* The option by which a field of the configuration is given, without its dashes; NULL: none. */
const char *run_option_of(const char *field);

/* One line on standard error, which names the option at fault. */
void run_report(const struct error *error);

#endif
