#include "vmm/measure/exits_events.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/monotonic.h"
#include "vmm/machine/stats.h"
#include "vmm/measure/bare.h"
#include "vmm/measure/histogram.h"

#define MSR_APIC_BASE 0x1b /* KVM reads it for the guest on every backend */
#define VIRTIO_MAGIC  0x74726976u
#define HYPERCALL     0x7fffffffu       /* none of KVM's */
#define HYPERCALL_NO  ((uint32_t)-1000) /* -KVM_ENOSYS */
#define TURNS_MAX     64

enum side { ANY_VALUE, THIS_VALUE };

/* An event that just happens, timed in the guest by turns with the others. */
struct event {
    const char *name;
    enum abi_measure_op op;
    uint64_t arg;
    enum side answers;
    uint32_t reply; /* THIS_VALUE: what the guest must have got */
    int bare;       /* the same in the bare machine; < 0: not there */
    unsigned times; /* it happens in each pair */
};

enum {
    EVENT_PIO,
    EVENT_MMIO,
    EVENT_CPUID,
    EVENT_MSR,
    EVENT_MSR_USER,
    EVENT_HYPERCALL,
    EVENT_STORE,
    EVENTS
};

static const struct event events[EVENTS] = {
    [EVENT_PIO] = { "pio", ABI_MEASURE_PIO, ABI_HYPERCALL_PORT, THIS_VALUE, ABI_HYPERCALL_MAGIC,
                    BARE_PIO, 1 },
    [EVENT_MMIO] = { "mmio", ABI_MEASURE_MMIO, 0, THIS_VALUE, VIRTIO_MAGIC, BARE_MMIO, 1 },
    [EVENT_CPUID] = { "cpuid", ABI_MEASURE_CPUID, 0, ANY_VALUE, 0, BARE_CPUID, ABI_MEASURE_CPUIDS },
    [EVENT_MSR] = { "msr", ABI_MEASURE_RDMSR, MSR_APIC_BASE, ANY_VALUE, 0, -1, 1 },
    [EVENT_MSR_USER] = { "msr-user", ABI_MEASURE_RDMSR, EXITS_MSR, THIS_VALUE, EXITS_MSR_ANSWER, -1,
                         1 },
    [EVENT_HYPERCALL] = { "hypercall", ABI_MEASURE_VMCALL, HYPERCALL, THIS_VALUE, HYPERCALL_NO, -1,
                          1 },
    [EVENT_STORE] = { "ioeventfd", ABI_MEASURE_STORE, EXITS_STORE_OFFSET, ANY_VALUE, 0, -1, 1 },
};

/* What came of the turns. */
struct timing {
    struct abi_histogram guest_empty, guest[EVENTS], bare_empty, bare[BARE_EVENTS];
    unsigned turns;
    double ratio[BARE_EVENTS][TURNS_MAX];
};

/* Why an event is not to be tried here; NULL: it is. */
static const char *exits_events_not_here(const struct exits *x, unsigned event)
{
    if (event == EVENT_HYPERCALL && x->run->host->kvm->backend == KVM_BACKEND_SOFTWARE)
        return "vmcall in kernel mode never comes back from KVM_RUN on this backend, so it is "
               "not tried";
    if (event == EVENT_MSR_USER && x->msr_error)
        return "this KVM has no filter of model-specific registers, or refuses it";
    if (event == EVENT_STORE && x->store_error)
        return EXITS_NO_STORE;
    return NULL;
}

static int exits_events_do(struct exits *x, unsigned event)
{
    enum abi_measure_op op = events[event].op;

    /* KVM's module knows which of the two the CPU has. */
    if (event == EVENT_HYPERCALL && !strcmp(x->run->host->kvm->module, "kvm_amd"))
        op = ABI_MEASURE_VMMCALL;
    return exits_command(x, op, ABI_MEASURE_SAMPLES, events[event].arg);
}

static int exits_events_by_ticks(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

    return (left > right) - (left < right);
}

/*
 * Takes a batch of pairs apart: empty ones and the event's, each into its histogram. Returns
 * what the event costs more, by the lower quartiles: what else the machine does only adds.
 */
