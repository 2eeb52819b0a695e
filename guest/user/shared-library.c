/*
 * The shared-library exercise: three programs that need one shared library are started,
 * and stop together when they have mapped it, when it is relocated, and when they have
 * used it.
 */
#include "guest/dynamic/member.h"
#include "guest/lib/lib.h"

static const char *const programs[ABI_LIBRARY_MEMBERS] = { "figures-sum", "figures-sort",
                                                           "figures-weigh" };
static struct members *members;
static int64_t pids[ABI_LIBRARY_MEMBERS];

/* One that ended has not come here, and never will: it has said why. */
static bool ended(int64_t pid)
{
    static struct abi_sysinfo info;
    struct abi_process p;

    syscall(SYS_SYSINFO, &info);
    for (uint64_t i = 0; i < info.nprocesses; i++) {
        if (syscall(SYS_PROCESS_INFO, i, &p) == 1 && p.pid == pid)
            return p.state == ABI_PROCESS_ZOMBIE;
    }
    return true;
}

static int64_t start(const char *name, uint64_t object, uint64_t index)
{
    int64_t pid = fork();

    if (pid == 0) {
        char line[64];
        size_t n = strlen(name);

        memcpy(line, name, n);
        line[n++] = ' ';
        for (uint64_t unit = 1000000; unit; unit /= 10)
            line[n++] = (char)('0' + object / unit % 10);
        line[n++] = ' ';
        line[n++] = (char)('0' + index);
        line[n] = 0;
        exec(line);
        exit(127);
    }
    return pid;
}

static bool all_at(enum abi_library_step step)
{
    for (unsigned i = 0; i < ABI_LIBRARY_MEMBERS; i++) {
        while (members->member[i].step < step) {
            if (ended(pids[i]))
                return false;
            yield();
        }
    }
    return true;
}

static void ring(enum abi_library_step step)
{
    uint64_t arg[ABI_LIBRARY_NARGS];

    arg[ABI_LIBRARY_BYTES] = members->member[0].bytes;
    arg[ABI_LIBRARY_CALLS_VA] = members->member[0].calls_va;
    for (unsigned i = 0; i < ABI_LIBRARY_MEMBERS; i++) {
        arg[ABI_LIBRARY_PID + i] = (uint64_t)pids[i];
        arg[ABI_LIBRARY_BASE + i] = members->member[i].base;
    }
    checkpoint(ABI_LIBRARY, step, arg, ABI_LIBRARY_NARGS);
}

/* What SYS_MAP_FILE must refuse. */
static bool refuses(void)
{
    static const char name[] = "libfigures.so";
    const uint64_t far = 1ul << 30, taken = (uint64_t)members;

    return syscall(SYS_MAP_FILE, "no such file", 0ul, PAGE, 1ul, 0ul) == -ABI_ENOENT &&
           syscall(SYS_MAP_FILE, 0x1000ul, 0ul, PAGE, 1ul, 0ul) == -ABI_EFAULT &&
           syscall(SYS_MAP_FILE, name, 1ul, PAGE, 1ul, 0ul) == -ABI_EINVAL &&
           syscall(SYS_MAP_FILE, name, far, PAGE, 1ul, 0ul) == -ABI_EINVAL &&
           syscall(SYS_MAP_FILE, name, 0ul, far, 1ul, 0ul) == -ABI_EINVAL &&
           syscall(SYS_MAP_FILE, name, PAGE, -PAGE, 1ul, 0ul) == -ABI_EINVAL &&
           syscall(SYS_MAP_FILE, name, 0ul, 0ul, 1ul, 0ul) == -ABI_EINVAL &&
           syscall(SYS_MAP_FILE, name, 0ul, PAGE, 8ul, 0ul) == -ABI_EINVAL &&
           syscall(SYS_MAP_FILE, name, 0ul, PAGE, 1ul, -PAGE) == -ABI_ENOMEM &&
           syscall(SYS_MAP_FILE, name, 0ul, PAGE, 1ul, taken) == -ABI_EEXIST;
}

int main(int argc, char **argv)
{
    int64_t object = syscall(SYS_SHARED_CREATE, PAGE);
    int status = 0;

    members = map(NULL, PAGE, ABI_PROT_READ | ABI_PROT_WRITE, ABI_MAP_SHARED, (uint64_t)object);
    if (object < 0 || !members)
        return 1;
    if (!refuses()) {
        printf("SYS_MAP_FILE takes what it should not\n");
        return 1;
    }
    members->go = 0;
    if (argc > 1 && !strcmp(argv[1], "break"))
        syscall(SYS_BREAK, ABI_BREAK_FILE);
    for (unsigned i = 0; i < ABI_LIBRARY_MEMBERS; i++)
        pids[i] = start(programs[i], (uint64_t)object, i);
    for (uint64_t step = ABI_LIBRARY_MAPPED; step <= ABI_LIBRARY_WRITTEN; step++) {
        if (!all_at(step))
            return 1;
        ring(step);
        members->go = step;
    }
    for (unsigned i = 0; i < ABI_LIBRARY_MEMBERS; i++)
        status |= (int)wait_for(pids[i]);
    ring(ABI_LIBRARY_GONE);
    return status;
}
