/* What it costs to leave the guest and to interrupt it, each way by itself. */
#include "vmm/measure/exits.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "guest/abi/dma.h"
#include "guest/abi/syscall.h"
#include "vmm/machine/ioeventfd.h"
#include "vmm/machine/irq_route.h"
#include "vmm/measure/exits_events.h"
#include "vmm/measure/exits_signals.h"
#include "vmm/measure/experiments.h"
#include "vmm/measure/histogram.h"

#define GUEST_BYTES (64ull << 20)
#define MSI_ADDRESS 0xfee00000u /* the local APIC with id 0 */

/* ---- The machine ----------------------------------------------------------- */

static uint64_t exits_read_stamp(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size)
{
    struct exits *x = owner;

    (void)vcpu;
    (void)offset;
    (void)size;
    if (x->nstamps < EXITS_PAIRS)
        x->stamp[x->nstamps++] = exits_clock();
    return 0;
}

static uint64_t exits_read_msr(void *owner, struct vcpu *vcpu)
{
    (void)owner;
    (void)vcpu;
    return EXITS_MSR_ANSWER;
}

static int exits_prepare(void *owner, struct session *session)
{
    struct exits *x = owner;
    struct vm *vm = &session->machine.vm;
    int gsi;

    x->stamp_port = (struct bus_region){
        .base = EXITS_STAMP_PORT, .len = sizeof(uint32_t), .owner = x, .read = exits_read_stamp
    };
    x->msr = (struct msr_reader){ .index = EXITS_MSR, .read = exits_read_msr };
    x->msr_error = msr_take_reads(vm, &x->msr);
    x->store_error = ioeventfd_add(vm, ABI_MMIO_GPA + EXITS_STORE_OFFSET, ABI_MEASURE_SIGNAL,
                                   x->store_fd);
    gsi = irq_route_add(vm, x->irq_fd, MSI_ADDRESS, ABI_MEASURE_VECTOR);
    x->irq_error = gsi < 0 ? gsi : 0;
    return bus_add(&vm->pio, &x->stamp_port);
}

int exits_command(struct exits *x, enum abi_measure_op op, uint64_t count, uint64_t arg)
{
    const struct abi_command command = { .kind = ABI_COMMAND_KERNEL,
                                         .count = count,
                                         .arg = { op, arg } };
    struct abi_reply reply;
    int err = session_command(&x->session, &command, &reply);

    if (!err)
        x->status = reply.status < 0 ? reply.status : (int64_t)reply.value[0];
    return err;
}

const char *exits_why(int64_t status)
{
    switch (status) {
    case -ABI_ENODEV: return "the guest does not have what it takes";
    case -ABI_EIO: return "what the guest waited for did not come within 5 s";
    case -ABI_EAGAIN: return "somebody else measures in the guest";
    }
    return "the guest's kernel refused it";
}

static int exits_open_machine(struct exits *x)
{
    static const struct config_device rng = { .kind = DEVICE_RNG };
    const struct session_params params = { .memory_bytes = GUEST_BYTES,
                                           .cpus = 2,
                                           .devices = &rng,
                                           .ndevices = 1,
                                           .prepare = exits_prepare,
                                           .prepare_owner = x };
    int err = session_open(&x->session, x->run->host->kvm, &params, x->run->error,
                           sizeof(x->run->error));

    if (err)
        return err;
    x->ns_per_tick = 1e9 / (double)x->session.tsc_hz;
    err = exits_command(x, ABI_MEASURE_AREA, 0, 0);
    x->area = err || x->status < 0
                  ? NULL
                  : memory_at(&x->session.machine.vm.memory, (uint64_t)x->status, sizeof(*x->area));
    if (x->area)
        return 0;
    snprintf(x->run->error, sizeof(x->run->error), "the guest's kernel cannot measure");
    session_close(&x->session);
    return err ? err : -ENOSYS;
}

/* ---- What the guest waits for ------------------------------------------------ */

