/*
 * Start: from exec to the guest's first instruction, which writes a byte to COM1;
 * the clock stops when that byte is here, so tearing down does not count. strata
 * and the floor alternate, each first in every other pair.
 */
#include "tests/bench/bench.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_MEMORY_MIB "256"
#define TIMEOUT_MS         10000

/* Nanoseconds to its first byte of output, or < 0. */
static double time_to_first_byte(const char *const argv[], bool to_the_end)
{
    struct bench_child child;
    uint64_t at;
    char byte;
    ssize_t n;
    int ret = bench_spawn(&child, argv);

    if (ret < 0) {
        fprintf(stderr, "bench: %s: %s\n", argv[0], strerror(-ret));
        return ret;
    }
    n = bench_read(&child, &byte, 1, TIMEOUT_MS);
    at = bench_now_ns();
    if (to_the_end)
        ret = bench_end(&child);
    else
        bench_kill(&child);
    if (n != 1 || ret != 0) {
        fprintf(stderr, "bench: %s %s: %s\n", argv[0], argv[1],
                n == 1 ? "did not end well" : "no output");
        return -EIO;
    }
    return (double)(at - child.exec_ns);
}

int bench_start(const struct bench *bench)
{
    char image[256];
    const char *const floor[] = { bench->floor, "first", DEFAULT_MEMORY_MIB, NULL };
    /* One vCPU, as the floor has. */
    const char *const strata[] = { bench->strata,          "run",    "--kernel", image, "--memory",
                                   DEFAULT_MEMORY_MIB "M", "--cpus", "1",        NULL };
    const char *const bundled[] = { bench->strata, "run", "--exec", "help", NULL };
    double *ours = calloc(bench->pairs, sizeof(*ours));
    double *least = calloc(bench->pairs, sizeof(*least));
    int ret = -ENOMEM;

    if (!ours || !least)
        goto out;
    snprintf(image, sizeof(image), "%s/guest_first.elf", bench->images);

    /* Once each before it counts: the files come into the page cache. */
    ret = -EIO;
    if (time_to_first_byte(floor, true) < 0 || time_to_first_byte(strata, true) < 0)
        goto out;
    for (unsigned i = 0; i < bench->pairs; i++) {
        if (i % 2)
            least[i] = time_to_first_byte(floor, true);
        ours[i] = time_to_first_byte(strata, true);
        if (i % 2 == 0)
            least[i] = time_to_first_byte(floor, true);
        if (ours[i] < 0 || least[i] < 0)
            goto out;
        if (bench->verbose)
            printf("# start pair %u: strata %.0f ns, floor %.0f ns\n", i, ours[i], least[i]);
    }
    double our_median = bench_median(ours, bench->pairs);
    double least_median = bench_median(least, bench->pairs);

    bench_report("start_ratio", our_median / least_median, "ratio", 1.3, bench->pairs);
    bench_report("start_first_instruction_ns", our_median, "ns", BENCH_NO_LIMIT, bench->pairs);
    bench_report("start_floor_ns", least_median, "ns", BENCH_NO_LIMIT, bench->pairs);

    /* The bundled guest up to the first byte that it prints. */
    unsigned n = bench->pairs < 10 ? bench->pairs : 10;

    for (unsigned i = 0; i < n; i++) {
        ours[i] = time_to_first_byte(bundled, false);
        if (ours[i] < 0)
            goto out;
    }
    bench_report("start_bundled_first_byte_ns", bench_median(ours, n), "ns", BENCH_NO_LIMIT, n);
    ret = 0;
out:
    free(ours);
    free(least);
    return ret;
}
