#include "vmm/base/parse.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int parse_size(const char *text, uint64_t *bytes)
{
    static const char units[] = "KMGT";
    unsigned long long number;
    unsigned shift = 0;
    char *end;

    if (!isdigit((unsigned char)*text))
        return -EINVAL;
    errno = 0;
    number = strtoull(text, &end, 10);
    if (errno)
        return -ERANGE;
    if (*end) {
        const char *unit = strchr(units, toupper((unsigned char)*end));

        if (!unit || end[1])
            return -EINVAL;
        shift = 10 * (unsigned)(unit - units + 1);
    }
    if (number << shift >> shift != number)
        return -ERANGE;
    *bytes = number << shift;
    return 0;
}

int parse_count(const char *text, unsigned max, unsigned *count)
{
    unsigned long number;
    char *end;

    if (!isdigit((unsigned char)*text))
        return -EINVAL;
    errno = 0;
    number = strtoul(text, &end, 10);
    if (*end)
        return -EINVAL;
    if (errno || number > max)
        return -ERANGE;
    *count = (unsigned)number;
    return 0;
}

int parse_time(const char *text, uint64_t max_ns, uint64_t *ns)
{
    unsigned long long number;
    uint64_t unit;
    char *end;

    if (!isdigit((unsigned char)*text))
        return -EINVAL;
    errno = 0;
    number = strtoull(text, &end, 10);
    if (!strcmp(end, "ms"))
        unit = 1000000;
    else if (!strcmp(end, "us"))
        unit = 1000;
    else if (!*end && !number)
        unit = 0; /* nothing needs no unit */
    else
        return -EINVAL;
    if (errno || number > max_ns / (unit ? unit : 1))
        return -ERANGE;
    *ns = number * unit;
    return 0;
}