/* Begin to end of each by the guest's clocks; a timer's begin is when it was due. */
static int exits_wait_figure(struct exits *x, enum abi_measure_op op, unsigned count, uint64_t arg,
                             const char *name)
{
    struct abi_histogram histogram = { 0 };
    int err = exits_command(x, op, count, arg);

    if (err)
        return err;
    if (x->status < 0) {
        measure_unavailable(x->run, exits_why(x->status), "exits/%s/ns", name);
        return 0;
    }
    for (unsigned i = 0; i < count; i++) {
        uint64_t begin = x->area->begin[i], end = x->area->end[i];

        abi_histogram_add(&histogram, end > begin ? end - begin : 0);
    }
    measure_distribution(x->run, &histogram, x->ns_per_tick, 0, "exits/%s/ns", name);
    measure_count(x->run, histogram.count, "exits/%s/handled", name);
    return 0;
}

static int exits_wait_figures(struct exits *x, unsigned count)
{
    uint64_t ahead = x->session.tsc_hz / 1000;
    int err = exits_wait_figure(x, ABI_MEASURE_IPI, count, 0, "ipi/one-way");

    if (!err)
        err = exits_wait_figure(x, ABI_MEASURE_IPI_ECHO, count, 0, "ipi/round-trip");
    if (!err)
        err = exits_wait_figure(x, ABI_MEASURE_TIMER, count, ahead, "timer/running/lateness");
    if (!err)
        err = exits_wait_figure(x, ABI_MEASURE_TIMER_HALT, count, ahead, "timer/halted/lateness");
    return err;
}

static void exits_lack_interrupts(struct exits *x, const char *why)
{
    static const char *const names[] = { "irqfd/running/to-handler", "irqfd/halted/to-handler",
                                         "hlt/kick-to-after-hlt" };

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        measure_unavailable(x->run, why, "exits/%s/ns", names[i]);
}

static int exits_signal_figures(struct exits *x, unsigned count)
{
    bool together;
    int err = exits_signals_compare_clocks(x, &together);

    if (err)
        return err;
    if (!together) {
        const char *why = "the guest's and the host's time stamp counters do not run together here";

        measure_unavailable(x->run, why, "exits/ioeventfd/to-thread/ns");
        exits_lack_interrupts(x, why);
        return 0;
    }
    measure_value(x->run, x->offset_slack * x->ns_per_tick, NAN, NAN, 1,
                  "exits/clock-offset-slack/ns");
    if (x->store_error)
        measure_unavailable(x->run, EXITS_NO_STORE, "exits/ioeventfd/to-thread/ns");
    else
        err = exits_signals_store_to_thread(x, count);
    if (err)
        return err;
    measure_progress(x->run, 0.9, "interrupts");
    if (x->irq_error) {
        exits_lack_interrupts(x, "this KVM has no irqfd, or refuses it");
        return 0;
    }
    err = exits_signals_irqfd_running(x, count);
    return err ? err : exits_signals_irqfd_halted(x, count);
}

/* ---- All of it ---------------------------------------------------------------- */

static double exits_ns_of(const struct measure_run *run, const char *name)
{
    const struct measure_figure *figure = measure_figure(run, name);

    return figure && figure->kind != MEASURE_UNAVAILABLE ? figure->value : NAN;
}

static bool exits_apart(const struct measure_run *run, const char *ratio)
{
    return fabs(exits_ns_of(run, ratio) - 1) > 0.15;
}

static void exits_say(const struct exits *x)
{
    struct measure_run *run = x->run;
    double pio = exits_ns_of(run, "exits/pio/ns"), cpuid = exits_ns_of(run, "exits/cpuid/ns");
    double ratio = exits_ns_of(run, "exits/pio/vs-bare/ratio");

    measure_remark(run,
                   "A port read that strata answers takes the guest %.0f ns, %.2f times that of a "
                   "bare KVM_RUN loop; what KVM answers by itself (CPUID) takes %.0f ns.",
                   pio, ratio, cpuid);
    if (exits_apart(run, "exits/pio/vs-bare/ratio") ||
        exits_apart(run, "exits/mmio/vs-bare/ratio") ||
        exits_apart(run, "exits/cpuid/vs-bare/ratio"))
        measure_remark(run,
                       "Not all of the three ratios to the bare loop are within 15 %% of 1: too "
                       "much else went on, measure again.");
    if (run->host->interprets)
        measure_remark(run,
                       "Here KVM interprets the guest's kernel code, at about 1 us an "
                       "instruction: CPUID and MSR reads are interpreted like all else and exit "
                       "nowhere, and handlers and waits of the kernel pay the same.");
    else if (run->host->virtual_machine)
        measure_remark(run,
                       "This machine is itself virtual: each exit of its guests may be several "
                       "of its own.");
    if (run->host->cpus < 2)
        measure_remark(run,
                       "With one host CPU, what goes from one thread or vCPU to another includes "
                       "the change between them.");
}

