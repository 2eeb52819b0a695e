#include "vmm/cli/kernel_options.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define DEBUG_EXIT_PORT_MAX 0xfffc /* it is four ports wide */

/* A number, decimal or with 0x, that ends where it says; false: it is none. */
static bool parse_number(const char *text, char **end, uint64_t *number)
{
    if (!isdigit((unsigned char)*text))
        return false;
    errno = 0;
    *number = strtoull(text, end, 0);
    return errno == 0;
}

struct boot_flat parse_flat(const struct command_line *line, const char *text)
{
    struct boot_flat flat = { .bits = 32 };
    uint64_t bits = 32;
    char *end;
    bool good = parse_number(text, &end, &flat.gpa);

    flat.entry = flat.gpa;
    if (good && *end == ':')
        good = parse_number(end + 1, &end, &flat.entry);
    if (good && *end == ',')
        good = parse_number(end + 1, &end, &bits);
    if (!good || *end)
        usage_error(line, "--flat %s: not GPA[:ENTRY][,BITS]; say for example 0x100000,64", text);
    if (bits != 16 && bits != 32 && bits != 64)
        usage_error(line, "--flat %s: no such mode; say 16, 32 or 64", text);
    flat.bits = (unsigned)bits;
    return flat;
}

unsigned parse_debug_exit(const struct command_line *line, const char *text)
{
    uint64_t port;
    char *end;

    if (!strcmp(text, "off"))
        return 0;
    if (!parse_number(text, &end, &port) || *end)
        usage_error(line, "--debug-exit %s: not a port; say for example 0xf4, or off", text);
    if (!port || port > DEBUG_EXIT_PORT_MAX)
        usage_error(line, "--debug-exit %s: not a port from 1 to 0x%x; say for example 0xf4", text,
                    DEBUG_EXIT_PORT_MAX);
    return (unsigned)port;
}
