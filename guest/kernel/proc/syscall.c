#include "guest/kernel/proc/syscall.h"

#include "guest/abi/machine.h"
#include "guest/kernel/arch/measure.h"
#include "guest/kernel/dma/dma_call.h"
#include "guest/kernel/drivers/blk.h"
#include "guest/kernel/drivers/blk_call.h"
#include "guest/kernel/drivers/console.h"
#include "guest/kernel/drivers/rng.h"
#include "guest/kernel/kernel.h"
#include "guest/kernel/kstring.h"
#include "guest/kernel/mm/advise.h"
#include "guest/kernel/mm/disk_map.h"
#include "guest/kernel/mm/frame.h"
#include "guest/kernel/mm/shared.h"
#include "guest/kernel/mm/space.h"
#include "guest/kernel/proc/channel.h"
#include "guest/kernel/proc/program.h"
#include "guest/kernel/proc/sched.h"

#define GATE_INSTRUCTION_BYTES 2

static int64_t sys_exit(struct process *p, const uint64_t *arg)
{
    process_exit(p, (uint32_t)arg[0] & 0xff);
    /* Once more when its companions have ended. */
    return p->pub.state == ABI_PROCESS_BLOCKED ? PROCESS_WAITS : 0;
}

static int64_t sys_write(struct process *p, const uint64_t *arg)
{
    char part[256];
    uint64_t done = 0;

    while (done < arg[1]) {
        uint64_t bytes = arg[1] - done < sizeof(part) ? arg[1] - done : sizeof(part);

        if (space_read(p, part, arg[0] + done, bytes))
            return done ? (int64_t)done : -ABI_EFAULT;
        console_write(part, bytes);
        done += bytes;
        /* A long text must not keep the other CPU out of the kernel for long. */
        if (done >= 4096)
            break;
    }
    return (int64_t)done;
}

static int64_t sys_read(struct process *p, const uint64_t *arg)
{
    char line[256];
    uint64_t room = arg[1] < sizeof(line) ? arg[1] : sizeof(line);
    uint64_t bytes;

    if (room == 0)
        return 0;
    /* A line that has been taken must have where to go. */
    if (!space_reach(p, arg[0], true) || !space_reach(p, arg[0] + room - 1, true))
        return -ABI_EFAULT;
    bytes = console_read(line, room);
    if (!bytes)
        return process_block(p, &console_input);
    return space_write(p, arg[0], line, bytes) ? -ABI_EFAULT : (int64_t)bytes;
}

static int64_t sys_fork(struct process *p, const uint64_t *arg)
{
    return process_fork(p, (uint32_t)arg[0]);
}

static int64_t sys_exec(struct process *p, const uint64_t *arg)
{
    char line[512];
    int64_t result = space_read_string(p, line, sizeof(line), arg[0]);

    if (!result && !program_of(line))
        result = -ABI_ENOENT;
    if (result)
        return result;
    /* Past this point there is no program to return to. */
    if (process_exec(p, line))
        process_exit(p, ABI_STATUS_KILLED);
    return 0;
}

static int64_t sys_wait(struct process *p, const uint64_t *arg)
{
    return process_wait(p, arg[0], arg[1]);
}

static int64_t sys_getpid(struct process *p, const uint64_t *arg)
{
    (void)arg;
    return p->pub.pid;
}

static int64_t sys_yield(struct process *p, const uint64_t *arg)
{
    (void)arg;
    if (sched_other(cpu_self())) {
        sched_ready(p);
    } else {
        /* Without the lock: who gets the host CPU now may be waiting for it. */
        kernel_unlock();
        host_yield();
        kernel_lock();
    }
    return 0;
}

static int64_t sys_mmap(struct process *p, const uint64_t *arg)
{
    return space_mmap(p, arg[0], arg[1], (uint32_t)arg[2], (uint32_t)arg[3], arg[4]);
}

static int64_t sys_munmap(struct process *p, const uint64_t *arg)
{
    return space_unmap(p, arg[0], arg[1]);
}

static int64_t sys_mprotect(struct process *p, const uint64_t *arg)
{
    return space_protect(p, arg[0], arg[1], (uint32_t)arg[2]);
}

