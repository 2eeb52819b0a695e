#include "vmm/base/size.h"

#include <inttypes.h>
#include <stdio.h>

static const char units[] = "KMGT";

/* The size in its largest unit, K at least; *unit is its letter. */
static double size_scale(uint64_t bytes, char *unit)
{
    double value = (double)bytes / 1024;
    unsigned i = 0;

    while (value >= 1024 && i + 2 < sizeof(units)) {
        value /= 1024;
        i++;
    }
    *unit = units[i];
    return value;
}

const char *size_short(uint64_t bytes, char text[SIZE_TEXT_BYTES])
{
    char unit;
    double value = size_scale(bytes, &unit);

    snprintf(text, SIZE_TEXT_BYTES,
             value < 100 && value != (double)(uint64_t)value ? "%.1f%c" : "%.0f%c", value, unit);
    return text;
}

const char *size_long(uint64_t bytes, char text[SIZE_TEXT_BYTES])
{
    char unit;
    double value = size_scale(bytes, &unit);

    /* Few digits, but 16384 bytes are 16 KiB and not 16.0. */
    if (bytes < 1024)
        snprintf(text, SIZE_TEXT_BYTES, "%" PRIu64 " B", bytes);
    else
        snprintf(text, SIZE_TEXT_BYTES, "%.4g %ciB", value, unit);
    return text;
}
