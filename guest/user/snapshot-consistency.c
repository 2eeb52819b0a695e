/*
 * The snapshot-consistency exercise: a writer publishes versions of a structure of many
 * pages, a reader on the other CPU checks it without an end. In place: reads are torn.
 * By swapping page frames: the new version is written to private pages, the reader's
 * range is made inaccessible, the frames change places, and the range may be read again.
 * A read that was under way meets the barrier, waits there, and begins again. And by
 * copying under a lock, to compare.
 *
 * Each read stops halfway until the writer strikes (or another part begins), so that
 * what is published meets a read that is under way, on one host CPU too.
 */
#include "guest/lib/lib.h"

#define PAGES ABI_SNAPSHOT_PAGES
#define HALF  (PAGES / 2)
/* Spins before giving way; at once where the other side needs this very host CPU. */
#define SPINS       20000
#define SAMPLES_MAX 255
/* Publications between two at which the host looks. */
#define LOOK_EVERY(n) ((n) / 4 + 1)

enum part {
    PART_NONE,
    PART_NAIVE,
    PART_SWAP,
    PART_LOCKED,
    PART_END,
};

/* The page behind the shared copy of the structure. */
struct control {
    uint64_t part; /* enum part: what the writer wants */
    uint64_t pad0[7];
    uint64_t doing;   /* what the reader does */
    uint64_t reading; /* it is inside a read that counts */
    uint64_t paused;  /* it is halfway and waits until `struck` is this; else 0 */
    uint64_t pad1[5];
    uint64_t struck;    /* so often */
    uint64_t closed;    /* the reader's range is, or is about to be */
    uint64_t published; /* the last version that is there for sure */
    uint64_t lock;
    uint64_t pad2[4];
    uint64_t result[ABI_SNAPSHOT_R_NARGS]; /* the reader's part of it */
};

static struct {
    uint64_t publications, naive, locked, stride;
    bool broken;
    uint64_t give_up, spins;
} settings;

static struct control *control;
static char *structure; /* private; at the same address in both processes */
static char *in_place;  /* shared */
static int64_t reader;
static uint64_t version;