static int64_t sys_madvise(struct process *p, const uint64_t *arg)
{
    return space_advise(p, arg[0], arg[1], (uint32_t)arg[2]);
}

static int64_t sys_zeroing(struct process *p, const uint64_t *arg)
{
    int64_t before = frame_zeroing;

    (void)p;
    if (arg[0] >= ABI_ZERO_COUNT)
        return -ABI_EINVAL;
    frame_zeroing = (enum abi_zeroing)arg[0];
    return before;
}

static int64_t sys_protect_child(struct process *p, const uint64_t *arg)
{
    struct process *child = process_child(p, arg[0]);

    return child ? space_protect(child, arg[1], arg[2], (uint32_t)arg[3]) : -ABI_ESRCH;
}

static int64_t sys_swap_child(struct process *p, const uint64_t *arg)
{
    struct process *child = process_child(p, arg[0]);

    return child ? space_swap(child, arg[1], p, arg[2], arg[3]) : -ABI_ESRCH;
}

static int64_t sys_shared_create(struct process *p, const uint64_t *arg)
{
    return shared_create(p->pub.pid, arg[0]);
}

static int64_t sys_shared_drop(struct process *p, const uint64_t *arg)
{
    (void)p;
    return shared_drop(arg[0]);
}

static int64_t sys_fault_handler(struct process *p, const uint64_t *arg)
{
    if (arg[0] >= USER_END)
        return -ABI_EINVAL;
    p->fault_handler = arg[0];
    return 0;
}

static int64_t sys_fault_return(struct process *p, const uint64_t *arg)
{
    struct abi_user_fault f;
    struct regs *regs = &p->regs;

    if (space_read(p, &f, arg[0], sizeof(f)) || f.rip >= USER_END)
        return -ABI_EFAULT;
    /* Back by iretq with all registers; of the flags only the harmless ones. */
    *regs = (struct regs){
        .r15 = f.r15,
        .r14 = f.r14,
        .r13 = f.r13,
        .r12 = f.r12,
        .r11 = f.r11,
        .r10 = f.r10,
        .r9 = f.r9,
        .r8 = f.r8,
        .rbp = f.rbp,
        .rdi = f.rdi,
        .rsi = f.rsi,
        .rdx = f.rdx,
        .rcx = f.rcx,
        .rbx = f.rbx,
        .rax = f.rax,
        .rip = f.rip,
        .cs = SELECTOR_USER_CODE,
        .rflags = (f.rflags & 0xcd5) | RFLAGS_IF | 2,
        .rsp = f.rsp,
        .ss = SELECTOR_USER_DATA,
    };
    return (int64_t)f.rax;
}

static int64_t sys_pin(struct process *p, const uint64_t *arg)
{
    int64_t cpu = (int64_t)arg[0];

    if (cpu < -1 || cpu >= (int64_t)cpu_count)
        return -ABI_EINVAL;
    p->cpu = (int)cpu;
    if (cpu >= 0 && cpu != cpu_self()->index)
        sched_ready(p);
    return 0;
}

static int64_t sys_sysinfo(struct process *p, const uint64_t *arg)
{
    struct abi_sysinfo info = {
        .tsc_hz = boot_info.tsc_hz,
        .total_frames = boot_info.low_frames + boot_info.high_frames,
        .free_frames = frame_free_count(),
        .given_frames = kernel_info.given_frames,
        .ncpus = cpu_count,
        .host_cpus = boot_info.host_cpus,
        .gate = kernel_info.gate,
        .nprocesses = PROCESSES_MAX,
        .context_switches = kernel_info.context_switches,
        .timer_ticks = kernel_info.timer_ticks,
    };

    copy_name(info.command_line, sizeof(info.command_line), boot_info.command_line);
    return space_write(p, arg[0], &info, sizeof(info));
}

static int64_t sys_process_info(struct process *p, const uint64_t *arg)
{
    if (arg[0] >= PROCESSES_MAX)
        return -ABI_EINVAL;
    if (!processes[arg[0]].pub.state)
        return 0;
    if (space_write(p, arg[1], &processes[arg[0]].pub, sizeof(struct abi_process)))
        return -ABI_EFAULT;
    return 1;
}

