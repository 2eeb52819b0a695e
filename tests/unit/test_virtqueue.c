/* devices/core/virtqueue: what it takes from a driver, and what it refuses. */
#include <check.h>
#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "devices/core/virtqueue.h"
#include "devices/iommu/iommu.h"
#include "tests/unit/suites.h"
#include "vmm/machine/memory.h"

#define RAM_BYTES   (1ull << 20)
#define SIZE        8
#define DESCRIPTORS 0x1000ull
#define AVAILABLE   0x2000ull
#define USED        0x3000ull
#define TABLE       0x4000ull /* an indirect one */
#define DATA        0x10000ull
#define OUTSIDE     (RAM_BYTES + 0x10000)

#define NEXT        VRING_DESC_F_NEXT
#define WRITE       VRING_DESC_F_WRITE
#define INDIRECT    VRING_DESC_F_INDIRECT

static struct memory memory;
static struct dma dma;
static struct virtqueue queue;
static struct virtqueue_chain chain;
static uint16_t offered;

static void *at(uint64_t gpa)
{
    return memory_at(&memory, gpa, 4096);
}

static struct vring_desc *descriptors(uint64_t table)
{
    return at(table);
}

static struct vring_avail *available(void)
{
    return at(AVAILABLE);
}

static struct vring_used *used(void)
{
    return at(USED);
}

static uint16_t *used_event(void)
{
    return &available()->ring[SIZE];
}

static uint16_t *avail_event(void)
{
    return (uint16_t *)(void *)&used()->ring[SIZE];
}

static void enable(void)
{
    queue.state.size = SIZE;
    queue.state.descriptors = DESCRIPTORS;
    queue.state.driver = AVAILABLE;
    queue.state.device = USED;
    ck_assert_int_eq(virtqueue_enable(&queue), 0);
}

static void setup(void)
{
    ck_assert_int_eq(memory_create(&memory, -1, RAM_BYTES, MEMORY_4K), 0);
    ck_assert_int_eq(dma_create(&dma, &memory, NULL, 0), 0);
    virtqueue_init(&queue, &dma, SIZE);
    queue.indirect = true;
    enable();
    offered = 0;
    dma_lock(&dma);
}

static void teardown(void)
{
    dma_unlock(&dma);
    dma_destroy(&dma);
    memory_destroy(&memory);
}

static void set(uint64_t table, unsigned i, uint64_t address, uint32_t len, uint16_t flags,
                uint16_t next)
{
    descriptors(table)[i] = (struct vring_desc){ address, len, flags, next };
}

static void offer(uint16_t head)
{
    available()->ring[offered++ % SIZE] = head;
    available()->idx = offered;
}

/* The chain at descriptor 0 is refused for this reason, and so is all that comes after it. */
static void refused(int error, const char *why)
{
    offer(0);
    ck_assert_int_eq(virtqueue_pop(&queue, &chain), error);
    ck_assert_ptr_nonnull(queue.broken);
    ck_assert_msg(strstr(queue.broken, why), "\"%s\" does not say \"%s\"", queue.broken, why);
    set(DESCRIPTORS, 0, DATA, 8, 0, 0);
    ck_assert_int_eq(virtqueue_pop(&queue, &chain), -EINVAL);
    ck_assert_int_eq(virtqueue_push(&queue, 0, 0), -EINVAL);
    ck_assert(!virtqueue_should_notify(&queue));
    ck_assert_uint_eq(used()->idx, 0);
    /* Until the reset. */
    virtqueue_reset(&queue);
    ck_assert_ptr_null(queue.broken);
    enable();
    memset(available(), 0, 64);
    offered = 0;
    offer(0);
    ck_assert_int_eq(virtqueue_pop(&queue, &chain), 1);
}

