/*
 * The VMAs of a process: a sorted array of ranges that do not overlap. What is mapped
 * in page tables is not looked at here (space.h). Results are 0 or -ABI_E*.
 */
#ifndef STRATA_KERNEL_MM_VMA_H
#define STRATA_KERNEL_MM_VMA_H

#include "guest/kernel/proc/process.h"

/* The VMA around va, NULL if there is none. */
struct vma *vma_at(struct process *p, uint64_t va);

/* Lowest VMA that ends after va; the end of the array, as vma_is_end tells, if none does. */
struct vma *vma_after(struct process *p, uint64_t va);
bool vma_is_end(const struct process *p, const struct vma *vma);

/* Size of the pages it is mapped by. */
uint64_t vma_page_bytes(const struct vma *vma);

/* Adds one: -ABI_EEXIST where something is there, -ABI_ENOMEM when there are too many, or at the
 * limit. */
int vma_add(struct process *p, const struct vma *vma);

/* A copy of it holds its object, or its disk, too. */
void vma_hold(const struct vma *vma);

/* Removes one, and its hold on its object. */
void vma_forget(struct process *p, struct vma *vma);

/* Splits the VMA around va, if there is one and va is not its start. */
int vma_split(struct process *p, uint64_t va);

/* Makes one of neighbours in [start, end) that only history keeps apart. */
void vma_merge(struct process *p, uint64_t start, uint64_t end);

/* First gap of so many bytes, aligned, in the mmap area; 0 if none. */
uint64_t vma_gap(struct process *p, uint64_t bytes, uint64_t align);

#endif
