/*
 * The first program: a small shell on the console. With exec=COMMAND on the kernel's
 * command line it runs that and halts the machine with its status.
 */
#include "guest/lib/lib.h"

static bool skip_word(const char **line, const char *word)
{
    const char *at = *line;

    while (*word && *at == *word)
        at++, word++;
    if (*word || (*at && *at != ' '))
        return false;
    while (*at == ' ')
        at++;
    *line = at;
    return true;
}

static int help(const char *rest)
{
    char name[24];

    (void)rest;
    printf("commands:\n"
           "  help                this\n"
           "  ps                  processes, their memory and faults\n"
           "  mem                 memory of the machine\n"
           "  run NAME [ARG...] [&]   run a program; with & in the background\n"
           "  kill PID            end a process\n"
           "  echo TEXT           say it\n"
           "  halt [STATUS]       end the machine\n"
           "  panic               make the kernel panic\n"
           "programs:");
    for (uint64_t i = 0; !syscall(SYS_PROGRAM_NAME, i, name); i++)
        printf(" %s", name);
    printf("\n");
    return 0;
}

static int ps(const char *rest)
{
    static const char *const state[] = { "-", "runnable", "running", "waiting", "ended" };
    static struct abi_sysinfo info;
    struct abi_process p;

    (void)rest;
    syscall(SYS_SYSINFO, &info);
    printf("%4s %4s %-8s %3s %8s %8s %7s %6s %6s  %s\n", "PID", "PPID", "STATE", "CPU", "VSZ-KIB",
           "RSS-KIB", "FAULTS", "COPIED", "REUSED", "NAME");
    for (uint64_t i = 0; i < info.nprocesses; i++) {
        if (syscall(SYS_PROCESS_INFO, i, &p) == 1)
            printf("%4u %4u %-8s %3u %8lu %8lu %7lu %6lu %6lu  %s\n", p.pid, p.parent,
                   state[p.state], p.cpu, p.vsz_bytes >> 10, p.rss_frames * 4, p.faults,
                   p.cow_copies, p.cow_reuses, p.name);
    }
    return 0;
}

static int mem(const char *rest)
{
    static struct abi_sysinfo info;

    (void)rest;
    syscall(SYS_SYSINFO, &info);
    printf("total %lu KiB, free %lu KiB, %u CPUs, system calls by %s, %lu switches, %lu ticks\n",
           info.total_frames * 4, info.free_frames * 4, info.ncpus,
           info.gate == ABI_GATE_SYSCALL ? "syscall" : "ud2", info.context_switches,
           info.timer_ticks);
    return 0;
}

static bool known(const char *line)
{
    char name[24];

    for (uint64_t i = 0; !syscall(SYS_PROGRAM_NAME, i, name); i++) {
        const char *at = line;

        if (skip_word(&at, name))
            return true;
    }
    return false;
}

static int run(const char *rest)
{
    char line[256];
    size_t n = strlen(rest);
    bool background = n > 0 && rest[n - 1] == '&';
    int64_t pid;

    if (!known(rest)) {
        printf("no such program: %s (see help)\n", *rest ? rest : "(no name)");
        return 127;
    }
    if (background)
        n--;
    if (n >= sizeof(line))
        n = sizeof(line) - 1;
    memcpy(line, rest, n);
    line[n] = 0;
    pid = spawn(line);
    if (pid < 0) {
        printf("cannot start %s: error %ld\n", line, -pid);
        return 126;
    }
    if (background) {
        printf("started, pid %ld\n", pid);
        return 0;
    }
    return (int)wait_for(pid);
}

static int kill(const char *rest)
{
    int64_t result = syscall(SYS_KILL, number(rest, 0));

    if (result)
        printf("cannot end pid %s: %s\n", rest,
               result == -ABI_EPERM ? "init must live" : "no such process");
    return result ? 1 : 0;
}

static int echo(const char *rest)
{
    printf("%s\n", rest);
    return 0;
}

static int halt(const char *rest)
{
    syscall(SYS_HALT, number(rest, 0));
    return 1;
}

static int panic(const char *rest)
{
    (void)rest;
    syscall(SYS_PANIC);
    return 1;
}

static const struct {
    const char *name;
    int (*call)(const char *rest);
} commands[] = {
    { "help", help }, { "ps", ps },     { "mem", mem },   { "run", run },
    { "kill", kill }, { "echo", echo }, { "halt", halt }, { "panic", panic },
};

static int command(const char *line)
{
    while (*line == ' ')
        line++;
    if (!*line)
        return 0;
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        const char *rest = line;

        if (skip_word(&rest, commands[i].name))
            return commands[i].call(rest);
    }
    if (known(line))
        return run(line);
    printf("unknown command: %s (try help)\n", line);
    return 127;
}

/* What stands behind exec= on the kernel's command line, up to its end. */
static const char *exec_command(const char *line)
{
    static const char key[] = "exec=";

    for (const char *at = line; *at; at++) {
        if ((at == line || at[-1] == ' ') && !memcmp(at, key, sizeof(key) - 1))
            return at + sizeof(key) - 1;
    }
    return NULL;
}

/* Children of the dead come here; those that ended are forgotten. */
static void reap(void)
{
    static struct abi_sysinfo info;
    struct abi_process p;

    syscall(SYS_SYSINFO, &info);
    for (uint64_t i = 0; i < info.nprocesses; i++) {
        if (syscall(SYS_PROCESS_INFO, i, &p) == 1 && p.parent == 1 && p.state == ABI_PROCESS_ZOMBIE)
            wait_for(p.pid);
    }
}

int main(int argc, char **argv)
{
    static struct abi_sysinfo info;
    char line[256];
    const char *once;
    int status = 0;

    (void)argc;
    (void)argv;
    syscall(SYS_SYSINFO, &info);
    once = exec_command(info.command_line);
    if (once)
        syscall(SYS_HALT, command(once));
    printf("This is strata's bundled guest. Try help.\n");
    for (;;) {
        int64_t n;

        reap();
        if (status)
            printf("[%d] ", status);
        printf("> ");
        n = read(line, sizeof(line) - 1);
        if (n <= 0)
            continue;
        line[n - (line[n - 1] == '\n')] = 0;
        status = command(line);
    }
}
