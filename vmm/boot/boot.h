/*
 * From a boot source to a machine ready to start: kernel, command line and device
 * tree in guest memory, the boot CPU at the kernel's entry.
 */
#ifndef STRATA_BOOT_BOOT_H
#define STRATA_BOOT_BOOT_H

#include <stdbool.h>

#include "devices/core/board.h"
#include "vmm/base/error.h"
#include "vmm/boot/kernel.h"
#include "vmm/boot/source.h"
#include "vmm/machine/vm.h"

/*
 * A kernel that is read into guest memory while KVM creates the VM: for large ones. Must
 * stay where it is until boot_preload_finish or boot_preload_drop.
 */
struct boot_preload {
    const struct boot_source *source;
    struct kernel kernel;
    struct error error; /* why vm_create failed, if its code is not 0 */
};

/* Whether the kernel is so large that it pays. */
bool boot_wants_preload(const struct boot_source *source);

/* Has vm_create read the kernel. The source must outlive it. */
void boot_preload(struct boot_preload *preload, const struct boot_source *source,
                  struct vm_params *params);

/* After that: as boot() otherwise; or nothing further, because something else failed. */
int boot_preload_finish(struct boot_preload *preload, struct vm *vm, struct board *board,
                        struct error *error);
void boot_preload_drop(struct boot_preload *preload);

/*
 * Fills a VM whose devices exist and which has not started from what it is to boot. 0; or -errno
 * and one line that names the remedy. Call it once for each VM: it counts on memory being zero.
 */
int boot(struct vm *vm, struct board *board, const struct boot_source *source, struct error *error);

#endif
