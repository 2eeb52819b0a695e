#include "devices/core/virtqueue.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <stddef.h>
#include <string.h>

#define CHAIN_BYTES_MAX (1ull << 32)
#define INDEX_COUNT     65536u /* descriptors that a 16-bit index reaches */

/* Where things are in both rings; little-endian, as this host is (2.7.6, 2.7.8). */
#define RING_FLAGS 0
#define RING_INDEX 2
#define RING_FIRST 4

/* ---- Ring memory ----------------------------------------------------------- */

static uint64_t descriptors_bytes(const struct virtqueue *queue)
{
    return sizeof(struct vring_desc) * queue->state.size;
}

/* The event words behind the rings are there only where they were negotiated (2.7.6, 2.7.8). */
static uint64_t driver_bytes(const struct virtqueue *queue)
{
    return RING_FIRST + 2ull * queue->state.size + (queue->event_index ? 2 : 0);
}

static uint64_t device_bytes(const struct virtqueue *queue)
{
    return RING_FIRST + sizeof(struct vring_used_elem) * queue->state.size +
           (queue->event_index ? 2 : 0);
}

static int broken(struct virtqueue *queue, int error, const char *why)
{
    queue->broken = why;
    return error;
}

/* All of a part must be accessible, even what is not looked at now: drivers map rings whole. */
static int unreachable(struct virtqueue *queue)
{
    return broken(queue, -EFAULT, "a ring that the device may not access");
}

/*
 * A part of the queue is reached through its window while that is one piece of host memory,
 * else through the dma handle each time. Windows are nearly always good: what finds them not so
 * is apart, for the rest to be short.
 */
static const uint8_t *driver_window(struct virtqueue *queue, bool *fault)
{
    return dma_window(queue->dma, &queue->driver_window, queue->state.driver, driver_bytes(queue),
                      DMA_READ, fault);
}

static uint8_t *device_window(struct virtqueue *queue, bool *fault)
{
    return dma_window(queue->dma, &queue->device_window, queue->state.device, device_bytes(queue),
                      DMA_WRITE, fault);
}

struct table {
    uint64_t base, bytes;
    struct dma_window *window;
};

static __attribute__((noinline)) int table_read_anew(struct virtqueue *queue,
                                                     const struct table *table, uint64_t offset,
                                                     struct vring_desc *to)
{
    bool fault = false;
    const uint8_t *host = dma_window(queue->dma, table->window, table->base, table->bytes, DMA_READ,
                                     &fault);

    if (host) {
        memcpy(to, host + offset, sizeof(*to));
        return 0;
    }
    if (fault || dma_read(queue->dma, table->base + offset, to, sizeof(*to)))
        return unreachable(queue);
    return 0;
}

static inline int table_read(struct virtqueue *queue, const struct table *table, uint64_t offset,
                             struct vring_desc *to)
{
    struct vring_desc slowly; /* `to` itself may be in registers */
    int err;

    if (dma_window_good(queue->dma, table->window)) {
        memcpy(to, (const uint8_t *)table->window->host + offset, sizeof(*to));
        return 0;
    }
    err = table_read_anew(queue, table, offset, &slowly);
    *to = slowly;
    return err;
}

/* Words of the rings are aligned (virtqueue_enable): each is read and written in one piece. */
static uint16_t load16(const uint8_t *host)
{
    return __atomic_load_n((const uint16_t *)(const void *)host, __ATOMIC_RELAXED);
}

static void store16(uint8_t *host, uint16_t value)
{
    __atomic_store_n((uint16_t *)(void *)host, value, __ATOMIC_RELAXED);
}

static __attribute__((noinline)) int driver_read16_anew(struct virtqueue *queue, uint64_t offset,
                                                        uint16_t *value)
{
    bool fault = false;
    const uint8_t *host = driver_window(queue, &fault);

    if (host) {
        *value = load16(host + offset);
        return 0;
    }
    if (fault || dma_read(queue->dma, queue->state.driver + offset, value, sizeof(*value)))
        return unreachable(queue);
    return 0;
}

