/*
 * A disk that is slower than the one behind it: no request comes back before a given time
 * has passed since it was submitted. Requests wait side by side, not one after the other,
 * and nobody waits for them but a thread of its own.
 */
#ifndef STRATA_BACKEND_DELAY_H
#define STRATA_BACKEND_DELAY_H

#include "devices/backend/block.h"

struct vm;

#define DELAY_NS_MAX 10000000000ull

/*
 * A disk over `store`, which nobody has used yet and which it owns from then on. Cancelled
 * requests come back at once. 0 or -errno, the store as it was.
 */
int delay_create(struct block **block, struct vm *vm, struct block *store, uint64_t latency_ns);

#endif
