/*
 * Disks behind the IOMMU: the bundled guest reads the same image in two machines, one
 * without an IOMMU, one with a driver in strict mode, which maps each request's pages
 * before it and unmaps them after. Both run all the time and work by turns, a batch each;
 * the ratio of throughput is taken within each pair, so that a change of the machine's
 * speed touches both alike. Where a machine happens to lie in the host's memory changes
 * its speed for as long as it runs: so all of it is done with several pairs of machines,
 * one after the other. The image is in the page cache: no disk of the host hides what
 * the IOMMU costs.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/bench.h"

#define IMAGE_BYTES (64u << 20)
#define CHUNK_BYTES (1u << 20)
#define TIMEOUT_MS  60000
#define PAIRS_MAX   61         /* of batches, for each pair of machines */
#define MACHINES    5          /* pairs of them */
#define BATCH_NS    15000000.0 /* about so long a batch without the IOMMU */
#define LEAST       0.90       /* of the throughput without it */

static const struct pattern {
    const char *name;
    unsigned bytes, depth;
    unsigned most; /* requests of a batch */
} patterns[] = {
    { "iops_depth1", 4096, 1, 4096 },
    { "iops_depth32", 4096, 32, 16384 },
    { "bytes_depth1", 1 << 20, 1, 64 },
    { "bytes_depth32", 1 << 20, 32, 64 },
};

#define NPATTERNS (sizeof(patterns) / sizeof(patterns[0]))

struct machine {
    struct bench_child child;
    char text[256]; /* output not yet looked at */
    size_t got;
};

/* The next line of output, without its end: 0, or -errno. */
static int next_line(struct machine *machine, char *line, size_t bytes)
{
    char *end;

    while (!(end = memchr(machine->text, '\n', machine->got))) {
        ssize_t n;

        if (machine->got == sizeof(machine->text))
            return -EPROTO;
        n = bench_read(&machine->child, machine->text + machine->got,
                       sizeof(machine->text) - machine->got, TIMEOUT_MS);
        if (n <= 0)
            return n ? (int)n : -EPIPE;
        machine->got += (size_t)n;
    }
    snprintf(line, bytes, "%.*s", (int)(end - machine->text), machine->text);
    machine->got -= (size_t)(end + 1 - machine->text);
    memmove(machine->text, end + 1, machine->got);
    return 0;
}

/* The first line that starts with `word`; anything before it is no answer. */
static int wait_for(struct machine *machine, const char *word, char *line, size_t bytes)
{
    int err;

    do {
        err = next_line(machine, line, bytes);
        if (!err && strncmp(line, "failed", 6) == 0)
            err = -EIO;
    } while (!err && strncmp(line, word, strlen(word)) != 0);
    return err;
}

static int start(struct machine *machine, const struct bench *bench, const char *image,
                 const char *iommu)
{
    const char *const argv[] = { bench->strata, "run", "--disk", image,       "--iommu", iommu,
                                 "--cpus",      "1",   "--exec", "blk-bench", NULL };
    char line[256];
    int err = bench_spawn(&machine->child, argv);

    machine->got = 0;
    if (err)
        return err;
    err = wait_for(machine, "ready", line, sizeof(line));
    if (err)
        bench_kill(&machine->child);
    return err;
}

/* Ticks that a batch took, in *ticks: 0 or -errno. */
static int run_batch(struct machine *machine, const struct pattern *pattern, unsigned count,
                     double *ticks)
{
    unsigned long done = 0, took = 0;
    char line[256];
    int err;

    snprintf(line, sizeof(line), "%u %u %u\n", pattern->bytes, pattern->depth, count);
    if (write(machine->child.in, line, strlen(line)) < 0)
        return -errno;
    err = wait_for(machine, "batch", line, sizeof(line));
    if (err)
        return err;
    if (sscanf(line, "batch %lu %lu", &done, &took) != 2 || done != count || !took)
        return -EPROTO;
    *ticks = (double)took;
    return 0;
}

/* How many requests make a batch of about BATCH_NS; also warms everything up. */
static int calibrate(struct machine *machine, const struct pattern *pattern, unsigned *count)
{
    unsigned n = 2 * pattern->depth;
    uint64_t before = bench_now_ns(), took;
    double ticks;
    int err = run_batch(machine, pattern, n, &ticks);

    took = bench_now_ns() - before;
    if (err)
        return err;
    *count = (unsigned)(n * BATCH_NS / (double)(took ? took : 1));
    *count = (*count / pattern->depth) * pattern->depth;
    if (*count < n)
        *count = n;
    if (*count > pattern->most)
        *count = pattern->most;
    return 0;
}

