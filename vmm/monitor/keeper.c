#include "vmm/monitor/keeper.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "devices/core/board.h"
#include "devices/virtio/iommu.h"
#include "vmm/base/monotonic.h"
#include "vmm/machine/vm.h"
#include "vmm/monitor/footprint.h"
#include "vmm/monitor/terminal.h"
#include "vmm/monitor/watchdog.h"

#define INPUT_BYTES     256
#define STATUS_SIGNAL   128 /* plus the signal's number, as shells have it */
#define STOP_TIMEOUT_MS 900
#define SETTLED_MS      50 /* without input or a signal: starting is over */
#define UNDRIVEN_MS     1000
#define BACKGROUND_MS   500 /* nobody tells that it is in the foreground again */

/* Input on its way from stdin to the guest. */
struct input {
    uint8_t bytes[INPUT_BYTES];
    size_t first, end;
    bool finished;
    struct terminal_escape escape;
};

static void feed(struct input *input, struct board *board)
{
    if (input->first < input->end)
        input->first += board_input(board, input->bytes + input->first, input->end - input->first);
}

/* Whether somebody else has the terminal: reading from it would stop us, or fail. */
static bool in_background(const struct keeper *keeper)
{
    return keeper->terminal && !terminal_is_ours(STDIN_FILENO);
}

/* Whether read() has failed for now only: it may be in the background since it was polled. */
static bool comes_later(const struct keeper *keeper)
{
    return errno == EINTR || errno == EAGAIN || (errno == EIO && in_background(keeper));
}

static void read_input(const struct keeper *keeper, struct input *input)
{
    ssize_t count = read(STDIN_FILENO, input->bytes, sizeof(input->bytes));

    if (count < 0 && comes_later(keeper))
        return;
    input->first = 0;
    input->end = count > 0 ? (size_t)count : 0;
    /* At the end of input the guest keeps running. */
    input->finished = count <= 0;
}

/* In a terminal, lines end in a carriage return too: this is printed while it is raw. */
static void print_help(void)
{
    fprintf(stderr, "\r\nstrata: Ctrl-a x ends the machine, Ctrl-a a sends a Ctrl-a, "
                    "Ctrl-a h prints this\r\n");
}

/*
 * From a raw terminal, which is read also while the guest takes nothing: there may be the
 * order to end it among the keys. Keys beyond what fits are lost.
 */
static void read_keys(const struct keeper *keeper, struct input *input)
{
    size_t waiting = input->end - input->first, count;
    uint8_t keys[INPUT_BYTES];
    ssize_t got = read(STDIN_FILENO, keys, sizeof(keys));

    if (got < 0 && comes_later(keeper))
        return;
    input->finished = got <= 0;
    count = got > 0 ? (size_t)got : 0;
    switch (terminal_filter(&input->escape, keys, &count)) {
    case TERMINAL_END: vm_stop(keeper->vm, VM_END_HOST_STOP, 0); break;
    case TERMINAL_HELP: print_help(); break;
    case TERMINAL_NOTHING: break;
    }
    memmove(input->bytes, input->bytes + input->first, waiting);
    if (count > sizeof(input->bytes) - waiting)
        count = sizeof(input->bytes) - waiting;
    memcpy(input->bytes + waiting, keys, count);
    input->first = 0;
    input->end = waiting + count;
}

static void make_raw(const struct keeper *keeper)
{
    int err = keeper->raw ? terminal_raw(STDIN_FILENO) : 0;

    if (err)
        fprintf(stderr, "strata run: the terminal cannot be made raw: %s\n", strerror(-err));
}

static void tell_size(const struct keeper *keeper)
{
    uint16_t columns, rows;

    if (keeper->raw && terminal_size(STDIN_FILENO, &columns, &rows))
        board_resize(keeper->board, columns, rows);
}

static void take_signal(const struct keeper *keeper)
{
    struct signalfd_siginfo info;

    if (read(keeper->signal_fd, &info, sizeof(info)) != sizeof(info))
        return;
    switch (info.ssi_signo) {
    case SIGTSTP:
        /* The real thing would stop us with the terminal raw. */
        terminal_restore();
        raise(SIGSTOP); /* this thread, so that it does not go on until SIGCONT */
        make_raw(keeper);
        break;
    case SIGCONT: make_raw(keeper); break;
    case SIGWINCH: tell_size(keeper); break;
    default: vm_stop(keeper->vm, VM_END_HOST_STOP, STATUS_SIGNAL + (int)info.ssi_signo); break;
    }
}

/* Standard input, if it is time to read it: from a raw terminal it always is. */
static int input_fd(const struct keeper *keeper, const struct input *input)
{
    bool ready = keeper->raw || input->first == input->end;

    return input->finished || !ready ? -1 : STDIN_FILENO;
}

static int sooner(int timeout_ms, int limit_ms)
{
    return timeout_ms < 0 || timeout_ms > limit_ms ? limit_ms : timeout_ms;
}

/* Looks when it is time to; in how many ms the next time is. */
static int keep_watch(const struct keeper *keeper, int64_t *next_ms)
{
    int64_t interval_ms = (int64_t)keeper->watchdog_seconds * 1000 / WATCHDOG_LOOKS;
    int64_t now = monotonic_ms();

    if (now >= *next_ms) {
        if (*next_ms && watchdog_look(keeper->watchdog))
            vm_stop(keeper->vm, VM_END_HUNG, 1);
        *next_ms = now + interval_ms;
    }
    return (int)(*next_ms - now);
}