static inline int driver_read16(struct virtqueue *queue, uint64_t offset, uint16_t *value)
{
    if (!dma_window_good(queue->dma, &queue->driver_window))
        return driver_read16_anew(queue, offset, value);
    *value = load16((const uint8_t *)queue->driver_window.host + offset);
    return 0;
}

static __attribute__((noinline)) int device_write16_anew(struct virtqueue *queue, uint64_t offset,
                                                         uint16_t value)
{
    bool fault = false;
    uint8_t *host = device_window(queue, &fault);

    if (host) {
        store16(host + offset, value);
        return 0;
    }
    if (fault || dma_write(queue->dma, queue->state.device + offset, &value, sizeof(value)))
        return unreachable(queue);
    return 0;
}

static inline int device_write16(struct virtqueue *queue, uint64_t offset, uint16_t value)
{
    if (!dma_window_good(queue->dma, &queue->device_window))
        return device_write16_anew(queue, offset, value);
    store16((uint8_t *)queue->device_window.host + offset, value);
    return 0;
}

static __attribute__((noinline)) int
device_write_element_anew(struct virtqueue *queue, uint64_t offset,
                          const struct vring_used_elem *element)
{
    bool fault = false;
    uint8_t *host = device_window(queue, &fault);

    if (host) {
        memcpy(host + offset, element, sizeof(*element));
        return 0;
    }
    if (fault || dma_write(queue->dma, queue->state.device + offset, element, sizeof(*element)))
        return unreachable(queue);
    return 0;
}

static inline int device_write_element(struct virtqueue *queue, uint16_t index,
                                       const struct vring_used_elem *element)
{
    /* The size is a power of two. */
    uint64_t offset = RING_FIRST + sizeof(*element) * (index & (queue->state.size - 1u));

    if (!dma_window_good(queue->dma, &queue->device_window))
        return device_write_element_anew(queue, offset, element);
    memcpy((uint8_t *)queue->device_window.host + offset, element, sizeof(*element));
    return 0;
}

static uint64_t used_event_offset(const struct virtqueue *queue)
{
    return RING_FIRST + 2ull * queue->state.size;
}

static uint64_t avail_event_offset(const struct virtqueue *queue)
{
    return RING_FIRST + sizeof(struct vring_used_elem) * queue->state.size;
}

/* ---- State ------------------------------------------------------------------- */

void virtqueue_init(struct virtqueue *queue, struct dma *dma, uint16_t size_max)
{
    *queue = (struct virtqueue){ .dma = dma, .size_max = size_max };
    virtqueue_reset(queue);
}

void virtqueue_reset(struct virtqueue *queue)
{
    *queue = (struct virtqueue){ .state = { .size = queue->size_max },
                                 .size_max = queue->size_max,
                                 .dma = queue->dma,
                                 .popped = queue->popped,
                                 .pushed = queue->pushed };
}

static bool fits(uint64_t base, uint64_t bytes, uint64_t alignment)
{
    return base % alignment == 0 && base + (bytes - 1) >= base;
}

int virtqueue_enable(struct virtqueue *queue)
{
    const struct virtqueue_state *state = &queue->state;

    /* 2.7: the size is a power of two; 2.7, table: alignments. */
    if (!state->size || state->size & (state->size - 1) || state->size > queue->size_max)
        return -EINVAL;
    if (!fits(state->descriptors, descriptors_bytes(queue), 16) ||
        !fits(state->driver, driver_bytes(queue), 2) ||
        !fits(state->device, device_bytes(queue), 4))
        return -EINVAL;
    queue->descriptor_window = queue->driver_window = queue->device_window = (struct dma_window){
        0
    };
    queue->available = state->next_available;
    queue->state.ready = true;
    return 0;
}

/* ---- Chains -------------------------------------------------------------------- */

/* A chain while it is being collected. */
struct walk {
    struct virtqueue *queue;
    struct virtqueue_chain *chain;
    unsigned visited; /* descriptors, of all tables */
    unsigned nsegments;
    uint64_t bytes;
    bool writable_seen;
};

