/*
 * From a configuration to a machine ready to start: kernel, command line and device
 * tree in guest memory, the boot CPU at the kernel's entry.
 */
#ifndef STRATA_BOOT_BOOT_H
#define STRATA_BOOT_BOOT_H

#include "devices/core/board.h"
#include "vmm/boot/config.h"
#include "vmm/boot/error.h"
#include "vmm/boot/kernel.h"
#include "vmm/machine/vm.h"

/* The shape of the VM that a configuration asks for. */
struct vm_shape boot_shape(const struct vm_config *config);

/* Its devices; the caller adds what is not the guest's business: file descriptors, callbacks. */
struct board_config boot_board(const struct vm_config *config);

/*
 * A kernel that is read into guest memory while KVM creates the VM: for large ones. Must
 * stay where it is until boot_early_finish or boot_early_drop.
 */
struct boot_early {
    const struct vm_config *config;
    struct kernel kernel;
    struct boot_error error; /* why vm_create failed, if its text is not empty */
};

/* Has vm_create read the kernel. The configuration must outlive it. */
void boot_early(struct boot_early *early, const struct vm_config *config, struct vm_shape *shape);

/* After that: as boot() otherwise; or nothing further, because something else failed. */
int boot_early_finish(struct boot_early *early, struct vm *vm, struct board *board,
                      struct boot_error *error);
void boot_early_drop(struct boot_early *early);

/*
 * Fills a VM of that shape, whose devices exist and which has not started, from the
 * configuration. 0; or -errno and one line that names the remedy. Call it once for
 * each VM: it counts on memory being zero.
 */
int boot(struct vm *vm, struct board *board, const struct vm_config *config,
         struct boot_error *error);

#endif