START_TEST(test_chain)
{
    uint8_t bytes[64];

    ck_assert_int_eq(virtqueue_pop(&queue, &chain), 0);
    set(DESCRIPTORS, 5, DATA, 16, NEXT, 1);
    set(DESCRIPTORS, 1, DATA + 0x1000, 0, NEXT, 7); /* says nothing */
    set(DESCRIPTORS, 7, DATA + 0x2000, 32, NEXT | WRITE, 0);
    set(DESCRIPTORS, 0, DATA + 0x3000, 4, WRITE, 3);
    offer(5);
    ck_assert_int_eq(virtqueue_pop(&queue, &chain), 1);
    ck_assert_uint_eq(chain.head, 5);
    ck_assert_uint_eq(chain.nreadable, 1);
    ck_assert_uint_eq(chain.nwritable, 2);
    ck_assert_uint_eq(chain.readable_bytes, 16);
    ck_assert_uint_eq(chain.writable_bytes, 36);
    ck_assert_uint_eq(chain.segments[0].iova, DATA);
    ck_assert_uint_eq(chain.segments[1].iova, DATA + 0x2000);
    ck_assert_uint_eq(chain.segments[2].len, 4);
    ck_assert_int_eq(virtqueue_pop(&queue, &chain), 0);

    /* Data across segments, from an offset, and only as far as the chain goes. */
    memcpy(at(DATA), "0123456789abcdef", 16);
    ck_assert_int_eq(virtqueue_read(&queue, &chain, 10, bytes, sizeof(bytes)), 6);
    ck_assert_mem_eq(bytes, "abcdef", 6);
    ck_assert_int_eq(virtqueue_read(&queue, &chain, 16, bytes, sizeof(bytes)), 0);
    memset(bytes, 'x', sizeof(bytes));
    ck_assert_int_eq(virtqueue_write(&queue, &chain, 30, bytes, sizeof(bytes)), 6);
    ck_assert_mem_eq((uint8_t *)at(DATA + 0x2000) + 29, "\0xx\0", 4);
    ck_assert_mem_eq(at(DATA + 0x3000), "xxxx\0", 5);

    ck_assert_int_eq(virtqueue_push(&queue, chain.head, 36), 0);
    ck_assert_uint_eq(used()->idx, 1);
    ck_assert_uint_eq(used()->ring[0].id, 5);
    ck_assert_uint_eq(used()->ring[0].len, 36);
}
END_TEST

/* Both indices wrap around at 2^16, not at the queue's size. */
START_TEST(test_wrap)
{
    queue.state.next_available = queue.state.next_used = offered = 65533;
    available()->idx = used()->idx = 65533;
    enable();
    for (unsigned i = 0; i < 3 * SIZE; i++) {
        set(DESCRIPTORS, i % SIZE, DATA + i, 1, 0, 0);
        offer((uint16_t)(i % SIZE));
        ck_assert_int_eq(virtqueue_pop(&queue, &chain), 1);
        ck_assert_uint_eq(chain.segments[0].iova, DATA + i);
        ck_assert_int_eq(virtqueue_push(&queue, chain.head, i), 0);
        ck_assert_uint_eq(used()->idx, (uint16_t)(65533 + i + 1));
        ck_assert_uint_eq(used()->ring[(65533 + i) % SIZE].len, i);
    }
}
END_TEST

START_TEST(test_full)
{
    for (uint16_t i = 0; i < SIZE; i++) {
        set(DESCRIPTORS, i, DATA, 1, 0, 0);
        offer(i);
    }
    for (uint16_t i = 0; i < SIZE; i++) {
        ck_assert_int_eq(virtqueue_pop(&queue, &chain), 1);
        ck_assert_uint_eq(chain.head, i);
    }
    ck_assert_int_eq(virtqueue_pop(&queue, &chain), 0);
}
END_TEST

