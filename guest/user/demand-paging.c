/*
 * The demand-paging exercise: a disk mapped as memory, and a loop that draws a frame every
 * sixtieth of a second and touches pages of it for that: each read when it is touched; with
 * those around it; all locked before. A second process counts whenever this one lets it.
 * Then two processes want the same pages at once, and the disk loses a page.
 *
 *   demand-paging FRAMES [break]   lock nothing, and read pages with a wrong byte
 */
#include "guest/abi/demand.h"
#include "guest/lib/lib.h"

#define PAGE_WORDS (PAGE / sizeof(uint64_t))
#define READ_WRITE (ABI_PROT_READ | ABI_PROT_WRITE)

static uint64_t arg[ABI_DEMAND_NARGS];
static struct abi_sysinfo info;
static struct abi_process self;
static uint64_t slot; /* of this process */
static struct abi_demand_frame frames[ABI_DEMAND_FRAMES_MAX];
static uint64_t touches[ABI_DEMAND_TOUCHES_MAX];

/* What two processes see. */
static volatile struct {
    uint64_t count;      /* by the one that has nothing else to do */
    uint64_t arrived[2]; /* how many pages each of the two is ready for */
    uint64_t done, stop;
} * shared;

static void ring(enum abi_demand_step step)
{
    checkpoint(ABI_DEMAND, step, arg, ABI_DEMAND_NARGS);
}

static uint64_t major_faults(void)
{
    syscall(SYS_PROCESS_INFO, slot, &self);
    return self.major_faults;
}

static void find_slot(void)
{
    int64_t pid = syscall(SYS_GETPID);

    for (slot = 0; slot < info.nprocesses; slot++) {
        if (syscall(SYS_PROCESS_INFO, slot, &self) == 1 && self.pid == pid)
            return;
    }
    exit(1);
}

static void map_disk(uint32_t prot, uint32_t advice)
{
    int64_t va = syscall(SYS_MAP_DISK, 0ul, 0ul, (uint64_t)ABI_DEMAND_BYTES, (uint64_t)prot, 0ul);

    if (va < 0 || syscall(SYS_MADVISE, va, (uint64_t)ABI_DEMAND_BYTES, (uint64_t)advice)) {
        printf("demand-paging: the disk cannot be mapped: %ld\n", va);
        exit(1);
    }
    arg[ABI_DEMAND_VA] = (uint64_t)va;
}

static void unmap_disk(void)
{
    unmap((void *)arg[ABI_DEMAND_VA], ABI_DEMAND_BYTES);
}

static volatile uint64_t *page_at(uint64_t page)
{
    return (volatile uint64_t *)(arg[ABI_DEMAND_VA] + page * PAGE);
}

static void touch(uint64_t page)
{
    uint64_t before = shared->count, start = ticks(), word = *page_at(page);

    touches[arg[ABI_DEMAND_TOUCHES]++] = ticks() - start;
    arg[ABI_DEMAND_WRONG] += word != ABI_DEMAND_WORD(page * PAGE_WORDS);
    arg[ABI_DEMAND_OTHER_RAN] += shared->count != before;
}

/* Draws the frame that is due: how long after that it was done. */
static void draw(struct abi_demand_frame *frame, unsigned n, uint64_t *page, uint64_t due)
{
    uint64_t before = major_faults();

    *frame = (struct abi_demand_frame){ .touches = ABI_DEMAND_TOUCHES_OF(n) };
    for (unsigned i = 0; i < frame->touches; i++)
        touch((*page)++);
    frame->ticks = ticks() - due;
    frame->major = (uint32_t)(major_faults() - before);
    frame->missed = frame->ticks > arg[ABI_DEMAND_PERIOD];
}

static void loop(void)
{
    uint64_t page = ABI_DEMAND_FIRST, due = ticks();

    arg[ABI_DEMAND_TOUCHES] = arg[ABI_DEMAND_WRONG] = arg[ABI_DEMAND_OTHER_RAN] = 0;
    for (unsigned n = 0; n < arg[ABI_DEMAND_FRAMES]; n++) {
        /* The screen does not wait: a frame that was missed is followed by the next one due. */
        do
            due += arg[ABI_DEMAND_PERIOD];
        while (due < ticks());
        while (ticks() < due)
            yield();
        draw(&frames[n], n, &page, due);
    }
}

static void count_for_ever(void)
{
    for (;;) {
        shared->count++;
        yield();
    }
}

/* Each of the two waits for the other before each page. */
static void touch_together(unsigned me)
{
    for (uint64_t i = 0; i < ABI_DEMAND_TWIN_PAGES; i++) {
        shared->arrived[me] = i + 1;
        while (shared->arrived[!me] < i + 1)
            yield();
        (void)*page_at(ABI_DEMAND_TWIN_FIRST + i);
    }
}

