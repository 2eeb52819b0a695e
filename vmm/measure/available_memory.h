/*
 * How much memory an experiment may take without the host's kernel having to end a process.
 */
#ifndef STRATA_MEASURE_AVAILABLE_MEMORY_H
#define STRATA_MEASURE_AVAILABLE_MEMORY_H

#include <stdint.h>

/*
 * Bytes that are free or can be freed at once: MemAvailable of /proc/meminfo, at most what
 * the limits of this process's control groups leave.
 */
uint64_t available_bytes(void);

/*
 * What they leave: the groups by their names in a file like /proc/self/cgroup, below `root`
 * as /sys/fs/cgroup is, of version 2 (cgroup-v2.rst) or 1 (cgroup-v1/memory.rst). UINT64_MAX:
 * no limit.
 */
uint64_t available_in_groups(const char *root, const char *names);

#endif
