/* The CPUs that this process may run on. */
#ifndef STRATA_BASE_HOST_CPUS_H
#define STRATA_BASE_HOST_CPUS_H

#include <sched.h>

/* At least 1, which stands also for a set that cannot be read. */
static inline unsigned host_cpus(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

#endif