static int exits_measure_all(struct exits *x)
{
    unsigned count = x->run->quick ? 32 : ABI_MEASURE_SAMPLES;
    int err = exits_events(x);

    measure_progress(x->run, 0.75, "timers and IPIs");
    if (!err)
        err = exits_wait_figures(x, count);
    measure_progress(x->run, 0.85, "signals");
    if (!err)
        err = exits_signal_figures(x, count);
    if (!err)
        exits_say(x);
    else if (x->session.program.failure[0])
        snprintf(x->run->error, sizeof(x->run->error), "%s", x->session.program.failure);
    return err;
}

static int exits_run(struct measure_run *run)
{
    struct exits *x = calloc(1, sizeof(*x));
    int err = -ENOMEM;

    if (!x)
        return err;
    x->run = run;
    x->store_fd = eventfd(0, EFD_CLOEXEC);
    x->irq_fd = eventfd(0, EFD_CLOEXEC);
    err = x->store_fd < 0 || x->irq_fd < 0 ? -EMFILE : exits_open_machine(x);
    if (!err) {
        err = exits_measure_all(x);
        session_close(&x->session);
    }
    if (x->store_fd >= 0)
        close(x->store_fd);
    if (x->irq_fd >= 0)
        close(x->irq_fd);
    free(x);
    return err;
}

static const struct measure_plot plots[] = {
    { "What it takes the guest (ns)", "exits/*/ns exits/=bare/*/ns", NULL },
    { "From one to the other (ns)", "exits/*/*/ns exits/*/*/*/ns", NULL },
    { .title = NULL },
};

const struct measure_experiment measure_exits = {
    .name = "exits",
    .shows = "what it costs to leave the guest, and to interrupt it",
    .method =
        "The guest's kernel does each event between two looks at the clock (lfence, rdtsc, "
        "lfence), interrupts off, by turns with an empty pair whose median is subtracted; "
        "batches of 128 events go round, after one round that does not count, for 1.5 s (quick) "
        "or 15 s, at least 5 or 15 rounds. PIO reads 32 bits of the hypercall port, MMIO of a "
        "virtio "
        "device's registers, through the loop that serves all guests; CPUID is leaf 0, eight in "
        "a pair as one is little beside the looks at the clock where code is interpreted, MSR a "
        "read of IA32_APIC_BASE (KVM's) or of one that a filter sends to this process, the "
        "hypercall one that KVM does not know, ioeventfd a store that KVM turns into a signal. "
        "After each batch the same is done in a bare machine: one vCPU in 64-bit mode with the "
        "system call registers set, no interrupt chip, no devices, a loop around KVM_RUN; "
        "vs-bare compares the lower quartiles of both batches, less those of their empty pairs, "
        "and is the median over rounds. Counts are of one batch: exits to this process, KVM's "
        "hypercalls, signals. IPI: from the write to the local APIC to the handler of another, "
        "halted vCPU, and to the handler here of one that it sends back; timer: from a TSC "
        "deadline 1 ms ahead to its handler, spinning and halted; irqfd: from before the write "
        "of an eventfd that is a message-signalled interrupt to the handler, the guest in ring 3 "
        "or halted for 1 ms, and to what follows HLT; ioeventfd to-thread: from before the store "
        "to after the read(2) of a waiting thread. A handler's first instruction but two pushes "
        "reads the clock. Guest and host clocks are compared by reads of a port that notes the "
        "host's; KVM's offset is taken if it lies within, else the middle, and the slack is how "
        "far that may be off.",
    .run = exits_run,
    .plots = plots,
};
