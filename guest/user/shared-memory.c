/*
 * The shared-memory exercise: a writer and a reader on two CPUs map one object at
 * different addresses and exchange messages through a ring of sequence-locked slots;
 * then the same messages go through a channel, which copies them twice.
 */
#include "guest/lib/lib.h"

#define RING_PAGES 16
#define SLOTS      (RING_PAGES * PAGE / sizeof(struct abi_slot))
/* Spins before giving way; at once where the other side needs this very host CPU. */
#define SPINS 2000

/* The page behind the ring. */
struct control {
    volatile uint64_t reader_va; /* set when the reader has mapped the ring */
    uint64_t pad0[7];
    volatile uint64_t go; /* the writer lets the reader begin */
    uint64_t pad1[7];
    volatile uint64_t taken; /* messages the reader has taken */
    uint64_t pad2[7];
    volatile uint64_t done; /* the reader has finished */
    uint64_t result[ABI_SHARED_R_NARGS];
};

struct settings {
    uint64_t messages;
    uint64_t copies;  /* messages through the channel */
    uint64_t give_up; /* ticks without progress */
    uint64_t spins;
    int64_t object, channel;
};

struct wait {
    uint64_t since, spins, yields;
};

/* One turn of waiting; false when there has been no progress for too long. */
static bool wait_turn(struct wait *wait, const struct settings *s)
{
    if (wait->since == 0)
        wait->since = ticks();
    if (++wait->spins < s->spins) {
        __builtin_ia32_pause();
        return true;
    }
    wait->spins = 0;
    wait->yields++;
    yield();
    return ticks() - wait->since < s->give_up;
}

static void progress(struct wait *wait)
{
    wait->since = 0;
    wait->spins = 0;
}

/* ---- Writer and reader of the ring ---------------------------------------- */

