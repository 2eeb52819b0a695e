/*
 * Options of a command, from one table that is both what getopt_long gets and what
 * --help prints. Misuse ends the process with one line on stderr and status 2.
 */
#ifndef STRATA_CLI_OPTIONS_H
#define STRATA_CLI_OPTIONS_H

#include "vmm/machine/memory.h"

/* Exit statuses of every command (strata(1)). */
enum {
    STATUS_OK = 0,
    STATUS_FAILED = 1, /* a check failed, the guest crashed, a result could not be written */
    STATUS_USAGE = 2,
    STATUS_NO_KVM = 3,
};

struct option_entry {
    const char *name;
    const char *argument; /* as in --help; NULL: takes none */
    const char *help;     /* lines after the first start at the same column */
};

struct command_line {
    const char *command;
    const char *operands; /* what may follow the options, for --help; NULL: nothing may */
    const char *summary;  /* one or more sentences */
    const struct option_entry *options;
    unsigned noptions;
};

/*
 * The index of the next option in the table, its argument in *value; -1 after the last
 * one, when optind is the index of the first operand. --help is known to every command:
 * it prints and exits 0.
 */
int options_next(const struct command_line *line, int argc, char **argv, const char **value);

/* "strata COMMAND: text; see strata COMMAND --help", exit 2. */
void usage_error(const struct command_line *line, const char *format, ...)
    __attribute__((noreturn, format(printf, 2, 3)));

/* "4k", "thp", "hugetlb" or "hugetlb-1g": -EINVAL. */
int parse_backing(const char *text, enum memory_backing *backing);

#endif
