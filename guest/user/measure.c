/* The measuring program: carries out what the host commands (guest/abi/measure.h). */
#include "guest/lib/lib.h"
#include "guest/measure/command.h"

static struct abi_shared_page shared_page __attribute__((aligned(4096)));

static void *map_pages(size_t bytes, enum abi_page_kind page)
{
    static const uint32_t flags[ABI_PAGE_KINDS] = {
        [ABI_PAGE_2M] = ABI_MAP_HUGE, [ABI_PAGE_1G] = ABI_MAP_GIANT
    };

    if (page >= ABI_PAGE_KINDS)
        return NULL;
    return map(NULL, bytes, ABI_PROT_READ | ABI_PROT_WRITE, flags[page], 0);
}

static int unmap_pages(void *addr, size_t bytes)
{
    return unmap(addr, bytes);
}

/* On the CPU that interrupts of the host's go to. */
static int64_t kernel(enum abi_measure_op op, uint64_t count, uint64_t arg)
{
    syscall(SYS_PIN, 0);
    return syscall(SYS_MEASURE, op, count, arg);
}

static int discard_pages(void *addr, size_t bytes)
{
    return (int)syscall(SYS_MADVISE, addr, bytes, ABI_MADV_DONTNEED);
}

static int make_read_only(void *addr, size_t bytes)
{
    return protect(addr, bytes, ABI_PROT_READ);
}

static int64_t set_zeroing(uint64_t policy)
{
    return syscall(SYS_ZEROING, policy);
}

static int64_t fork_process(uint32_t flags)
{
    return syscall(SYS_FORK, flags);
}

static void leave(void)
{
    exit(0);
}

static int reap(int64_t child)
{
    int64_t status = wait_for(child);

    return status < 0 ? (int)status : status ? -ABI_EFAULT : 0;
}

static void *shared_memory(void)
{
    static void *memory;
    int64_t object;

    if (!memory) {
        object = syscall(SYS_SHARED_CREATE, ABI_SHARED_BYTES);
        if (object < 0)
            return NULL;
        memory = map(NULL, ABI_SHARED_BYTES, ABI_PROT_READ | ABI_PROT_WRITE, ABI_MAP_SHARED,
                     (uint64_t)object);
    }
    return memory;
}

#define COMPANIONS_MAX 15

/* What companions use: all of it is there before they start, for a fault is their end. */
static struct {
    volatile unsigned spinning;
    volatile bool stop;
    char stack[COMPANIONS_MAX][512];
} companion __attribute__((aligned(4096)));

static void companion_main(void)
{
    __atomic_add_fetch(&companion.spinning, 1, __ATOMIC_RELEASE);
    while (!companion.stop)
        __builtin_ia32_pause();
    exit(0);
}

static int64_t companion_pid[COMPANIONS_MAX];
static unsigned companions_started;

static int stop_companions(void)
{
    int err = 0;

    companion.stop = true;
    while (companions_started && !err)
        err = reap(companion_pid[--companions_started]);
    return err;
}

static int set_companions(unsigned count)
{
    if (!count)
        return stop_companions();
    if (companions_started || count > COMPANIONS_MAX)
        return -ABI_EINVAL;
    memset(&companion, 0, sizeof(companion));
    /* This one stays on the first CPU; the others have one each. */
    syscall(SYS_PIN, 0);
    for (unsigned i = 0; i < count; i++) {
        int64_t pid = syscall(SYS_COMPANION, companion_main,
                              companion.stack[i] + sizeof(companion.stack[i]), i + 1);

        if (pid < 0) {
            stop_companions();
            return (int)pid;
        }
        companion_pid[companions_started++] = pid;
    }
    while (__atomic_load_n(&companion.spinning, __ATOMIC_ACQUIRE) < count)
        yield();
    return 0;
}

int main(int argc, char **argv)
{
    static const struct platform platform = { .map = map_pages,
                                              .unmap = unmap_pages,
                                              .kernel = kernel,
                                              .discard = discard_pages,
                                              .read_only = make_read_only,
                                              .zeroing = set_zeroing,
                                              .fork = fork_process,
                                              .leave = leave,
                                              .reap = reap,
                                              .shared = shared_memory,
                                              .companions = set_companions };
    const uint64_t arg[1] = { (uint64_t)&shared_page };

    (void)argc;
    (void)argv;
    /* The host reads and writes it where it lies: it must be there. */
    memset(&shared_page, 0, sizeof(shared_page));
    while (!checkpoint(ABI_MEASURE, 1, arg, 1))
        command_run(&platform, &shared_page.command, &shared_page.reply);
    return 0;
}
