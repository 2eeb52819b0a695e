/*
 * What a disk is made of: a store of 512-byte sectors that reads and writes host memory
 * and says later how it went. file.h is the real one, delay.h one that makes another slow;
 * tests have others.
 *
 * The user of a store has one lock, under which all functions here are called (but for
 * block_cancel). Completions come under the same lock: either from within block_kick, or
 * on a thread of the store, which calls enter, done for each request, and leave.
 */
#ifndef STRATA_BACKEND_BLOCK_H
#define STRATA_BACKEND_BLOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define BLOCK_SECTOR_BYTES 512ull
#define BLOCK_IOVECS_MAX   1024 /* as IOV_MAX */

struct block;

enum block_op {
    BLOCK_READ,
    BLOCK_WRITE,
    BLOCK_FLUSH,
    BLOCK_DISCARD, /* what is there afterwards is anybody's guess */
    BLOCK_ZERO,    /* reads as zeroes afterwards */
};

/* The user's until it is submitted, and again from `done` on. */
struct block_request {
    enum block_op op;
    bool sync;              /* BLOCK_WRITE: durable when it is done */
    bool unmap;             /* BLOCK_ZERO: may give the space back */
    uint64_t offset, bytes; /* READ, WRITE: the sum of iov's lengths; inside the store */
    struct iovec *iov;      /* READ, WRITE: at most BLOCK_IOVECS_MAX; changed meanwhile */
    unsigned niov;
    int result;        /* when done: 0, -EIO, -ENOSPC, …; -ECANCELED */
    uint64_t transfer; /* when done: bytes moved, fewer than `bytes` only on an error */

    /* The store's. */
    struct block_request *next, **link;
    unsigned step;
    atomic_bool cancelled;
    uint64_t due_ns; /* delay.c's: not done before */
};

struct block_user {
    void *owner;
    void (*enter)(void *owner);
    void (*done)(void *owner, struct block_request *request);
    void (*leave)(void *owner);
};

struct block_ops {
    void (*submit)(struct block *block, struct block_request *request);
    void (*kick)(struct block *block);
    void (*cancel)(struct block *block, struct block_request *request);
    void (*destroy)(struct block *block);
};

struct block {
    const struct block_ops *ops;
    struct block_user user; /* set before the first submit */
    uint64_t sectors;
    bool read_only;
};

/* Queues a request; the user has at most as many under way as the store was made for. */
static inline void block_submit(struct block *block, struct block_request *request)
{
    block->ops->submit(block, request);
}

/* Starts what was queued. What is done at once is reported from here. */
static inline void block_kick(struct block *block)
{
    block->ops->kick(block);
}

/*
 * Asks a request that is under way to end soon. From any thread, with or without the
 * user's lock; never blocks.
 */
static inline void block_cancel(struct block *block, struct block_request *request)
{
    block->ops->cancel(block, request);
}

/* Waits, without the user's lock, for all that is under way. */
static inline void block_destroy(struct block *block)
{
    block->ops->destroy(block);
}

#endif
