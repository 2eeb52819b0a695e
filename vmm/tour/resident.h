/*
 * What of guest RAM the host really has memory behind, as the kernel tells it of this
 * process: the other end of reclaiming. Whoever touches a page, the guest or the host, makes
 * it resident; looking here does not.
 */
#ifndef STRATA_TOUR_RESIDENT_H
#define STRATA_TOUR_RESIDENT_H

#include <stdint.h>

struct memory;

/*
 * Rss of the mappings of guest RAM, in /proc/self/smaps found by their addresses (not every
 * kernel has their name, "strata guest RAM"): bytes, or -errno; -ENOENT where there is none.
 */
int64_t resident_bytes(const struct memory *memory);

/*
 * How many of n pages of guest RAM, by address, are there or swapped out, by
 * /proc/self/pagemap; or -errno.
 */
int64_t resident_pages(const struct memory *memory, const uint64_t *gpa, uint64_t n);

#endif
