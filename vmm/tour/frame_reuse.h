/*
 * Frames of the host that go from one machine to another: noted by number while the one has
 * them, looked for in the memory of the other.
 */
#ifndef STRATA_TOUR_FRAME_REUSE_H
#define STRATA_TOUR_FRAME_REUSE_H

#include <stdint.h>

#define FRAME_REUSE_FRAMES_MAX   1024
#define FRAME_REUSE_SEARCH_MAX   16384 /* pages, */
#define FRAME_REUSE_SEARCH_BLIND 1024  /* and where no frame was noted */

struct memory;

struct frame_reuse {
    uint64_t n;
    uint64_t pfn[FRAME_REUSE_FRAMES_MAX]; /* ascending */
    const char *unknown;                  /* why there are none; NULL: there are */
};

/* The host's frames behind these pages of guest RAM, as far as it tells. */
void frame_reuse_note(struct frame_reuse *reuse, const struct memory *memory, const uint64_t *gpa,
                      uint64_t n);

struct frame_reuse_found {
    uint64_t looked; /* pages, those among them that had no frame and got one: */
    uint64_t fresh;
    uint64_t nonzero; /* words of these that were not zero */
    uint64_t seen;    /* frames that were noted */
};

/*
 * Takes frames from the host for a machine whose world is stopped, page by page, until noted
 * ones are among them or so many pages have been looked at.
 */
void frame_reuse_find(const struct frame_reuse *reuse, const struct memory *memory,
                      struct frame_reuse_found *found);

#endif
