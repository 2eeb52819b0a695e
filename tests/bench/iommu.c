/*
 * The IOMMU's tables beside others', measured by a program of its own (iommu_main.c),
 * which needs GLib; this part runs it and holds its results against the limits.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/bench.h"

#define RUN_MS 60000

static const struct {
    const char *name;
    double limit;
} limits[] = {
    { "iotlb_hit_vs_gtree", 0.04 },
    { "iopt_walk_vs_gtree", 0.12 },
    { "iommu_map_growth", 1.5 },
    { "iommu_unmap_growth", 1.5 },
};

#define NLIMITS (sizeof(limits) / sizeof(limits[0]))

/* Reports the lines of `text`; how many have a limit. */
static size_t report(char *text)
{
    char name[64], unit[16], *line, *rest = text;
    size_t limited = 0;
    unsigned n;
    double value;

    while ((line = strsep(&rest, "\n"))) {
        double limit = BENCH_NO_LIMIT;

        if (sscanf(line, "%63s %lf %15s %u", name, &value, unit, &n) != 4)
            continue;
        for (size_t i = 0; i < NLIMITS; i++) {
            if (strcmp(limits[i].name, name) == 0) {
                limit = limits[i].limit;
                limited++;
            }
        }
        bench_report(name, value, unit, limit, n);
    }
    return limited;
}

int bench_iommu(const struct bench *bench)
{
    char program[4096], text[8192];
    const char *const argv[] = { program, NULL };
    struct bench_child child;
    size_t used = 0;
    ssize_t got;
    int ret;

    snprintf(program, sizeof(program), "%s/iommu", bench->images);
    if (access(program, X_OK) < 0) {
        printf("# iommu: not available here, because %s was not built; GLib was missing "
               "(scripts/deps test installs it)\n",
               program);
        return 0;
    }
    ret = bench_spawn(&child, argv);
    if (ret < 0)
        return ret;
    do {
        got = bench_read(&child, text + used, sizeof(text) - 1 - used, RUN_MS);
        if (got > 0)
            used += (size_t)got;
    } while (got > 0 && used < sizeof(text) - 1);
    ret = bench_end(&child);
    text[used] = 0;
    if (got < 0 || ret != 0) {
        fprintf(stderr, "bench: %s did not end well (%d)\n", program, got < 0 ? (int)got : ret);
        return -EIO;
    }
    return report(text) == NLIMITS ? 0 : -EPROTO;
}
