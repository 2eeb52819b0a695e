#include "guest/kernel/mm/pagecache.h"

#include "guest/abi/dma.h"
#include "guest/kernel/dma/dma.h"
#include "guest/kernel/drivers/blk.h"
#include "guest/kernel/kernel.h"
#include "guest/kernel/kstring.h"
#include "guest/kernel/mm/frame.h"

#define LEVELS       3 /* of 512 entries: disks up to 512 GiB */
#define ENTRIES      512
#define LEVEL_BITS   9
#define PAGES_MAX    (1ull << LEVELS * LEVEL_BITS)
#define READS_MAX    BLK_REQUESTS
#define PAGE_SECTORS (ABI_PAGE_BYTES / BLK_SECTOR_BYTES)

/* A page's entry: 0, or one of these and above it the frame, or the index of its read. */
#define PRESENT     1ull
#define READING     2ull
#define STATE       (PRESENT | READING)
#define ENTRY_SHIFT 12

struct pagecache {
    struct blk *blk;
    uint64_t root;    /* frame of the highest table, 0: none */
    uint64_t holders; /* mappings */
    uint64_t reads;   /* under way */
};

struct page_read {
    struct pagecache *cache; /* NULL: free */
    struct page_read *next;  /* ended, and not finished */
    uint64_t first;
    uint32_t count;
    int result;
    bool spoil;
    uint32_t frame[PAGECACHE_READ_PAGES];
};

static struct pagecache caches[BOOT_DEVICES_MAX];
static struct page_read reads[READS_MAX];
static struct page_read *ended;
static bool out_of_room; /* somebody waits for room */

/* ---- The table ------------------------------------------------------------ */

/* Where the page's entry is; NULL where no table is (`make`: no memory for one). */
static uint64_t *place(struct pagecache *cache, uint64_t page, bool make)
{
    uint64_t *at = &cache->root;

    for (unsigned level = LEVELS; level-- > 0;) {
        if (!*at && make)
            *at = frame_alloc(ABI_FRAME_KERNEL, true);
        if (!*at)
            return NULL;
        at = (uint64_t *)frame_va(*at) + (page >> level * LEVEL_BITS) % ENTRIES;
    }
    return at;
}

/* The next page's, which is next to it but at the end of a table. */
static uint64_t *place_after(struct pagecache *cache, uint64_t *at, uint64_t page, bool make)
{
    return at && page % ENTRIES ? at + 1 : place(cache, page, make);
}

/* Drops the pages of a table and those below it; the table too, unless reads need it. */
static void drop(uint64_t frame, unsigned level, bool tables)
{
    uint64_t *table = frame_va(frame);

    for (unsigned i = 0; i < ENTRIES; i++) {
        if (!table[i])
            continue;
        if (level) {
            drop(table[i], level - 1, tables);
        } else if (table[i] & PRESENT) {
            frame_put(table[i] >> ENTRY_SHIFT, false);
            kernel_info.cached_frames--;
            table[i] = 0;
        }
        if (level && tables)
            table[i] = 0;
    }
    if (tables)
        frame_put(frame, true);
}

static void drop_all(struct pagecache *cache)
{
    if (!cache->root)
        return;
    drop(cache->root, LEVELS - 1, !cache->reads);
    if (!cache->reads)
        cache->root = 0;
}

/* ---- Holding -------------------------------------------------------------- */

struct pagecache *pagecache_of(uint64_t disk)
{
    struct blk *blk = blk_at(disk);

    if (!blk || disk >= BOOT_DEVICES_MAX)
        return NULL;
    caches[disk].blk = blk;
    return &caches[disk];
}

uint64_t pagecache_pages(const struct pagecache *cache)
{
    uint64_t pages = (cache->blk->capacity + PAGE_SECTORS - 1) / PAGE_SECTORS;

    return pages < PAGES_MAX ? pages : PAGES_MAX;
}

void pagecache_get(struct pagecache *cache)
{
    cache->holders++;
}

void pagecache_put(struct pagecache *cache)
{
    /* What is being read goes when it comes. */
    if (!--cache->holders)
        drop_all(cache);
}

uint64_t pagecache_frame(struct pagecache *cache, uint64_t page)
{
    const uint64_t *at = place(cache, page, false);
    uint64_t frame;

    if (!at || !(*at & PRESENT))
        return 0;
    frame = *at >> ENTRY_SHIFT;
    frame_get(frame);
    return frame;
}

const struct page_read *pagecache_read_of(struct pagecache *cache, uint64_t page)
{
    const uint64_t *at = place(cache, page, false);

    return at && *at & READING ? &reads[*at >> ENTRY_SHIFT] : NULL;
}

const void *pagecache_room(void)
{
    out_of_room = true;
    return &out_of_room;
}

/* ---- Reading -------------------------------------------------------------- */

static struct page_read *free_read(void)
{
    for (struct page_read *read = reads; read < reads + READS_MAX; read++) {
        if (!read->cache)
            return read;
    }
    return NULL;
}

/* Pages from read->first on that have a place and are not there: as many as there are frames for.
 */
static void take_frames(struct page_read *read, uint64_t end)
{
    uint64_t *at = NULL;

    for (uint64_t page = read->first; page < end; page++) {
        at = place_after(read->cache, at, page, true);
        if (!at || *at)
            return;
        read->frame[read->count] = (uint32_t)frame_alloc(ABI_FRAME_USER, false);
        if (!read->frame[read->count])
            return;
        read->count++;
    }
}

