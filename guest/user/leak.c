/*
 * The leak exercise: processes that map memory and lose it. One takes address space until
 * there is none, and no frame; one takes frames too, until its limit. Arguments: the
 * limit in MiB, "break".
 */
#include "guest/lib/lib.h"

#define RW (ABI_PROT_READ | ABI_PROT_WRITE)

static void ring(enum abi_leak_step step, uint64_t *arg)
{
    checkpoint(ABI_LEAK, step, arg, ABI_LEAK_NARGS);
}

/* Untouched mappings: large ones, and smaller ones where those no longer fit. */
static int reserve(uint64_t *arg)
{
    ring(ABI_LEAK_STARTED, arg);
    for (uint64_t bytes = ABI_LEAK_LARGEST; bytes >= PAGE;) {
        int64_t va = syscall(SYS_MMAP, 0ul, bytes, RW, 0, 0);

        if (va < 0) {
            arg[ABI_LEAK_ERROR] = (uint64_t)va;
            bytes /= 2;
            continue;
        }
        arg[ABI_LEAK_COUNT]++;
        arg[ABI_LEAK_BYTES] += bytes;
    }
    ring(ABI_LEAK_RESERVED, arg);
    return 0;
}

static void write_pages(char *at, uint64_t pages, uint64_t word)
{
    for (uint64_t i = 0; i < pages; i++)
        *(volatile uint64_t *)(at + i * PAGE) = word;
}

static int touch(uint64_t *arg)
{
    const uint64_t object_bytes = ABI_LEAK_OBJECT_PAGES * PAGE;
    int64_t object = syscall(SYS_SHARED_CREATE, object_bytes);
    /* The aligned one first, so that no gap is left for one of those that follow each other. */
    char *huge = map(NULL, ABI_HUGE_BYTES, RW, ABI_MAP_HUGE, 0);
    char *shared = map(NULL, object_bytes, RW, ABI_MAP_SHARED, (uint64_t)object);

    if (object < 0 || !shared || !huge)
        return 1;
    write_pages(shared, ABI_LEAK_OBJECT_PAGES, 1);
    write_pages(huge, 1, 1);
    for (uint64_t i = 0;; i++) {
        int64_t va = syscall(SYS_MMAP, 0ul, ABI_LEAK_CHUNK, RW, 0, 0);

        if (va < 0) {
            arg[ABI_LEAK_ERROR] = (uint64_t)va;
            break;
        }
        if (i == 0)
            arg[ABI_LEAK_FIRST] = (uint64_t)va;
        write_pages((char *)va, ABI_LEAK_PAGES(i), ABI_LEAK_WORD(i));
        arg[ABI_LEAK_COUNT]++;
        arg[ABI_LEAK_BYTES] += ABI_LEAK_CHUNK;
    }
    ring(ABI_LEAK_TOUCHED, arg);
    return 0;
}

/* In a process of its own, which ends without giving anything back. */
static int leak(int (*how)(uint64_t *arg), uint64_t limit)
{
    uint64_t arg[ABI_LEAK_NARGS] = { 0 };
    int64_t pid = fork();

    if (pid == 0) {
        arg[ABI_LEAK_PID] = (uint64_t)syscall(SYS_GETPID);
        syscall(SYS_LIMIT, limit);
        exit(how ? how(arg) : 0);
    }
    return (int)wait_for(pid);
}

int main(int argc, char **argv)
{
    uint64_t limit = number(argc > 1 ? argv[1] : NULL, 64) << 20;
    uint64_t none[ABI_LEAK_NARGS] = { 0 };
    int status;

    /* Once for nothing: what this process itself touches on the way, it has then touched. */
    leak(NULL, 0);
    if (argc > 2 && !strcmp(argv[2], "break"))
        syscall(SYS_BREAK, ABI_BREAK_EXIT);
    ring(ABI_LEAK_BEFORE, none);
    status = leak(reserve, 0);
    ring(ABI_LEAK_RETURNED, none);
    status |= leak(touch, limit);
    ring(ABI_LEAK_AFTER, none);
    return status;
}