static void publish(struct abi_slot *slot, uint64_t n)
{
    /* Odd: the writer is inside. Pairs with the reader's first look. */
    __atomic_store_n(&slot->sequence, 2 * (n / SLOTS) + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    *(volatile uint64_t *)&slot->number = n;
    for (unsigned i = 0; i < ABI_SHARED_WORDS; i++)
        *(volatile uint64_t *)&slot->word[i] = ABI_SHARED_WORD(n, i);
    /* Even, and new: pairs with the reader's acquire. */
    __atomic_store_n(&slot->sequence, 2 * (n / SLOTS) + 2, __ATOMIC_RELEASE);
}

/* Copies the slot if the writer was not inside meanwhile. */
static bool take(const struct abi_slot *slot, struct abi_slot *copy, uint64_t *retries)
{
    uint64_t before = __atomic_load_n(&slot->sequence, __ATOMIC_ACQUIRE);

    if (before & 1) {
        ++*retries;
        return false;
    }
    copy->number = *(const volatile uint64_t *)&slot->number;
    for (unsigned i = 0; i < ABI_SHARED_WORDS; i++)
        copy->word[i] = *(const volatile uint64_t *)&slot->word[i];
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    copy->sequence = before;
    if (__atomic_load_n(&slot->sequence, __ATOMIC_RELAXED) == before)
        return true;
    ++*retries;
    return false;
}

static uint64_t digest(uint64_t so_far, const struct abi_slot *slot)
{
    so_far = ABI_SHARED_DIGEST(so_far, slot->number);
    for (unsigned i = 0; i < ABI_SHARED_WORDS; i++)
        so_far = ABI_SHARED_DIGEST(so_far, slot->word[i]);
    return so_far;
}

static bool whole(const struct abi_slot *slot)
{
    for (unsigned i = 0; i < ABI_SHARED_WORDS; i++) {
        if (slot->word[i] != ABI_SHARED_WORD(slot->number, i))
            return false;
    }
    return true;
}

static void write_all(struct abi_slot *ring, struct control *control, const struct settings *s,
                      struct wait *wait)
{
    for (uint64_t n = 0; n < s->messages;) {
        if (n - control->taken >= SLOTS) {
            if (!wait_turn(wait, s))
                return;
            continue;
        }
        publish(&ring[n % SLOTS], n);
        n++;
        progress(wait);
    }
}

static void read_all(const struct abi_slot *ring, struct control *control, const struct settings *s)
{
    struct wait wait = { 0 };
    uint64_t lost = 0, torn = 0, retries = 0, sum = 0, received = 0, start = ticks();

    for (uint64_t n = 0; n < s->messages;) {
        const struct abi_slot *slot = &ring[n % SLOTS];
        struct abi_slot copy;

        if (!take(slot, &copy, &retries) || copy.sequence < 2 * (n / SLOTS) + 2) {
            if (!wait_turn(&wait, s))
                break;
            continue;
        }
        if (copy.number > n)
            lost += copy.number - n;
        torn += !whole(&copy);
        sum = digest(sum, &copy);
        received++;
        n++;
        /* The slot may be written again from here on. */
        __atomic_store_n(&control->taken, n, __ATOMIC_RELEASE);
        progress(&wait);
    }
    control->result[ABI_SHARED_R_MESSAGES] = s->messages;
    control->result[ABI_SHARED_R_RECEIVED] = received;
    control->result[ABI_SHARED_R_LOST] = lost + (s->messages - received);
    control->result[ABI_SHARED_R_TORN] = torn;
    control->result[ABI_SHARED_R_RETRIES] = retries;
    control->result[ABI_SHARED_R_DIGEST] = sum;
    control->result[ABI_SHARED_R_TICKS] = ticks() - start;
    control->result[ABI_SHARED_R_YIELDS] = wait.yields;
}

/* ---- The same through the kernel ------------------------------------------ */

static void message(struct abi_slot *slot, uint64_t n)
{
    *slot = (struct abi_slot){ .number = n };
    for (unsigned i = 0; i < ABI_SHARED_WORDS; i++)
        slot->word[i] = ABI_SHARED_WORD(n, i);
}

static void send_all(const struct settings *s)
{
    struct abi_slot slot;

    for (uint64_t n = 0; n < s->copies; n++) {
        message(&slot, n);
        syscall(SYS_SEND, s->channel, &slot, sizeof(slot));
    }
}

static void receive_all(const struct settings *s)
{
    uint64_t arg[ABI_SHARED_C_NARGS] = { [ABI_SHARED_C_MESSAGES] = s->copies };
    uint64_t start = ticks();
    struct abi_slot slot;

    for (uint64_t n = 0; n < s->copies; n++) {
        syscall(SYS_RECV, s->channel, &slot, sizeof(slot));
        arg[ABI_SHARED_C_DIGEST] = digest(arg[ABI_SHARED_C_DIGEST], &slot);
    }
    arg[ABI_SHARED_C_TICKS] = ticks() - start;
    checkpoint(ABI_SHARED_MEMORY, ABI_SHARED_COPIED, arg, ABI_SHARED_C_NARGS);
}

/* ---- Both processes ------------------------------------------------------- */

static void *map_ring(const struct settings *s)
{
    return map(NULL, (RING_PAGES + 1) * PAGE, ABI_PROT_READ | ABI_PROT_WRITE, ABI_MAP_SHARED,
               (uint64_t)s->object);
}

static struct control *control_of(char *ring)
{
    return (struct control *)(ring + RING_PAGES * PAGE);
}

static int reader(const struct settings *s, struct control *first)
{
    /* Something else in the way, so that the ring lands elsewhere than the writer's. */
    void *gap = map(NULL, 64 * PAGE, ABI_PROT_READ, 0, 0);
    char *ring = map_ring(s);
    struct control *control = ring ? control_of(ring) : NULL;
    struct wait wait = { 0 };

    if (!gap || !ring)
        return 1;
    /* Its own view of every page, and the writer's one shot away. */
    for (unsigned i = 0; i <= RING_PAGES; i++)
        (void)*(volatile char *)(ring + i * PAGE);
    first->reader_va = (uint64_t)ring;
    while (!first->go) {
        if (!wait_turn(&wait, s))
            return 1;
    }
    read_all((struct abi_slot *)ring, control, s);
    memcpy(first->result, control->result, sizeof(first->result));
    first->done = 1;
    if (s->copies)
        receive_all(s);
    return 0;
}

static void settle(struct settings *s, int argc, char **argv)
{
    static struct abi_sysinfo info;

    syscall(SYS_SYSINFO, &info);
    *s = (struct settings){
        .messages = number(argc > 1 ? argv[1] : NULL, 100000),
        .copies = number(argc > 2 ? argv[2] : NULL, 1000),
        .give_up = (info.tsc_hz ? info.tsc_hz : 1000000000) * 20,
        .spins = info.host_cpus > 1 ? SPINS : 1,
    };
    if (argc > 3 && !strcmp(argv[3], "break")) {
        s->give_up /= 40;
        s->copies = 0;
    }
}

int main(int argc, char **argv)
{
    static struct settings s;
    uint64_t arg[ABI_SHARED_NARGS] = { RING_PAGES };
    struct wait wait = { 0 };
    struct control *control;
    char *ring;
    int64_t pid;

    settle(&s, argc, argv);
    s.object = syscall(SYS_SHARED_CREATE, (RING_PAGES + 1) * PAGE);
    s.channel = syscall(SYS_CHANNEL_CREATE);
    ring = map_ring(&s);
    if (!ring || s.channel < 0)
        return 1;
    memset(ring, 0, (RING_PAGES + 1) * PAGE);
    control = control_of(ring);

    pid = fork();
    if (pid == 0) {
        if (argc > 3 && !strcmp(argv[3], "break"))
            syscall(SYS_BREAK, ABI_BREAK_SHARED);
        if (syscall(SYS_PIN, 1))
            exit(1);
        exit(reader(&s, control));
    }
    syscall(SYS_PIN, 0);
    while (!control->reader_va) {
        if (!wait_turn(&wait, &s))
            return 1;
    }
    arg[ABI_SHARED_WRITER_VA] = (uint64_t)ring;
    arg[ABI_SHARED_READER_VA] = control->reader_va;
    arg[ABI_SHARED_WRITER] = (uint64_t)syscall(SYS_GETPID);
    arg[ABI_SHARED_READER] = (uint64_t)pid;
    checkpoint(ABI_SHARED_MEMORY, ABI_SHARED_MAPPED, arg, ABI_SHARED_NARGS);

    progress(&wait);
    wait.yields = 0;
    control->go = 1;
    write_all((struct abi_slot *)ring, control, &s, &wait);
    progress(&wait);
    while (!control->done) {
        if (!wait_turn(&wait, &s))
            break;
    }
    control->result[ABI_SHARED_R_YIELDS] += wait.yields;
    checkpoint(ABI_SHARED_MEMORY, ABI_SHARED_EXCHANGED, control->result, ABI_SHARED_R_NARGS);
    if (s.copies)
        send_all(&s);
    return (int)wait_for(pid);
}
