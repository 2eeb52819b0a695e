#include "vmm/cli/options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPTIONS_MAX 32
#define HELP_INDEX  OPTIONS_MAX
#define HELP_COLUMN 24

static void print_option(const struct option_entry *option)
{
    int width = printf("  --%s%s%s", option->name, option->argument ? " " : "",
                       option->argument ? option->argument : "");

    if (width >= HELP_COLUMN) {
        putchar('\n');
        width = 0;
    }
    printf("%*s", HELP_COLUMN - width, "");
    for (const char *at = option->help; *at; at++) {
        putchar(*at);
        if (*at == '\n')
            printf("%*s", HELP_COLUMN, "");
    }
    putchar('\n');
}

static void print_help(const struct command_line *line)
{
    static const struct option_entry help = { "help", NULL, "this text" };

    printf("Usage: strata %s [OPTIONS]%s%s\n%s\n\n", line->command, line->operands ? " " : "",
           line->operands ? line->operands : "", line->summary);
    for (unsigned i = 0; i < line->noptions; i++)
        print_option(&line->options[i]);
    print_option(&help);
}

void usage_error(const struct command_line *line, const char *format, ...)
{
    va_list arguments;

    fprintf(stderr, "strata %s: ", line->command);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "; see strata %s --help\n", line->command);
    exit(STATUS_USAGE);
}

int options_next(const struct command_line *line, int argc, char **argv, const char **value)
{
    struct option options[OPTIONS_MAX + 2] = { 0 };
    int found;

    for (unsigned i = 0; i < line->noptions && i < OPTIONS_MAX; i++) {
        options[i].name = line->options[i].name;
        options[i].has_arg = line->options[i].argument ? required_argument : no_argument;
        options[i].val = (int)i;
    }
    options[line->noptions] = (struct option){ .name = "help", .val = HELP_INDEX };

    opterr = 0;
    /* Small numbers stand for long options; letters never collide with them. */
    found = getopt_long(argc, argv, line->operands ? ":" : "+:", options, NULL);
    *value = optarg;
    if (found == HELP_INDEX || (found == '?' && optopt == 'h')) {
        print_help(line);
        exit(fflush(stdout) ? STATUS_FAILED : STATUS_OK);
    }
    if (found == ':')
        usage_error(line, "%s needs an argument", argv[optind - 1]);
    if (found == '?' && optopt == HELP_INDEX)
        usage_error(line, "--help takes no argument");
    if (found == '?' && optopt && optopt < OPTIONS_MAX)
        usage_error(line, "--%s takes no argument", line->options[optopt].name);
    if (found == '?' && isprint(optopt))
        usage_error(line, "unknown option -%c", optopt);
    if (found == '?')
        usage_error(line, "unknown option %s", argv[optind - 1]);
    if (found == -1 && !line->operands && optind < argc)
        usage_error(line, "unexpected argument \"%s\"", argv[optind]);
    return found;
}

int parse_backing(const char *text, enum memory_backing *backing)
{
    static const char *const names[] = {
        [MEMORY_4K] = "4k",
        [MEMORY_THP] = "thp",
        [MEMORY_HUGETLB] = "hugetlb",
        [MEMORY_HUGETLB_1G] = "hugetlb-1g",
    };

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcasecmp(text, names[i]) == 0) {
            *backing = (enum memory_backing)i;
            return 0;
        }
    }
    return -EINVAL;
}
