/*
 * The fork-cow exercise: a process with N resident pages forks, the child writes a
 * part of them. Once with checkpoints, for the host to see what is shared; then, for
 * the sweep, timed without them against a fork that copies at once; and in the end that
 * fork with a checkpoint, for the host to count the faults it spares.
 */
#include "guest/lib/lib.h"

#define RUNS_MAX 15

static const uint64_t percents[] = { 0, 1, 10, 50, 100 };

/* Times that the child leaves for the parent. */
static volatile uint64_t *report;

static uint64_t *page_at(char *region, uint64_t page)
{
    return (uint64_t *)(region + page * PAGE);
}

static char *resident(uint64_t pages)
{
    char *region = map(NULL, pages * PAGE, ABI_PROT_READ | ABI_PROT_WRITE, 0, 0);

    for (uint64_t i = 0; region && i < pages; i++)
        *page_at(region, i) = ABI_FORK_COW_PARENT_WORD(i);
    return region;
}

static void child_writes(char *region, uint64_t pages, uint64_t writes)
{
    for (uint64_t i = 0; i < writes; i++) {
        uint64_t page = ABI_FORK_COW_PAGE(i, pages);

        *(volatile uint64_t *)page_at(region, page) = ABI_FORK_COW_CHILD_WORD(page);
    }
}

static void shown(char *region, uint64_t pages, uint64_t writes)
{
    uint64_t arg[ABI_FORK_COW_NARGS] = {
        [ABI_FORK_COW_VA] = (uint64_t)region,
        [ABI_FORK_COW_PAGES] = pages,
        [ABI_FORK_COW_WRITES] = writes,
        [ABI_FORK_COW_PARENT] = (uint64_t)syscall(SYS_GETPID),
    };
    int64_t pid;

    pid = fork();
    if (pid == 0) {
        arg[ABI_FORK_COW_CHILD] = (uint64_t)syscall(SYS_GETPID);
        checkpoint(ABI_FORK_COW, ABI_FORK_COW_SHARED, arg, ABI_FORK_COW_NARGS);
        child_writes(region, pages, writes);
        checkpoint(ABI_FORK_COW, ABI_FORK_COW_WRITTEN, arg, ABI_FORK_COW_NARGS);
        exit(0);
    }
    arg[ABI_FORK_COW_CHILD] = (uint64_t)pid;
    wait_for(pid);
    checkpoint(ABI_FORK_COW, ABI_FORK_COW_REAPED, arg, ABI_FORK_COW_NARGS);
}

/* All pages written by a child that shares none of them. */
static void bulk(char *region, uint64_t pages)
{
    uint64_t arg[ABI_FORK_COW_NARGS] = {
        [ABI_FORK_COW_VA] = (uint64_t)region,
        [ABI_FORK_COW_PAGES] = pages,
        [ABI_FORK_COW_WRITES] = pages,
        [ABI_FORK_COW_PARENT] = (uint64_t)syscall(SYS_GETPID),
    };
    int64_t pid = syscall(SYS_FORK, ABI_FORK_EAGER);

    if (pid == 0) {
        arg[ABI_FORK_COW_CHILD] = (uint64_t)syscall(SYS_GETPID);
        child_writes(region, pages, pages);
        checkpoint(ABI_FORK_COW, ABI_FORK_COW_BULK, arg, ABI_FORK_COW_NARGS);
        exit(0);
    }
    wait_for(pid);
}

static void timed_run(char *region, uint64_t pages, uint64_t writes, uint32_t flags,
                      uint64_t *fork_ticks, uint64_t *write_ticks)
{
    uint64_t start = ticks();
    int64_t pid = syscall(SYS_FORK, flags);

    if (pid == 0) {
        start = ticks();
        child_writes(region, pages, writes);
        report[0] = ticks() - start;
        exit(0);
    }
    *fork_ticks = ticks() - start;
    wait_for(pid);
    *write_ticks = report[0];
    /* The parent's pages writable again, so that each run begins alike. */
    for (uint64_t i = 0; i < pages; i++)
        *(volatile uint64_t *)page_at(region, i) = ABI_FORK_COW_PARENT_WORD(i);
}

static void timed(char *region, uint64_t pages, uint64_t writes, uint64_t runs)
{
    uint64_t cow_fork[RUNS_MAX], cow_write[RUNS_MAX], eager_fork[RUNS_MAX], eager_write[RUNS_MAX];
    uint64_t arg[ABI_FORK_COW_T_NARGS];

    for (uint64_t i = 0; i < runs; i++) {
        timed_run(region, pages, writes, 0, &cow_fork[i], &cow_write[i]);
        timed_run(region, pages, writes, ABI_FORK_EAGER, &eager_fork[i], &eager_write[i]);
    }
    arg[ABI_FORK_COW_T_PAGES] = pages;
    arg[ABI_FORK_COW_T_WRITES] = writes;
    arg[ABI_FORK_COW_T_RUNS] = runs;
    arg[ABI_FORK_COW_T_COW_FORK] = median(cow_fork, runs);
    arg[ABI_FORK_COW_T_COW_WRITE] = median(cow_write, runs);
    arg[ABI_FORK_COW_T_EAGER_FORK] = median(eager_fork, runs);
    arg[ABI_FORK_COW_T_EAGER_WRITE] = median(eager_write, runs);
    checkpoint(ABI_FORK_COW, ABI_FORK_COW_TIMED, arg, ABI_FORK_COW_T_NARGS);
}

int main(int argc, char **argv)
{
    uint64_t pages = number(argc > 1 ? argv[1] : NULL, 256);
    uint64_t runs = number(argc > 2 ? argv[2] : NULL, 5);
    int64_t object = syscall(SYS_SHARED_CREATE, PAGE);
    char *region;

    if (pages == 0 || pages & (pages - 1) || runs > RUNS_MAX)
        return 2;
    if (argc > 3 && !strcmp(argv[3], "break"))
        syscall(SYS_BREAK, ABI_BREAK_COW);
    /* Parent and child take turns on one CPU: no time goes into waking another. */
    syscall(SYS_PIN, 0);
    report = map(NULL, PAGE, ABI_PROT_READ | ABI_PROT_WRITE, ABI_MAP_SHARED, (uint64_t)object);
    region = resident(pages);
    if (!report || !region)
        return 1;
    report[0] = 0;
    for (size_t i = 0; i < sizeof(percents) / sizeof(percents[0]); i++) {
        uint64_t writes = (pages * percents[i] + 99) / 100;

        shown(region, pages, writes);
        if (runs)
            timed(region, pages, writes, runs);
    }
    bulk(region, pages);
    return 0;
}
