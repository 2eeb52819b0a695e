/*
 * bench [--json FILE] [--clock time|instructions] [--strata FILE] [--pairs N] [--verbose]
 * [PART…]: measures strata beside the floor, prints
 * `NAME value unit (limit L: holds|falls short)` for each result, or `(at least L: …)` where
 * more is better.
 *
 * --clock says what the clocks of this host count. With instructions, one for each ns and each
 * tick (scripts/emuhost npt --icount), figures are named and labelled so.
 * Exit status: 0 all limits hold, 1 one falls short, 2 it could not measure.
 */
#include "tests/bench/bench.h"

#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct part {
    const char *name;
    int (*run)(const struct bench *bench);
} parts[] = {
    { .name = "start", .run = bench_start },       { .name = "exits", .run = bench_exits },
    { .name = "overhead", .run = bench_overhead }, { .name = "iommu", .run = bench_iommu },
    { .name = "blk", .run = bench_blk },           { .name = "inspect", .run = bench_inspect },
};

#define NPARTS      (sizeof(parts) / sizeof(parts[0]))
#define RESULTS_MAX 256

static struct result {
    char name[64], unit[16];
    double value, limit;
    bool at_least; /* the limit is a lower one */
    size_t n;
} results[RESULTS_MAX];
static size_t nresults;
static bool instructions; /* the clock counts them */

static bool holds(const struct result *r)
{
    if (r->limit == BENCH_NO_LIMIT)
        return true;
    return r->at_least ? r->value >= r->limit : r->value <= r->limit;
}

/* A figure of time is one of instructions where the clock counts these: start_floor_ns. */
static void name_clock(struct result *r)
{
    static const char *const units[][2] = { { "ns", "_ns" }, { "ticks", "_tsc" } };

    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        size_t length = strlen(r->name), suffix = strlen(units[i][1]);

        if (strcmp(r->unit, units[i][0]) != 0 || length < suffix ||
            strcmp(r->name + length - suffix, units[i][1]) != 0)
            continue;
        r->name[length - suffix] = 0;
        strncat(r->name, "_instructions", sizeof(r->name) - strlen(r->name) - 1);
        snprintf(r->unit, sizeof(r->unit), "instructions");
        return;
    }
}

static void report(const struct result *result)
{
    struct result *r;

    if (nresults == RESULTS_MAX)
        errx(2, "more than %d results", RESULTS_MAX);
    r = &results[nresults++];
    *r = *result;
    if (instructions)
        name_clock(r);
    printf("%s %.10g %s", r->name, r->value, r->unit);
    if (r->limit != BENCH_NO_LIMIT)
        printf(" (%s %.10g: %s)", r->at_least ? "at least" : "limit", r->limit,
               holds(r) ? "holds" : "falls short");
    printf("\n");
    fflush(stdout);
}

void bench_report(const char *name, double value, const char *unit, double limit, size_t n)
{
    struct result result = { .value = value, .limit = limit, .n = n };

    snprintf(result.name, sizeof(result.name), "%s", name);
    snprintf(result.unit, sizeof(result.unit), "%s", unit);
    report(&result);
}

void bench_report_at_least(const char *name, double value, const char *unit, double least, size_t n)
{
    struct result result = { .value = value, .limit = least, .at_least = true, .n = n };

    snprintf(result.name, sizeof(result.name), "%s", name);
    snprintf(result.unit, sizeof(result.unit), "%s", unit);
    report(&result);
}

static void write_json(const char *path)
{
    FILE *f = fopen(path, "w");

    if (!f)
        err(2, "%s", path);
    fprintf(f, "[");
    for (size_t i = 0; i < nresults; i++) {
        const struct result *r = &results[i];

        fprintf(f,
                "%s\n{\"name\": \"%s\", \"value\": %.10g, \"unit\": \"%s\", "
                "\"clock\": \"%s\", ",
                i ? "," : "", r->name, r->value, r->unit, instructions ? "instructions" : "time");
        if (r->limit == BENCH_NO_LIMIT)
            fprintf(f, "\"limit\": null, \"holds\": null, \"n\": %zu}", r->n);
        else
            fprintf(f, "\"%s\": %.10g, \"holds\": %s, \"n\": %zu}", r->at_least ? "least" : "limit",
                    r->limit, holds(r) ? "true" : "false", r->n);
    }
    fprintf(f, "\n]\n");
    if (fclose(f))
        err(2, "%s", path);
}

int main(int argc, char **argv)
{
    struct bench bench = { .strata = "build/strata",
                           .floor = "build/bench/floor",
                           .images = "build/bench",
                           .pairs = 200 };
    const char *json = NULL;
    bool fell_short = false;
    int first;

    for (first = 1; first < argc && argv[first][0] == '-'; first++) {
        if (strcmp(argv[first], "--verbose") == 0)
            bench.verbose = true;
        else if (strcmp(argv[first], "--json") == 0 && first + 1 < argc)
            json = argv[++first];
        else if (strcmp(argv[first], "--clock") == 0 && first + 1 < argc &&
                 (strcmp(argv[first + 1], "time") == 0 ||
                  strcmp(argv[first + 1], "instructions") == 0))
            instructions = strcmp(argv[++first], "instructions") == 0;
        else if (strcmp(argv[first], "--strata") == 0 && first + 1 < argc)
            bench.strata = argv[++first];
        else if (strcmp(argv[first], "--pairs") == 0 && first + 1 < argc)
            bench.pairs = (unsigned)atoi(argv[++first]);
        else
            errx(2, "usage: bench [--json FILE] [--clock time|instructions] [--strata FILE] "
                    "[--pairs N] [--verbose] [PART...]");
    }
    if (bench.pairs < 1 || bench.pairs > 10000)
        errx(2, "--pairs takes 1 to 10000");
    signal(SIGPIPE, SIG_IGN);

    for (size_t i = 0; i < NPARTS; i++) {
        bool wanted = first == argc;

        for (int a = first; a < argc; a++)
            wanted |= strcmp(argv[a], parts[i].name) == 0;
        if (wanted && parts[i].run(&bench) < 0)
            errx(2, "part %s could not be measured", parts[i].name);
    }
    if (json)
        write_json(json);
    for (size_t i = 0; i < nresults; i++)
        fell_short |= !holds(&results[i]);
    return fell_short;
}
