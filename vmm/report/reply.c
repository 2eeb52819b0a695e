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
