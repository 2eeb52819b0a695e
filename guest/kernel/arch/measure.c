#include "guest/kernel/arch/measure.h"

#include <stdbool.h>
#include <stddef.h>

#include "guest/abi/dma.h"
#include "guest/abi/measure.h"
#include "guest/abi/syscall.h"
#include "guest/kernel/arch/cpu.h"
#include "guest/kernel/arch/lapic.h"
#include "guest/kernel/drivers/device.h"
#include "guest/kernel/kernel.h"
#include "guest/kernel/proc/process.h"

#define MSR_TSC_DEADLINE 0x6e0
#define CPUID_DEADLINE   (1u << 24) /* leaf 1, ecx */
#define SLICE_NS         10000000u

/* Before a CPU is sent an interrupt it gets so long to fall asleep, in microseconds. */
#define SETTLE_US 300
/* Longer than anything that comes at all. */
#define PATIENCE_US 5000000

/* measure_trap.S knows these. */
_Static_assert(offsetof(struct abi_measure_area, stamp) == 0, "AREA_STAMP");
_Static_assert(offsetof(struct abi_measure_area, reached) == 8, "AREA_REACHED");
_Static_assert(VECTOR_MEASURE == ABI_MEASURE_VECTOR, "the host aims at it");

extern const char measure_entry[], measure_echo[];
uint64_t measure_sleep(void);

/* The host reads it, and writes `seen`. */
volatile struct abi_measure_area measure_area __attribute__((aligned(4096)));
uint32_t measure_echo_to; /* as the ICR's high half has it */

#define STRING_OF(text) #text
#define STRING(macro)   STRING_OF(macro)

/*
 * One event between two looks at the clock. What is around it is the same for all, in
 * registers alone, because instructions are dear where the host interprets them: arg is in
 * eax, ecx and edx, rdi points to a device's register; eax is the result.
 */
#define EVENT(name, action)                                                                    \
    static void name(uint32_t i, uint64_t arg, uint64_t address)                               \
    {                                                                                          \
        uint64_t end_low, end_high, c = arg;                                                   \
        register uint64_t low __asm__("r8");                                                   \
        register uint64_t high __asm__("r9");                                                  \
        register uint64_t result __asm__("r10");                                               \
                                                                                               \
        __asm__ volatile("lfence; rdtsc; lfence\n\t"                                           \
                         "mov %%eax, %%r8d; mov %%edx, %%r9d\n\t"                              \
                         "mov %%ecx, %%eax; mov %%ecx, %%edx\n\t" action "\n\t"                \
                         "mov %%eax, %%r10d\n\t"                                               \
                         "lfence; rdtsc; lfence"                                               \
                         : "=a"(end_low), "=d"(end_high), "=r"(low), "=r"(high), "=r"(result), \
                           "+c"(c)                                                             \
                         : "D"(address)                                                        \
                         : "rbx", "memory");                                                   \
        measure_area.begin[i] = high << 32 | low;                                              \
        measure_area.end[i] = end_high << 32 | end_low;                                        \
        measure_area.result = (uint32_t)result;                                                \
    }

EVENT(nothing, "")
EVENT(port_read, "inl %%dx, %%eax")
EVENT(load, "movl (%%rdi), %%eax")
EVENT(store, "movl %%eax, (%%rdi)")
EVENT(cpuids, ".rept " STRING(ABI_MEASURE_CPUIDS) "\n\t"
                                                  "xor %%eax, %%eax; xor %%ecx, %%ecx; cpuid\n\t"
                                                  ".endr")
EVENT(read_msr, "rdmsr")
EVENT(vmcall, ".byte 0x0f, 0x01, 0xc1")
EVENT(vmmcall, ".byte 0x0f, 0x01, 0xd9")

static void pause_for(uint64_t us)
{
    uint64_t until = rdtsc() + device_ticks(us);

    while (rdtsc() < until)
        cpu_relax();
}

/* Until the word is (equal) or is not what it says; false: it took too long. */
static bool wait_for(const volatile uint32_t *word, uint32_t value, bool equal)
{
    uint64_t until = rdtsc() + device_ticks(PATIENCE_US);

    for (unsigned tries = 1; (*word == value) != equal; tries++) {
        /* Whoever is to change it may not have a host CPU at all. */
        if (tries % 64 == 0) {
            if (rdtsc() > until)
                return false;
            host_yield();
        }
        cpu_relax();
    }
    return true;
}

/* Another CPU that is there; NULL: none. */
static struct cpu *other_cpu(void)
{
    for (unsigned i = 0; i < cpu_count; i++) {
        if (&cpus[i] != cpu_self() && cpus[i].online)
            return &cpus[i];
    }
    return NULL;
}

static bool ipi(uint32_t i, struct cpu *to, uint8_t vector)
{
    uint32_t before = measure_area.reached;

    if (!wait_for(&to->idle, 1, true))
        return false;
    pause_for(SETTLE_US);
    measure_area.begin[i] = rdtsc();
    lapic_send(to->apic_id, vector);
    if (vector == VECTOR_ECHO)
        __asm__ volatile("sti");
    if (!wait_for(&measure_area.reached, before, false))
        return false;
    __asm__ volatile("cli");
    measure_area.end[i] = measure_area.stamp;
    return true;
}