/* Chains that were taken can be left after all, over the end of the ring, too. */
START_TEST(test_unpop)
{
    for (unsigned i = 0; i < SIZE; i++)
        set(DESCRIPTORS, i, DATA + i, 1, 0, 0);
    for (uint16_t i = 0; i < 3 * SIZE; i++) {
        offer(i % SIZE);
        offer((i + 1) % SIZE);
        ck_assert_int_eq(virtqueue_pop(&queue, &chain), 1);
        ck_assert_int_eq(virtqueue_pop(&queue, &chain), 1);
        ck_assert_int_eq(virtqueue_pop(&queue, &chain), 0);
        virtqueue_unpop(&queue, 2);
        ck_assert_int_eq(virtqueue_pop(&queue, &chain), 1);
        ck_assert_uint_eq(chain.head, i % SIZE);
        virtqueue_unpop(&queue, 0);
        ck_assert_int_eq(virtqueue_pop(&queue, &chain), 1);
        ck_assert_uint_eq(chain.head, (i + 1) % SIZE);
    }
    ck_assert_uint_eq(queue.popped, 6 * SIZE);
}
END_TEST

/* Several given back at once, over the end of the ring, too. */
START_TEST(test_push_all)
{
    const struct virtqueue_used all[] = { { 3, 30 }, { 1, 10 }, { 2, 20 } };

    for (uint16_t i = 0; i < SIZE; i++) {
        ck_assert_int_eq(virtqueue_push_all(&queue, all, 3), 0);
        ck_assert_uint_eq(used()->idx, 3 * (i + 1));
        for (unsigned n = 0; n < 3; n++) {
            const struct vring_used_elem *element = &used()->ring[(3u * i + n) % SIZE];

            ck_assert_uint_eq(element->id, all[n].head);
            ck_assert_uint_eq(element->len, all[n].written);
        }
    }
    ck_assert_int_eq(virtqueue_push_all(&queue, all, 0), 0);
    ck_assert_uint_eq(used()->idx, 3 * SIZE);
}
END_TEST

START_TEST(test_index_jump)
{
    set(DESCRIPTORS, 0, DATA, 8, 0, 0);
    offered = SIZE; /* one more than the ring holds */
    refused(-EINVAL, "available index");
}
END_TEST

START_TEST(test_index_back)
{
    set(DESCRIPTORS, 0, DATA, 8, 0, 0);
    offer(0);
    ck_assert_int_eq(virtqueue_pop(&queue, &chain), 1);
    offered = (uint16_t)-1;
    refused(-EINVAL, "available index");
}
END_TEST

START_TEST(test_bad_head)
{
    available()->ring[0] = SIZE;
    available()->idx = offered = 1;
    ck_assert_int_eq(virtqueue_pop(&queue, &chain), -EINVAL);
    ck_assert_ptr_nonnull(strstr(queue.broken, "outside its table"));
}
END_TEST

