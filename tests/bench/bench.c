/*
 * bench [--json FILE] [--strata FILE] [--pairs N] [--verbose] [PART…]: measures
 * strata beside the floor, prints `NAME value unit (limit L: holds|falls short)` for each result,
 * or `(at least L: …)` where more is better.
 * Exit status: 0 all limits hold, 1 one falls short, 2 it could not measure.
 */
#include "tests/bench/bench.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

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

static bool holds(const struct result *r)
{
    if (r->limit == BENCH_NO_LIMIT)
        return true;
    return r->at_least ? r->value >= r->limit : r->value <= r->limit;
}

static void report(const struct result *result)
{
    struct result *r;

    if (nresults == RESULTS_MAX)
        errx(2, "more than %d results", RESULTS_MAX);
    r = &results[nresults++];
    *r = *result;
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

        fprintf(f, "%s\n{\"name\": \"%s\", \"value\": %.10g, \"unit\": \"%s\", ", i ? "," : "",
                r->name, r->value, r->unit);
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

uint64_t bench_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double bench_median(double *values, size_t n)
{
    qsort(values, n, sizeof(*values), by_value);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

int bench_spawn(struct bench_child *child, const char *const argv[])
{
    int in[2], out[2], ret;
    posix_spawn_file_actions_t actions;

    if (pipe2(in, O_CLOEXEC) < 0)
        return -errno;
    if (pipe2(out, O_CLOEXEC) < 0) {
        ret = -errno;
        goto close_in;
    }
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    /* vfork and exec, the same for whatever is compared. */
    child->exec_ns = bench_now_ns();
    ret = -posix_spawn(&child->pid, argv[0], &actions, NULL, (char *const *)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    if (ret < 0) {
        close(out[0]);
        goto close_in;
    }
    close(in[0]);
    child->in = in[1];
    child->out = out[0];
    return 0;

close_in:
    close(in[0]);
    close(in[1]);
    return ret;
}

ssize_t bench_read(struct bench_child *child, void *to, size_t bytes, int timeout_ms)
{
    struct pollfd pollfd = { .fd = child->out, .events = POLLIN };
    int ready = poll(&pollfd, 1, timeout_ms);
    ssize_t n;

    if (ready <= 0)
        return ready ? -errno : -ETIME;
    n = read(child->out, to, bytes);
    return n < 0 ? -errno : n;
}

int bench_end(struct bench_child *child)
{
    int status;

    close(child->in);
    close(child->out);
    for (unsigned ms = 0; ms < 1000; ms++) {
        if (waitpid(child->pid, &status, WNOHANG) == child->pid)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        usleep(1000);
    }
    kill(child->pid, SIGKILL);
    waitpid(child->pid, &status, 0);
    return -ETIME;
}

void bench_kill(struct bench_child *child)
{
    kill(child->pid, SIGKILL);
    close(child->in);
    close(child->out);
    waitpid(child->pid, NULL, 0);
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
        else if (strcmp(argv[first], "--strata") == 0 && first + 1 < argc)
            bench.strata = argv[++first];
        else if (strcmp(argv[first], "--pairs") == 0 && first + 1 < argc)
            bench.pairs = (unsigned)atoi(argv[++first]);
        else
            errx(2, "usage: bench [--json FILE] [--strata FILE] [--pairs N] [--verbose] [PART...]");
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
    if (json && first == argc) /* some parts would make it look complete */
        write_json(json);
    for (size_t i = 0; i < nresults; i++)
        fell_short |= !holds(&results[i]);
    return fell_short;
}
