/*
 * Disks as memory: the pages of a VMA_DISK come from the page cache when they are touched,
 * and who touches one that is not there waits until it has been read. Mapped privately:
 * writing makes a copy.
 */
#ifndef STRATA_KERNEL_MM_DISK_MAP_H
#define STRATA_KERNEL_MM_DISK_MAP_H

#include "guest/kernel/proc/process.h"

/* SYS_MAP_DISK: an address, or -ABI_E*. */
int64_t disk_map(struct process *p, uint64_t disk, uint64_t offset, uint64_t bytes, uint32_t prot,
                 uint64_t addr);

/*
 * The frame for a first touch of the page at va, with a reference for the page table, its own
 * if it is to be written. -ABI_EAGAIN: p, which runs here, has been put to sleep until it may
 * try again; -ABI_EIO: the disk cannot read it; -ABI_EFAULT: p does not run and cannot wait;
 * -ABI_ENOMEM.
 */
int disk_frame(struct process *p, struct vma *vma, uint64_t va, bool write, uint64_t *frame);

/* Starts reading what is not there of [start, end) of a VMA, and maps what is. */
int disk_advise(struct process *p, struct vma *vma, uint64_t start, uint64_t end);

/* The same for all disks that are mapped in [va, va + bytes). */
int64_t disk_settle(struct process *p, uint64_t va, uint64_t bytes);

/* SYS_LOCK (`lock`: or unlocks): 0, PROCESS_WAITS, -ABI_E*. */
int64_t space_lock(struct process *p, uint64_t start, uint64_t bytes, bool lock);

#endif
