/*
 * Page tables of a process: entries, and nothing of what they mean (space.h).
 * A table page counts its entries in use and is freed with the last one, so that
 * unmapping everything gives back every table but the root.
 */
#ifndef STRATA_KERNEL_MM_PAGING_H
#define STRATA_KERNEL_MM_PAGING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/abi/checkpoint.h"

#define PTE_PRESENT  0x001ull
#define PTE_WRITE    0x002ull
#define PTE_USER     0x004ull
#define PTE_NOCACHE  0x010ull
#define PTE_ACCESSED 0x020ull
#define PTE_DIRTY    0x040ull
#define PTE_HUGE     0x080ull
#define PTE_GLOBAL   0x100ull
#define PTE_COW      ABI_PTE_COW
#define PTE_NX       0x8000000000000000ull
#define PTE_FRAME    0x000ffffffffff000ull

/* Builds the kernel's own root: image, direct map, interrupt controllers. */
void paging_setup(void);

/* The kernel's root, for a CPU that runs no process. */
uint64_t paging_kernel_root(void);

/* A root that maps the kernel only; its physical address, 0 without memory. */
uint64_t paging_new_root(void);

/* Frees a root; nothing of user space may be mapped any more. */
void paging_free_root(uint64_t root);

/*
 * The leaf entry of va: of a 4K page, or of the 2M or 1G page around it. NULL if there is
 * none present. *bytes is the page's size.
 */
uint64_t *paging_find(uint64_t root, uint64_t va, uint64_t *bytes);

/*
 * The place of va's entry in a table of 4K (level 0), 2M or 1G entries, with tables
 * made where there are none. NULL without memory. Fill it with paging_set.
 */
uint64_t *paging_place(uint64_t root, uint64_t va, unsigned level);

/* Writes an entry that was, or becomes, empty or not, and counts. */
void paging_set(uint64_t *entry, uint64_t value);

/* Frees the table pages around va that have no entry left. */
void paging_prune(uint64_t root, uint64_t va);

/* Next present leaf at or after *va and below end; NULL at the end. Sets *va, *bytes. */
uint64_t *paging_next(uint64_t root, uint64_t *va, uint64_t end, uint64_t *bytes);

#endif
