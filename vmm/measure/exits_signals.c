#include "vmm/measure/exits_signals.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/monotonic.h"
#include "vmm/measure/histogram.h"

/* Long enough that KVM does not poll for the halted vCPU any more (halt_poll_ns: 0.2 ms). */
#define ASLEEP_NS   1000000
#define RUNNING_NS  200000
#define PATIENCE_NS 2000000000ull

/* A thread of the host beside a command of the guest. */
struct beside {
    struct exits *x;
    unsigned count, done;
    bool giving_up; /* the command came to nothing */
    uint64_t word_va;
    volatile uint64_t *word; /* that the guest spins on */
    uint64_t stamp[ABI_MEASURE_SAMPLES], handler[ABI_MEASURE_SAMPLES];
};

static void exits_signals_rest(long ns)
{
    const struct timespec time = { .tv_nsec = ns };

    nanosleep(&time, NULL);
}

static uint32_t exits_signals_look(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

/* Until the guest's word is, or is not, that; false: it takes too long, or the run ends. */
static bool exits_signals_wait_for(const struct beside *b, const uint32_t *word, uint32_t value,
                                   bool equal)
{
    uint64_t until = monotonic_ns() + PATIENCE_NS;

    while ((exits_signals_look(word) == value) != equal) {
        if (__atomic_load_n(&b->giving_up, __ATOMIC_ACQUIRE) || monotonic_ns() > until)
            return false;
        /* The guest may wait for this CPU. */
        exits_signals_rest(20000);
    }
    return true;
}

static int exits_signals_fd(int fd)
{
    const uint64_t one = 1;

    return write(fd, &one, sizeof(one)) == sizeof(one) ? 0 : -errno;
}

/*
 * A command with a thread beside it, which ends with it. No vm_thread, though it writes words of
 * the guest's memory: a measurement pauses its VM between commands only.
 */
static int exits_signals_with_thread(struct exits *x, struct beside *b, void *(*body)(void *),
                                     int wake_fd, const struct abi_command *command)
{
    struct abi_reply reply;
    pthread_t thread;
    int err;

    __atomic_store_n(&x->area->ready, 0, __ATOMIC_RELEASE);
    err = -pthread_create(&thread, NULL, body, b);
    if (err) {
        snprintf(x->session.program.failure, sizeof(x->session.program.failure),
                 "cannot start a thread: %s", strerror(-err));
        return err;
    }
    err = session_command(&x->session, command, &reply);
    x->status = err ? err : reply.status;
    if (x->status < 0) {
        __atomic_store_n(&b->giving_up, true, __ATOMIC_RELEASE);
        if (wake_fd >= 0)
            (void)exits_signals_fd(wake_fd);
    }
    pthread_join(thread, NULL);
    return err;
}

static struct abi_command exits_signals_kernel_command(enum abi_measure_op op, uint64_t count,
                                                       uint64_t arg)
{
    return (struct abi_command){ .kind = ABI_COMMAND_KERNEL, .count = count, .arg = { op, arg } };
}

/* Ticks from `begin` to `end`, at least 0: clocks are compared to so much only. */
static void exits_signals_add_ticks(struct abi_histogram *histogram, double begin, double end)
{
    abi_histogram_add(histogram, end > begin ? (uint64_t)(end - begin) : 0);
}

/* ---- Clocks ---------------------------------------------------------------- */

/* As KVM has it: guest = host + that. False: it does not say. */
static bool exits_signals_told_offset(const struct exits *x, double *offset)
{
    int64_t guest_ahead = 0;
    struct kvm_device_attr attr = { .group = KVM_VCPU_TSC_CTRL,
                                    .attr = KVM_VCPU_TSC_OFFSET,
                                    .addr = (uintptr_t)&guest_ahead };

    if (ioctl(x->session.machine.vm.vcpus[0].fd, KVM_GET_DEVICE_ATTR, &attr) < 0)
        return false;
    *offset = -(double)guest_ahead;
    return true;
}

int exits_signals_compare_clocks(struct exits *x, bool *together)
{
    double low = -INFINITY, high = INFINITY, told;
    int err;

    *together = false;
    x->nstamps = 0;
    err = exits_command(x, ABI_MEASURE_PIO, ABI_MEASURE_SAMPLES, EXITS_STAMP_PORT);
    if (err || x->status < 0)
        return err;
    /* Between its two looks the guest was here: each time says where the offset must lie. */
    for (unsigned i = 0; i < x->nstamps; i++) {
        low = fmax(low, (double)x->stamp[i] - (double)x->area->end[2 * i + 1]);
        high = fmin(high, (double)x->stamp[i] - (double)x->area->begin[2 * i + 1]);
    }
    if (!(low <= high) || isinf(low))
        return 0;
    x->offset = (low + high) / 2;
    x->offset_slack = (high - low) / 2;
    if (exits_signals_told_offset(x, &told) && told >= low && told <= high) {
        x->offset = told;
        x->offset_slack = 0;
    }
    *together = true;
    return 0;
}

/* ---- A store of the guest's wakes a thread ---------------------------------- */

static void *exits_signals_listen_to_stores(void *arg)
{
    struct beside *b = arg;
    uint64_t signals;

    while (b->done < b->count) {
        if (read(b->x->store_fd, &signals, sizeof(signals)) != sizeof(signals))
            return NULL;
        b->stamp[b->done] = exits_clock();
        if (__atomic_load_n(&b->giving_up, __ATOMIC_ACQUIRE))
            return NULL;
        __atomic_store_n(&b->x->area->seen, ++b->done, __ATOMIC_RELEASE);
    }
    return NULL;
}

int exits_signals_store_to_thread(struct exits *x, unsigned count)
{
    const struct abi_command command = exits_signals_kernel_command(ABI_MEASURE_STORE_TURN, count,
                                                                    EXITS_STORE_OFFSET);
    struct beside b = { .x = x, .count = count };
    struct abi_histogram histogram = { 0 };
    int err = exits_signals_with_thread(x, &b, exits_signals_listen_to_stores, x->store_fd,
                                        &command);

    if (err)
        return err;
    if (x->status < 0) {
        measure_unavailable(x->run, exits_why(x->status), "exits/ioeventfd/to-thread/ns");
        return 0;
    }
    for (unsigned i = 0; i < b.done; i++)
        exits_signals_add_ticks(&histogram, (double)x->area->begin[i] + x->offset,
                                (double)b.stamp[i]);
    measure_distribution(x->run, &histogram, x->ns_per_tick, 0, "exits/ioeventfd/to-thread/ns");
    measure_count(x->run, b.done, "exits/ioeventfd/to-thread/signals");
    return 0;
}

/* ---- A signal of the host's interrupts the guest ---------------------------- */

/* The guest runs a program, and is interrupted again and again. */
static void *exits_signals_interrupt_running(void *arg)
{
    struct beside *b = arg;
    struct abi_measure_area *area = b->x->area;

    while (b->done < b->count) {
        uint32_t before = exits_signals_look(&area->reached);

        exits_signals_rest(RUNNING_NS);
        b->stamp[b->done] = exits_clock();
        if (exits_signals_fd(b->x->irq_fd) ||
            !exits_signals_wait_for(b, &area->reached, before, false))
            break;
        b->handler[b->done++] = __atomic_load_n(&area->stamp, __ATOMIC_ACQUIRE);
    }
    *b->word = 1;
    return NULL;
}

/* A word of the guest program's memory that both sides see. */
static int exits_signals_share_word(struct exits *x, struct beside *b)
{
    struct abi_command command = { .kind = ABI_COMMAND_MAP, .bytes = 4096 };
    struct abi_reply reply;
    int err = session_command(&x->session, &command, &reply);

    if (err || reply.status)
        return err ? err : -ENOMEM;
    b->word_va = reply.value[0];
    command = (struct abi_command){ .kind = ABI_COMMAND_TOUCH,
                                    .va = b->word_va,
                                    .bytes = 4096,
                                    .stride = 4096,
                                    .flags = ABI_TOUCH_WRITE };
    err = session_command(&x->session, &command, &reply);
    if (err || reply.status)
        return err ? err : -ENOMEM;
    b->word = program_hva(&x->session.program, b->word_va);
    return b->word ? 0 : -EFAULT;
}

static int exits_signals_drop_word(struct exits *x, const struct beside *b)
{
    const struct abi_command command = { .kind = ABI_COMMAND_UNMAP,
                                         .va = b->word_va,
                                         .bytes = 4096 };
    struct abi_reply reply;

    return session_command(&x->session, &command, &reply);
}

int exits_signals_irqfd_running(struct exits *x, unsigned count)
{
    struct beside b = { .x = x, .count = count };
    struct abi_histogram histogram = { 0 };
    struct abi_command command = { .kind = ABI_COMMAND_WAIT };
    int err = exits_signals_share_word(x, &b);

    if (err)
        return err;
    command.va = b.word_va;
    command.count = 20 * x->session.tsc_hz;
    err = exits_signals_with_thread(x, &b, exits_signals_interrupt_running, -1, &command);
    if (!err)
        err = exits_signals_drop_word(x, &b);
    if (err)
        return err;
    for (unsigned i = 0; i < b.done; i++)
        exits_signals_add_ticks(&histogram, (double)b.stamp[i], (double)b.handler[i] + x->offset);
    measure_distribution(x->run, &histogram, x->ns_per_tick, 0,
                         "exits/irqfd/running/to-handler/ns");
    measure_count(x->run, b.done, "exits/irqfd/running/handled");
    return 0;
}

/* The guest halts, and is woken again and again. */
static void *exits_signals_interrupt_halted(void *arg)
{
    struct beside *b = arg;

    for (; b->done < b->count; b->done++) {
        if (!exits_signals_wait_for(b, &b->x->area->ready, b->done + 1, true))
            break;
        exits_signals_rest(ASLEEP_NS);
        b->stamp[b->done] = exits_clock();
        if (exits_signals_fd(b->x->irq_fd))
            break;
    }
    return NULL;
}

int exits_signals_irqfd_halted(struct exits *x, unsigned count)
{
    const struct abi_command command = exits_signals_kernel_command(ABI_MEASURE_HALT, count, 0);
    struct beside b = { .x = x, .count = count };
    struct abi_histogram handler = { 0 }, after = { 0 };
    int err = exits_signals_with_thread(x, &b, exits_signals_interrupt_halted, -1, &command);

    if (err)
        return err;
    if (x->status < 0) {
        measure_unavailable(x->run, exits_why(x->status), "exits/irqfd/halted/to-handler/ns");
        measure_unavailable(x->run, exits_why(x->status), "exits/hlt/kick-to-after-hlt/ns");
        return 0;
    }
    for (unsigned i = 0; i < b.done; i++) {
        exits_signals_add_ticks(&handler, (double)b.stamp[i],
                                (double)x->area->begin[i] + x->offset);
        exits_signals_add_ticks(&after, (double)b.stamp[i], (double)x->area->end[i] + x->offset);
    }
    measure_distribution(x->run, &handler, x->ns_per_tick, 0, "exits/irqfd/halted/to-handler/ns");
    measure_distribution(x->run, &after, x->ns_per_tick, 0, "exits/hlt/kick-to-after-hlt/ns");
    measure_count(x->run, b.done, "exits/hlt/woken");
    return 0;
}
