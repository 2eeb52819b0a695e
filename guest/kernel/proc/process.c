#include "guest/kernel/proc/process.h"

#include "guest/kernel/arch/lapic.h"
#include "guest/kernel/drivers/device.h"
#include "guest/kernel/kernel.h"
#include "guest/kernel/kstring.h"
#include "guest/kernel/mm/frame.h"
#include "guest/kernel/mm/paging.h"
#include "guest/kernel/mm/shared.h"
#include "guest/kernel/mm/space.h"
#include "guest/kernel/proc/channel.h"
#include "guest/kernel/proc/program.h"
#include "guest/kernel/proc/sched.h"

struct process processes[PROCESSES_MAX];

static uint32_t last_pid;
static unsigned slots_used; /* at most, ever */

static struct process *process_of(uint64_t pid)
{
    for (unsigned i = 0; i < PROCESSES_MAX; i++) {
        if (processes[i].pub.state && processes[i].pub.pid == pid)
            return &processes[i];
    }
    return NULL;
}

struct process *process_child(const struct process *parent, uint64_t pid)
{
    struct process *p = process_of(pid);

    return p && p->pub.root && p->pub.parent == parent->pub.pid ? p : NULL;
}

/* A fresh process with an empty address space, not yet on the run queue. */
static struct process *process_new(void)
{
    for (unsigned i = 0; i < PROCESSES_MAX; i++) {
        struct process *p = &processes[i];

        if (p->pub.state)
            continue;
        memset(&p->pub, 0, sizeof(p->pub));
        p->pub.root = paging_new_root();
        if (!p->pub.root)
            return NULL;
        p->pub.pid = ++last_pid;
        p->pub.state = ABI_PROCESS_BLOCKED;
        p->waits_for = NULL;
        p->cpu = -1;
        p->breaks = 0;
        p->killed = false;
        p->uses_devices = false;
        p->paging = p->populated = p->reading_to = 0;
        p->page_alone = p->page_failed = false;
        p->fault_handler = 0;
        p->probe_entry = 0;
        p->nvmas = 0;
        p->leader = NULL;
        p->companions = 0;
        if (i >= slots_used)
            slots_used = i + 1;
        return p;
    }
    return NULL;
}

/* The FPU state of a new program: everything masked, registers empty. */
static void fpu_reset(struct process *p)
{
    memset(p->fpu, 0, sizeof(p->fpu));
    *(uint16_t *)p->fpu = 0x37f;
    *(uint32_t *)(p->fpu + 24) = 0x1f80;
}

void process_start_init(void)
{
    struct process *p = process_new();

    if (!p || process_exec(p, "init"))
        panic("init cannot be started");
    /* It begins with the gate's probe, which answers by SYS_PROBE or a fault. */
    p->probe_entry = p->regs.rip;
    p->regs.rip = ABI_GATE_VA + 16;
    sched_ready(p);
}

int64_t process_exec(struct process *p, const char *command_line)
{
    const struct program *program = program_of(command_line);
    uint64_t bytes = strlen(command_line) + 1;
    uint64_t at = (USER_STACK_TOP - bytes) & ~15ull;
    int result;

    if (!program)
        return -ABI_ENOENT;
    if (p->companions)
        return -ABI_EAGAIN;
    space_clear(p);
    result = program_map(p, program);
    if (!result)
        result = space_write(p, at, command_line, bytes);
    if (result)
        return result;
    copy_name(p->pub.name, sizeof(p->pub.name), program->name);
    p->fault_handler = 0;
    fpu_reset(p);
    if (p == cpu_self()->current)
        __asm__ volatile("fxrstor64 %0" : : "m"(p->fpu));
    memset(&p->regs, 0, sizeof(p->regs));
    p->regs.rip = program_entry(program);
    p->regs.rdi = at;
    p->regs.rsp = at;
    p->regs.cs = SELECTOR_USER_CODE;
    p->regs.ss = SELECTOR_USER_DATA;
    p->regs.rflags = RFLAGS_IF | 2;
    return 0;
}

int64_t process_fork(struct process *parent, uint32_t flags)
{
    struct process *child;
    int result;

    if (flags & ~ABI_FORK_EAGER)
        return -ABI_EINVAL;
    child = process_new();
    if (!child)
        return -ABI_EAGAIN;
    result = space_fork(parent, child, flags & ABI_FORK_EAGER);
    if (result) {
        paging_free_root(child->pub.root);
        child->pub.state = ABI_PROCESS_FREE;
        return result;
    }
    copy_name(child->pub.name, sizeof(child->pub.name), parent->pub.name);
    child->pub.parent = parent->pub.pid;
    child->cpu = parent->cpu;
    child->breaks = parent->breaks;
    child->pub.vsz_limit = parent->pub.vsz_limit;
    child->fault_handler = parent->fault_handler;
    child->regs = parent->regs;
    child->regs.rax = 0;
    __asm__ volatile("fxsave64 %0" : "=m"(child->fpu));
    sched_ready(child);
    return child->pub.pid;
}

