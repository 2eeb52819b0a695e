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
    bool print_config;
    const char *config_path; /* NULL: options alone say what the machine is */
    const char *exec, *json, *control;
    uint64_t given;            /* bit n: option n, for run_error_text */
    unsigned watchdog_seconds; /* 0: none */
};

extern const struct command_line run_line;

/*
 * Reads the command line; does not return where it is wrong, or asks for help. The
 * configuration is checked then.
 */
void run_options_parse(struct run_options *options, int argc, char **argv);
void run_options_free(struct run_options *options);

#define RUN_ERROR_BYTES 4608 /* with the file's path */

/* An error as the user knows the field: by its option, or by its place in --config's file. */
void run_error_text(const struct run_options *options, const struct error *error,
                    char text[RUN_ERROR_BYTES]);

/* That as a line on standard error. */
void run_report(const struct run_options *options, const struct error *error);

#endif
