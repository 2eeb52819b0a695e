#include "guest/kernel/proc/sched.h"

#include "guest/kernel/arch/lapic.h"
#include "guest/kernel/drivers/device.h"
#include "guest/kernel/kernel.h"
#include "guest/kernel/mm/paging.h"

#define SLICE_NS 10000000u

static struct process *queue_head, *queue_tail;

static bool may_run(const struct process *p, const struct cpu *cpu)
{
    return p->cpu < 0 || p->cpu == (int)cpu->index;
}

static void wake_idle_cpu(const struct process *p)
{
    /* The first CPU last: the devices interrupt it. */
    for (unsigned i = cpu_count; i-- > 0;) {
        if (!cpus[i].idle || !may_run(p, &cpus[i]))
            continue;
        /* Not idle any more: the next process wakes another one. */
        cpus[i].idle = 0;
        if (&cpus[i] != cpu_self())
            lapic_send(cpus[i].apic_id, VECTOR_WAKE);
        return;
    }
}

void sched_ready(struct process *p)
{
    p->pub.state = ABI_PROCESS_RUNNABLE;
    p->next = NULL;
    if (queue_tail)
        queue_tail->next = p;
    else
        queue_head = p;
    queue_tail = p;
    wake_idle_cpu(p);
}

void sched_remove(struct process *p)
{
    struct process *before = NULL;

    for (struct process *q = queue_head; q; before = q, q = q->next) {
        if (q != p)
            continue;
        if (before)
            before->next = p->next;
        else
            queue_head = p->next;
        if (queue_tail == p)
            queue_tail = before;
        return;
    }
}

static struct process *first_for(const struct cpu *cpu)
{
    struct process *p = queue_head;

    while (p && !may_run(p, cpu))
        p = p->next;
    return p;
}

bool sched_other(const struct cpu *cpu)
{
    return first_for(cpu) != NULL;
}

/*
 * The FPU belongs to the process that runs: saved when another one takes the CPU,
 * so that a process never leaves anything behind on a CPU.
 */
static void save(struct process *p)
{
    __asm__ volatile("fxsave64 %0" : "=m"(p->fpu));
}

static void load(struct process *p)
{
    __asm__ volatile("fxrstor64 %0" : : "m"(p->fpu));
}

void sched_resume(struct process *p)
{
    struct cpu *cpu = cpu_self();

    if (cpu->flush_due) {
        cpu->flush_due = false;
        write_cr3(p->pub.root);
    }
    cpu->in_user = 1;
    kernel_unlock();
    regs_return(&p->regs);
}

static void dispatch(struct cpu *cpu, struct process *p)
{
    p->pub.state = ABI_PROCESS_RUNNING;
    p->pub.cpu = cpu->index;
    cpu_set_regs_end(cpu, (uint64_t)(&p->regs + 1));
    if (read_cr3() != p->pub.root)
        write_cr3(p->pub.root);
    lapic_timer(SLICE_NS);
    /* Processes that give way before their slices end must not keep the clock from ticking. */
    device_tick();
    sched_resume(p);
}

void schedule(void)
{
    struct cpu *cpu = cpu_self();
    struct process *last = cpu->current, *p;

    for (;;) {
        p = first_for(cpu);
        if (p) {
            sched_remove(p);
            if (p != last) {
                if (last)
                    save(last);
                load(p);
                cpu->current = p;
                kernel_info.context_switches++;
            }
            dispatch(cpu, p);
        }
        if (last)
            save(last);
        last = cpu->current = NULL;
        write_cr3(paging_kernel_root());
        lapic_timer(device_deadline ? SLICE_NS : 0);
        cpu->idle = 1;
        kernel_unlock();
        idle_wait();
        kernel_lock();
        cpu->idle = 0;
    }
}