/* What a chain at descriptor 0 must not be. */
static const struct {
    const char *why;
    struct vring_desc descriptor[3]; /* from 0 on */
    struct vring_desc table[3];      /* at TABLE */
} bad_chains[] = {
    { "outside its table", { { DATA, 8, NEXT, SIZE } }, { { 0 } } },
    { "longer than the queue, or a loop", { { DATA, 8, NEXT, 0 } }, { { 0 } } },
    { "longer than the queue, or a loop",
      { { DATA, 8, NEXT, 1 }, { DATA, 0, NEXT, 2 }, { DATA, 8, NEXT, 1 } },
      { { 0 } } },
    { "a readable descriptor after a writable",
      { { DATA, 8, NEXT | WRITE, 1 }, { DATA, 8, 0, 0 } },
      { { 0 } } },
    { "a readable descriptor after a writable",
      { { DATA, 0, NEXT | WRITE, 1 }, { DATA, 8, 0, 0 } },
      { { 0 } } },
    { "wraps around", { { ~0ull - 6, 8, 0, 0 } }, { { 0 } } },
    { "more than 4 GiB",
      { { DATA, 0x80000000, NEXT, 1 }, { DATA, 0x80000000, NEXT, 2 }, { DATA, 1, WRITE, 0 } },
      { { 0 } } },
    { "with a next one",
      { { TABLE, 16, NEXT | INDIRECT, 1 }, { DATA, 8, 0, 0 } },
      { { DATA, 8, 0, 0 } } },
    { "in an indirect table", { { TABLE, 16, INDIRECT, 0 } }, { { TABLE, 16, INDIRECT, 0 } } },
    { "in an indirect table",
      { { TABLE, 32, INDIRECT, 0 } },
      { { DATA, 8, NEXT, 1 }, { TABLE, 16, INDIRECT, 0 } } },
    { "not whole descriptors", { { TABLE, 24, INDIRECT, 0 } }, { { DATA, 8, 0, 0 } } },
    { "not whole descriptors", { { TABLE, 0, INDIRECT, 0 } }, { { DATA, 8, 0, 0 } } },
    { "outside its table", { { TABLE, 16, INDIRECT, 0 } }, { { DATA, 8, NEXT, 1 } } },
    { "longer than the queue, or a loop",
      { { TABLE, 32, INDIRECT, 0 } },
      { { DATA, 8, NEXT, 1 }, { DATA, 8, NEXT, 0 } } },
    { "a readable descriptor after a writable",
      { { DATA, 8, NEXT | WRITE, 1 }, { TABLE, 16, INDIRECT, 0 } },
      { { DATA, 8, 0, 0 } } },
    { "table that wraps around", { { ~0ull - 15, 32, INDIRECT, 0 } }, { { 0 } } },
};

START_TEST(test_bad_chain)
{
    memcpy(at(DESCRIPTORS), bad_chains[_i].descriptor, sizeof(bad_chains[_i].descriptor));
    memcpy(at(TABLE), bad_chains[_i].table, sizeof(bad_chains[_i].table));
    refused(-EINVAL, bad_chains[_i].why);
}
END_TEST

START_TEST(test_indirect)
{
    set(DESCRIPTORS, 2, DATA, 8, NEXT, 4);
    set(DESCRIPTORS, 4, TABLE, 3 * 16, INDIRECT | WRITE, 0); /* WRITE means nothing here */
    set(TABLE, 0, DATA + 8, 8, NEXT, 2);
    set(TABLE, 2, DATA + 16, 8, NEXT | WRITE, 1);
    set(TABLE, 1, DATA + 24, 8, WRITE, 0);
    offer(2);
    ck_assert_int_eq(virtqueue_pop(&queue, &chain), 1);
    ck_assert_uint_eq(chain.head, 2);
    ck_assert_uint_eq(chain.nreadable, 2);
    ck_assert_uint_eq(chain.nwritable, 2);
    for (unsigned i = 0; i < 4; i++)
        ck_assert_uint_eq(chain.segments[i].iova, DATA + 8 * i);
}
END_TEST

/* A queue's worth of buffers fits, wherever the descriptors are; one more is refused. */
START_TEST(test_indirect_length)
{
    set(DESCRIPTORS, 0, TABLE, (SIZE + 1) * 16, INDIRECT, 0);
    for (uint16_t i = 0; i <= SIZE; i++)
        set(TABLE, i, DATA + i, 1, i < SIZE - 1 ? NEXT : 0, i + 1);
    offer(0);
    ck_assert_int_eq(virtqueue_pop(&queue, &chain), 1);
    ck_assert_uint_eq(chain.nreadable, SIZE);
    descriptors(TABLE)[SIZE - 1].flags = NEXT;
    refused(-EINVAL, "longer than the queue");
}
END_TEST

START_TEST(test_indirect_not_negotiated)
{
    queue.indirect = false;
    set(DESCRIPTORS, 0, TABLE, 16, INDIRECT, 0);
    set(TABLE, 0, DATA, 8, 0, 0);
    refused(-EINVAL, "not negotiated");
}
END_TEST