static double exits_events_take_apart(const uint64_t *ticks, struct abi_histogram *empty,
                                      struct abi_histogram *event)
{
    uint64_t sorted[2][EXITS_PAIRS];

    for (unsigned i = 0; i < EXITS_PAIRS; i++) {
        abi_histogram_add(empty, sorted[0][i] = ticks[2 * i]);
        abi_histogram_add(event, sorted[1][i] = ticks[2 * i + 1]);
    }
    for (unsigned i = 0; i < 2; i++)
        qsort(sorted[i], EXITS_PAIRS, sizeof(sorted[i][0]), exits_events_by_ticks);
    return (double)sorted[1][EXITS_PAIRS / 4] - (double)sorted[0][EXITS_PAIRS / 4];
}

/* One batch in the guest: what the event costs, into *cost. */
static int exits_events_guest_batch(struct exits *x, unsigned event, struct timing *t, double *cost)
{
    uint64_t ticks[ABI_MEASURE_SAMPLES];
    int err = exits_events_do(x, event);

    if (err)
        return err;
    if (x->status < 0) {
        snprintf(x->run->error, sizeof(x->run->error), "%s: %s", events[event].name,
                 exits_why(x->status));
        return -EIO;
    }
    if (events[event].answers == THIS_VALUE && x->area->result != events[event].reply) {
        snprintf(x->run->error, sizeof(x->run->error), "%s: the guest got 0x%x, not 0x%x",
                 events[event].name, x->area->result, events[event].reply);
        return -EPROTO;
    }
    for (unsigned i = 0; i < ABI_MEASURE_SAMPLES; i++)
        ticks[i] = x->area->end[i] - x->area->begin[i];
    *cost = exits_events_take_apart(ticks, &t->guest_empty, &t->guest[event]);
    return 0;
}

static int exits_events_bare_batch(struct exits *x, struct bare *bare, enum bare_event event,
                                   struct timing *t, double *cost)
{
    uint64_t ticks[BARE_SAMPLES], exits;
    int err = bare_run(bare, event, ticks, &exits);

    if (err) {
        snprintf(x->run->error, sizeof(x->run->error), "the bare KVM_RUN loop: %s", strerror(-err));
        return err;
    }
    *cost = exits_events_take_apart(ticks, &t->bare_empty, &t->bare[event]);
    return 0;
}

/* Each event in the guest, and right after it in the bare machine. */
static int exits_events_take_turn(struct exits *x, struct bare *bare, struct timing *t)
{
    for (unsigned i = 0; i < EVENTS; i++) {
        double cost = 0, alone = 0;
        int err = exits_events_not_here(x, i) ? 0 : exits_events_guest_batch(x, i, t, &cost);

        if (!err && events[i].bare >= 0)
            err = exits_events_bare_batch(x, bare, (enum bare_event)events[i].bare, t, &alone);
        if (err)
            return err;
        if (events[i].bare >= 0)
            t->ratio[events[i].bare][t->turns] = cost / alone;
    }
    t->turns++;
    return 0;
}

/* Turns for so long, at least `least` of them, after one that does not count. */
static int exits_events_take_turns(struct exits *x, struct bare *bare, struct timing *t)
{
    uint64_t start, budget_ns = x->run->quick ? 1500000000u : 15000000000u;
    unsigned least = x->run->quick ? 5 : 15;
    int err = exits_events_take_turn(x, bare, t);

    memset(t, 0, sizeof(*t));
    start = monotonic_ns();
    while (!err && t->turns < TURNS_MAX &&
           (t->turns < least || monotonic_ns() - start < budget_ns)) {
        measure_progress(x->run, 0.7 * fmin(t->turns / (double)least, 1), "exits by turns");
        err = exits_events_take_turn(x, bare, t);
    }
    return err;
}

