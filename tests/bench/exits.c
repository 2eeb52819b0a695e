/*
 * Exits: one port read that the VMM answers, from the guest's instruction and back,
 * by the guest's clock. The same guest (guest_exits.S) runs under strata, which finds the
 * device on its bus, and under the floor, which has a bare KVM_RUN loop. They
 * alternate; the ratio is taken within each pair, so that a change of the machine's
 * speed meanwhile touches both alike.
 */
#include "tests/bench/exits.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/bench.h"

#define TIMEOUT_MS 10000

/* "aaaabcde\n" → 0x1234; < 0 if it is not such a line. */
static double ticks_of(const char *line)
{
    uint32_t ticks = 0;

    for (unsigned i = 0; i < 8; i++) {
        if (line[i] < 'a' || line[i] > 'p')
            return -EINVAL;
        ticks = ticks << 4 | (uint32_t)(line[i] - 'a');
    }
    return line[8] == '\n' ? (double)ticks : -EINVAL;
}

/* The median batch of one run, in ticks for each exit; the first batch does not count. */
static double run_once(const char *const argv[])
{
    char text[9 * BENCH_BATCHES + 1];
    double ticks[BENCH_BATCHES];
    struct bench_child child;
    size_t got = 0;
    ssize_t n = 0;
    int ret = bench_spawn(&child, argv);

    if (ret < 0)
        return ret;
    while (got < sizeof(text) - 1) {
        n = bench_read(&child, text + got, sizeof(text) - 1 - got, TIMEOUT_MS);
        if (n <= 0)
            break;
        got += (size_t)n;
    }
    ret = bench_end(&child);
    if (got != sizeof(text) - 1 || ret != 0) {
        fprintf(stderr, "bench: %s: %zu bytes of results, exit status %d\n", argv[0], got, ret);
        return -EIO;
    }
    for (unsigned i = 0; i < BENCH_BATCHES; i++) {
        ticks[i] = ticks_of(text + 9 * i);
        if (ticks[i] < 0) {
            fprintf(stderr, "bench: %s: results cannot be read\n", argv[0]);
            return -EIO;
        }
    }
    return bench_median(ticks + 1, BENCH_BATCHES - 1) / BENCH_BATCH;
}

int bench_exits(const struct bench *bench)
{
    char image[256];
    const char *const floor[] = { bench->floor, "exits", "256", NULL };
    const char *const strata[] = { bench->strata, "run",      "--kernel", image, "--cpus",
                                   "1",           "--memory", "256M",     NULL };
    double *ratio = calloc(bench->pairs, sizeof(*ratio));
    double *ours = calloc(bench->pairs, sizeof(*ours));
    double *least = calloc(bench->pairs, sizeof(*least));
    size_t n = (size_t)bench->pairs * BENCH_BATCH * (BENCH_BATCHES - 1);
    int ret = -ENOMEM;

    if (!ratio || !ours || !least)
        goto out;
    ret = -EIO;
    snprintf(image, sizeof(image), "%s/guest_exits.elf", bench->images);
    for (unsigned i = 0; i < bench->pairs; i++) {
        if (i % 2)
            least[i] = run_once(floor);
        ours[i] = run_once(strata);
        if (i % 2 == 0)
            least[i] = run_once(floor);
        if (ours[i] <= 0 || least[i] <= 0)
            goto out;
        ratio[i] = ours[i] / least[i];
        if (bench->verbose)
            printf("# exits pair %u: strata %.0f ticks, floor %.0f ticks\n", i, ours[i], least[i]);
    }
    bench_report("pio_exit_ratio", bench_median(ratio, bench->pairs), "ratio", 1.05, n);
    bench_report("pio_exit_tsc", bench_median(ours, bench->pairs), "ticks", BENCH_NO_LIMIT, n);
    bench_report("pio_exit_floor_tsc", bench_median(least, bench->pairs), "ticks", BENCH_NO_LIMIT,
                 n);
    ret = 0;
out:
    free(ratio);
    free(ours);
    free(least);
    return ret;
}
