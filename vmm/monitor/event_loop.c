#include "vmm/monitor/event_loop.h"

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
#include "vmm/monitor/rss_trim.h"
#include "vmm/monitor/terminal.h"
#include "vmm/monitor/watchdog.h"

#define INPUT_BYTES     256
#define STATUS_SIGNAL   128 /* plus the signal's number, as shells have it */
#define STOP_TIMEOUT_MS 900
#define SETTLED_MS      50 /* without input or a signal: starting is over */
#define UNDRIVEN_MS     1000
#define BACKGROUND_MS   500 /* no signal tells that it is in the foreground again */

/* Input on its way from stdin to the guest. */
struct input {
    uint8_t bytes[INPUT_BYTES];
    size_t first, end;
    bool finished;
    struct terminal_escape escape;
};

static void event_loop_forward_input(struct input *input, struct board *board)
{
    if (input->first < input->end)
        input->first += board_input(board, input->bytes + input->first, input->end - input->first);
}

/* Whether another job has the terminal: reading from it would stop this one, or fail. */
static bool event_loop_in_background(const struct event_loop *loop)
{
    return loop->terminal && !terminal_is_ours(STDIN_FILENO);
}

/* Whether read() has failed for now only: it may be in the background since it was polled. */
static bool event_loop_comes_later(const struct event_loop *loop)
{
    return errno == EINTR || errno == EAGAIN || (errno == EIO && event_loop_in_background(loop));
}

static void event_loop_read_input(const struct event_loop *loop, struct input *input)
{
    ssize_t count = read(STDIN_FILENO, input->bytes, sizeof(input->bytes));

    if (count < 0 && event_loop_comes_later(loop))
        return;
    input->first = 0;
    input->end = count > 0 ? (size_t)count : 0;
    /* At the end of input the guest keeps running. */
    input->finished = count <= 0;
}

/* In a terminal, lines end in a carriage return too: this is printed while it is raw. */
static void event_loop_print_help(void)
{
    fprintf(stderr, "\r\nstrata: Ctrl-a x ends the machine, Ctrl-a a sends a Ctrl-a, "
                    "Ctrl-a h prints this\r\n");
}

/*
 * From a raw terminal, which is read also while the guest takes nothing: there may be the
 * order to end it among the keys. Keys beyond what fits are lost.
 */
static void event_loop_read_keys(const struct event_loop *loop, struct input *input)
{
    size_t waiting = input->end - input->first, count;
    uint8_t keys[INPUT_BYTES];
    ssize_t got = read(STDIN_FILENO, keys, sizeof(keys));

    if (got < 0 && event_loop_comes_later(loop))
        return;
    input->finished = got <= 0;
    count = got > 0 ? (size_t)got : 0;
    switch (terminal_filter(&input->escape, keys, &count)) {
    case TERMINAL_END: vm_stop(loop->vm, VM_END_HOST_STOP, 0); break;
    case TERMINAL_HELP: event_loop_print_help(); break;
    case TERMINAL_NOTHING: break;
    }
    memmove(input->bytes, input->bytes + input->first, waiting);
    if (count > sizeof(input->bytes) - waiting)
        count = sizeof(input->bytes) - waiting;
    memcpy(input->bytes + waiting, keys, count);
    input->first = 0;
    input->end = waiting + count;
}

static void event_loop_make_raw(const struct event_loop *loop)
{
    int err = loop->raw ? terminal_raw(STDIN_FILENO) : 0;

    if (err)
        fprintf(stderr, "strata run: the terminal cannot be made raw: %s\n", strerror(-err));
}

static void event_loop_tell_size(const struct event_loop *loop)
{
    uint16_t columns, rows;

    if (loop->raw && terminal_size(STDIN_FILENO, &columns, &rows))
        (void)board_resize(loop->board, columns, rows);
}

static void event_loop_take_signal(const struct event_loop *loop)
{
    struct signalfd_siginfo info;

    if (read(loop->signal_fd, &info, sizeof(info)) != sizeof(info))
        return;
    switch (info.ssi_signo) {
    case SIGTSTP:
        /* The real thing would stop us with the terminal raw. */
        terminal_restore();
        raise(SIGSTOP); /* this thread, so that it does not go on until SIGCONT */
        event_loop_make_raw(loop);
        break;
    case SIGCONT: event_loop_make_raw(loop); break;
    case SIGWINCH: event_loop_tell_size(loop); break;
    default: vm_stop(loop->vm, VM_END_HOST_STOP, STATUS_SIGNAL + (int)info.ssi_signo); break;
    }
}

/* Standard input, if it is time to read it: from a raw terminal it always is. */
static int event_loop_input_fd(const struct event_loop *loop, const struct input *input)
{
    bool ready = loop->raw || input->first == input->end;

    return input->finished || !ready ? -1 : STDIN_FILENO;
}

static int event_loop_sooner(int timeout_ms, int limit_ms)
{
    return timeout_ms < 0 || timeout_ms > limit_ms ? limit_ms : timeout_ms;
}

/* Looks when it is time to; in how many ms the next time is. */
static int event_loop_keep_watch(const struct event_loop *loop, int64_t *next_ms)
{
    int64_t interval_ms = (int64_t)loop->watchdog_seconds * 1000 / WATCHDOG_CHECKS;
    int64_t now = monotonic_ms();

    if (now >= *next_ms) {
        if (*next_ms && watchdog_check(loop->watchdog))
            vm_stop(loop->vm, VM_END_HUNG, 1);
        *next_ms = now + interval_ms;
    }
    return (int)(*next_ms - now);
}

