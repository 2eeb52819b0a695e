/*
 * libFuzzer: a driver that breaks every rule of split virtqueues, on a machine with little
 * RAM, with and without an IOMMU that maps some of it, scattered. Whatever is in memory:
 * no access outside RAM or against the mappings, bounded work, and chains that are what
 * virtqueue.h promises.
 */
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "devices/core/virtqueue.h"
#include "devices/iommu/iommu.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/machine/memory.h"

#define PAGE      4096u
#define PAGES     8u
#define RAM_BYTES (PAGES * PAGE)
#define OPS_MAX   64u
#define DOMAIN    1
#define ENDPOINT  3

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The head of an input; then what memory holds from address 0 on. */
struct plan {
    uint8_t flags; /* below */
    uint8_t size_log2;
    uint8_t base;         /* where the rings are, in units of 256 bytes */
    uint8_t gap;          /* between them, in units of 64 bytes */
    uint8_t pages[PAGES]; /* bits 0 to 2: where the page lies, 3 readable, 4 writable, 5 there */
    uint8_t ops[OPS_MAX];
};

enum { PLAN_IOMMU = 1, PLAN_INDIRECT = 2, PLAN_EVENT = 4, PLAN_WILD = 8 };

struct world {
    struct memory memory;
    struct iommu *iommu;
    struct dma dma;
    struct virtqueue queue;
    uint8_t *ram;
    uint32_t rights[PAGES]; /* of the page at this address, for the device */
    uint8_t place[PAGES];   /* its page of RAM */
};