static int64_t sys_program_name(struct process *p, const uint64_t *arg)
{
    const struct program *program = program_at(arg[0]);
    char name[24];

    if (!program)
        return -ABI_ENOENT;
    copy_name(name, sizeof(name), program->name);
    return space_write(p, arg[1], name, sizeof(name));
}

static int64_t sys_channel_create(struct process *p, const uint64_t *arg)
{
    (void)arg;
    return channel_create(p);
}

static int64_t sys_channel_drop(struct process *p, const uint64_t *arg)
{
    (void)p;
    return channel_drop(arg[0]);
}

static int64_t sys_send(struct process *p, const uint64_t *arg)
{
    return channel_send(p, arg[0], arg[1], arg[2]);
}

static int64_t sys_recv(struct process *p, const uint64_t *arg)
{
    return channel_recv(p, arg[0], arg[1], arg[2]);
}

static int64_t sys_kill(struct process *p, const uint64_t *arg)
{
    return process_kill(p, arg[0]);
}

/* Puts the record together, rings, and returns what the host answered. */
static int64_t sys_checkpoint(struct process *p, const uint64_t *arg)
{
    static struct abi_checkpoint record __attribute__((aligned(4096)));

    if (arg[3] > ABI_CHECKPOINT_ARGS)
        return -ABI_EINVAL;
    record = (struct abi_checkpoint){
        .magic = ABI_CHECKPOINT_MAGIC,
        .vcpu = cpu_self()->index,
        .pid = p->pub.pid,
        .exercise = (uint32_t)arg[0],
        .step = (uint32_t)arg[1],
        .nargs = (uint32_t)arg[3],
        .kernel = (uint64_t)&kernel_info - KERNEL_OFFSET,
    };
    if (space_read(p, record.arg, arg[2], arg[3] * sizeof(uint64_t)))
        return -ABI_EFAULT;
    if (boot_info.hypercall_port_number)
        outl((uint16_t)(boot_info.hypercall_port_number + ABI_HYPERCALL_CHECKPOINT),
             (uint32_t)frame_of_image(&record));
    return record.reply;
}

static int64_t sys_break(struct process *p, const uint64_t *arg)
{
    p->breaks = (uint32_t)arg[0];
    return 0;
}

static int64_t sys_halt(struct process *p, const uint64_t *arg)
{
    if (p->pub.pid != 1)
        return -ABI_EPERM;
    if (boot_info.hypercall_port_number)
        outl((uint16_t)(boot_info.hypercall_port_number + ABI_HYPERCALL_EXIT), (uint32_t)arg[0]);
    /* Elsewhere: QEMU's isa-debug-exit if it is there, then the keyboard controller. */
    outl(0xf4, (uint32_t)arg[0]);
    outb(0x64, 0xfe);
    for (;;)
        __asm__ volatile("hlt");
}

static int64_t sys_panic(struct process *p, const uint64_t *arg)
{
    (void)arg;
    if (p->pub.pid != 1)
        return -ABI_EPERM;
    panic("as asked by init");
}

static int64_t sys_dma(struct process *p, const uint64_t *arg)
{
    p->uses_devices = true;
    return dma_call(p, (uint32_t)arg[0], arg[1]);
}

static int64_t sys_block(struct process *p, const uint64_t *arg)
{
    p->uses_devices = true;
    return blk_call(p, (uint32_t)arg[0], arg[1]);
}

static int64_t sys_random(struct process *p, const uint64_t *arg)
{
    p->uses_devices = true;
    return rng_call(p, arg[0], arg[1]);
}

static int64_t sys_map_file(struct process *p, const uint64_t *arg)
{
    char name[24];
    int64_t result = space_read_string(p, name, sizeof(name), arg[0]);
    const struct file *file = result ? NULL : file_of(name);

    if (!file)
        return result ? result : -ABI_ENOENT;
    return space_map_file(p, file, arg[1], arg[2], (uint32_t)arg[3], arg[4]);
}

static int64_t sys_map_disk(struct process *p, const uint64_t *arg)
{
    return disk_map(p, arg[0], arg[1], arg[2], (uint32_t)arg[3], arg[4]);
}

static int64_t sys_lock(struct process *p, const uint64_t *arg)
{
    return space_lock(p, arg[0], arg[1], arg[2]);
}

