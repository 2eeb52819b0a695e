/*
 * What programs that measure have in common: the clock, medians, and programs that are
 * started to be measured.
 */
#ifndef STRATA_BENCH_HARNESS_H
#define STRATA_BENCH_HARNESS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

uint64_t bench_now_ns(void);
double bench_median(double *values, size_t n); /* sorts them; n > 0 */

/* A program that runs, with its stdin held open and its stdout in a pipe. */
struct bench_child {
    pid_t pid;
    int in, out;
    uint64_t exec_ns; /* the moment before exec */
};

/* argv[0] is the path. stderr is ours. 0 or -errno. */
int bench_spawn(struct bench_child *child, const char *const argv[]);

/* The same with its stderr in err_fd, which stays the caller's. */
int bench_spawn_stderr(struct bench_child *child, const char *const argv[], int err_fd);

/* Up to `bytes` of its output: a count, 0 at its end, -ETIME, -errno. */
ssize_t bench_read(struct bench_child *child, void *to, size_t bytes, int timeout_ms);

/* Ends it: closes the pipes, waits up to a second, kills. Its exit status, or -errno. */
int bench_end(struct bench_child *child);
void bench_kill(struct bench_child *child); /* at once */

#endif