static void twin(void)
{
    touch_together(1);
    *page_at(ABI_DEMAND_TWIN_FIRST) = 0;
    shared->done = 1;
    while (!shared->stop)
        yield();
    exit(0);
}

static void two_at_once(void)
{
    int64_t pid;

    map_disk(READ_WRITE, ABI_MADV_RANDOM);
    pid = fork();
    if (pid < 0)
        exit(1);
    if (!pid)
        twin();
    touch_together(0);
    while (!shared->done)
        yield();
    arg[ABI_DEMAND_TWIN] = (uint64_t)pid;
    ring(ABI_DEMAND_SHARED);
    shared->stop = 1;
    wait_for(pid);
    unmap_disk();
}

static void lose_a_page(void)
{
    struct abi_user_fault fault;

    map_disk(ABI_PROT_READ, ABI_MADV_NORMAL);
    ring(ABI_DEMAND_CUT);
    guarded((uint64_t)page_at(ABI_DEMAND_PAGES - 2), ABI_READ, &fault);
    arg[ABI_DEMAND_GOOD] = fault.vector;
    guarded((uint64_t)page_at(ABI_DEMAND_PAGES - 1), ABI_READ, &fault);
    arg[ABI_DEMAND_BAD] = fault.vector;
    arg[ABI_DEMAND_BAD_VA] = fault.va;
    ring(ABI_DEMAND_BROKEN);
    guarded((uint64_t)page_at(ABI_DEMAND_PAGES - 1), ABI_READ, &fault);
    arg[ABI_DEMAND_BAD] = fault.vector;
    ring(ABI_DEMAND_MENDED);
    unmap_disk();
}

int main(int argc, char **argv)
{
    int64_t object = syscall(SYS_SHARED_CREATE, PAGE), other;

    arg[ABI_DEMAND_FRAMES] = number(argc > 1 ? argv[1] : NULL, 16);
    if (arg[ABI_DEMAND_FRAMES] > ABI_DEMAND_FRAMES_MAX)
        return 1;
    if (argc > 2)
        syscall(SYS_BREAK, (uint64_t)(ABI_BREAK_LOCK | ABI_BREAK_PAGE));
    syscall(SYS_SYSINFO, &info);
    arg[ABI_DEMAND_PERIOD] = (info.tsc_hz ? info.tsc_hz : 2000000000) / ABI_DEMAND_HZ;
    arg[ABI_DEMAND_FRAMES_VA] = (uint64_t)frames;
    arg[ABI_DEMAND_TOUCHES_VA] = (uint64_t)touches;
    shared = map(NULL, PAGE, READ_WRITE, ABI_MAP_SHARED, (uint64_t)object);
    if (!shared)
        return 1;
    /* The loop must find its own memory there. */
    memset(frames, 0, sizeof(frames));
    memset(touches, 0, sizeof(touches));
    shared->count = 0;
    find_slot();
    syscall(SYS_PIN, 0ul);
    ring(ABI_DEMAND_BEFORE);

    other = fork();
    if (other < 0)
        return 1;
    if (!other)
        count_for_ever();
    /* What fork shares is copied when it is written: now, not in the loop. */
    memset(frames, 1, sizeof(frames));
    memset(touches, 1, sizeof(touches));
    map_disk(ABI_PROT_READ, ABI_MADV_RANDOM);
    ring(ABI_DEMAND_MAPPED);
    loop();
    ring(ABI_DEMAND_PLAIN);
    unmap_disk();

    map_disk(ABI_PROT_READ, ABI_MADV_NORMAL);
    loop();
    ring(ABI_DEMAND_AHEAD);
    unmap_disk();

    map_disk(ABI_PROT_READ, ABI_MADV_RANDOM);
    if (syscall(SYS_LOCK, arg[ABI_DEMAND_VA], (uint64_t)ABI_DEMAND_BYTES, 1ul))
        return 1;
    arg[ABI_DEMAND_KEPT] = (uint64_t)-syscall(
        SYS_MADVISE, arg[ABI_DEMAND_VA], (uint64_t)ABI_DEMAND_BYTES, (uint64_t)ABI_MADV_DONTNEED);
    ring(ABI_DEMAND_LOCKED);
    loop();
    ring(ABI_DEMAND_STEADY);
    unmap_disk();
    syscall(SYS_KILL, other);
    wait_for(other);

    two_at_once();
    lose_a_page();
    ring(ABI_DEMAND_GONE);
    return 0;
}