/* Requests that the guest's driver has made to the IOMMU, of whatever kind. */
static uint64_t event_loop_iommu_requests(const struct board *board)
{
    struct virtio_iommu *iommu = board_model(board, BOARD_IOMMU_DEVICE, &virtio_iommu_ops);
    struct virtio_iommu_counts counts;
    uint64_t sum;

    if (!iommu)
        return 0;
    virtio_iommu_count(iommu, &counts);
    sum = counts.unanswered;
    for (unsigned status = 0; status < VIRTIO_IOMMU_STATUSES; status++)
        sum += counts.answered[status];
    return sum;
}

/*
 * A kernel without a driver for the IOMMU waits for ever for its devices, which reach no
 * memory. Whether that is still to be found out; says so if it is the case.
 */
static bool event_loop_may_be_undriven(const struct event_loop *loop)
{
    struct iommu *iommu = board_iommu(loop->board);
    struct iommu_counts counts;

    if (!iommu || event_loop_iommu_requests(loop->board))
        return false;
    iommu_count(iommu, &counts);
    if (!counts.faults)
        return true;
    /* As in print_help. */
    fprintf(stderr,
            "strata run: the IOMMU has refused a device access to memory, and no driver has asked "
            "it for any: the kernel needs one for virtio-iommu (Linux: CONFIG_VIRTIO_IOMMU), or "
            "leave out --iommu%s\n",
            loop->raw ? "\r" : "");
    return false;
}

/* Console input and signals, until the VM has been told to stop. */
static void event_loop_handle_events(const struct event_loop *loop)
{
    struct input input = { 0 };
    int64_t next_check_ms = 0;
    bool trimmed = false, undriven = true, was_away = false;
    uint64_t counter;

    for (;;) {
        bool away = event_loop_in_background(loop);
        struct pollfd fds[] = {
            { .fd = loop->vm->end_fd, .events = POLLIN },
            { .fd = loop->signal_fd, .events = POLLIN },
            { .fd = loop->input_ready_fd, .events = POLLIN },
            { .fd = away ? -1 : event_loop_input_fd(loop, &input), .events = POLLIN },
        };
        int timeout_ms = loop->watchdog ? event_loop_keep_watch(loop, &next_check_ms) : -1;
        int ready;

        undriven = undriven && event_loop_may_be_undriven(loop);
        if (undriven)
            timeout_ms = event_loop_sooner(timeout_ms, UNDRIVEN_MS);
        if (away)
            timeout_ms = event_loop_sooner(timeout_ms, BACKGROUND_MS);
        if (was_away && !away) {
            event_loop_make_raw(loop);
            event_loop_tell_size(loop);
        }
        was_away = away;
        ready = poll(fds, 4, trimmed ? timeout_ms : SETTLED_MS);

        if (ready == 0 && !trimmed) {
            rss_trim();
            trimmed = true;
        }
        if (ready <= 0)
            continue;
        if (fds[0].revents) {
            if (undriven)
                (void)event_loop_may_be_undriven(loop);
            return;
        }
        if (fds[1].revents)
            event_loop_take_signal(loop);
        if (fds[2].revents && read(loop->input_ready_fd, &counter, sizeof(counter)) < 0)
            continue;
        if (fds[2].revents)
            event_loop_tell_size(loop); /* a pause may have been in the way */
        if (fds[3].revents && loop->raw)
            event_loop_read_keys(loop, &input);
        else if (fds[3].revents)
            event_loop_read_input(loop, &input);
        event_loop_forward_input(&input, loop->board);
    }
}

void event_loop_run(void *arg)
{
    const struct event_loop *loop = arg;

    event_loop_make_raw(loop);
    event_loop_tell_size(loop);
    event_loop_handle_events(loop);
    terminal_restore();
    /* A vCPU that does not come back must not keep the process from ending. */
    if (vm_wait(loop->vm, STOP_TIMEOUT_MS)) {
        fprintf(stderr, "strata run: a virtual CPU does not leave KVM; ending without it\n");
        loop->final_report(loop->owner);
    }
}

/* So that poll hears of them. */
static int event_loop_block_signals(sigset_t *before, bool raw)
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

int event_loop_create(struct event_loop *loop, bool raw)
{
    int err;

    *loop = (struct event_loop){ .terminal = isatty(STDIN_FILENO) };
    loop->raw = raw && loop->terminal;
    loop->signal_fd = event_loop_block_signals(&loop->signals_before, loop->raw);
    if (loop->signal_fd < 0) {
        err = -errno;
        goto unblock;
    }
    loop->input_ready_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->input_ready_fd < 0) {
        err = -errno;
        goto close_signals;
    }
    return 0;

close_signals:
    close(loop->signal_fd);
unblock:
    pthread_sigmask(SIG_SETMASK, &loop->signals_before, NULL);
    return err;
}

void event_loop_destroy(struct event_loop *loop)
{
    close(loop->input_ready_fd);
    close(loop->signal_fd);
    pthread_sigmask(SIG_SETMASK, &loop->signals_before, NULL);
}
