/*
 * The address space of a process: its VMAs, and the page tables that follow them
 * on demand. Results are 0 or -ABI_E*. Every function leaves the TLBs of the running
 * process and of its companions right; each runs on one CPU at a time, so no other holds
 * its entries. space_protect and space_swap may be given a process that runs on another CPU.
 */
#ifndef STRATA_KERNEL_MM_SPACE_H
#define STRATA_KERNEL_MM_SPACE_H

#include "guest/kernel/proc/process.h"

struct file;

/* SYS_MMAP: an address, or -ABI_E*. */
int64_t space_mmap(struct process *p, uint64_t addr, uint64_t bytes, uint32_t prot, uint32_t flags,
                   uint64_t object);
int space_unmap(struct process *p, uint64_t start, uint64_t bytes);
int space_protect(struct process *p, uint64_t start, uint64_t bytes, uint32_t prot);

/* Checks [start, start + bytes), rounded up to *end, and splits VMAs at its ends. */
int space_range(struct process *p, uint64_t start, uint64_t bytes, uint64_t *end);

/* The entry that maps a frame as vma wants. */
uint64_t space_leaf(const struct process *p, const struct vma *vma, uint64_t frame);

/* Drops the pages of [start, end), not the mapping. The TLB is the caller's business. */
void space_drop(struct process *p, uint64_t start, uint64_t end);

/*
 * The frames behind [va, va + bytes) of p and [other_va, …) of other, two processes,
 * change places, all or none; what may be done with them stays with the ranges. Both are
 * private memory in 4K pages, of one VMA each, all there and nobody else's, neither by
 * copy-on-write nor by DMA; else -ABI_EINVAL.
 */
int space_swap(struct process *p, uint64_t va, struct process *other, uint64_t other_va,
               uint64_t bytes);

/* Makes every CPU that runs in the address space forget its translations. */
void space_flush(const struct process *p);

/* Unmaps all, tables included; the root stays. */
void space_clear(struct process *p);

/* Gives child the VMAs and pages of parent: by reference, or (eager) copied. */
int space_fork(struct process *parent, struct process *child, bool eager);

/*
 * A user access to va faulted with this error code (ABI_PF_*): 0 if it may be tried
 * again; -ABI_EAGAIN if p, which runs here, must wait first and has been put to sleep (a
 * system call that meets it ends with -ABI_EFAULT, and is started again); -ABI_EFAULT if the
 * mapping forbids it; -ABI_EIO, a disk cannot be read; -ABI_ENOMEM.
 */
int space_fault(struct process *p, uint64_t va, uint32_t error);

/*
 * The kernel's pointer to the byte at va, faulted in and, for write, made private;
 * good up to the end of its 4K page. NULL if the process may not access it so.
 */
void *space_reach(struct process *p, uint64_t va, bool write);

/* The same, and how many bytes of its page, 4K or 2M, lie from va on. */
void *space_reach_page(struct process *p, uint64_t va, bool write, uint64_t *rest);

/*
 * SYS_MAP_FILE: maps [offset, offset + bytes), which lies in the file, and zeroes to the end
 * of its last page. Private: the file's own frames until they are written.
 */
int64_t space_map_file(struct process *p, const struct file *file, uint64_t offset, uint64_t bytes,
                       uint32_t prot, uint64_t addr);

/* Maps frames of reserved memory, read-write and shared: an address, or -ABI_E*. */
int64_t space_map_region(struct process *p, uint64_t frame, uint64_t pages);

/* Copies between the kernel and user memory: 0 or -ABI_EFAULT. */
int space_read(struct process *p, void *to, uint64_t va, uint64_t bytes);
int space_write(struct process *p, uint64_t va, const void *from, uint64_t bytes);

/* Reads a string of at most room - 1 characters. */
int space_read_string(struct process *p, char *to, uint64_t room, uint64_t va);

#endif