/* What all pairs of batches came to, for one pattern. */
struct samples {
    size_t n, requests;
    double ratio[MACHINES * PAIRS_MAX], ticks_off[MACHINES * PAIRS_MAX],
        ticks_strict[MACHINES * PAIRS_MAX];
};

static int measure(const struct bench *bench, struct machine *off, struct machine *strict,
                   const struct pattern *pattern, struct samples *samples)
{
    unsigned pairs = bench->pairs < PAIRS_MAX ? bench->pairs : PAIRS_MAX, count;
    double ticks_off, ticks_strict;
    int err = calibrate(off, pattern, &count);

    if (!err)
        err = run_batch(strict, pattern, count, &ticks_strict);
    for (unsigned i = 0; i < pairs && !err; i++) {
        if (i % 2)
            err = run_batch(strict, pattern, count, &ticks_strict);
        if (!err)
            err = run_batch(off, pattern, count, &ticks_off);
        if (!err && i % 2 == 0)
            err = run_batch(strict, pattern, count, &ticks_strict);
        if (err)
            break;
        samples->ratio[samples->n] = ticks_off / ticks_strict;
        samples->ticks_off[samples->n] = ticks_off / count;
        samples->ticks_strict[samples->n++] = ticks_strict / count;
        samples->requests += count;
        if (bench->verbose)
            printf("# blk %s pair %u: off %.0f, strict %.0f ticks a request\n", pattern->name, i,
                   ticks_off / count, ticks_strict / count);
    }
    return err;
}

static void report(const struct pattern *pattern, struct samples *samples)
{
    char name[64];

    snprintf(name, sizeof(name), "blk_strict_vs_off_%s", pattern->name);
    bench_report_at_least(name, bench_median(samples->ratio, samples->n), "ratio", LEAST,
                          samples->n);
    snprintf(name, sizeof(name), "blk_off_%s_tsc", pattern->name);
    bench_report(name, bench_median(samples->ticks_off, samples->n), "ticks", BENCH_NO_LIMIT,
                 samples->requests);
    snprintf(name, sizeof(name), "blk_strict_%s_tsc", pattern->name);
    bench_report(name, bench_median(samples->ticks_strict, samples->n), "ticks", BENCH_NO_LIMIT,
                 samples->requests);
}

/* Not all zeroes, and in the page cache afterwards. 0 or -errno. */
static int make_image(char *path)
{
    int fd = mkstemp(path), err = 0;
    char *chunk;

    if (fd < 0)
        return -errno;
    chunk = malloc(CHUNK_BYTES);
    if (!chunk)
        err = -ENOMEM;
    for (unsigned at = 0; !err && at < IMAGE_BYTES; at += CHUNK_BYTES) {
        memset(chunk, (int)(at / CHUNK_BYTES + 1), CHUNK_BYTES);
        if (write(fd, chunk, CHUNK_BYTES) != (ssize_t)CHUNK_BYTES)
            err = errno ? -errno : -EIO;
    }
    free(chunk);
    close(fd);
    if (err)
        unlink(path);
    return err;
}

/* All patterns on one pair of machines. */
static int measure_pair(const struct bench *bench, const char *disk, struct samples *samples)
{
    struct machine off, strict;
    int err = start(&off, bench, disk, "off");

    if (err)
        return err;
    err = start(&strict, bench, disk, "strict");
    if (!err) {
        for (size_t i = 0; i < NPATTERNS && !err; i++)
            err = measure(bench, &off, &strict, &patterns[i], &samples[i]);
        bench_kill(&strict.child);
    }
    bench_kill(&off.child);
    return err;
}

int bench_blk(const struct bench *bench)
{
    static struct samples samples[NPATTERNS];
    char image[] = "/tmp/strata-bench-XXXXXX", disk[64];
    int err = make_image(image);

    if (err) {
        fprintf(stderr, "bench: an image in /tmp: %s\n", strerror(-err));
        return err;
    }
    snprintf(disk, sizeof(disk), "%s,ro", image);
    for (unsigned i = 0; i < MACHINES && !err; i++)
        err = measure_pair(bench, disk, samples);
    unlink(image);
    for (size_t i = 0; i < NPATTERNS && !err; i++)
        report(&patterns[i], &samples[i]);
    if (err)
        fprintf(stderr, "bench: disks: %s\n", strerror(-err));
    return err;
}