static void exits_events_report_turns(struct exits *x, struct timing *t)
{
    double floor = histogram_at(&t->guest_empty, 0.5),
           bare_floor = histogram_at(&t->bare_empty, 0.5);
    double low, high, median;

    measure_distribution(x->run, &t->guest_empty, x->ns_per_tick, 0, "exits/empty-pair/ns");
    measure_distribution(x->run, &t->bare_empty, x->ns_per_tick, 0, "exits/bare/empty-pair/ns");
    for (unsigned i = 0; i < EVENTS; i++) {
        const char *name = events[i].name, *why = exits_events_not_here(x, i);
        double ns = x->ns_per_tick / events[i].times;
        int b = events[i].bare;

        if (why)
            measure_unavailable(x->run, why, "exits/%s/ns", name);
        else
            measure_distribution(x->run, &t->guest[i], ns, floor, "exits/%s/ns", name);
        if (b < 0)
            continue;
        measure_distribution(x->run, &t->bare[b], ns, bare_floor, "exits/bare/%s/ns", name);
        median = measure_median(t->ratio[b], t->turns, &low, &high);
        measure_value(x->run, median, low, high, t->turns, "exits/%s/vs-bare/ratio", name);
    }
}

/* ---- Counts: how each is served --------------------------------------------- */

struct served {
    uint64_t io, mmio, rdmsr, hypercalls;
};

/* Between commands. Rings and yields are exits by ports, too. */
static struct served exits_events_count_served(struct exits *x)
{
    static const char *const names[] = { "hypercalls" };
    const struct vcpu *vcpu = &x->session.machine.vm.vcpus[0];
    const struct hypercall_port *hypercall_port = &x->session.machine.board.hypercall_port;
    struct served served = { .mmio = vcpu->exits[KVM_EXIT_MMIO],
                             .rdmsr = vcpu->exits[KVM_EXIT_X86_RDMSR] };

    served.io = vcpu->exits[KVM_EXIT_IO] - atomic_load(&hypercall_port->rings) -
                atomic_load(&hypercall_port->yields);
    stats_read(vcpu->fd, names, &served.hypercalls, 1);
    return served;
}

static int exits_events_count(struct exits *x, unsigned event)
{
    const char *name = events[event].name;
    struct served before = exits_events_count_served(x), after;
    int err = exits_events_do(x, event);

    if (err)
        return err;
    after = exits_events_count_served(x);
    measure_count(x->run,
                  after.io - before.io + after.mmio - before.mmio + after.rdmsr - before.rdmsr,
                  "exits/%s/user-exits-of-128", name);
    if (event == EVENT_HYPERCALL)
        measure_count(x->run, after.hypercalls - before.hypercalls,
                      "exits/%s/kvm-hypercalls-of-128", name);
    return 0;
}

/* Takes what stores have signalled so far. */
static uint64_t exits_events_drain(int fd)
{
    struct pollfd ready = { .fd = fd, .events = POLLIN };
    uint64_t signals = 0;

    if (poll(&ready, 1, 0) > 0 && read(fd, &signals, sizeof(signals)) != sizeof(signals))
        return 0;
    return signals;
}

static int exits_events_count_all(struct exits *x)
{
    int err = 0;

    exits_events_drain(x->store_fd);
    for (unsigned i = 0; i < EVENTS && !err; i++)
        err = exits_events_not_here(x, i) ? 0 : exits_events_count(x, i);
    if (!err && !exits_events_not_here(x, EVENT_STORE))
        measure_count(x->run, exits_events_drain(x->store_fd), "exits/ioeventfd/signals-of-128");
    return err;
}

int exits_events(struct exits *x)
{
    struct timing *t = calloc(1, sizeof(*t));
    struct bare bare;
    int err = t ? bare_open(&bare, x->run->host->kvm->fd) : -ENOMEM;

    if (err) {
        snprintf(x->run->error, sizeof(x->run->error), "cannot create the bare machine: %s",
                 strerror(-err));
        goto free_timing;
    }
    err = exits_events_take_turns(x, &bare, t);
    if (!err)
        exits_events_report_turns(x, t);
    bare_close(&bare);
    if (!err)
        err = exits_events_count_all(x);

free_timing:
    free(t);
    return err;
}
