/*
 * with-terminal STEP… -- PROGRAM [ARGUMENT…]: runs it in the foreground of a terminal of its
 * own, as a shell would, and takes one step after the other:
 *
 *   expect:TEXT   until it has printed TEXT (after what earlier steps expected)
 *   send:TEXT     types TEXT
 *   raw, cooked   until the terminal is raw; or as it was at first, bit for bit
 *   signal:N      sends it signal N
 *   size:CxR      the terminal has C columns and R rows from now on
 *   stopped       until it has stopped
 *   status:N      until it has ended with exit status N, or by signal N - 128; the terminal
 *                 must then be as it was at first
 *
 * What it prints goes to standard output. Exit status: 0 if every step went well; else 1,
 * after a line about the step. STRATA_SLOW multiplies the limit of 60 s a step.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define LIMIT_S      60
#define TICK_MS      20
#define OUTPUT_BYTES 65536

static int master, slave;
static pid_t program;
static struct termios first;
static char output[OUTPUT_BYTES];
static size_t printed, seen; /* of output: how much there is, and was expected already */
static int ended = -1;       /* as the shell has it */
static bool stopped;

/* Whether there was some. */
static bool read_output(int timeout_ms)
{
    struct pollfd fd = { .fd = master, .events = POLLIN };
    ssize_t count;

    if (poll(&fd, 1, timeout_ms) <= 0 || printed == OUTPUT_BYTES)
        return false;
    count = read(master, output + printed, OUTPUT_BYTES - printed);
    if (count > 0 && write(STDOUT_FILENO, output + printed, (size_t)count) == count)
        printed += (size_t)count;
    return count > 0;
}

static void look_at_program(void)
{
    int status;

    if (ended >= 0 || waitpid(program, &status, WNOHANG | WUNTRACED) <= 0)
        return;
    stopped = WIFSTOPPED(status);
    if (WIFEXITED(status))
        ended = WEXITSTATUS(status);
    else if (WIFSIGNALED(status))
        ended = 128 + WTERMSIG(status);
}

static bool is_raw(void)
{
    struct termios now;

    return tcgetattr(slave, &now) == 0 && !(now.c_lflag & (ICANON | ECHO | ISIG)) &&
           !(now.c_iflag & ICRNL);
}

static bool is_cooked(void)
{
    struct termios now;

    return tcgetattr(slave, &now) == 0 && now.c_iflag == first.c_iflag &&
           now.c_oflag == first.c_oflag && now.c_cflag == first.c_cflag &&
           now.c_lflag == first.c_lflag && !memcmp(now.c_cc, first.c_cc, sizeof(now.c_cc));
}

static bool has_printed(const char *text)
{
    const char *at = memmem(output + seen, printed - seen, text, strlen(text));

    if (at)
        seen = (size_t)(at - output) + strlen(text);
    return at;
}

static const char *argument(const char *step, const char *name)
{
    size_t length = strlen(name);

    return !strncmp(step, name, length) && step[length] == ':' ? step + length + 1 : NULL;
}

/* Whether there is nothing more to wait for. */
static bool done(const char *step)
{
    const char *value;

    if (!strcmp(step, "raw"))
        return is_raw();
    if (!strcmp(step, "cooked"))
        return is_cooked();
    if (!strcmp(step, "stopped"))
        return stopped;
    value = argument(step, "expect");
    if (value)
        return has_printed(value);
    value = argument(step, "status");
    return value && ended == atoi(value) && is_cooked();
}

static void act(const char *step)
{
    const char *keys = argument(step, "send"), *number = argument(step, "signal");
    const char *size = argument(step, "size");
    struct winsize now = { 0 };

    if (keys && write(master, keys, strlen(keys)) < 0)
        err(1, "%s", step);
    if (size &&
        (sscanf(size, "%hux%hu", &now.ws_col, &now.ws_row) != 2 || ioctl(master, TIOCSWINSZ, &now)))
        err(1, "%s", step);
    if (number)
        kill(program, atoi(number));
    if (number && atoi(number) == SIGCONT)
        stopped = false;
}

static void take(const char *step)
{
    const char *slow = getenv("STRATA_SLOW");
    time_t limit = time(NULL) + LIMIT_S * (slow ? atoi(slow) : 1);

    if (argument(step, "send") || argument(step, "signal") || argument(step, "size")) {
        act(step);
        return;
    }
    for (;;) {
        bool more;

        /* In this order: what it said last is read after its end is seen. */
        look_at_program();
        more = read_output(TICK_MS);
        if (done(step))
            return;
        if (time(NULL) > limit || (ended >= 0 && !more)) {
            kill(program, SIGKILL);
            errx(1, "%s: did not happen; status %d, the terminal is %s", step, ended,
                 is_cooked() ? "as at first"
                 : is_raw()  ? "raw"
                             : "neither raw nor as at first");
        }
    }
}

/* The leader of a session on a new terminal, whose foreground is the program. */
static void run(char **steps, int nsteps, char **argv)
{
    setsid();
    master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) || unlockpt(master))
        err(1, "cannot open a terminal");
    slave = open(ptsname(master), O_RDWR);
    if (slave < 0 || ioctl(slave, TIOCSCTTY, 0) || tcgetattr(slave, &first))
        err(1, "cannot open the terminal's other side");
    signal(SIGTTOU, SIG_IGN);
    program = fork();
    if (program == 0) {
        setpgid(0, 0);
        tcsetpgrp(slave, getpid());
        for (int number = 1; number < NSIG; number++)
            signal(number, SIG_DFL);
        dup2(slave, 0);
        dup2(slave, 1);
        dup2(slave, 2);
        close(master);
        close(slave);
        execvp(argv[0], argv);
        err(127, "%s", argv[0]);
    }
    for (int i = 0; i < nsteps; i++)
        take(steps[i]);
    kill(program, SIGKILL);
    exit(0);
}

int main(int argc, char **argv)
{
    int nsteps = 0, status;
    pid_t leader;

    while (nsteps + 1 < argc && strcmp(argv[nsteps + 1], "--") != 0)
        nsteps++;
    if (nsteps + 2 >= argc)
        errx(2, "usage: with-terminal STEP... -- PROGRAM [ARGUMENT...]");
    leader = fork();
    if (leader < 0)
        err(1, "fork");
    if (leader == 0)
        run(argv + 1, nsteps, argv + nsteps + 2);
    if (waitpid(leader, &status, 0) < 0)
        err(1, "waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