/* Rings and tables outside memory; data outside is a matter of the request. */
START_TEST(test_unreachable)
{
    uint8_t byte;

    set(DESCRIPTORS, 0, OUTSIDE, 8, NEXT, 1);
    set(DESCRIPTORS, 1, OUTSIDE, 8, WRITE, 0);
    offer(0);
    ck_assert_int_eq(virtqueue_pop(&queue, &chain), 1);
    ck_assert_int_eq(virtqueue_read(&queue, &chain, 0, &byte, 1), -EFAULT);
    ck_assert_int_eq(virtqueue_write(&queue, &chain, 0, &byte, 1), -EFAULT);
    ck_assert_ptr_null(queue.broken);

    set(DESCRIPTORS, 0, OUTSIDE, 16, INDIRECT, 0);
    refused(-EFAULT, "may not access");
}
END_TEST

START_TEST(test_unreachable_rings)
{
    uint64_t *parts[] = { &queue.state.descriptors, &queue.state.driver, &queue.state.device };

    set(DESCRIPTORS, 0, DATA, 8, 0, 0);
    offer(0);
    *parts[_i] = OUTSIDE;
    ck_assert_int_eq(virtqueue_enable(&queue), 0);
    if (_i < 2) {
        ck_assert_int_eq(virtqueue_pop(&queue, &chain), -EFAULT);
    } else {
        ck_assert_int_eq(virtqueue_pop(&queue, &chain), 1);
        ck_assert_int_eq(virtqueue_push(&queue, 0, 0), -EFAULT);
    }
    ck_assert_ptr_nonnull(queue.broken);
}
END_TEST

/* A translation is kept as long as nothing was revoked, and no longer. */
START_TEST(test_generation)
{
    set(DESCRIPTORS, 0, DATA, 8, 0, 0);
    offer(0);
    ck_assert_int_eq(virtqueue_pop(&queue, &chain), 1);
    queue.driver_window.host = at(0x8000); /* an old place of the ring */
    memcpy(at(0x8000), available(), 64);
    offer(0);
    ck_assert_int_eq(virtqueue_pop(&queue, &chain), 0);
    dma.generation++;
    ck_assert_int_eq(virtqueue_pop(&queue, &chain), 1);
}
END_TEST

START_TEST(test_enable)
{
    static const struct {
        uint16_t size;
        uint64_t descriptors, driver, device;
        int result;
    } cases[] = {
        { 1, 16, 2, 4, 0 },
        { 0, 16, 2, 4, -EINVAL },
        { 3, 16, 2, 4, -EINVAL },
        { 2 * SIZE, 16, 2, 4, -EINVAL },
        { SIZE, 8, 2, 4, -EINVAL },
        { SIZE, 16, 1, 4, -EINVAL },
        { SIZE, 16, 2, 2, -EINVAL },
        { SIZE, -16ull, 2, 4, -EINVAL },
        { SIZE, 16, -2ull, 4, -EINVAL },
        { SIZE, 16, 2, -4ull, -EINVAL },
        { 1, -16ull, 2, 4, 0 }, /* up to the last byte there is */
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        virtqueue_reset(&queue);
        ck_assert_int_eq(virtqueue_pop(&queue, &chain), 0); /* not ready */
        queue.state.size = cases[i].size;
        queue.state.descriptors = cases[i].descriptors;
        queue.state.driver = cases[i].driver;
        queue.state.device = cases[i].device;
        ck_assert_msg(virtqueue_enable(&queue) == cases[i].result, "case %u", i);
        ck_assert(queue.state.ready == !cases[i].result);
    }
}
END_TEST

