#include "vmm/measure/native.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/measure/command.h"

#define HUGE_BYTES (2ull << 20)

/* Aligned to 2M, so that either kind of page can be all of it. */
static void *native_map_pages(size_t bytes, enum abi_page_kind page)
{
    size_t room = bytes + HUGE_BYTES;
    char *base, *start;

    if (page > ABI_PAGE_2M || room < bytes)
        return NULL;
    base = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                0);
    if (base == MAP_FAILED)
        return NULL;
    start = (char *)(((uintptr_t)base + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1));
    if (start > base)
        munmap(base, (size_t)(start - base));
    munmap(start + bytes, room - bytes - (size_t)(start - base));
    madvise(start, bytes, page == ABI_PAGE_2M ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    return start;
}

static int native_unmap_pages(void *addr, size_t bytes)
{
    return munmap(addr, bytes) ? -ABI_EINVAL : 0;
}

static int native_discard_pages(void *addr, size_t bytes)
{
    return madvise(addr, bytes, MADV_DONTNEED) ? -ABI_EINVAL : 0;
}

static int native_make_read_only(void *addr, size_t bytes)
{
    return mprotect(addr, bytes, PROT_READ) ? -ABI_EINVAL : 0;
}

/* Other threads do not go along: the child only stores to memory, and leaves. */
static int64_t native_fork_process(uint32_t flags)
{
    pid_t pid = flags ? -1 : fork();

    if (flags)
        return -ABI_ENOSYS;
    return pid < 0 ? -ABI_ENOMEM : pid;
}

/* Nothing of the parent's may be tidied up here. */
static void native_leave(void)
{
    syscall(SYS_exit_group, 0);
}

static int native_reap(int64_t child)
{
    int status;

    while (waitpid((pid_t)child, &status, 0) < 0) {
        if (errno != EINTR)
            return -ABI_ECHILD;
    }
    return status ? -ABI_EFAULT : 0;
}

static void *native_shared_memory(void)
{
    static void *memory;

    if (!memory) {
        memory = mmap(NULL, ABI_SHARED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                      -1, 0);
        if (memory == MAP_FAILED)
            memory = NULL;
    }
    return memory;
}

#define COMPANIONS_MAX 15

static struct {
    pthread_t thread[COMPANIONS_MAX];
    unsigned started;
    atomic_uint spinning;
    atomic_bool stop;
} companion;

static void *native_companion_main(void *arg)
{
    atomic_fetch_add(&companion.spinning, 1);
    while (!atomic_load(&companion.stop))
        __builtin_ia32_pause();
    return arg;
}

/* Signals are for others. No vm_thread: it only spins, and there is no guest. */
static int native_start_companion(pthread_t *thread)
{
    sigset_t all, before;
    int err;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = pthread_create(thread, NULL, native_companion_main, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -err;
}

static int native_set_companions(unsigned count)
{
    bool stopping = !count;

    if (count > COMPANIONS_MAX || (count && companion.started))
        return -ABI_EINVAL;
    if (count) {
        atomic_store(&companion.spinning, 0);
        atomic_store(&companion.stop, false);
    }
    while (companion.started < count && !stopping) {
        stopping = native_start_companion(&companion.thread[companion.started]) != 0;
        companion.started += !stopping;
    }
    while (!stopping && atomic_load(&companion.spinning) < count)
        sched_yield();
    if (!stopping)
        return 0;
    atomic_store(&companion.stop, true);
    while (companion.started)
        pthread_join(companion.thread[--companion.started], NULL);
    return count ? -ABI_ENOMEM : 0;
}

void native_command(const struct abi_command *command, struct abi_reply *reply)
{
    static const struct platform platform = { .map = native_map_pages,
                                              .unmap = native_unmap_pages,
                                              .discard = native_discard_pages,
                                              .read_only = native_make_read_only,
                                              .fork = native_fork_process,
                                              .leave = native_leave,
                                              .reap = native_reap,
                                              .shared = native_shared_memory,
                                              .companions = native_set_companions };

    command_run(&platform, command, reply);
}
