/* The mappings of a process as /proc/PID/smaps lists them (Linux, filesystems/proc.rst). */
#ifndef STRATA_BENCH_SMAPS_H
#define STRATA_BENCH_SMAPS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define SMAPS_MAX 512

struct smaps_mapping {
    char range[48], name[128];
    uint64_t size_kb;
    uint64_t private_kb; /* in this process alone, clean or dirty */
    uint64_t dirty_kb;   /* the dirty part of it */
    uint64_t anonymous_kb;
    bool anonymous; /* of no file */
};

/* The number of mappings, at most SMAPS_MAX, or -errno. */
int smaps_read(pid_t pid, struct smaps_mapping mappings[SMAPS_MAX]);

#endif