static bool timer(uint32_t i, uint64_t ahead, bool halt)
{
    uint32_t before = measure_area.reached;
    uint64_t deadline = rdtsc() + ahead;

    wrmsr(MSR_TSC_DEADLINE, deadline);
    if (halt)
        measure_sleep();
    else
        __asm__ volatile("sti");
    if (!wait_for(&measure_area.reached, before, false))
        return false;
    __asm__ volatile("cli");
    measure_area.begin[i] = deadline;
    measure_area.end[i] = measure_area.stamp;
    return true;
}

static bool halt_until_kicked(uint32_t i)
{
    uint32_t before = measure_area.reached;
    uint64_t woken;

    measure_area.ready = i + 1;
    woken = measure_sleep();
    measure_area.begin[i] = measure_area.stamp;
    measure_area.end[i] = woken;
    return measure_area.reached != before;
}

/* One event of an operation that just happens. False: this is none of them. */
static bool plain(uint32_t op, uint32_t i, uint64_t arg, uint64_t window)
{
    switch (op) {
    case ABI_MEASURE_EMPTY: nothing(i, arg, 0); return true;
    case ABI_MEASURE_PIO: port_read(i, arg, 0); return true;
    case ABI_MEASURE_MMIO: load(i, 0, window + arg); return true;
    case ABI_MEASURE_STORE: store(i, ABI_MEASURE_SIGNAL, window + arg); return true;
    case ABI_MEASURE_CPUID: cpuids(i, arg, 0); return true;
    case ABI_MEASURE_RDMSR: read_msr(i, arg, 0); return true;
    case ABI_MEASURE_VMCALL: vmcall(i, arg, 0); return true;
    case ABI_MEASURE_VMMCALL: vmmcall(i, arg, 0); return true;
    }
    return false;
}

/* False: what it waited for did not come. */
static bool one(uint32_t op, uint32_t i, uint64_t arg, uint64_t window, struct cpu *other)
{
    switch (op) {
    case ABI_MEASURE_IPI: return ipi(i, other, VECTOR_MEASURE);
    case ABI_MEASURE_IPI_ECHO: return ipi(i, other, VECTOR_ECHO);
    case ABI_MEASURE_TIMER: return timer(i, arg, false);
    case ABI_MEASURE_TIMER_HALT: return timer(i, arg, true);
    case ABI_MEASURE_HALT: return halt_until_kicked(i);
    case ABI_MEASURE_STORE_TURN:
        if (!wait_for(&measure_area.seen, i, true))
            return false;
        pause_for(SETTLE_US);
        store(i, ABI_MEASURE_SIGNAL, window + arg);
        return true;
    }
    /* By turns with nothing, so that what drifts meets both. */
    return plain(i % 2 ? op : ABI_MEASURE_EMPTY, i, arg, window);
}

static bool has_deadline_timer(void)
{
    uint32_t eax = 1, ebx, ecx = 0, edx;

    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    return ecx & CPUID_DEADLINE;
}

/* What the operation needs and is not here: -ABI_E*, or 0. */
static int64_t unavailable(uint32_t op, const struct cpu *other)
{
    bool window = op == ABI_MEASURE_MMIO || op == ABI_MEASURE_STORE || op == ABI_MEASURE_STORE_TURN;
    bool sends = op == ABI_MEASURE_IPI || op == ABI_MEASURE_IPI_ECHO;

    if (window && !device_count)
        return -ABI_ENODEV;
    if (sends && !other)
        return -ABI_ENODEV;
    if ((op == ABI_MEASURE_TIMER || op == ABI_MEASURE_TIMER_HALT) && !has_deadline_timer())
        return -ABI_ENODEV;
    return 0;
}

static int64_t run(uint32_t op, uint64_t count, uint64_t arg, struct cpu *other)
{
    uint64_t window = device_count ? devices[0].registers : 0;
    int64_t done = 0;

    measure_area.ready = 0;
    measure_area.seen = 0;
    measure_echo_to = cpu_self()->apic_id << 24;
    /* The clock of processes stands still, and nobody else may interrupt. */
    lapic_timer_mode(VECTOR_MEASURE, op == ABI_MEASURE_TIMER || op == ABI_MEASURE_TIMER_HALT);
    lapic_priority(VECTOR_MEASURE - 0x10);
    while (done < (int64_t)count && one(op, (uint32_t)done, arg, window, other))
        done++;
    __asm__ volatile("cli");
    lapic_priority(0);
    lapic_timer_mode(VECTOR_TIMER, false);
    lapic_timer(SLICE_NS);
    return done == (int64_t)count ? done : -ABI_EIO;
}

int64_t measure_call(uint32_t op, uint64_t count, uint64_t arg)
{
    static bool busy; /* under the lock */
    struct cpu *other = other_cpu();
    int64_t result = unavailable(op, other);

    if (op == ABI_MEASURE_AREA)
        return (int64_t)((uint64_t)&measure_area - KERNEL_OFFSET);
    if (op >= ABI_MEASURE_OPS || count > ABI_MEASURE_SAMPLES)
        return -ABI_EINVAL;
    if (busy)
        return -ABI_EAGAIN;
    if (result)
        return result;
    busy = true;
    cpu_set_vector(VECTOR_MEASURE, measure_entry);
    cpu_set_vector(VECTOR_ECHO, measure_echo);
    /* An idle CPU that is interrupted takes the lock before it sleeps again. */
    kernel_unlock();
    result = run(op, count, arg, other);
    kernel_lock();
    busy = false;
    return result;
}
