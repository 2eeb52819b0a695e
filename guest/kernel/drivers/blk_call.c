#include "guest/kernel/drivers/blk_call.h"

#include "guest/abi/dma.h"
#include "guest/kernel/arch/cpu.h"
#include "guest/kernel/dma/dma.h"
#include "guest/kernel/kernel.h"
#include "guest/kernel/kstring.h"
#include "guest/kernel/mm/disk_map.h"
#include "guest/kernel/mm/pagecache.h"
#include "guest/kernel/mm/space.h"

#define JOBS 8

struct blk_job {
    enum { FREE, RUNNING, DONE } phase;
    struct process *p; /* NULL: it has ended; what is under way ends for nobody */
    uint32_t op;       /* enum abi_block_op */
    enum blk_type type;
    struct abi_block call;
    uint64_t chunk, count, depth; /* requests: bytes of each, how many, how many at a time */
    uint64_t made, ended;
    uint64_t moved; /* bytes */
    uint64_t random, start;
    int result; /* of the first one that failed */
};

_Static_assert(JOBS * sizeof(struct blk_job) <= ABI_PAGE_BYTES, "one frame");

/* ---- Making requests ------------------------------------------------------ */

static bool wants(const struct blk_job *job)
{
    return job->phase == RUNNING && job->p && job->made < job->count &&
           job->made - job->ended < job->depth && (job->op == ABI_BLOCK_MANY || !job->result);
}

/* Sector and memory of the job's next request. */
static uint64_t place(struct blk_job *job, struct blk_request *request)
{
    const struct abi_block *call = &job->call;
    uint64_t n = job->made, per_request = job->chunk / BLK_SECTOR_BYTES;

    request->type = job->type;
    request->bytes = (uint32_t)job->chunk;
    if (job->op != ABI_BLOCK_MANY) {
        uint64_t at = n * job->chunk;

        if (call->bytes - at < job->chunk)
            request->bytes = (uint32_t)(call->bytes - at);
        request->sector = call->sector + at / BLK_SECTOR_BYTES;
        return call->va + at;
    }
    if (call->flags & ABI_BLOCK_RANDOM) {
        /* xorshift64 (Marsaglia 2003). */
        job->random ^= job->random << 13;
        job->random ^= job->random >> 7;
        job->random ^= job->random << 17;
        n = (job->random >> 32) % ((call->sectors - call->sector) / per_request);
        request->sector = call->sector + n * per_request;
    } else {
        request->sector = call->sector + n * call->step;
    }
    return call->va + job->made % job->depth * job->chunk;
}

static void end_request(struct blk *blk, struct blk_request *request, int result)
{
    struct blk_job *job = request->job;

    job->ended++;
    if (result) {
        blk->device->errors++;
        job->call.errors++;
        if (!job->result)
            job->result = result;
    }
    blk_put(blk, request);
}

void blk_job_ended(struct blk *blk, struct blk_request *request, int result, uint64_t written)
{
    if (request->mapping && !--request->mapping->users)
        dma_unmap(request->mapping, written);
    if (request->read) {
        blk->device->errors += result != 0;
        page_read_ended(request->read, request, result, written);
        request->read = NULL;
        blk_put(blk, request);
        return;
    }
    if (!result) {
        request->job->call.done++;
        request->job->moved += request->type == BLK_IN ? written : request->bytes;
    }
    end_request(blk, request, result);
}

/*
 * How many bytes from `va` on the next requests need, this one first, as far as their
 * buffers follow each other: one mapping does for them. Copies are made for each alone.
 */
static uint64_t run_of(const struct blk *blk, const struct blk_job *job,
                       const struct blk_request *request, uint64_t va)
{
    uint64_t most = DMA_PAGES_MAX * ABI_PAGE_BYTES - va % ABI_PAGE_BYTES;
    uint64_t n = job->depth - (job->made - job->ended), left = job->count - job->made;

    if (blk->device->buffers != ABI_DMA_IN_PLACE)
        return request->bytes;
    if (job->op == ABI_BLOCK_MANY && n > job->depth - job->made % job->depth)
        n = job->depth - job->made % job->depth;
    if (n > left)
        n = left;
    if (n > most / job->chunk)
        n = most / job->chunk;
    /* The last request of a READ or WRITE may be a short one. */
    if (n > 1 && n == left && job->op != ABI_BLOCK_MANY)
        n--;
    return n > 1 ? n * job->chunk : request->bytes;
}

static int map(struct blk *blk, struct blk_job *job, struct blk_request *request, uint64_t va)
{
    uint32_t rights = job->type == BLK_IN ? DMA_WRITE : DMA_READ;
    struct dma_buffer buffer = { .p = job->p, .va = va, .bytes = run_of(blk, job, request, va) };
    int err = dma_map(blk->device, &buffer, rights, DMA_BY_POLICY, &request->mapping);

    if (err && buffer.bytes > request->bytes) {
        buffer.bytes = request->bytes;
        err = dma_map(blk->device, &buffer, rights, DMA_BY_POLICY, &request->mapping);
    }
    if (!err)
        request->mapping->held = true;
    return err;
}