START_TEST(test_flags)
{
    ck_assert(virtqueue_should_notify(&queue));
    available()->flags = VRING_AVAIL_F_NO_INTERRUPT;
    ck_assert(!virtqueue_should_notify(&queue));
    virtqueue_want_kicks(&queue, false);
    ck_assert_uint_eq(used()->flags, VRING_USED_F_NO_NOTIFY);
    virtqueue_want_kicks(&queue, true);
    ck_assert_uint_eq(used()->flags, 0);
}
END_TEST

static void push(unsigned count)
{
    while (count--)
        ck_assert_int_eq(virtqueue_push(&queue, 0, 0), 0);
}

/* An interrupt when the used index passes the event word, and only then (2.7.7.2). */
START_TEST(test_used_event)
{
    virtqueue_reset(&queue);
    queue.event_index = true;
    enable();
    available()->flags = VRING_AVAIL_F_NO_INTERRUPT; /* means nothing now */
    *used_event() = 40;
    push(1);
    ck_assert(virtqueue_should_notify(&queue)); /* nothing was ever signalled */
    push(1);
    ck_assert(!virtqueue_should_notify(&queue));
    *used_event() = 2;
    ck_assert(!virtqueue_should_notify(&queue)); /* index 2, element 2 is not there yet */
    push(1);
    ck_assert(virtqueue_should_notify(&queue));
    ck_assert(!virtqueue_should_notify(&queue));
    *used_event() = 4;
    push(3);
    ck_assert(virtqueue_should_notify(&queue)); /* passed on the way */
    *used_event() = 2;
    push(1);
    ck_assert(!virtqueue_should_notify(&queue)); /* long ago */
}
END_TEST

/* Kicks are asked for by the event word, when there is nothing left to take (2.7.10). */
START_TEST(test_avail_event)
{
    virtqueue_reset(&queue);
    queue.event_index = true;
    enable();
    *avail_event() = 77;
    for (unsigned i = 0; i < 3; i++) {
        set(DESCRIPTORS, i, DATA, 8, 0, 0);
        offer((uint16_t)i);
    }
    ck_assert_int_eq(virtqueue_pop(&queue, &chain), 1);
    ck_assert_int_eq(virtqueue_pop(&queue, &chain), 1);
    ck_assert_uint_eq(*avail_event(), 77);
    ck_assert_int_eq(virtqueue_pop(&queue, &chain), 1);
    ck_assert_int_eq(virtqueue_pop(&queue, &chain), 0);
    ck_assert_uint_eq(*avail_event(), 3);

    virtqueue_want_kicks(&queue, false);
    offer(0);
    ck_assert_int_eq(virtqueue_pop(&queue, &chain), 1);
    ck_assert_int_eq(virtqueue_pop(&queue, &chain), 0);
    ck_assert_uint_eq(*avail_event(), 3);
    virtqueue_want_kicks(&queue, true);
    ck_assert_uint_eq(*avail_event(), 4);
    ck_assert_uint_eq(used()->flags, 0);
}
END_TEST

/* ---- Behind an IOMMU ------------------------------------------------------------------ */

#define IOVA     0x100000000ull /* of page 0 of what is mapped */
#define DOMAIN   1
#define ENDPOINT 9

static struct iommu *iommu;

/* Pages of RAM, in any order, one after the other from IOVA on. */
static const struct {
    uint8_t page;
    uint32_t rights;
} mapped[] = {
    { 7, IOMMU_READ },               /* descriptors: 256 of them, so this page */
    { 3, IOMMU_READ },               /* available ring: from here */
    { 9, IOMMU_READ },               /* to here */
    { 4, IOMMU_READ | IOMMU_WRITE }, /* used ring: from here */
    { 2, IOMMU_WRITE },              /* to here */
    { 12, IOMMU_READ },              /* data */
    { 11, IOMMU_WRITE },
};

