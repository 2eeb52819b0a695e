/*
 * Physical memory: one struct abi_frame for each 4K frame, with a reference count.
 *
 * Frames that were never used are known to read zero and are kept as ranges;
 * freed ones go on a list of clean (all zero) or dirty frames. So a zeroed frame
 * costs a memset only when nothing clean is left. Where there is a balloon, free
 * frames go back to the host after a while, and are clean then.
 */
#ifndef STRATA_KERNEL_MM_FRAME_H
#define STRATA_KERNEL_MM_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/abi/checkpoint.h"
#include "guest/abi/syscall.h"
#include "guest/kernel/arch/layout.h"

#define PAGE_SHIFT   12
#define HUGE_FRAMES  512
#define GIANT_FRAMES (HUGE_FRAMES * 512ull)

/* The frame table, indexed by frame number. */
extern struct abi_frame *frames;

/*
 * Takes over RAM: `low` frames from 0, of which those below first_free are in use,
 * and `high` frames from 4 GiB. The table lies in the direct map just below
 * first_free, and fresh memory reads zero.
 */
void frame_setup(uint64_t first_free, uint64_t low, uint64_t high);

/* A frame with one reference, or 0 if there is none. */
uint64_t frame_alloc(enum abi_frame_kind kind, bool zeroed);

/* 512 frames, 2M-aligned, zeroed or not; the reference count is the first one's. */
uint64_t frame_alloc_huge(bool zeroed);

/*
 * As many of those as make 1 GiB, aligned to it and never used, so that they read zero: each
 * with its own count. Where frame_giant_free is 0, it returns 0.
 */
uint64_t frame_alloc_giant(void);
uint64_t frame_giant_free(void);

void frame_get(uint64_t frame);

/*
 * Drops a reference; with the last one the frame (or the huge page) is free.
 * `clean` promises that a frame with no reference left is all zero.
 */
void frame_put(uint64_t frame, bool clean);

uint64_t frame_free_count(void);

/* Of frames that are freed, or allocated, from now on. */
extern enum abi_zeroing frame_zeroing;

/* ---- For the balloon ------------------------------------------------------ */

/* Frames that were used and are free now, and that the host still has memory behind. */
uint64_t frame_idle_count(void);

/* Called once whenever idle frames grow to so many; NULL: nobody asks. */
extern void (*frame_many_idle)(void);
#define FRAMES_MANY 256

/*
 * Takes a run of idle frames, that follow each other, out of the allocator, of at most `most`
 * (at least HUGE_FRAMES): their number, 0 when there are none. They count as free still; but
 * until frame_given nobody gets them. zero: they are known to read so from now on.
 */
uint64_t frame_take_idle(uint64_t most, uint64_t *first);
void frame_given(uint64_t first, uint64_t count, bool zero);

/*
 * Takes fresh frames for good: those of reserved memory. They keep one reference, a pin.
 * Right after frame_setup. False if one of them is not free RAM.
 */
bool frame_reserve(uint64_t frame, uint64_t count);

/* The frame whose reference count holds this one: itself, or the head of its huge page. */
static inline uint64_t frame_head(uint64_t frame)
{
    uint64_t head = frame & ~(uint64_t)(HUGE_FRAMES - 1);

    return frames[head].kind == ABI_FRAME_HUGE ? head : frame;
}

/*
 * A reference on behalf of a device, by its head; false when there are too many. A pinned
 * frame is not copied on write by its only user.
 */
bool frame_pin(uint64_t head);
void frame_unpin(uint64_t head);

/* The kernel's address of a frame. */
static inline void *frame_va(uint64_t frame)
{
    return (void *)(DIRECT_MAP + (frame << PAGE_SHIFT));
}

static inline uint64_t frame_of_image(const void *va)
{
    return ((uint64_t)va - KERNEL_OFFSET) >> PAGE_SHIFT;
}

#endif
