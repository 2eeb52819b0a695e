#include "vmm/measure/available_memory.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>

#define PATH_BYTES 1024

/* The files of a version of control groups. */
struct version {
    const char *folder; /* below the root */
    const char *limit, *used;
    const char *cached; /* of memory.stat: what of it can be had back at once */
};

static const struct version versions[] = {
    { "", "memory.max", "memory.current", "inactive_file" },
    { "/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file" },
};

/* The number behind a test region of a file, or (NULL) the file's first; false: there is none. */
static bool available_find_number(const char *path, const char *region, uint64_t *number)
{
    FILE *file = fopen(path, "re");
    char line[256], name[64];
    bool found = false;

    while (file && !found && fgets(line, sizeof(line), file)) {
        if (!region)
            found = sscanf(line, "%" SCNu64, number) == 1;
        else
            found = sscanf(line, "%63s %" SCNu64, name, number) == 2 && !strcmp(name, region);
        if (!region)
            break;
    }
    if (file)
        fclose(file);
    return found;
}

static bool available_number_of_group(const char *group, const char *file, const char *region,
                                      uint64_t *number)
{
    char path[PATH_BYTES + 64];

    snprintf(path, sizeof(path), "%s/%s", group, file);
    return available_find_number(path, region, number);
}

static uint64_t available_left_in_group(const struct version *version, const char *group)
{
    uint64_t limit, used, cached = 0;

    if (!available_number_of_group(group, version->limit, NULL, &limit) ||
        !available_number_of_group(group, version->used, NULL, &used))
        return UINT64_MAX;
    available_number_of_group(group, "memory.stat", version->cached, &cached);
    used -= cached < used ? cached : used;
    return limit > used ? limit - used : 0;
}

/* Of the group and all above it, up to the root, which in a container may be its own. */
static uint64_t available_left_above(const struct version *version, const char *root,
                                     const char *name)
{
    uint64_t least = UINT64_MAX, left;
    char group[PATH_BYTES];
    size_t top = strlen(root) + strlen(version->folder);

    if (snprintf(group, sizeof(group), "%s%s%s", root, version->folder, name) >= (int)sizeof(group))
        return least;
    for (char *end = group + strlen(group);;) {
        *end = 0;
        left = available_left_in_group(version, group);
        least = left < least ? left : least;
        end = strrchr(group, '/');
        if (!end || end < group + top)
            return least;
    }
}

/* The version of a line "ID:CONTROLLERS:NAME" that has to do with memory; NULL: it has not. */
static const struct version *available_version_of(const char *controllers, size_t bytes)
{
    static const char wanted[] = "memory";

    if (!bytes)
        return &versions[0];
    for (const char *end = controllers + bytes; controllers < end;) {
        size_t part = strcspn(controllers, ",:");

        if (part == strlen(wanted) && !strncmp(controllers, wanted, part))
            return &versions[1];
        controllers += part + 1;
    }
    return NULL;
}

uint64_t available_in_groups(const char *root, const char *names)
{
    uint64_t least = UINT64_MAX, left;
    FILE *file = fopen(names, "re");
    char line[PATH_BYTES];

    while (file && fgets(line, sizeof(line), file)) {
        char *controllers = strchr(line, ':'), *name;
        const struct version *version;

        name = controllers ? strchr(++controllers, ':') : NULL;
        if (!name)
            continue;
        version = available_version_of(controllers, (size_t)(name - controllers));
        name[1 + strcspn(name + 1, "\n")] = 0;
        left = version ? available_left_above(version, root, name + 1) : UINT64_MAX;
        least = left < least ? left : least;
    }
    if (file)
        fclose(file);
    return least;
}

static uint64_t available(void)
{
    struct sysinfo info;
    uint64_t kib;

    if (available_find_number("/proc/meminfo", "MemAvailable:", &kib))
        return kib << 10;
    return sysinfo(&info) == 0 ? (uint64_t)info.freeram * info.mem_unit : 0;
}

uint64_t available_bytes(void)
{
    uint64_t host = available(),
             groups = available_in_groups("/sys/fs/cgroup", "/proc/self/cgroup");

    return host < groups ? host : groups;
}