/*
 * One descriptor of a copy that the guest cannot reach any more. 2.7.4.2: no readable
 * one comes after a writable one. One of no length says nothing and is left out.
 */
static inline __attribute__((always_inline)) int add_segment(struct walk *walk,
                                                             const struct vring_desc *descriptor)
{
    struct virtqueue_chain *chain = walk->chain;
    bool writable = descriptor->flags & VRING_DESC_F_WRITE;

    if (!writable && walk->writable_seen)
        return broken(walk->queue, -EINVAL, "a readable descriptor after a writable one");
    walk->writable_seen |= writable;
    if (!descriptor->len)
        return 0;
    if (descriptor->addr + (descriptor->len - 1) < descriptor->addr)
        return broken(walk->queue, -EINVAL, "a descriptor that wraps around");
    walk->bytes += descriptor->len;
    /* 2.7.5: no chain of more than 2^32 bytes. */
    if (walk->bytes > CHAIN_BYTES_MAX)
        return broken(walk->queue, -EINVAL, "a chain of more than 4 GiB");
    chain->segments[walk->nsegments++] = (struct virtqueue_segment){ descriptor->addr,
                                                                     descriptor->len };
    if (!writable) {
        chain->nreadable = (uint16_t)walk->nsegments;
        chain->readable_bytes = walk->bytes;
    }
    return 0;
}

/*
 * Follows a chain from `index` on through a table of descriptors: 0 at its end, 1 at a
 * descriptor that refers to an indirect table, which is in *last. 2.7.5.3: a chain, with
 * what its indirect table adds, is not longer than the queue, so a loop is found after so
 * many steps.
 */
static inline __attribute__((always_inline)) int
follow(struct walk *walk, const struct table *table, uint16_t index, struct vring_desc *last)
{
    struct virtqueue *queue = walk->queue;
    uint64_t count = table->bytes / sizeof(*last);

    for (;;) {
        struct vring_desc one;
        int err;

        if (index >= count)
            return broken(queue, -EINVAL, "a descriptor outside its table");
        if (walk->visited++ == queue->state.size)
            return broken(queue, -EINVAL, "a chain longer than the queue, or a loop");
        err = table_read(queue, table, sizeof(one) * (uint64_t)index, &one);
        if (err)
            return err;
        if (one.flags & VRING_DESC_F_INDIRECT) {
            walk->visited--; /* it is no buffer */
            *last = one;
            return 1;
        }
        err = add_segment(walk, &one);
        if (err)
            return err;
        if (!(one.flags & VRING_DESC_F_NEXT))
            return 0;
        index = one.next;
    }
}

/* 2.7.5.3.1: what a driver must not do; 2.7.5.3.2: WRITE means nothing here. */
static __attribute__((noinline)) int follow_indirect(struct walk *walk, struct vring_desc *table)
{
    struct virtqueue *queue = walk->queue;
    struct dma_window window = { 0 };
    struct table part;
    uint64_t base = table->addr;
    uint32_t bytes = table->len, count = bytes / sizeof(struct vring_desc);
    int err;

    if (!queue->indirect)
        return broken(queue, -EINVAL, "an indirect descriptor that was not negotiated");
    if (table->flags & VRING_DESC_F_NEXT)
        return broken(queue, -EINVAL, "an indirect descriptor with a next one");
    if (!bytes || bytes % sizeof(struct vring_desc))
        return broken(queue, -EINVAL, "an indirect table that is not whole descriptors");
    if (base + (bytes - 1) < base)
        return broken(queue, -EINVAL, "an indirect table that wraps around");
    /* No more of it is translated than can be used. */
    part = (struct table){ base, (count < INDEX_COUNT ? count : INDEX_COUNT) * sizeof(*table),
                           &window };
    err = follow(walk, &part, 0, table);
    return err > 0 ? broken(queue, -EINVAL, "an indirect descriptor in an indirect table") : err;
}

