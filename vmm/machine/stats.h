/*
 * KVM's binary statistics (api.rst, KVM_GET_STATS_FD): figures that the kernel keeps for
 * a VM or a vCPU, by name.
 */
#ifndef STRATA_MACHINE_STATS_H
#define STRATA_MACHINE_STATS_H

#include <stddef.h>
#include <stdint.h>

/*
 * The first value of each named statistic of the VM or vCPU behind `fd`, UINT64_MAX for
 * one that this KVM does not have. 0, or -errno: -ENOTTY a KVM without statistics.
 */
int stats_read(int fd, const char *const *names, uint64_t *values, size_t n);

#endif
