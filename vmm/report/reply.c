#include "vmm/report/reply.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

const char *reply_text(const json_t *json, const char *name)
{
    const char *value = json_string_value(json_object_get(json, name));

    return value ? value : "";
}

uint64_t reply_number(const json_t *json, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(json, name));
}

bool reply_yes(const json_t *json, const char *name)
{
    return json_is_true(json_object_get(json, name));
}

uint64_t reply_address(const json_t *json, const char *name)
{
    return strtoull(reply_text(json, name), NULL, 16);
}

const char *reply_size(uint64_t bytes, char *buffer, size_t room)
{
    static const char units[] = "KMGT";
    double value = (double)bytes / 1024;
    unsigned unit = 0;

    while (value >= 1024 && unit + 2 < sizeof(units)) {
        value /= 1024;
        unit++;
    }
    snprintf(buffer, room, value < 100 && value != (double)(uint64_t)value ? "%.1f%c" : "%.0f%c",
             value, units[unit]);
    return buffer;
}

const char *reply_space(const json_t *space, char *buffer, size_t room)
{
    uint64_t pid = reply_number(space, "pid");

    if (pid)
        snprintf(buffer, room, "pid %" PRIu64 " %s", pid, reply_text(space, "name"));
    else
        snprintf(buffer, room, "%s",
                 *reply_text(space, "name") ? reply_text(space, "name")
                                            : reply_text(space, "root"));
    return buffer;
}