static int collect(struct virtqueue *queue, uint16_t head, struct virtqueue_chain *chain)
{
    struct walk walk = { .queue = queue, .chain = chain }, rest;
    const struct table table = { queue->state.descriptors, descriptors_bytes(queue),
                                 &queue->descriptor_window };
    struct vring_desc last;
    int err;

    chain->head = head;
    chain->nreadable = 0;
    chain->readable_bytes = 0;
    err = follow(&walk, &table, head, &last);
    if (err > 0) {
        /* A copy, so that most chains are walked in registers. */
        rest = walk;
        err = follow_indirect(&rest, &last);
        walk = rest;
    }
    chain->nwritable = (uint16_t)(walk.nsegments - chain->nreadable);
    chain->writable_bytes = walk.bytes - chain->readable_bytes;
    return err;
}

/* ---- Available ring -------------------------------------------------------------- */

/*
 * How many chains wait, in *count. Acquire: pairs with the driver's write barrier between
 * the ring's entries and its index (2.7.13.3): what was made available before is seen.
 */
static int look(struct virtqueue *queue, uint16_t *count)
{
    int err = driver_read16(queue, RING_INDEX, &queue->available);

    if (err)
        return err;
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    *count = (uint16_t)(queue->available - queue->state.next_available);
    if (*count > queue->state.size)
        return broken(queue, -EINVAL, "an available index more than a queue ahead");
    return 0;
}

/*
 * Asks to be kicked for the next chain, then looks again. Sequentially consistent: pairs
 * with the driver's barrier between its index and its look at the event word (2.7.13.4):
 * either we see its chain or it sees that we want a kick.
 */
static int publish_avail_event(struct virtqueue *queue, uint16_t *count)
{
    int err = device_write16(queue, avail_event_offset(queue), queue->state.next_available);

    if (err)
        return err;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return look(queue, count);
}

static int waiting(struct virtqueue *queue, uint16_t *count)
{
    int err = 0;

    *count = (uint16_t)(queue->available - queue->state.next_available);
    if (!*count)
        err = look(queue, count);
    if (!err && !*count && queue->event_index && !queue->kicks_off)
        err = publish_avail_event(queue, count);
    return err;
}

int virtqueue_pop(struct virtqueue *queue, struct virtqueue_chain *chain)
{
    struct virtqueue_state *state = &queue->state;
    uint16_t count, head;
    int err;

    if (queue->broken)
        return -EINVAL;
    if (!state->ready)
        return 0;
    err = waiting(queue, &count);
    if (err || !count)
        return err;
    err = driver_read16(queue, RING_FIRST + 2ull * (state->next_available & (state->size - 1u)),
                        &head);
    if (!err)
        err = collect(queue, head, chain);
    if (err)
        return err;
    state->next_available++;
    queue->popped++;
    return 1;
}

int virtqueue_take(struct virtqueue *queue, uint16_t head, struct virtqueue_chain *chain)
{
    int err = queue->broken || !queue->state.ready ? -EINVAL : collect(queue, head, chain);

    queue->popped += !err;
    return err;
}

void virtqueue_unpop(struct virtqueue *queue, uint16_t count)
{
    queue->state.next_available = (uint16_t)(queue->state.next_available - count);
    queue->popped -= count;
}

/* ---- Used ring --------------------------------------------------------------------- */

int virtqueue_push_all(struct virtqueue *queue, const struct virtqueue_used *used, uint16_t count)
{
    struct virtqueue_state *state = &queue->state;
    int err;

    if (queue->broken)
        return -EINVAL;
    if (!state->ready)
        return 0;
    for (uint16_t i = 0; i < count; i++) {
        const struct vring_used_elem element = { .id = used[i].head, .len = used[i].written };

        err = device_write_element(queue, (uint16_t)(state->next_used + i), &element);
        if (err)
            return err;
    }
    /*
     * Release: pairs with the driver's read barrier between the used index and the
     * elements (2.7.14): who sees the index sees the elements, and the data before them.
     */
    __atomic_thread_fence(__ATOMIC_RELEASE);
    err = device_write16(queue, RING_INDEX, (uint16_t)(state->next_used + count));
    if (err)
        return err;
    state->next_used = (uint16_t)(state->next_used + count);
    queue->pushed += count;
    return 0;
}