static uint64_t load(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

static void store(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

/* ---- Waiting -------------------------------------------------------------- */

struct wait {
    uint64_t since, spins;
};

/* One turn of waiting. The other side may be dead: then there is nothing left to show. */
static void turn(struct wait *wait)
{
    if (wait->since == 0)
        wait->since = ticks();
    if (++wait->spins % settings.spins) {
        __builtin_ia32_pause();
        return;
    }
    yield();
    if (ticks() - wait->since > settings.give_up)
        exit(3);
}

static void await(const uint64_t *word, uint64_t value)
{
    struct wait wait = { 0 };

    while (load(word) != value)
        turn(&wait);
}

static void lock(void)
{
    struct wait wait = { 0 };

    while (__atomic_exchange_n(&control->lock, 1, __ATOMIC_ACQUIRE))
        turn(&wait);
}

static void unlock(void)
{
    __atomic_store_n(&control->lock, 0, __ATOMIC_RELEASE);
}

/* ---- The reader ----------------------------------------------------------- */

static volatile bool interrupted; /* the barrier came into the read */

/* The reader's range is closed: wait until it is open, and try the access again. */
static void at_barrier(struct abi_user_fault *fault)
{
    struct wait wait = { 0 };

    interrupted = true;
    control->result[ABI_SNAPSHOT_R_FAULTS]++;
    /* What this read finds from here on does not count: the writer may go on. */
    store(&control->reading, 0);
    while (load(&control->closed))
        turn(&wait);
    syscall(SYS_FAULT_RETURN, fault);
}

static void halfway(uint64_t struck, uint64_t part)
{
    struct wait wait = { 0 };

    store(&control->paused, struck + 1);
    while (load(&control->struck) == struck && load(&control->part) == part)
        turn(&wait);
    store(&control->paused, 0);
}

/* Reads the structure once, page after page: its version, or how it is torn. */
static void read_once(const char *region, uint64_t part, uint64_t *reads, uint64_t *torn)
{
    uint64_t struck = load(&control->struck), published = load(&control->published);
    uint64_t first = 0;
    bool mixed = false;

    interrupted = false;
    /* Seen before any page is read. Pairs with the writer's look, which comes after it
       has closed the range: either it sees this, or the first read meets the barrier. */
    store(&control->reading, 1);
    for (uint64_t page = 0; page < PAGES; page++) {
        const volatile uint64_t *word = (const volatile uint64_t *)(region + page * PAGE);
        uint64_t head, tail;

        if (page == HALF && part != PART_LOCKED)
            halfway(struck, part);
        head = word[0];
        tail = word[PAGE / sizeof(*word) - 1];
        if (page == 0)
            first = head;
        mixed |= head != tail || head != first + page;
    }
    store(&control->reading, 0);
    if (interrupted) {
        control->result[ABI_SNAPSHOT_R_RESTARTS]++;
        return;
    }
    ++*reads;
    *torn += mixed;
    control->result[ABI_SNAPSHOT_R_STALE] += first >> 8 < published;
}

static void read_under_lock(uint64_t *reads, uint64_t *torn)
{
    lock();
    read_once(in_place, PART_LOCKED, reads, torn);
    unlock();
    /* Give the lock away: it knows no queue. */
    if (settings.spins == 1)
        yield();
    for (unsigned i = 0; i < 200; i++)
        __builtin_ia32_pause();
}

static void read_all(void)
{
    uint64_t *result = control->result;

    syscall(SYS_FAULT_HANDLER, at_barrier);
    for (;;) {
        uint64_t part = load(&control->part);

        store(&control->doing, part);
        if (part == PART_END)
            return;
        if (part == PART_NONE)
            yield();
        else if (part == PART_LOCKED)
            read_under_lock(&result[ABI_SNAPSHOT_R_LOCKED_READS],
                            &result[ABI_SNAPSHOT_R_LOCKED_TORN]);
        else
            read_once(part == PART_NAIVE ? in_place : structure, part,
                      &result[ABI_SNAPSHOT_R_READS], &result[ABI_SNAPSHOT_R_TORN]);
    }
}

/* ---- The writer ----------------------------------------------------------- */

static void stamp(char *region, uint64_t from, uint64_t to)
{
    for (uint64_t page = from; page < to; page++) {
        volatile uint64_t *word = (volatile uint64_t *)(region + page * PAGE);

        word[0] = word[PAGE / sizeof(*word) - 1] = ABI_SNAPSHOT_WORD(version, page);
    }
}

/* The reader has read half of the last version, and waits. */
static void meet_halfway(void)
{
    await(&control->paused, control->struck + 1);
}

static void strike(void)
{
    store(&control->struck, control->struck + 1);
}

/* Lets the reader do this and nothing else any more. */
static void begin(enum part part)
{
    store(&control->part, part);
    await(&control->doing, part);
}

/* Lets the reader stop and starts its counts over; `arg` is what they were. */
static void finish(uint64_t *arg)
{
    begin(PART_NONE);
    memcpy(arg, control->result, sizeof(control->result));
    for (unsigned i = ABI_SNAPSHOT_R_READS; i <= ABI_SNAPSHOT_R_RESTARTS; i++)
        control->result[i] = 0;
}

static void show(uint32_t step)
{
    uint64_t arg[ABI_SNAPSHOT_NARGS] = {
        [ABI_SNAPSHOT_VA] = (uint64_t)structure,
        [ABI_SNAPSHOT_WRITER] = (uint64_t)syscall(SYS_GETPID),
        [ABI_SNAPSHOT_READER] = (uint64_t)reader,
        [ABI_SNAPSHOT_VERSION] = version,
    };

    checkpoint(ABI_SNAPSHOT, step, arg, ABI_SNAPSHOT_NARGS);
}

/* In place: half of it is new when the reader reads on. */
static void publish_in_place(void)
{
    version++;
    meet_halfway();
    stamp(in_place, HALF, PAGES);
    strike();
    stamp(in_place, 0, HALF);
    store(&control->published, version);
}

static void protect_reader(uint32_t prot)
{
    if (syscall(SYS_PROTECT_CHILD, reader, structure, PAGES * PAGE, prot))
        exit(4);
}

static void swap(uint64_t from, uint64_t to)
{
    if (syscall(SYS_SWAP_CHILD, reader, structure + from * PAGE, structure + from * PAGE,
                (to - from) * PAGE))
        exit(5);
}

/* Broken on purpose: no barrier, and the frames in two goes. */
static void swap_in_the_open(bool look)
{
    if (look)
        show(ABI_SNAPSHOT_BLINDED);
    swap(HALF, PAGES);
    strike();
    if (look)
        show(ABI_SNAPSHOT_SWAPPED);
    swap(0, HALF);
}

static void swap_behind_barrier(bool look)
{
    store(&control->closed, 1);
    protect_reader(ABI_PROT_NONE);
    if (look)
        show(ABI_SNAPSHOT_BLINDED);
    strike();
    /* The reader stands at the barrier, or it is between two reads. */
    await(&control->reading, 0);
    swap(0, PAGES);
    if (look)
        show(ABI_SNAPSHOT_SWAPPED);
    protect_reader(ABI_PROT_READ);
}

/* Ticks that it took, the version being ready. */
static uint64_t publish(bool look)
{
    uint64_t start;

    if (look)
        show(ABI_SNAPSHOT_PREPARED);
    start = ticks();
    if (settings.broken)
        swap_in_the_open(look);
    else
        swap_behind_barrier(look);
    store(&control->published, version);
    store(&control->closed, 0);
    start = ticks() - start;
    if (look)
        show(ABI_SNAPSHOT_PUBLISHED);
    return start;
}

/* What the kernel must not do for the writer; the frames are shared by fork still. */
static bool refused(void)
{
    return syscall(SYS_SWAP_CHILD, reader, structure, structure, PAGES * PAGE) == -ABI_EINVAL &&
           syscall(SYS_SWAP_CHILD, reader, in_place, structure, PAGES * PAGE) == -ABI_EINVAL &&
           syscall(SYS_SWAP_CHILD, reader, structure + 1, structure, PAGE) == -ABI_EINVAL &&
           syscall(SYS_SWAP_CHILD, 1, structure, structure, PAGE) == -ABI_ESRCH &&
           syscall(SYS_PROTECT_CHILD, 1, structure, PAGE, ABI_PROT_NONE) == -ABI_ESRCH;
}

static void naive(void)
{
    uint64_t arg[ABI_SNAPSHOT_R_NARGS];

    begin(PART_NAIVE);
    for (uint64_t n = 0; n < settings.naive; n++)
        publish_in_place();
    finish(arg);
    arg[ABI_SNAPSHOT_R_PUBLICATIONS] = settings.naive;
    arg[ABI_SNAPSHOT_R_CAUGHT] = settings.naive;
    checkpoint(ABI_SNAPSHOT, ABI_SNAPSHOT_NAIVE, arg, ABI_SNAPSHOT_R_NARGS);
}

static void swapped(uint64_t *arg)
{
    static uint64_t sample[SAMPLES_MAX];
    uint64_t samples = 0, caught = 0;

    version = 0;
    store(&control->published, 0);
    begin(PART_SWAP);
    for (uint64_t n = 0; n < settings.publications; n++) {
        bool look = n < 2 || n % LOOK_EVERY(settings.publications) == 0;
        uint64_t took;

        version++;
        stamp(structure, 0, PAGES);
        if (n % settings.stride == 0) {
            /* One read to its end; publish into the next one. */
            meet_halfway();
            strike();
            meet_halfway();
            caught++;
        }
        took = publish(look);
        if (!look && samples < SAMPLES_MAX)
            sample[samples++] = took;
    }
    finish(arg);
    arg[ABI_SNAPSHOT_R_PUBLICATIONS] = settings.publications;
    arg[ABI_SNAPSHOT_R_CAUGHT] = caught;
    arg[ABI_SNAPSHOT_R_TICKS] = median(sample, samples);
}

static void locked(uint64_t *arg)
{
    static uint64_t sample[SAMPLES_MAX];
    uint64_t counts[ABI_SNAPSHOT_R_NARGS];

    version = 0;
    stamp(in_place, 0, PAGES);
    store(&control->published, 0);
    begin(PART_LOCKED);
    for (uint64_t n = 0; n < settings.locked; n++) {
        version++;
        stamp(structure, 0, PAGES);
        sample[n] = ticks();
        lock();
        memcpy(in_place, structure, PAGES * PAGE);
        unlock();
        sample[n] = ticks() - sample[n];
    }
    finish(counts);
    arg[ABI_SNAPSHOT_R_LOCKED] = settings.locked;
    arg[ABI_SNAPSHOT_R_LOCKED_READS] = counts[ABI_SNAPSHOT_R_LOCKED_READS];
    arg[ABI_SNAPSHOT_R_LOCKED_TORN] = counts[ABI_SNAPSHOT_R_LOCKED_TORN];
    arg[ABI_SNAPSHOT_R_LOCKED_TICKS] = median(sample, settings.locked);
}

/* ---- Both processes ------------------------------------------------------- */

static bool settle(int argc, char **argv)
{
    static struct abi_sysinfo info;

    syscall(SYS_SYSINFO, &info);
    settings.publications = number(argc > 1 ? argv[1] : NULL, 1000);
    settings.naive = number(argc > 2 ? argv[2] : NULL, 100);
    settings.locked = number(argc > 3 ? argv[3] : NULL, 100);
    settings.stride = number(argc > 4 ? argv[4] : NULL, 1);
    settings.broken = argc > 5 && !strcmp(argv[5], "break");
    settings.give_up = (info.tsc_hz ? info.tsc_hz : 1000000000) * 20;
    settings.spins = info.host_cpus > 1 ? SPINS : 1;
    return settings.stride && settings.locked <= SAMPLES_MAX;
}

static bool map_all(void)
{
    const uint32_t rw = ABI_PROT_READ | ABI_PROT_WRITE;
    int64_t object = syscall(SYS_SHARED_CREATE, (PAGES + 1) * PAGE);

    structure = map(NULL, PAGES * PAGE, rw, 0, 0);
    in_place = map(NULL, (PAGES + 1) * PAGE, rw, ABI_MAP_SHARED, (uint64_t)object);
    if (!structure || !in_place)
        return false;
    control = (struct control *)(in_place + PAGES * PAGE);
    control->part = PART_NONE;
    stamp(structure, 0, PAGES);
    stamp(in_place, 0, PAGES);
    return true;
}

int main(int argc, char **argv)
{
    uint64_t arg[ABI_SNAPSHOT_R_NARGS];

    if (!settle(argc, argv) || !map_all())
        return 2;
    control->doing = PART_END;
    reader = fork();
    if (reader == 0) {
        if (syscall(SYS_PIN, 1) || protect(structure, PAGES * PAGE, ABI_PROT_READ))
            exit(1);
        read_all();
        exit(0);
    }
    syscall(SYS_PIN, 0);
    begin(PART_NONE);
    show(ABI_SNAPSHOT_SHARED);
    if (!refused())
        return 6;
    naive();
    swapped(arg);
    arg[ABI_SNAPSHOT_R_READER] = (uint64_t)reader;
    locked(arg);
    checkpoint(ABI_SNAPSHOT, ABI_SNAPSHOT_DONE, arg, ABI_SNAPSHOT_R_NARGS);
    store(&control->part, PART_END);
    return (int)wait_for(reader);
}
