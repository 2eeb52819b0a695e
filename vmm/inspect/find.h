/*
 * Finding bytes in guest RAM, and the addresses that map each place.
 *
 * The scan may go on while the guest runs: it reads memory once, at the rate of the
 * memory. What it found may be gone again when it is looked at, so stop the world
 * and call find_check, and only then find_places.
 */
#ifndef STRATA_INSPECT_FIND_H
#define STRATA_INSPECT_FIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/inspect/spaces.h"

#define FIND_PATTERN_MAX 256
#define FIND_HITS_MAX    1024
#define FIND_PLACES_MAX  6

struct find_hit {
    uint64_t gpa;
    unsigned nplaces; /* mappings of its first byte, as many as there is room for */
    unsigned more;    /* and how many there was none for */
    struct {
        unsigned space;
        uint64_t va;
        bool user;
    } place[FIND_PLACES_MAX];
};

struct find {
    const struct memory *memory;
    uint8_t pattern[FIND_PATTERN_MAX];
    size_t bytes; /* of it, at least 1 */
    size_t n;
    struct find_hit *hit;    /* ascending within a slot */
    uint64_t searched_bytes; /* pages the host has nothing behind are zero, and not searched */
    bool stopped;            /* after FIND_HITS_MAX, or by the caller: there may be more */
    bool untouched_too;      /* it was not possible to tell which pages those are */
};

/* A search for that pattern, of 1 to FIND_PATTERN_MAX bytes. 0, -EINVAL or -ENOMEM. */
int find_create(struct find *find, const struct memory *memory, const void *pattern, size_t bytes);
void find_destroy(struct find *find);

/*
 * Searches all RAM. A place may lie across pages that are next to each other in
 * guest-physical memory. stop(owner) is asked every few milliseconds; NULL: never.
 */
void find_scan(struct find *find, bool (*stop)(void *owner), void *owner);

/* Drops the hits that are none any more. */
void find_check(struct find *find);

/* Fills in where each hit is mapped, in user memory and in the kernel's half. */
int find_places(struct find *find, const struct spaces *spaces, uint64_t *budget);

/*
 * A pattern as people write it: text as it stands, or with 0x an even number of hex
 * digits. How many bytes, or -EINVAL, -E2BIG.
 */
int find_parse(const char *text, uint8_t pattern[FIND_PATTERN_MAX]);

#endif