static int64_t sys_companion(struct process *p, const uint64_t *arg)
{
    return process_companion(p, arg[0], arg[1], arg[2]);
}

static int64_t sys_limit(struct process *p, const uint64_t *arg)
{
    p->pub.vsz_limit = arg[0];
    return 0;
}

static int64_t sys_measure(struct process *p, const uint64_t *arg)
{
    (void)p;
    return measure_call((uint32_t)arg[0], arg[1], arg[2]);
}

typedef int64_t handler(struct process *p, const uint64_t *arg);

static handler *const table[SYS_COUNT] = {
    [SYS_EXIT] = sys_exit,
    [SYS_WRITE] = sys_write,
    [SYS_READ] = sys_read,
    [SYS_FORK] = sys_fork,
    [SYS_EXEC] = sys_exec,
    [SYS_WAIT] = sys_wait,
    [SYS_GETPID] = sys_getpid,
    [SYS_YIELD] = sys_yield,
    [SYS_MMAP] = sys_mmap,
    [SYS_MUNMAP] = sys_munmap,
    [SYS_MPROTECT] = sys_mprotect,
    [SYS_SHARED_CREATE] = sys_shared_create,
    [SYS_SHARED_DROP] = sys_shared_drop,
    [SYS_FAULT_HANDLER] = sys_fault_handler,
    [SYS_FAULT_RETURN] = sys_fault_return,
    [SYS_PIN] = sys_pin,
    [SYS_SYSINFO] = sys_sysinfo,
    [SYS_PROCESS_INFO] = sys_process_info,
    [SYS_PROGRAM_NAME] = sys_program_name,
    [SYS_CHANNEL_CREATE] = sys_channel_create,
    [SYS_CHANNEL_DROP] = sys_channel_drop,
    [SYS_SEND] = sys_send,
    [SYS_RECV] = sys_recv,
    [SYS_KILL] = sys_kill,
    [SYS_CHECKPOINT] = sys_checkpoint,
    [SYS_BREAK] = sys_break,
    [SYS_HALT] = sys_halt,
    [SYS_PANIC] = sys_panic,
    [SYS_DMA] = sys_dma,
    [SYS_BLOCK] = sys_block,
    [SYS_RANDOM] = sys_random,
    [SYS_PROTECT_CHILD] = sys_protect_child,
    [SYS_SWAP_CHILD] = sys_swap_child,
    [SYS_MAP_FILE] = sys_map_file,
    [SYS_MADVISE] = sys_madvise,
    [SYS_LIMIT] = sys_limit,
    [SYS_ZEROING] = sys_zeroing,
    [SYS_MAP_DISK] = sys_map_disk,
    [SYS_LOCK] = sys_lock,
    [SYS_MEASURE] = sys_measure,
    [SYS_COMPANION] = sys_companion,
};

/*
 * Memory of p's that the call came upon is being read from a disk: the call is started again
 * when it is there; unless it has done something already, and tells how much.
 */
static int64_t paging_result(struct process *p, int64_t result)
{
    if (result == -ABI_EFAULT)
        return PROCESS_WAITS;
    p->pub.state = ABI_PROCESS_RUNNING;
    p->waits_for = NULL;
    return result;
}

void syscall(struct process *p)
{
    struct regs *regs = &p->regs;
    const uint64_t arg[5] = { regs->rdi, regs->rsi, regs->rdx, regs->r10, regs->r8 };
    uint64_t number = regs->rax;
    int64_t result;

    if (number >= SYS_COUNT || !table[number]) {
        regs->rax = (uint64_t)-ABI_ENOSYS;
        return;
    }
    if (p->leader && number != SYS_EXIT) {
        regs->rax = (uint64_t)-ABI_EPERM;
        return;
    }
    result = table[number](p, arg);
    if (p->pub.state == ABI_PROCESS_BLOCKED && result != PROCESS_WAITS)
        result = paging_result(p, result);
    if (result != PROCESS_WAITS)
        p->populated = p->reading_to = 0;
    if (result == PROCESS_WAITS)
        regs->rip -= GATE_INSTRUCTION_BYTES;
    else if (number != SYS_EXEC || result)
        regs->rax = (uint64_t)result;
}
