/*
 * What only a kernel can do, for the measuring program: exits, interrupts, halts, timed one
 * by one (enum abi_measure_op). The lock is let go meanwhile.
 */
#ifndef STRATA_KERNEL_ARCH_MEASURE_H
#define STRATA_KERNEL_ARCH_MEASURE_H

#include <stdint.h>

/*
 * SYS_MEASURE: how many were done, or -ABI_E*: EINVAL no such operation or too many, EAGAIN
 * another CPU is measuring, ENODEV there is nothing to do it to, EIO what was waited for did
 * not come.
 */
int64_t measure_call(uint32_t op, uint64_t count, uint64_t arg);

#endif