/* Requests that the guest's driver has made to the IOMMU, of whatever kind. */
static uint64_t iommu_requests(const struct board *board)
{
    struct virtio_iommu_counts counts;
    struct board_report report;
    uint64_t sum = 0;

    for (unsigned i = 0; board_report(board, i, &report); i++) {
        if (!report.iommu)
            continue;
        virtio_iommu_count(report.iommu, &counts);
        sum = counts.unanswered;
        for (unsigned status = 0; status < VIRTIO_IOMMU_STATUSES; status++)
            sum += counts.answered[status];
    }
    return sum;
}

/*
 * A kernel without a driver for the IOMMU waits for ever for its devices, which reach no
 * memory. Whether that is still to be found out; says so if it is the case.
 */
static bool may_be_undriven(const struct keeper *keeper)
{
    struct iommu *iommu = board_iommu(keeper->board);
    struct iommu_counts counts;

    if (!iommu || iommu_requests(keeper->board))
        return false;
    iommu_count(iommu, &counts);
    if (!counts.faults)
        return true;
    /* As in print_help. */
    fprintf(stderr,
            "strata run: the IOMMU has refused a device access to memory, and no driver has asked "
            "it for any: the kernel needs one for virtio-iommu (Linux: CONFIG_VIRTIO_IOMMU), or "
            "leave out --iommu%s\n",
            keeper->raw ? "\r" : "");
    return false;
}

/* Console input and signals, until the VM has been told to stop. */
static void attend(const struct keeper *keeper)
{
    struct input input = { 0 };
    int64_t next_look_ms = 0;
    bool trimmed = false, undriven = true, was_away = false;
    uint64_t counter;

    for (;;) {
        bool away = in_background(keeper);
        struct pollfd fds[] = {
            { .fd = keeper->vm->end_fd, .events = POLLIN },
            { .fd = keeper->signal_fd, .events = POLLIN },
            { .fd = keeper->room_fd, .events = POLLIN },
            { .fd = away ? -1 : input_fd(keeper, &input), .events = POLLIN },
        };
        int timeout_ms = keeper->watchdog ? keep_watch(keeper, &next_look_ms) : -1;
        int ready;

        undriven = undriven && may_be_undriven(keeper);
        if (undriven)
            timeout_ms = sooner(timeout_ms, UNDRIVEN_MS);
        if (away)
            timeout_ms = sooner(timeout_ms, BACKGROUND_MS);
        if (was_away && !away) {
            make_raw(keeper);
            tell_size(keeper);
        }
        was_away = away;
        ready = poll(fds, 4, trimmed ? timeout_ms : SETTLED_MS);

        if (ready == 0 && !trimmed) {
            footprint_trim();
            trimmed = true;
        }
        if (ready <= 0)
            continue;
        if (fds[0].revents) {
            if (undriven)
                (void)may_be_undriven(keeper);
            return;
        }
        if (fds[1].revents)
            take_signal(keeper);
        if (fds[2].revents && read(keeper->room_fd, &counter, sizeof(counter)) < 0)
            continue;
        if (fds[3].revents && keeper->raw)
            read_keys(keeper, &input);
        else if (fds[3].revents)
            read_input(keeper, &input);
        feed(&input, keeper->board);
    }
}

void keeper_watch(void *arg)
{
    const struct keeper *keeper = arg;

    make_raw(keeper);
    tell_size(keeper);
    attend(keeper);
    terminal_restore();
    /* A vCPU that does not come back must not keep the process from ending. */
    if (vm_wait(keeper->vm, STOP_TIMEOUT_MS)) {
        fprintf(stderr, "strata run: a virtual CPU does not leave KVM; ending without it\n");
        keeper->last_words(keeper->owner);
    }
}

/* So that poll hears of them. */
static int block_signals(sigset_t *before, bool raw)
{
    static const int ending[] = { SIGINT, SIGTERM, SIGHUP };
    static const int terminal[] = { SIGTSTP, SIGCONT, SIGWINCH };
    sigset_t set;

    sigemptyset(&set);
    for (unsigned i = 0; i < sizeof(ending) / sizeof(ending[0]); i++) {
        struct sigaction action;

        /* Who started us may have asked to have them ignored (nohup, a shell's &). */
        if (sigaction(ending[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
            sigaddset(&set, ending[i]);
    }
    for (unsigned i = 0; raw && i < sizeof(terminal) / sizeof(terminal[0]); i++)
        sigaddset(&set, terminal[i]);
    pthread_sigmask(SIG_BLOCK, &set, before);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int keeper_create(struct keeper *keeper, bool raw)
{
    int err;

    *keeper = (struct keeper){ .terminal = isatty(STDIN_FILENO) };
    keeper->raw = raw && keeper->terminal;
    keeper->signal_fd = block_signals(&keeper->signals_before, keeper->raw);
    if (keeper->signal_fd < 0) {
        err = -errno;
        goto unblock;
    }
    keeper->room_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (keeper->room_fd < 0) {
        err = -errno;
        goto close_signals;
    }
    return 0;

close_signals:
    close(keeper->signal_fd);
unblock:
    pthread_sigmask(SIG_SETMASK, &keeper->signals_before, NULL);
    return err;
}

void keeper_destroy(struct keeper *keeper)
{
    close(keeper->room_fd);
    close(keeper->signal_fd);
    pthread_sigmask(SIG_SETMASK, &keeper->signals_before, NULL);
}