static void setup_iommu(void)
{
    const struct iommu_config config = { 0 };

    ck_assert_int_eq(memory_create(&memory, -1, RAM_BYTES, MEMORY_4K), 0);
    ck_assert_int_eq(iommu_create(&iommu, &memory, &config), 0);
    ck_assert_int_eq(dma_create(&dma, &memory, iommu, ENDPOINT), 0);
    ck_assert_int_eq(iommu_attach(iommu, ENDPOINT, DOMAIN, false), 0);
    for (unsigned i = 0; i < sizeof(mapped) / sizeof(mapped[0]); i++)
        ck_assert_int_eq(iommu_map(iommu, DOMAIN, IOVA + i * 4096, IOVA + i * 4096 + 4095,
                                   mapped[i].page * 4096ull, mapped[i].rights),
                         0);
    virtqueue_init(&queue, &dma, 256);
    queue.event_index = true;
    queue.state.size = 256;
    queue.state.descriptors = IOVA;
    queue.state.driver = IOVA + 2 * 4096 - 64; /* straddles pages 3 and 9 */
    queue.state.device = IOVA + 4 * 4096 - 64; /* straddles pages 4 and 2 */
    ck_assert_int_eq(virtqueue_enable(&queue), 0);
    dma_lock(&dma);
}

static void teardown_iommu(void)
{
    dma_unlock(&dma);
    dma_destroy(&dma);
    iommu_destroy(iommu);
    memory_destroy(&memory);
}

/* Where the device's address lies. */
static void *device_at(uint64_t iova)
{
    return (uint8_t *)at(mapped[(iova - IOVA) / 4096].page * 4096ull) + iova % 4096;
}

/* Byte by byte: an element of the used ring straddles two pages, too. */
static void fetch(void *to, uint64_t iova, size_t len)
{
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)to)[i] = *(uint8_t *)device_at(iova + i);
}

static void device_offer(uint16_t index, uint16_t head)
{
    uint16_t after = index + 1;

    memcpy(device_at(queue.state.driver + 4 + 2ull * (index % 256)), &head, 2);
    memcpy(device_at(queue.state.driver + 2), &after, 2);
}

static uint16_t unlock_and(int (*change)(void))
{
    int result;

    dma_unlock(&dma);
    result = change();
    dma_lock(&dma);
    return (uint16_t)-result;
}

static int unmap_data(void)
{
    return iommu_unmap(iommu, DOMAIN, IOVA + 5 * 4096, IOVA + 6 * 4096 - 1);
}

static int unmap_descriptors(void)
{
    return iommu_unmap(iommu, DOMAIN, IOVA, IOVA + 4095);
}

static int unmap_used_end(void)
{
    return iommu_unmap(iommu, DOMAIN, IOVA + 4 * 4096, IOVA + 5 * 4096 - 1);
}

/* Rings that are not one piece of host memory work all the same, 3 times around. */
START_TEST(test_scattered)
{
    uint64_t data = IOVA + 5 * 4096;
    struct vring_used_elem element;
    uint16_t index;

    for (uint16_t i = 0; i < 3 * 256; i++) {
        set(mapped[0].page * 4096ull, i % 256, data + i, 4, 0, 0);
        device_offer(i, i % 256);
        ck_assert_int_eq(virtqueue_pop(&queue, &chain), 1);
        ck_assert_uint_eq(chain.head, i % 256);
        ck_assert_uint_eq(chain.segments[0].iova, data + i);
        ck_assert_int_eq(virtqueue_push(&queue, chain.head, i), 0);
        fetch(&element, queue.state.device + 4 + 8ull * (i % 256), sizeof(element));
        fetch(&index, queue.state.device + 2, 2);
        ck_assert_uint_eq(element.id, i % 256);
        ck_assert_uint_eq(element.len, i);
        ck_assert_uint_eq(index, i + 1);
        virtqueue_should_notify(&queue);
    }
    ck_assert_int_eq(virtqueue_pop(&queue, &chain), 0);
    fetch(&index, queue.state.device + 4 + 8 * 256, 2);
    ck_assert_uint_eq(index, 3 * 256); /* the available event word */
    ck_assert_uint_eq(dma.faults, 0);
}
END_TEST