/* All of its pages to this state, 0: to none. */
static void set_entries(struct page_read *read, uint64_t state)
{
    uint64_t index = (uint64_t)(read - reads), *at = NULL;

    for (uint32_t i = 0; i < read->count; i++) {
        uint64_t above = state == PRESENT ? read->frame[i] : index;

        at = place_after(read->cache, at, read->first + i, false);
        *at = state ? above << ENTRY_SHIFT | state : 0;
    }
}

static void free_frames(struct page_read *read)
{
    for (uint32_t i = 0; i < read->count; i++)
        frame_put(read->frame[i], false);
}

/* Gives the request to the device: 0 or -ABI_E*. */
static int add(struct blk *blk, struct page_read *read, struct blk_request *request)
{
    uint64_t left = (blk->capacity - request->sector) * BLK_SECTOR_BYTES;
    int err;

    if (request->sector >= blk->capacity)
        return -ABI_EIO; /* it has become smaller */
    if (left < request->bytes) {
        /* The disk ends inside the last page. */
        memset((char *)frame_va(read->frame[read->count - 1]) + left % ABI_PAGE_BYTES, 0,
               ABI_PAGE_BYTES - left % ABI_PAGE_BYTES);
        request->bytes = (uint32_t)left;
    }
    err = dma_map_frames(blk->device, read->frame, read->count, DMA_WRITE, &request->mapping);
    if (err)
        return err;
    request->mapping->held = true;
    request->mapping->users = 1;
    /* An idle device sees nothing before it is notified. */
    if (virtq_will_notify(&blk->queue))
        dma_post();
    else
        dma_commit();
    err = request->mapping->failed ? -ABI_EIO : blk_add(blk, request);
    if (err) {
        dma_unmap(request->mapping, 0);
        dma_commit();
    }
    return err;
}

int pagecache_read(struct pagecache *cache, uint64_t page, uint64_t first, uint64_t end, bool spoil)
{
    struct blk *blk = cache->blk;
    struct page_read *read = free_read();
    uint64_t most = dma_map_most(blk->device) / ABI_PAGE_BYTES;
    struct blk_request *request;
    int err = blk_up(blk);

    if (err)
        return err;
    request = read ? blk_take(blk) : NULL;
    if (!request)
        return -ABI_EAGAIN;
    if (most > PAGECACHE_READ_PAGES || !most)
        most = most ? PAGECACHE_READ_PAGES : 1;
    *read = (struct page_read){ .cache = cache, .first = page, .spoil = spoil };
    while (read->first > first && page - read->first + 1 < most) {
        const uint64_t *before = place(cache, read->first - 1, false);

        if (before && *before)
            break;
        read->first--;
    }
    take_frames(read, end - read->first < most ? end : read->first + most);
    err = -ABI_ENOMEM;
    if (page - read->first >= read->count)
        goto free_read;
    request->type = BLK_IN;
    request->read = read;
    request->sector = read->first * PAGE_SECTORS;
    request->bytes = read->count * (uint32_t)ABI_PAGE_BYTES;
    request->offset = 0;
    err = add(blk, read, request);
    if (err)
        goto free_read;
    set_entries(read, READING);
    cache->reads++;
    kernel_info.cached_frames += read->count;
    return (int)(read->count - (page - read->first));

free_read:
    free_frames(read);
    request->read = NULL;
    blk_put(blk, request);
    read->cache = NULL;
    return err;
}

void pagecache_kick(struct pagecache *cache)
{
    virtq_kick(&cache->blk->queue);
    dma_commit();
    blk_watch(cache->blk);
}

/* ---- What comes back ------------------------------------------------------ */

void page_read_ended(struct page_read *read, struct blk_request *request, int result,
                     uint64_t written)
{
    read->result = result ? result : written < request->bytes ? -ABI_EIO : 0;
    read->next = ended;
    ended = read;
}

/* Who waits for a page that did not come asks for it alone; who had asked so is told. */
static void tell_failure(const struct page_read *read)
{
    for (unsigned i = 0; i < PROCESSES_MAX; i++) {
        struct process *p = &processes[i];

        if (p->pub.state != ABI_PROCESS_BLOCKED || p->waits_for != read)
            continue;
        if (read->count > 1)
            p->page_alone = true;
        else
            p->page_failed = true;
    }
}

static void finish(struct page_read *read)
{
    struct pagecache *cache = read->cache;
    bool wanted = !read->result && cache->holders;

    cache->reads--;
    set_entries(read, wanted ? PRESENT : 0);
    if (!wanted) {
        free_frames(read);
        kernel_info.cached_frames -= read->count;
    }
    if (read->result)
        tell_failure(read);
    if (read->spoil && wanted)
        ++*(char *)frame_va(read->frame[0]);
    /* The tables were kept for this one. */
    if (!cache->holders && !cache->reads)
        drop_all(cache);
    read->cache = NULL;
    process_wake(read);
}

void page_reads_finish(void)
{
    struct page_read *read;
    bool any = ended;

    while ((read = ended)) {
        ended = read->next;
        finish(read);
    }
    if (any && out_of_room) {
        out_of_room = false;
        process_wake(&out_of_room);
    }
}
