#include "guest/kernel/drivers/balloon.h"

#include "guest/abi/dma.h"
#include "guest/kernel/arch/cpu.h"
#include "guest/kernel/dma/dma.h"
#include "guest/kernel/drivers/virtio.h"
#include "guest/kernel/kernel.h"
#include "guest/kernel/mm/frame.h"

/* Features (5.5.3), and the configuration: what the host wants, and what there is (5.5.4). */
#define F_STATS          (1ull << 1)
#define F_REPORTING      (1ull << 5)
#define CONFIG_NUM_PAGES 0
#define CONFIG_ACTUAL    4

/* Statistics by tag (5.5.6.4). */
#define STAT_FREE  4
#define STAT_TOTAL 5

/* Memory that is freed is often wanted again at once: it is left alone for so long. */
#define REPORT_DELAY_US 20000
/* With the kernel's lock held: so many runs, or frames, in one go; then others have a turn. */
#define RUNS_MAX   VIRTQ_SIZE_MAX /* a chain may have no more (2.7.5.3.1) */
#define FRAMES_MAX 4096
/* Pages of the balloon at a time; and what it leaves to the kernel. */
#define PAGES_MAX 256
#define RESERVE   1024
/* When there is no memory for the balloon: until the next try. */
#define RETRY_US 500000

struct run {
    uint64_t first, count;
};

struct stat {
    uint16_t tag;
    uint64_t value;
} __attribute__((packed));

struct balloon {
    struct device *device;
    bool up, reports, asks_stats;
    struct virtq inflate, deflate, stats, report;
    /* Pages for the device, and where it has them; a queue has one buffer under way at most. */
    uint32_t *pfns;
    struct stat *stat;
    struct virtq_descriptor *table;
    uint64_t pfns_at, stat_at, table_at;
    struct run run[RUNS_MAX]; /* being reported */
    unsigned nruns;
    uint64_t reported; /* bytes of them */
    unsigned moving;   /* pages on their way in or out */
    uint64_t held;     /* pages of the balloon, linked by frame number */
    uint32_t head;
};

/* One for a machine; a second device is left alone. */
static struct balloon balloon;

static void again(uint64_t us)
{
    uint64_t deadline = rdtsc() + device_ticks(us);

    if (!balloon.device->deadline || deadline < balloon.device->deadline)
        device_set_deadline(balloon.device, deadline);
}

/* ---- Free page reporting (5.5.6.7) ----------------------------------------- */

static void send_report(void)
{
    uint64_t bytes = 0, frames_left = FRAMES_MAX;
    unsigned n = 0;
    struct run run;

    while (n < RUNS_MAX && frames_left >= HUGE_FRAMES &&
           (run.count = frame_take_idle(frames_left, &run.first))) {
        balloon.table[n] = (struct virtq_descriptor){
            .address = run.first << PAGE_SHIFT,
            .bytes = (uint32_t)(run.count << PAGE_SHIFT),
            .flags = VIRTQ_WRITE | VIRTQ_NEXT,
            .next = (uint16_t)(n + 1),
        };
        bytes += run.count << PAGE_SHIFT;
        frames_left -= run.count;
        balloon.run[n++] = run;
    }
    if (!n)
        return;
    balloon.table[n - 1].flags = VIRTQ_WRITE;
    balloon.nruns = n;
    balloon.reported = bytes;
    virtq_add(&balloon.report, balloon.table_at, n * (uint32_t)sizeof(balloon.table[0]),
              VIRTQ_INDIRECT, (uint32_t)bytes, balloon.run);
    virtq_kick(&balloon.report);
}

/*
 * The specification does not promise that a reported page reads zero (without PAGE_POISON,
 * 5.5.6.7.1): it does if the device says that it has written, zeroes then, to all of them.
 */
static void end_report(uint64_t written)
{
    for (unsigned i = 0; i < balloon.nruns; i++)
        frame_given(balloon.run[i].first, balloon.run[i].count, written == balloon.reported);
    balloon.nruns = 0;
}

/* ---- The balloon (5.5.6) ---------------------------------------------------- */

static void send_pages(struct virtq *q, unsigned n)
{
    balloon.moving = n;
    virtq_add(q, balloon.pfns_at, n * (uint32_t)sizeof(balloon.pfns[0]), 0, 0, &balloon);
    virtq_kick(q);
}

static void inflate(uint64_t wanted)
{
    unsigned n = 0;

    while (n < PAGES_MAX && n < wanted && frame_free_count() > RESERVE) {
        uint64_t frame = frame_alloc(ABI_FRAME_KERNEL, false);

        if (!frame)
            break;
        frames[frame].link = balloon.head;
        balloon.head = (uint32_t)frame;
        balloon.pfns[n++] = (uint32_t)frame;
    }
    balloon.held += n;
    if (n)
        send_pages(&balloon.inflate, n);
    else
        again(RETRY_US);
}

/* The frames stay the balloon's until the host has been told. */
static void deflate(uint64_t wanted)
{
    uint32_t frame = balloon.head;
    unsigned n = 0;

    for (; n < PAGES_MAX && n < wanted; n++, frame = frames[frame].link)
        balloon.pfns[n] = frame;
    send_pages(&balloon.deflate, n);
}