/* What was unmapped is out of reach at once, also where a translation was kept. */
START_TEST(test_revoked)
{
    int (*const changes[])(void) = { unmap_data, unmap_descriptors, unmap_used_end };
    uint8_t bytes[8];

    set(mapped[0].page * 4096ull, 0, IOVA + 5 * 4096, 8, 0, 0);
    device_offer(0, 0);
    ck_assert_int_eq(virtqueue_pop(&queue, &chain), 1);
    ck_assert_int_eq(virtqueue_read(&queue, &chain, 0, bytes, 8), 8);
    ck_assert_int_eq(virtqueue_push(&queue, 0, 0), 0);
    ck_assert_uint_eq(unlock_and(changes[_i]), 0);
    device_offer(1, 0);
    if (_i == 0) {
        ck_assert_int_eq(virtqueue_pop(&queue, &chain), 1);
        ck_assert_int_eq(virtqueue_read(&queue, &chain, 0, bytes, 8), -EFAULT);
        ck_assert_ptr_null(queue.broken);
    } else if (_i == 1) {
        ck_assert_int_eq(virtqueue_pop(&queue, &chain), -EFAULT);
    } else {
        ck_assert_int_eq(virtqueue_pop(&queue, &chain), 1);
        ck_assert_int_eq(virtqueue_push(&queue, 0, 0), -EFAULT);
    }
    ck_assert_uint_eq(dma.faults, 1);
}
END_TEST

/* The device's part is written, the driver's read: rights the other way round do not do. */
START_TEST(test_rights)
{
    queue.state.device = IOVA + 4096; /* READ only */
    queue.state.size = 16;
    queue.state.driver = IOVA + 5 * 4096;
    ck_assert_int_eq(virtqueue_enable(&queue), 0);
    ck_assert_int_eq(virtqueue_push(&queue, 0, 0), -EFAULT);
    queue.broken = NULL;
    queue.state.driver = IOVA + 6 * 4096; /* WRITE only */
    ck_assert_int_eq(virtqueue_pop(&queue, &chain), -EFAULT);
    ck_assert_uint_eq(dma.faults, 2);
}
END_TEST

Suite *virtqueue_suite(void)
{
    Suite *suite = suite_create("virtqueue");
    TCase *tc = tcase_create("virtqueue");

    tcase_set_timeout(tc, 10);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_chain);
    tcase_add_test(tc, test_wrap);
    tcase_add_test(tc, test_full);
    tcase_add_test(tc, test_unpop);
    tcase_add_test(tc, test_push_all);
    tcase_add_test(tc, test_index_jump);
    tcase_add_test(tc, test_index_back);
    tcase_add_test(tc, test_bad_head);
    tcase_add_loop_test(tc, test_bad_chain, 0, sizeof(bad_chains) / sizeof(bad_chains[0]));
    tcase_add_test(tc, test_indirect);
    tcase_add_test(tc, test_indirect_length);
    tcase_add_test(tc, test_indirect_not_negotiated);
    tcase_add_test(tc, test_unreachable);
    tcase_add_loop_test(tc, test_unreachable_rings, 0, 3);
    tcase_add_test(tc, test_generation);
    tcase_add_test(tc, test_enable);
    tcase_add_test(tc, test_flags);
    tcase_add_test(tc, test_used_event);
    tcase_add_test(tc, test_avail_event);
    suite_add_tcase(suite, tc);

    tc = tcase_create("iommu");
    tcase_set_timeout(tc, 10);
    tcase_add_checked_fixture(tc, setup_iommu, teardown_iommu);
    tcase_add_test(tc, test_scattered);
    tcase_add_loop_test(tc, test_revoked, 0, 3);
    tcase_add_test(tc, test_rights);
    suite_add_tcase(suite, tc);
    return suite;
}