int64_t process_companion(struct process *leader, uint64_t entry, uint64_t stack, uint64_t cpu)
{
    struct process *p;

    if (entry >= USER_END || stack > USER_END || cpu >= cpu_count)
        return -ABI_EINVAL;
    p = process_new();
    if (!p)
        return -ABI_EAGAIN;
    paging_free_root(p->pub.root);
    p->pub.root = leader->pub.root;
    p->pub.parent = leader->pub.pid;
    p->leader = leader;
    leader->companions++;
    p->cpu = (int)cpu;
    copy_name(p->pub.name, sizeof(p->pub.name), "companion");
    fpu_reset(p);
    /* As after a call: the ABI wants rsp + 8 aligned to 16 at a function's entry. */
    p->regs = (struct regs){ .rip = entry,
                             .rsp = (stack & ~15ull) - 8,
                             .cs = SELECTOR_USER_CODE,
                             .ss = SELECTOR_USER_DATA,
                             .rflags = RFLAGS_IF | 2 };
    sched_ready(p);
    return p->pub.pid;
}

static void kill_companions(const struct process *leader)
{
    for (unsigned i = 0; i < slots_used; i++) {
        struct process *p = &processes[i];

        if (p->pub.state && p->pub.state != ABI_PROCESS_ZOMBIE && p->leader == leader)
            process_kill(leader, p->pub.pid);
    }
}

/* What a process has besides its address space, and that. */
static void give_back(struct process *p)
{
    if (p->uses_devices)
        device_drop_owned(p);
    space_clear(p);
    shared_drop_owned(p->pub.pid);
    channel_drop_owned(p);
}

void process_exit(struct process *p, uint32_t status)
{
    struct process *parent = process_of(p->pub.parent);

    if (p->pub.pid == 1)
        panic("init ended with status %u", status);
    sched_remove(p);
    if (p->companions)
        kill_companions(p);
    if (p->companions) {
        process_block(p, p);
        return;
    }
    if (!p->leader)
        give_back(p);
    /* Off the tables before they go. */
    if (read_cr3() == p->pub.root)
        write_cr3(paging_kernel_root());
    /* Broken on purpose: nobody gives the table back. */
    if (!p->leader && !(p->breaks & ABI_BREAK_EXIT))
        paging_free_root(p->pub.root);
    if (p->leader)
        p->leader->companions--;
    p->leader = NULL;
    p->pub.root = 0;
    p->pub.state = ABI_PROCESS_ZOMBIE;
    p->status = status;
    for (unsigned i = 0; i < PROCESSES_MAX; i++) {
        if (processes[i].pub.state && processes[i].pub.parent == p->pub.pid)
            processes[i].pub.parent = 1;
    }
    process_wake(parent);
    process_wake(&processes[0]);
}

int64_t process_wait(struct process *p, uint64_t pid, uint64_t status_va)
{
    bool any = false;

    for (unsigned i = 0; i < PROCESSES_MAX; i++) {
        struct process *child = &processes[i];

        if (!child->pub.state || child->pub.parent != p->pub.pid || (pid && child->pub.pid != pid))
            continue;
        any = true;
        if (child->pub.state != ABI_PROCESS_ZOMBIE)
            continue;
        if (status_va && space_write(p, status_va, &child->status, sizeof(child->status)))
            return -ABI_EFAULT;
        child->pub.state = ABI_PROCESS_FREE;
        return child->pub.pid;
    }
    return any ? process_block(p, p) : -ABI_ECHILD;
}

int64_t process_kill(const struct process *by, uint64_t pid)
{
    struct process *p = process_of(pid);

    if (!p || p->pub.state == ABI_PROCESS_ZOMBIE)
        return -ABI_ESRCH;
    if (pid == 1)
        return -ABI_EPERM;
    p->killed = true;
    if (p->pub.state == ABI_PROCESS_RUNNING) {
        /* It ends itself when it next enters the kernel, which is now. */
        if (p != by)
            lapic_send(cpus[p->pub.cpu].apic_id, VECTOR_WAKE);
    } else {
        process_exit(p, ABI_STATUS_KILLED);
    }
    return 0;
}

int64_t process_block(struct process *p, const void *what)
{
    p->pub.state = ABI_PROCESS_BLOCKED;
    p->waits_for = what;
    return PROCESS_WAITS;
}

void process_wake(const void *what)
{
    for (unsigned i = 0; what && i < slots_used; i++) {
        struct process *p = &processes[i];

        if (p->pub.state == ABI_PROCESS_BLOCKED && p->waits_for == what) {
            p->waits_for = NULL;
            sched_ready(p);
        }
    }
}
