/* Shared objects: page frames that any process may map. Frames come on first touch. */
#ifndef STRATA_KERNEL_MM_SHARED_H
#define STRATA_KERNEL_MM_SHARED_H

#include <stddef.h>
#include <stdint.h>

struct shared;

/* An object of so many bytes, held by its number until its owner drops it or ends. */
int64_t shared_create(uint32_t owner, uint64_t bytes);

/* The object of a number, NULL if there is none. */
struct shared *shared_of(uint64_t number);

uint64_t shared_pages(const struct shared *object);

/* One more, or one less, mapping (or number) that holds it. */
void shared_get(struct shared *object);
void shared_put(struct shared *object);

/* SYS_SHARED_DROP: forgets the number; or the numbers of all that a process owns. */
int64_t shared_drop(uint64_t number);
void shared_drop_owned(uint32_t owner);

/* The frame of a page, with a reference for the caller; 0 without memory. */
uint64_t shared_frame(struct shared *object, uint64_t page);

#endif
