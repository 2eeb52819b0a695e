/* What enters the kernel, by vector: system calls, faults, interrupts. */
#include "guest/kernel/arch/trap.h"

#include "guest/abi/dma.h"
#include "guest/kernel/arch/lapic.h"
#include "guest/kernel/drivers/console.h"
#include "guest/kernel/drivers/device.h"
#include "guest/kernel/kernel.h"
#include "guest/kernel/mm/space.h"
#include "guest/kernel/proc/sched.h"
#include "guest/kernel/proc/syscall.h"

#define VECTOR_INVALID_OPCODE 6
#define VECTOR_PAGE_FAULT     14

extern char syscall_entry[];
extern uint8_t gate_page[];

static void open_gate(enum abi_gate gate)
{
    static const uint8_t instruction[][2] = {
        [ABI_GATE_SYSCALL] = { 0x0f, 0x05 },
        [ABI_GATE_UD2] = { 0x0f, 0x0b },
    };

    gate_page[0] = instruction[gate][0];
    gate_page[1] = instruction[gate][1];
    kernel_info.gate = gate;
}

/*
 * Init's first steps are the gate's probe. Where `syscall` works it arrives here as
 * SYS_PROBE; where it jumps to the kernel's entry without changing privilege, as a
 * page fault of user mode at that address.
 */
static bool probe_answered(struct process *p)
{
    struct regs *regs = &p->regs;

    if (!p->probe_entry)
        return false;
    if (regs->vector == VECTOR_SYSCALL && regs->rax == SYS_PROBE)
        open_gate(ABI_GATE_SYSCALL);
    else if (regs->vector == VECTOR_PAGE_FAULT && regs->rip == (uint64_t)syscall_entry)
        open_gate(ABI_GATE_UD2);
    else
        return false;
    regs->vector = 0;
    regs->rip = p->probe_entry;
    p->probe_entry = 0;
    return true;
}

/*
 * A forbidden access, or another exception: to the program's handler with what
 * happened on its stack, or the end of the process.
 */
static void report_fault(struct process *p, uint32_t vector, uint64_t va)
{
    struct regs *regs = &p->regs;
    struct abi_user_fault fault = {
        .vector = vector,
        .error = (uint32_t)regs->error,
        .va = va,
        .rip = regs->rip,
        .rsp = regs->rsp,
        .rflags = regs->rflags,
        .rax = regs->rax,
        .rbx = regs->rbx,
        .rcx = regs->rcx,
        .rdx = regs->rdx,
        .rsi = regs->rsi,
        .rdi = regs->rdi,
        .rbp = regs->rbp,
        .r8 = regs->r8,
        .r9 = regs->r9,
        .r10 = regs->r10,
        .r11 = regs->r11,
        .r12 = regs->r12,
        .r13 = regs->r13,
        .r14 = regs->r14,
        .r15 = regs->r15,
    };
    /* Below the red zone; the ABI wants rsp + 8 aligned to 16 at a function's entry. */
    uint64_t at = (regs->rsp - 128 - sizeof(fault)) & ~15ull;

    p->pub.bad_faults++;
    p->pub.last_fault = (struct abi_fault){
        .vector = fault.vector, .error = fault.error, .va = va, .rip = fault.rip
    };
    if (!p->fault_handler || space_write(p, at, &fault, sizeof(fault))) {
        if (vector == ABI_FAULT_IO)
            printk("%s (pid %u): the disk cannot read the page at 0x%lx, rip 0x%lx\n", p->pub.name,
                   p->pub.pid, va, fault.rip);
        else
            printk("%s (pid %u): exception %u, error 0x%x, address 0x%lx, rip 0x%lx\n", p->pub.name,
                   p->pub.pid, fault.vector, fault.error, va, fault.rip);
        process_exit(p, vector == ABI_FAULT_IO ? ABI_STATUS_IO : ABI_STATUS_FAULT);
        return;
    }
    regs->rip = p->fault_handler;
    regs->rdi = at;
    regs->rsp = at - 8;
}

static void page_fault(struct process *p, uint64_t va)
{
    /* A companion has no ranges, so that every fault of its is one that nothing allows. */
    switch (space_fault(p, va, (uint32_t)p->regs.error)) {
    case 0: break;
    case -ABI_EAGAIN: break; /* it sleeps */
    case -ABI_EIO: report_fault(p, ABI_FAULT_IO, va); break;
    case -ABI_ENOMEM:
        printk("%s (pid %u): out of memory at 0x%lx\n", p->pub.name, p->pub.pid, va);
        process_exit(p, ABI_STATUS_KILLED);
        break;
    default: report_fault(p, VECTOR_PAGE_FAULT, va);
    }
}

/* Interrupts of any CPU. True if the running process has used up its slice. */
static bool interrupt(uint64_t vector)
{
    if (vector == VECTOR_SPURIOUS)
        return false;
    /* A level is taken back by the handler, or it would come again. */
    if (vector >= VECTOR_STRAY) {
        kernel_info.stray_interrupts++;
        kernel_info.stray_vector = vector;
    } else if (vector < VECTOR_POLL + VECTOR_DEVICE_LINES) {
        device_interrupt((vector - VECTOR_DEVICE) % VECTOR_DEVICE_LINES);
    }
    lapic_end_of_interrupt();
    if (vector == VECTOR_SERIAL)
        console_interrupt();
    if (vector == VECTOR_TIMER) {
        kernel_info.timer_ticks++;
        device_tick();
    }
    return vector == VECTOR_TIMER;
}

void trap_user(struct regs *regs)
{
    struct process *p;
    uint64_t vector = regs->vector;
    /* Before anything can fault again. */
    uint64_t va = vector == VECTOR_PAGE_FAULT ? read_cr2() : 0;

    /* Pairs with the acquire in smp_flush, which may hold the lock. */
    __atomic_store_n(&cpu_self()->in_user, 0, __ATOMIC_RELEASE);
    kernel_lock();
    p = cpu_self()->current;
    if (probe_answered(p))
        sched_resume(p);
    if (vector == VECTOR_SYSCALL) {
        syscall(p);
    } else if (vector == VECTOR_INVALID_OPCODE && regs->rip == ABI_GATE_VA) {
        regs->rip += 2;
        syscall(p);
    } else if (vector == VECTOR_PAGE_FAULT) {
        page_fault(p, va);
    } else if (vector < 32) {
        report_fault(p, (uint32_t)vector, va);
    } else if (interrupt(vector)) {
        sched_ready(p);
    }
    if (p->killed && p->pub.root)
        process_exit(p, ABI_STATUS_KILLED);
    if (p->pub.state == ABI_PROCESS_RUNNING)
        sched_resume(p);
    schedule();
}

void trap_kernel(struct regs *regs)
{
    if (regs->vector < 32)
        panic("exception %lu, error 0x%lx, address 0x%lx, rip 0x%lx", regs->vector, regs->error,
              regs->vector == VECTOR_PAGE_FAULT ? read_cr2() : 0, regs->rip);
    /* An idle CPU: it looks for work when this returns. */
    kernel_lock();
    interrupt(regs->vector);
    kernel_unlock();
    /* Not straight into the next one: a device that never stops would keep it from looking. */
    regs->rflags &= ~(uint64_t)RFLAGS_IF;
    /*
     * `sti` holds interrupts off until `hlt` is under way, but an emulated CPU may forget
     * that when the host takes it away in between: halting now would be for good.
     */
    if (regs->rip == (uint64_t)idle_halt)
        regs->rip = (uint64_t)idle_over;
}