/* Takes and maps as many requests as there is room for: a list, in order. */
static struct blk_request *prepare(struct blk *blk, struct blk_job *job)
{
    struct blk_request *first = NULL, **link = &first, *request;
    struct dma_mapping *run = NULL; /* of the requests before this one */
    bool data = job->type == BLK_IN || job->type == BLK_OUT;

    while (wants(job) && (request = blk_take(blk))) {
        uint64_t va = place(job, request);
        int err = 0;

        request->job = job;
        if (run && va >= run->va && va + request->bytes <= run->va + run->bytes)
            request->mapping = run;
        else if (data)
            err = map(blk, job, request, va);
        if (err == -ABI_ENOMEM && job->made != job->ended) {
            /* No room now, in a bounce pool for one: when others have ended. */
            blk_put(blk, request);
            break;
        }
        job->made++;
        if (err) {
            end_request(blk, request, err);
            continue;
        }
        if (data) {
            run = request->mapping;
            run->users++;
            request->offset = va - run->va;
        }
        request->next = NULL;
        *link = request;
        link = &request->next;
    }
    return first;
}

static void give(struct blk *blk, struct blk_request *request)
{
    struct blk_request *next;

    for (; request; request = next) {
        int err = request->mapping && request->mapping->failed ? -ABI_EIO : 0;

        next = request->next;
        if (!err)
            err = blk_add(blk, request);
        if (err)
            blk_job_ended(blk, request, err, 0);
    }
}

static void finish(struct blk_job *job)
{
    job->call.ticks = rdtsc() - job->start;
    job->phase = job->p ? DONE : FREE;
    process_wake(job);
}

static bool over(const struct blk_job *job)
{
    return job->phase == RUNNING && job->made == job->ended && !wants(job);
}

/*
 * Ends and new requests of all jobs share one round of the IOMMU's queue, and one
 * notification of the device.
 */
void blk_job_go_on(struct blk *blk)
{
    for (struct blk_job *job = blk->jobs; job < blk->jobs + JOBS; job++) {
        struct blk_request *requests;

        /* Requests that fail at once leave room for more; each round makes progress. */
        while (job->phase == RUNNING) {
            requests = blk->up ? prepare(blk, job) : NULL;
            if (!requests)
                break;
            /* An idle device sees nothing before it is notified. */
            if (virtq_will_notify(&blk->queue))
                dma_post();
            else
                dma_commit();
            give(blk, requests);
            if (job->made - job->ended)
                break;
        }
        if (!blk->up && job->phase == RUNNING && !job->result)
            job->result = -ABI_EIO;
    }
    if (blk->up)
        virtq_kick(&blk->queue);
    /* Before anybody sees that its job is done: contents are copied back here. */
    dma_commit();
    page_reads_finish();
    for (struct blk_job *job = blk->jobs; job < blk->jobs + JOBS; job++) {
        if (over(job) || (job->phase == RUNNING && !blk->up && job->made == job->ended))
            finish(job);
    }
}

void blk_job_drop_owned(struct blk *blk, struct process *p)
{
    for (struct blk_job *job = blk->jobs; job < blk->jobs + JOBS; job++) {
        if (job->phase == FREE || job->p != p)
            continue;
        job->p = NULL;
        if (job->phase == DONE || job->made == job->ended)
            job->phase = FREE;
    }
}

/* ---- The call ------------------------------------------------------------- */

static struct blk_job *job_of(struct blk *blk, const struct process *p)
{
    for (struct blk_job *job = blk->jobs; job < blk->jobs + JOBS; job++) {
        if (job->phase != FREE && job->p == p)
            return job;
    }
    return NULL;
}

static struct blk_job *free_job(struct blk *blk)
{
    for (struct blk_job *job = blk->jobs; job < blk->jobs + JOBS; job++) {
        if (job->phase == FREE)
            return job;
    }
    return NULL;
}