int virtqueue_push(struct virtqueue *queue, uint16_t head, uint32_t written)
{
    const struct virtqueue_used used = { .head = head, .written = written };

    return virtqueue_push_all(queue, &used, 1);
}

bool virtqueue_should_notify(struct virtqueue *queue)
{
    struct virtqueue_state *state = &queue->state;
    uint16_t value, before = state->signalled_used, now = state->next_used;
    bool known = state->signalled;

    if (queue->broken || !state->ready)
        return false;
    /*
     * Pairs with the driver's barrier between setting its flags or event word and its
     * look at the used index (2.7.7.1): either it sees our element or we see that
     * it wants an interrupt.
     */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (driver_read16(queue, queue->event_index ? used_event_offset(queue) : RING_FLAGS, &value))
        return false;
    if (!queue->event_index)
        return !(value & VRING_AVAIL_F_NO_INTERRUPT);
    state->signalled_used = now;
    state->signalled = true;
    return !known || vring_need_event(value, now, before);
}

void virtqueue_want_kicks(struct virtqueue *queue, bool on)
{
    uint16_t count;

    if (queue->kicks_off == !on)
        return;
    queue->kicks_off = !on;
    if (queue->broken || !queue->state.ready)
        return;
    /* 2.7.10: with the event index, the flags are 0; off is to leave the event word behind. */
    if (!queue->event_index) {
        device_write16(queue, RING_FLAGS, on ? 0 : VRING_USED_F_NO_NOTIFY);
        __atomic_thread_fence(__ATOMIC_SEQ_CST); /* as in publish_avail_event */
    } else if (on) {
        publish_avail_event(queue, &count);
    }
}

/* ---- Data ---------------------------------------------------------------------------- */

/* The readable or the writable segments from byte `offset` on, a piece at a time. */
static __attribute__((noinline)) int64_t virtqueue_copy(struct virtqueue *queue,
                                                        const struct virtqueue_chain *chain,
                                                        uint64_t offset, uint8_t *bytes, size_t len,
                                                        enum dma_direction direction)
{
    bool reads = direction == DMA_READ;
    const struct virtqueue_segment *segments = chain->segments + (reads ? 0 : chain->nreadable);
    unsigned count = reads ? chain->nreadable : chain->nwritable;
    size_t done = 0;

    for (unsigned i = 0; i < count && done < len; i++) {
        uint64_t piece = segments[i].len;
        uint64_t iova = segments[i].iova + offset;
        int err;

        if (offset >= piece) {
            offset -= piece;
            continue;
        }
        piece -= offset;
        offset = 0;
        if (piece > len - done)
            piece = len - done;
        err = reads ? dma_read(queue->dma, iova, bytes + done, piece)
                    : dma_write(queue->dma, iova, bytes + done, piece);
        if (err)
            return -EFAULT;
        done += piece;
    }
    return (int64_t)done;
}

/* Most of what is copied is in the first segment. */
static inline bool in_first(const struct virtqueue_segment *segments, unsigned count,
                            uint64_t offset, size_t len)
{
    return count && offset <= segments->len && len <= segments->len - offset;
}

int64_t virtqueue_read(struct virtqueue *queue, const struct virtqueue_chain *chain,
                       uint64_t offset, void *to, size_t len)
{
    if (in_first(chain->segments, chain->nreadable, offset, len))
        return dma_read(queue->dma, chain->segments->iova + offset, to, len) ? -EFAULT
                                                                             : (int64_t)len;
    return virtqueue_copy(queue, chain, offset, to, len, DMA_READ);
}

int64_t virtqueue_write(struct virtqueue *queue, const struct virtqueue_chain *chain,
                        uint64_t offset, const void *from, size_t len)
{
    const struct virtqueue_segment *segments = chain->segments + chain->nreadable;

    if (in_first(segments, chain->nwritable, offset, len))
        return dma_write(queue->dma, segments->iova + offset, from, len) ? -EFAULT : (int64_t)len;
    /* dma_write only reads from it. */
    return virtqueue_copy(queue, chain, offset, (uint8_t *)(uintptr_t)from, len, DMA_WRITE);
}
