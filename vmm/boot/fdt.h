/*
 * The device tree blob that describes the machine to the guest: standard bindings
 * (Devicetree Specification 0.3) and what guest/abi/machine.h adds.
 */
#ifndef STRATA_BOOT_FDT_H
#define STRATA_BOOT_FDT_H

#include <stddef.h>
#include <stdint.h>

struct abi_policy;
struct board;
struct vm;

struct fdt_info {
    const char *bootargs;
    unsigned host_cpus;
    uint64_t tsc_hz;                 /* 0: unknown, left out */
    const char *dma_mode;            /* NULL: left out */
    const struct abi_policy *policy; /* NULL: left out */
};

/* Room that is certainly enough for fdt_build. */
size_t fdt_room(const struct vm *vm, const struct board *board, const struct fdt_info *info);

/*
 * Writes the blob for the VM and the devices its board describes (NULL: none) to
 * `to`, which has room for `bytes`. Its size (a multiple of 4), or -ENOSPC.
 */
int fdt_build(void *to, size_t bytes, const struct vm *vm, const struct board *board,
              const struct fdt_info *info);

#endif
