/*
 * Overhead: the private memory that strata costs the host beyond the guest's own,
 * with the bundled guest at its prompt: every private page of every mapping in
 * /proc/PID/smaps, clean pages of its own program file included, without guest RAM. Of
 * several starts the median: which pages of the file come along with one that is touched,
 * and whether a lock was taken slowly, differs by a few.
 */
#include "tests/bench/bench.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/bench/smaps.h"

#define STARTS     5
#define START_MS   20000 /* to the first output */
#define QUIET_MS   700   /* without output: it is idle at its prompt */
#define RAM_NAME   "[anon:strata guest RAM]"
#define RAM_MIN_KB (16u << 10) /* no mapping of strata's own is that large and anonymous */

static struct smaps_mapping mappings[SMAPS_MAX];

/* By its name; where the host's kernel gives anonymous memory no names, the largest. */
static int find_ram(int n)
{
    int largest = -1;

    for (int i = 0; i < n; i++) {
        if (strcmp(mappings[i].name, RAM_NAME) == 0)
            return i;
        if (mappings[i].anonymous &&
            (largest < 0 || mappings[i].size_kb > mappings[largest].size_kb))
            largest = i;
    }
    return largest >= 0 && mappings[largest].size_kb >= RAM_MIN_KB ? largest : -1;
}

static int measure_start(const struct bench *bench, double *private_bytes, double *anonymous_bytes)
{
    const char *const argv[] = { bench->strata, "run", NULL };
    struct bench_child child;
    uint64_t private_kb = 0, anonymous_kb = 0;
    char text[4096];
    int n, ram, ret = bench_spawn(&child, argv);
    ssize_t got;

    if (ret < 0)
        return ret;
    got = bench_read(&child, text, sizeof(text), START_MS);
    while (got > 0)
        got = bench_read(&child, text, sizeof(text), QUIET_MS);
    n = got == -ETIME ? smaps_read(child.pid, mappings) : -EIO;
    bench_kill(&child);
    if (n < 0) {
        fprintf(stderr, "bench: strata run ended, or its smaps cannot be read\n");
        return n;
    }
    ram = find_ram(n);
    if (ram < 0) {
        fprintf(stderr, "bench: which mapping is guest RAM?\n");
        return -ENOENT;
    }
    for (int i = 0; i < n; i++) {
        const char *what = i == ram ? " <- guest RAM, not counted" : "";

        if (i != ram) {
            private_kb += mappings[i].private_kb;
            anonymous_kb += mappings[i].anonymous_kb;
        }
        if (bench->verbose && (i == ram || mappings[i].private_kb))
            printf("# %s %s: %" PRIu64 " KiB private of %" PRIu64 "%s\n", mappings[i].range,
                   mappings[i].name, mappings[i].private_kb, mappings[i].size_kb, what);
    }
    *private_bytes = (double)private_kb * 1024;
    *anonymous_bytes = (double)anonymous_kb * 1024;
    return 0;
}

int bench_overhead(const struct bench *bench)
{
    double private_bytes[STARTS], anonymous_bytes[STARTS];

    for (unsigned i = 0; i < STARTS; i++) {
        int err = measure_start(bench, &private_bytes[i], &anonymous_bytes[i]);

        if (err)
            return err;
    }
    bench_report("private_overhead_bytes", bench_median(private_bytes, STARTS), "bytes", 1048576,
                 STARTS);
    /* What a second strata beside it has again: without the pages of the program file. */
    bench_report("private_anonymous_bytes", bench_median(anonymous_bytes, STARTS), "bytes",
                 BENCH_NO_LIMIT, STARTS);
    return 0;
}