static void end_deflate(void)
{
    for (unsigned i = 0; i < balloon.moving; i++) {
        uint32_t frame = balloon.head;

        balloon.head = frames[frame].link;
        frame_put(frame, false);
    }
    balloon.held -= balloon.moving;
}

static void end_pages(bool deflated)
{
    if (deflated)
        end_deflate();
    balloon.moving = 0;
    device_write32(balloon.device, VIRTIO_CONFIG + CONFIG_ACTUAL, (uint32_t)balloon.held);
}

/* ---- Statistics (5.5.6.3) --------------------------------------------------- */

static void send_stats(void)
{
    balloon.stat[0] = (struct stat){ STAT_FREE, frame_free_count() << PAGE_SHIFT };
    balloon.stat[1] = (struct stat){ STAT_TOTAL, (boot_info.low_frames + boot_info.high_frames)
                                                     << PAGE_SHIFT };
    virtq_add(&balloon.stats, balloon.stat_at, 2 * sizeof(struct stat), 0, 0, &balloon);
    virtq_kick(&balloon.stats);
}

/* ---- The device ------------------------------------------------------------- */

/* Takes one completion of a queue: 1, 0 if there is none, -ABI_EPROTO. */
static int completed(struct virtq *q, uint32_t *written)
{
    void *token;

    return q->size ? virtq_pop(q, &token, written) : 0;
}

static void reset(struct device *device, int error);

static void collect(void)
{
    struct virtq *const queues[] = { &balloon.report, &balloon.inflate, &balloon.deflate,
                                     &balloon.stats };
    uint32_t written = 0;
    int got = 0;

    for (unsigned i = 0; i < 4 && got >= 0; i++) {
        got = completed(queues[i], &written);
        if (got <= 0)
            continue;
        switch (i) {
        case 0: end_report(written); break;
        case 1: end_pages(false); break;
        case 2: end_pages(true); break;
        default: send_stats();
        }
    }
    if (got < 0) {
        balloon.device->protocol_errors++;
        reset(balloon.device, got);
    }
}

/* Something more to do, while nothing is under way. */
static void go_on(void)
{
    uint64_t target = virtio_config(balloon.device, CONFIG_NUM_PAGES, 4);

    if (!balloon.moving && target > balloon.held)
        inflate(target - balloon.held);
    else if (!balloon.moving && target < balloon.held)
        deflate(balloon.held - target);
    if (balloon.reports && !balloon.nruns)
        send_report();
    /* Most devices have done it by now. */
    collect();
    if (balloon.up && ((!balloon.nruns && balloon.reports && frame_idle_count()) ||
                       (!balloon.moving && target != balloon.held)))
        again(0);
}

static void many_idle(void)
{
    if (balloon.up)
        again(REPORT_DELAY_US);
}

static void timeout(struct device *device)
{
    if (device == balloon.device && balloon.up)
        go_on();
}

static void interrupt(struct device *device)
{
    uint32_t why = virtio_why(device);

    if (!why || device != balloon.device || !balloon.up)
        return;
    if (virtio_is_broken(device)) {
        device->errors++;
        reset(device, -ABI_EIO);
        return;
    }
    collect();
    if (why & 2)
        again(0);
}

/* What the device had is the kernel's again; the balloon is as it was, and told so later. */
static void reset(struct device *device, int error)
{
    (void)error;
    if (device != balloon.device)
        return;
    virtio_reset(device);
    balloon.up = false;
    for (unsigned i = 0; i < balloon.nruns; i++)
        frame_given(balloon.run[i].first, balloon.run[i].count, false);
    balloon.nruns = balloon.moving = 0;
}

/*
 * Queues are numbered as they are agreed on, without gaps for those that are not: so Linux
 * does it, and every device that works with it; 5.5.2 has the reporting queue at 4 always.
 */
static int bring_up(struct device *device)
{
    uint64_t features;
    uint16_t next = 2;
    int err = virtio_negotiate(device, F_STATS | F_REPORTING | VIRTIO_F_INDIRECT, &features);

    if (!err)
        err = virtq_setup(&balloon.inflate, device, 0, 1, features);
    if (!err)
        err = virtq_setup(&balloon.deflate, device, 1, 1, features);
    balloon.asks_stats = features & F_STATS;
    balloon.reports = (features & F_REPORTING) && (features & VIRTIO_F_INDIRECT);
    if (!err && balloon.asks_stats)
        err = virtq_setup(&balloon.stats, device, next++, 1, features);
    if (!err && balloon.reports)
        err = virtq_setup(&balloon.report, device, next, RUNS_MAX, features);
    if (err)
        return err;
    virtio_ready(device);
    balloon.up = true;
    if (balloon.asks_stats)
        send_stats();
    if (balloon.reports)
        frame_many_idle = many_idle;
    again(0);
    return 0;
}

static int start(struct device *device)
{
    if (balloon.device)
        return -ABI_EBUSY;
    balloon.device = device;
    balloon.pfns = dma_alloc_page(device, DMA_READ, &balloon.pfns_at);
    balloon.stat = dma_alloc_page(device, DMA_READ, &balloon.stat_at);
    balloon.table = dma_alloc_page(device, DMA_READ, &balloon.table_at);
    if (!balloon.pfns || !balloon.stat || !balloon.table)
        return -ABI_ENOMEM;
    return bring_up(device);
}

const struct driver balloon_driver = {
    .start = start, .interrupt = interrupt, .reset = reset, .timeout = timeout
};
