#include "vmm/monitor/terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

/* What signal handlers need: written before `raw` says so. */
static struct termios before;
static int terminal_fd;
static atomic_bool raw;

/* One that is no controlling terminal, or another session's, has no background for this job. */
static bool terminal_in_background(int fd)
{
    pid_t foreground = tcgetpgrp(fd);

    return foreground >= 0 && foreground != getpgrp();
}

bool terminal_is_ours(int fd)
{
    return isatty(fd) && !terminal_in_background(fd);
}

void terminal_restore(void)
{
    int saved = errno;

    /* tcsetattr is safe in a handler (POSIX, XSH 2.4.3). In the background it would stop us. */
    if (atomic_exchange(&raw, false) && !terminal_in_background(terminal_fd))
        tcsetattr(terminal_fd, TCSANOW, &before);
    errno = saved;
}

static void terminal_restore_and_die(int number)
{
    terminal_restore();
    /* The action is the default again: this takes effect on return. */
    raise(number);
}

static void terminal_catch_signal(int number)
{
    struct sigaction action;

    if (sigaction(number, NULL, &action) || action.sa_handler != SIG_DFL)
        return;
    action.sa_handler = terminal_restore_and_die;
    action.sa_flags = SA_RESETHAND;
    sigaction(number, &action, NULL);
}

/* Every signal that would end the process without a word to anybody. */
static void terminal_catch_deadly_signals(void)
{
    static const int deadly[] = { SIGQUIT, SIGILL,  SIGTRAP, SIGABRT,   SIGBUS,   SIGFPE,
                                  SIGSEGV, SIGUSR2, SIGALRM, SIGSTKFLT, SIGXCPU,  SIGXFSZ,
                                  SIGPROF, SIGSYS,  SIGPWR,  SIGIO,     SIGVTALRM };

    for (size_t i = 0; i < sizeof(deadly) / sizeof(deadly[0]); i++)
        terminal_catch_signal(deadly[i]);
    for (int number = SIGRTMIN; number <= SIGRTMAX; number++)
        terminal_catch_signal(number);
}

bool terminal_size(int fd, uint16_t *columns, uint16_t *rows)
{
    struct winsize size;

    if (ioctl(fd, TIOCGWINSZ, &size) || !size.ws_col || !size.ws_row)
        return false;
    *columns = size.ws_col;
    *rows = size.ws_row;
    return true;
}

int terminal_raw(int fd)
{
    static bool known;
    struct termios settings;

    if (atomic_load(&raw) || !terminal_is_ours(fd))
        return 0;
    if (tcgetattr(fd, &settings))
        return -errno;
    before = settings;
    terminal_fd = fd;
    if (!known) {
        terminal_catch_deadly_signals();
        atexit(terminal_restore);
        known = true;
    }
    cfmakeraw(&settings);
    atomic_store(&raw, true);
    return tcsetattr(fd, TCSANOW, &settings) ? -errno : 0;
}

enum terminal_order terminal_filter(struct terminal_escape *escape, uint8_t *bytes, size_t *count)
{
    enum terminal_order order = TERMINAL_NOTHING;
    size_t kept = 0;

    for (size_t i = 0; i < *count; i++) {
        uint8_t byte = bytes[i];

        if (!escape->open) {
            escape->open = byte == TERMINAL_ESCAPE;
            if (!escape->open)
                bytes[kept++] = byte;
            continue;
        }
        escape->open = false;
        switch (byte) {
        case 'x': order = TERMINAL_END; break;
        case 'h': order = TERMINAL_HELP; break;
        case 'a':
        case TERMINAL_ESCAPE: bytes[kept++] = TERMINAL_ESCAPE; break;
        default: break;
        }
    }
    *count = kept;
    return order;
}
