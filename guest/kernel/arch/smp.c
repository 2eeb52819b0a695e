#include "guest/kernel/arch/smp.h"

#include "guest/kernel/arch/cpu.h"
#include "guest/kernel/arch/lapic.h"
#include "guest/kernel/kernel.h"
#include "guest/kernel/kstring.h"
#include "guest/kernel/mm/frame.h"
#include "guest/kernel/proc/process.h"
#include "guest/kernel/proc/sched.h"

extern char ap_trampoline[], ap_trampoline_end[];

/* For the CPU that is being started; start.S loads its stack from here. */
uint64_t ap_boot_stack;
static struct cpu *starting;

void ap_main(void) __attribute__((noreturn));
void ap_main(void)
{
    struct cpu *cpu = starting;

    cpu_setup(cpu, ap_boot_stack);
    lapic_setup();
    /* Pairs with the wait in smp_start: all of the above is seen before `online`. */
    __atomic_store_n(&cpu->online, 1, __ATOMIC_RELEASE);
    kernel_lock();
    schedule();
}

void smp_start(void)
{
    cpus[0].online = 1;
    memcpy((char *)DIRECT_MAP + AP_TRAMPOLINE, ap_trampoline,
           (uint64_t)(ap_trampoline_end - ap_trampoline));
    for (unsigned i = 0; i < boot_info.ncpus; i++) {
        struct cpu *cpu = &cpus[cpu_count];
        uint64_t stack;

        if (boot_info.apic_id[i] == cpus[0].apic_id || cpu_count == CPUS_MAX)
            continue;
        stack = frame_alloc(ABI_FRAME_KERNEL, false);
        if (!stack)
            return;
        cpu->index = cpu_count;
        cpu->apic_id = boot_info.apic_id[i];
        ap_boot_stack = (uint64_t)frame_va(stack) + ABI_PAGE_BYTES;
        starting = cpu;
        lapic_start(cpu->apic_id, AP_TRAMPOLINE >> PAGE_SHIFT);
        /* It is this CPU's turn to wait: the machine has promised the other one. */
        for (unsigned tries = 0; !__atomic_load_n(&cpu->online, __ATOMIC_ACQUIRE); tries++) {
            if (tries == 1000000)
                panic("CPU %u (APIC id %u) does not start", cpu_count, cpu->apic_id);
            host_yield();
        }
        cpu_count++;
    }
    kernel_info.ncpus = cpu_count;
}

/*
 * The other CPU need not answer, only be in the kernel: there it waits for the lock that
 * this one holds, and on its way out it sees that a flush is due. So nobody waits for a
 * CPU that has its interrupts off. (The kernel itself reaches user memory by the direct
 * map, whose entries do not change.)
 */
void smp_flush(struct cpu *cpu)
{
/* Of a test build, which the tour must notice (tests/guests/cpus.sh); else nothing. */
#ifdef FAULT_STALE_TLB
    return;
#endif
    cpu->flush_due = true;
    kernel_info.shootdowns++;
    if (!__atomic_load_n(&cpu->in_user, __ATOMIC_ACQUIRE))
        return;
    lapic_send(cpu->apic_id, VECTOR_WAKE);
    /* Pairs with the release in trap_user: what user code read before, it has read. */
    for (unsigned tries = 1; __atomic_load_n(&cpu->in_user, __ATOMIC_ACQUIRE); tries++) {
        /* It may not have a host CPU at all. */
        if (tries % 64 == 0)
            host_yield();
        cpu_relax();
    }
}