static int check(const struct blk *blk, uint32_t op, const struct abi_block *call)
{
    uint64_t sectors = call->bytes / BLK_SECTOR_BYTES;
    bool writes = op == ABI_BLOCK_WRITE || op == ABI_BLOCK_DISCARD ||
                  (op == ABI_BLOCK_MANY && call->flags & ABI_BLOCK_WRITES);

    if (writes && blk->flags & ABI_BLOCK_READ_ONLY)
        return -ABI_EROFS;
    if (op == ABI_BLOCK_FLUSH)
        return 0;
    if (op == ABI_BLOCK_DISCARD && !(blk->flags & ABI_BLOCK_DISCARDS))
        return -ABI_ENOSYS;
    if (!sectors || call->bytes % BLK_SECTOR_BYTES || call->bytes > UINT32_MAX ||
        call->sector >= blk->capacity || sectors > blk->capacity - call->sector)
        return -ABI_EINVAL;
    if (op != ABI_BLOCK_MANY)
        return 0;
    if (!call->count || !call->depth || call->depth > BLK_REQUESTS ||
        call->bytes > DMA_PAGES_MAX * ABI_PAGE_BYTES || call->count > UINT32_MAX ||
        call->step > blk->capacity)
        return -ABI_EINVAL;
    if (!(call->flags & ABI_BLOCK_RANDOM) &&
        (call->count - 1) * call->step > blk->capacity - call->sector - sectors)
        return -ABI_EINVAL;
    return 0;
}

/* How much of a READ or WRITE makes one request. */
static uint64_t chunk_of(const struct blk *blk)
{
    bool joined = blk->device->mode == ABI_DMA_STRICT || blk->device->mode == ABI_DMA_LAZY;
    uint64_t chunk = joined ? BLK_CHUNK_BYTES : BLK_CHUNK_SCATTERED;
    uint64_t most = dma_map_most(blk->device) & ~(BLK_SECTOR_BYTES - 1ull);

    return most && most < chunk ? most : chunk;
}

static void begin(struct blk *blk, struct blk_job *job, struct process *p, uint32_t op,
                  const struct abi_block *call)
{

    *job = (struct blk_job){
        .phase = RUNNING,
        .p = p,
        .op = op,
        .call = *call,
        .chunk = call->bytes,
        .count = 1,
        .depth = 4,
        .random = 0x9e3779b97f4a7c15ull,
    };
    job->call.done = job->call.errors = 0;
    job->call.sectors = blk->capacity;
    switch (op) {
    case ABI_BLOCK_FLUSH: job->type = BLK_FLUSH; break;
    case ABI_BLOCK_DISCARD: job->type = BLK_DISCARD; break;
    case ABI_BLOCK_MANY:
        job->type = call->flags & ABI_BLOCK_WRITES ? BLK_OUT : BLK_IN;
        job->count = call->count;
        job->depth = call->depth;
        break;
    default:
        job->type = op == ABI_BLOCK_WRITE ? BLK_OUT : BLK_IN;
        job->chunk = chunk_of(blk);
        job->count = (call->bytes + job->chunk - 1) / job->chunk;
    }
    job->start = rdtsc();
    blk_job_go_on(blk);
    blk_watch(blk);
}

/* What the job came to; the job is free again. */
static int64_t collect(struct blk_job *job, struct abi_block *call)
{
    call->done = job->call.done;
    call->errors = job->call.errors;
    call->ticks = job->call.ticks;
    job->phase = FREE;
    if (job->op == ABI_BLOCK_MANY)
        return call->done || !job->result ? 0 : job->result;
    if (job->result)
        return job->result;
    return job->type == BLK_IN || job->type == BLK_OUT ? (int64_t)job->moved : 0;
}

static int64_t carry_out(struct process *p, struct blk *blk, uint32_t op, struct abi_block *call)
{
    struct blk_job *job = job_of(blk, p);
    int64_t waits;
    int err;

    if (!job) {
        job = free_job(blk);
        if (!job)
            return -ABI_EBUSY;
        err = blk_up(blk);
        if (!err)
            err = check(blk, op, call);
        if (err)
            return err;
        /* Requests are mapped by interrupt, too, when nobody can wait for memory. */
        waits = disk_settle(p, call->va,
                            op == ABI_BLOCK_MANY ? call->bytes * call->depth : call->bytes);
        if (waits)
            return waits;
        begin(blk, job, p, op, call);
    }
    if (job->phase == RUNNING)
        return process_block(p, job);
    return collect(job, call);
}

int64_t blk_call(struct process *p, uint32_t op, uint64_t va)
{
    struct abi_block call;
    struct blk *blk;
    int64_t result = 0;

    if (space_read(p, &call, va, sizeof(call)))
        return -ABI_EFAULT;
    blk = blk_at(call.device);
    if (!blk)
        return -ABI_ENOENT;
    if (op < ABI_BLOCK_INFO || op > ABI_BLOCK_MANY)
        return -ABI_EINVAL;
    if (op == ABI_BLOCK_INFO) {
        call.flags = blk->flags;
        call.errors = blk->device->errors;
    } else {
        result = carry_out(p, blk, op, &call);
    }
    call.sectors = blk->capacity;
    call.protocol_errors = blk->device->protocol_errors;
    if (result != PROCESS_WAITS && space_write(p, va, &call, sizeof(call)))
        return -ABI_EFAULT;
    return result;
}