/* RAM between pages that nobody may touch. */
static uint8_t *guarded_ram(void)
{
    uint8_t *at = mmap(NULL, RAM_BYTES + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (at == MAP_FAILED || mprotect(at + PAGE, RAM_BYTES, PROT_READ | PROT_WRITE))
        abort();
    return at + PAGE;
}

static void map_page(struct world *world, const struct plan *plan, unsigned page)
{
    uint8_t how = plan->pages[page];
    uint64_t first = (uint64_t)page * PAGE;

    world->place[page] = how % PAGES;
    world->rights[page] = (how & 8 ? 0 : IOMMU_READ) | (how & 16 ? 0 : IOMMU_WRITE);
    if (how & 32 || !world->rights[page] ||
        iommu_map(world->iommu, DOMAIN, first, first + PAGE - 1,
                  (uint64_t)world->place[page] * PAGE, world->rights[page]))
        world->rights[page] = 0;
}

static void open_world(struct world *world, const struct plan *plan)
{
    static uint8_t *ram;

    if (!ram)
        ram = guarded_ram();
    memset(world, 0, sizeof(*world));
    world->ram = ram;
    world->memory = (struct memory){ .vm_fd = -1, .bytes = RAM_BYTES, .nslots = 1 };
    world->memory.slots[0] = (struct memory_slot){ .bytes = RAM_BYTES, .hva = ram };
    if (plan->flags & PLAN_IOMMU) {
        const struct iommu_config config = { 0 };

        if (iommu_create(&world->iommu, &world->memory, &config))
            abort();
    }
    if (dma_create(&world->dma, &world->memory, world->iommu, ENDPOINT))
        abort();
    if (world->iommu && iommu_attach(world->iommu, ENDPOINT, DOMAIN, false))
        abort();
    for (unsigned page = 0; page < PAGES; page++) {
        world->place[page] = (uint8_t)page;
        world->rights[page] = IOMMU_READ | IOMMU_WRITE;
        if (world->iommu)
            map_page(world, plan, page);
    }
}

static void close_world(struct world *world)
{
    dma_destroy(&world->dma);
    if (world->iommu)
        iommu_destroy(world->iommu);
}

/* Whether the device may do this to all of [iova, iova + len). */
static bool allowed(const struct world *world, uint64_t iova, uint64_t len, uint32_t access)
{
    for (uint64_t at = iova / PAGE; at <= (iova + len - 1) / PAGE; at++) {
        if (at >= PAGES || !(world->rights[at] & access))
            return false;
    }
    return true;
}

static void check_chain(struct world *world, const struct virtqueue_chain *chain)
{
    unsigned count = chain->nreadable + chain->nwritable;
    uint64_t readable = 0, writable = 0;
    static uint8_t bytes[256];
    bool reach = true;
    int64_t done;

    CHECK(count <= world->queue.state.size);
    CHECK(chain->head < world->queue.state.size);
    for (unsigned i = 0; i < count; i++) {
        const struct virtqueue_segment *segment = &chain->segments[i];

        CHECK(segment->len && segment->iova + (segment->len - 1) >= segment->iova);
        *(i < chain->nreadable ? &readable : &writable) += segment->len;
    }
    CHECK(readable == chain->readable_bytes && writable == chain->writable_bytes);
    CHECK(readable + writable <= 1ull << 32);

    for (unsigned i = 0; i < chain->nreadable; i++)
        reach &= allowed(world, chain->segments[i].iova, chain->segments[i].len, IOMMU_READ);
    done = virtqueue_read(&world->queue, chain, 0, bytes, sizeof(bytes));
    CHECK(done <= (int64_t)sizeof(bytes) && done <= (int64_t)readable);
    CHECK(!reach || done >= 0);
    if (chain->nreadable && !allowed(world, chain->segments[0].iova, 1, IOMMU_READ))
        CHECK(done < 0);
    done = virtqueue_write(&world->queue, chain, 1, bytes, sizeof(bytes));
    CHECK(done <= (int64_t)sizeof(bytes) && done <= (int64_t)writable);
}

/* Takes all there is: never more than the queue holds, and nothing once it is broken. */
static void take_all(struct world *world, bool give_back)
{
    static struct virtqueue_chain chain;
    unsigned taken = 0;
    int result;

    while ((result = virtqueue_pop(&world->queue, &chain)) > 0) {
        CHECK(++taken <= world->queue.state.size || give_back);
        CHECK(taken <= 4u * VIRTQUEUE_SIZE_MAX);
        check_chain(world, &chain);
        if (give_back && virtqueue_push(&world->queue, chain.head, 1))
            break;
        /* Giving back may have changed the rings, where they overlap. */
        if (give_back && taken > world->queue.state.size)
            return;
    }
    if (result < 0)
        CHECK(world->queue.broken && virtqueue_pop(&world->queue, &chain) < 0);
}

static void write16(struct world *world, uint64_t address, uint16_t value)
{
    if (address / PAGE < PAGES && address % 2 == 0)
        memcpy(world->ram + world->place[address / PAGE] * PAGE + address % PAGE, &value,
               sizeof(value));
}

static void operate(struct world *world, const struct plan *plan, uint8_t op)
{
    struct virtqueue *queue = &world->queue;
    unsigned page = op >> 3 & (PAGES - 1);
    bool on = op & 8;

    switch (op & 7) {
    case 0: take_all(world, false); break;
    case 1: take_all(world, true); break;
    case 2:
        write16(world, queue->state.driver + 2,
                (uint16_t)(queue->state.next_available + (op >> 3)));
        break;
    case 3: virtqueue_should_notify(queue); break;
    case 4: virtqueue_want_kicks(queue, on); break;
    case 5: virtqueue_push(queue, op >> 3, op); break;
    case 6:
        /* The rights of a page go, under a device that may have kept a pointer. */
        if (!world->iommu)
            break;
        dma_unlock(&world->dma);
        iommu_unmap(world->iommu, DOMAIN, (uint64_t)page * PAGE, (uint64_t)page * PAGE + PAGE - 1);
        world->rights[page] = 0;
        dma_lock(&world->dma);
        break;
    case 7:
        if (!world->iommu || world->rights[page])
            break;
        dma_unlock(&world->dma);
        map_page(world, plan, page);
        dma_lock(&world->dma);
        break;
    }
}

/* What the device may not write is as it was; the driver's own writes are followed. */
static void check_untouched(const struct world *world, const uint8_t *before, bool ever[PAGES])
{
    for (unsigned page = 0; page < PAGES; page++) {
        if (!ever[page])
            CHECK(!memcmp(world->ram + page * PAGE, before + page * PAGE, PAGE));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t before[RAM_BYTES];
    static struct world world;
    struct plan plan = { 0 };
    struct virtqueue_state *state = &world.queue.state;
    bool writable[PAGES] = { false };
    uint64_t base;

    memcpy(&plan, data, size < sizeof(plan) ? size : sizeof(plan));
    open_world(&world, &plan);
    memset(world.ram, 0, RAM_BYTES);
    if (size > sizeof(plan)) {
        size_t image = size - sizeof(plan) < RAM_BYTES ? size - sizeof(plan) : RAM_BYTES;

        /* As the device sees it: page by page, wherever they lie. */
        for (size_t at = 0; at < image; at++)
            world.ram[world.place[at / PAGE] * PAGE + at % PAGE] = data[sizeof(plan) + at];
    }
    virtqueue_init(&world.queue, &world.dma, VIRTQUEUE_SIZE_MAX);
    world.queue.indirect = plan.flags & PLAN_INDIRECT;
    world.queue.event_index = plan.flags & PLAN_EVENT;
    base = plan.base * 256ull;
    state->size = (uint16_t)(1u << plan.size_log2 % 10);
    state->descriptors = base;
    state->driver = base + 16ull * state->size + plan.gap % 16 * 64;
    state->device = (state->driver + 6 + 2ull * state->size + 3) / 4 * 4 + plan.gap / 16 * 64;
    if (plan.flags & PLAN_WILD)
        state->device += 0x7ffffffffffffff0ull * (plan.gap & 1);
    dma_lock(&world.dma);
    if (!virtqueue_enable(&world.queue)) {
        for (unsigned i = 0; i < OPS_MAX; i++) {
            uint16_t next = state->next_available;

            memcpy(before, world.ram, RAM_BYTES);
            memset(writable, 0, sizeof(writable));
            for (unsigned page = 0; page < PAGES; page++)
                writable[world.place[page]] |= world.rights[page] & IOMMU_WRITE;
            operate(&world, &plan, plan.ops[i]);
            if ((plan.ops[i] & 7) != 2)
                check_untouched(&world, before, writable);
            CHECK(state->ready &&
                  (uint16_t)(state->next_available - next) <= 4 * VIRTQUEUE_SIZE_MAX);
        }
    }
    dma_unlock(&world.dma);
    close_world(&world);
    return 0;
}
