#include "devices/virtio/console_ports.h"

#include <errno.h>
#include <linux/virtio_console.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/virtio/console.h"
#include "devices/virtio/console_control.h"

#define BACKLOG         4 /* who may wait until another one has gone */
#define ACCEPT_AGAIN_US 10000

_Static_assert(2 * (CONSOLE_PORTS_MAX + 1) <= VIRTIO_QUEUES_MAX, "queues of all ports");

/* Port 0 has the first two queues, control the next two (5.3.2). */
static unsigned receive_queue(unsigned id)
{
    return 2 * id + 2;
}

static unsigned transmit_queue(unsigned id)
{
    return 2 * id + 3;
}

static size_t state_bytes(unsigned count)
{
    return sizeof(struct console_ports_state) + count * sizeof(struct console_port_state);
}

static struct console_port_state *state_of(const struct virtio_console *console, unsigned id)
{
    return &console->ports->state->port[id];
}

bool console_ports_used(const struct virtio_console *console)
{
    const struct virtio_device *device = &console->device;

    return console->ports && virtio_device_is_running(device) &&
           virtio_device_has_feature(device, VIRTIO_CONSOLE_F_MULTIPORT);
}

/* ---- Host to guest ---------------------------------------------------------------------- */

static bool wants_input(const struct virtio_console *console, unsigned id)
{
    const struct console_port_state *state = state_of(console, id);

    return console_ports_used(console) && state->guest_open && !state->no_rx_buffers &&
           console->device.queues[receive_queue(id)].state.ready;
}

/* More from the socket into `input`: false if there is nothing now. */
static bool fetch(struct console_port *port, struct console_port_state *state)
{
    ssize_t count;

    if (port->fd < 0 || port->eof)
        return false;
    count = recv(port->fd, state->input, sizeof(state->input), MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    port->eof = count <= 0;
    state->first = 0;
    state->end = count > 0 ? (uint32_t)count : 0;
    return count > 0;
}

/* One buffer of the driver: 1; 0, there is none; or an error of the queue. */
static int deliver(struct virtio_console *console, unsigned id)
{
    struct virtqueue *queue = &console->device.queues[receive_queue(id)];
    struct console_ports *ports = console->ports;
    struct console_port_state *state = state_of(console, id);
    int64_t written;
    int err = virtqueue_pop(queue, &ports->chain);

    if (err <= 0)
        return err;
    written = virtqueue_write(queue, &ports->chain, 0, state->input + state->first,
                              state->end - state->first);
    /* A buffer that may not be written goes back empty; its bytes go into the next. */
    if (written > 0) {
        state->first += (uint32_t)written;
        ports->port[id].counts.sent_bytes += (uint64_t)written;
    }
    err = virtqueue_push(queue, ports->chain.head, written > 0 ? (uint32_t)written : 0);
    return err ? err : 1;
}

/* True: there may be more. */
static bool feed(struct virtio_console *console, unsigned id)
{
    struct console_port *port = &console->ports->port[id];
    struct console_port_state *state = state_of(console, id);
    unsigned turn = 0;
    int delivered = 1;

    if (!wants_input(console, id))
        return false;
    while (delivered > 0 && turn < CONSOLE_PORTS_TURN &&
           (state->first < state->end || fetch(port, state))) {
        delivered = deliver(console, id);
        turn++;
    }
    state->no_rx_buffers = !delivered;
    if (delivered < 0)
        virtio_device_set_needs_reset(&console->device,
                                      console->device.queues[receive_queue(id)].broken);
    if (turn)
        virtio_device_notify_used(&console->device, receive_queue(id));
    return delivered > 0 && turn == CONSOLE_PORTS_TURN;
}

/* ---- Guest to host ---------------------------------------------------------------------- */

/* The next piece of `output` to the socket: false if that takes nothing more. */
static bool send_piece(struct virtio_console *console, unsigned id)
{
    struct virtqueue *queue = &console->device.queues[transmit_queue(id)];
    struct console_ports *ports = console->ports;
    struct console_port *port = &ports->port[id];
    struct console_port_state *state = state_of(console, id);
    int64_t bytes = virtqueue_read(queue, &state->output, state->sent, ports->piece,
                                   sizeof(ports->piece));
    ssize_t count;

    /* What may not be read is not sent; the fault is on record. */
    if (bytes <= 0) {
        state->sent = state->output.readable_bytes;
        return true;
    }
    count = send(port->fd, ports->piece, (size_t)bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count > 0) {
        state->sent += (uint64_t)count;
        port->counts.received_bytes += (uint64_t)count;
        return true;
    }
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        port->tx_blocked = true;
    else
        port->hung_up = true; /* the rest is for the next one */
    return false;
}

/* True: there may be more. While nobody is connected all stays in the queue. */
static bool drain(struct virtio_console *console, unsigned id)
{
    struct virtqueue *queue = &console->device.queues[transmit_queue(id)];
    struct console_port *port = &console->ports->port[id];
    struct console_port_state *state = state_of(console, id);
    unsigned turn = 0;
    int taken = 1;

    if (!console_ports_used(console))
        return false;
    while (port->fd >= 0 && !port->hung_up && !port->tx_blocked && turn < CONSOLE_PORTS_TURN) {
        taken = state->sending ? 1 : virtqueue_pop(queue, &state->output);
        if (taken <= 0)
            break;
        if (!state->sending)
            state->sent = 0;
        state->sending = true;
        turn++;
        if (state->sent < state->output.readable_bytes && !send_piece(console, id))
            break;
        if (state->sent < state->output.readable_bytes)
            continue;
        state->sending = false;
        taken = virtqueue_push(queue, state->output.head, 0);
        if (taken < 0)
            break;
        taken = 1;
    }
    if (taken < 0)
        virtio_device_set_needs_reset(&console->device, queue->broken);
    if (turn)
        virtio_device_notify_used(&console->device, transmit_queue(id));
    return taken > 0 && turn == CONSOLE_PORTS_TURN;
}

/* ---- Coming and going --------------------------------------------------------------------- */

static void set_connected(struct console_port_state *state, bool connected)
{
    state->connected = connected;
    if (state->ready)
        state->send |= CONSOLE_SEND_OPEN;
}

/* Whether all that it has sent before it hung up has been read and delivered. */
static bool is_over(struct virtio_console *console, unsigned id)
{
    struct console_port *port = &console->ports->port[id];
    const struct console_port_state *state = state_of(console, id);
    char byte;

    if (!state->connected || !port->hung_up || state->first < state->end)
        return false;
    if (!port->eof && recv(port->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0)
        port->eof = true;
    return port->eof;
}

/* On the thread: false if there are no file descriptors. */
static bool admit(struct virtio_console *console, unsigned id)
{
    struct console_port *port = &console->ports->port[id];
    int fd = unix_accept(&port->listener);

    if (fd < 0)
        return fd == -EAGAIN || fd == -ECONNABORTED;
    port->fd = fd;
    port->eof = port->hung_up = port->tx_blocked = false;
    port->counts.connections++;
    set_connected(state_of(console, id), true);
    return true;
}

/* From one that was connected before a restore there is no socket. */
static void part(struct virtio_console *console, unsigned id)
{
    struct console_port *port = &console->ports->port[id];

    if (port->fd >= 0)
        close(port->fd);
    port->fd = -1;
    port->tx_blocked = false;
    set_connected(state_of(console, id), false);
}

/*
 * What the thread is to look for: who comes, when the guest knows that the last one has gone;
 * or what the one that there is does. POLLHUP comes without being asked for, and forever.
 */
static short interest(const struct virtio_console *console, unsigned id)
{
    const struct console_port *port = &console->ports->port[id];
    const struct console_port_state *state = state_of(console, id);
    int events = POLLHUP;

    if (!state->connected)
        return state->send & CONSOLE_SEND_OPEN ? 0 : POLLIN;
    if (port->hung_up)
        return 0;
    if (wants_input(console, id) && !port->eof)
        events |= POLLIN;
    if (port->tx_blocked)
        events |= POLLOUT;
    return (short)events;
}

/* All that there is to do now for these ports. True: there is more. */
static bool work(struct virtio_console *console, unsigned first, unsigned last)
{
    bool more = false;

    for (unsigned id = first; id <= last; id++) {
        more |= feed(console, id);
        more |= drain(console, id);
    }
    if (console_ports_used(console))
        console_control_send(console);
    return more;
}

static bool work_on_all(struct virtio_console *console)
{
    return work(console, 1, console->ports->count - 1);
}

/* ---- The thread ----------------------------------------------------------------------------- */

/* Under the lock: who is to be polled, and for what. */
static void collect(struct virtio_console *console, struct pollfd *fds)
{
    struct console_ports *ports = console->ports;

    fds[0] = (struct pollfd){ .fd = ports->thread.wake_fd, .events = POLLIN };
    for (unsigned id = 1; id < ports->count; id++) {
        struct console_port *port = &ports->port[id];

        if (is_over(console, id)) {
            part(console, id);
            if (console_ports_used(console))
                console_control_send(console);
        }
        port->polled = interest(console, id);
        fds[id] = (struct pollfd){ .fd = !port->polled                       ? -1
                                         : !state_of(console, id)->connected ? port->listener.fd
                                                                             : port->fd,
                                   .events = (short)(port->polled & ~POLLHUP) };
    }
}

/* Looks at all sockets, waiting for one at most `timeout_ms`; false: it is over. */
static bool look(struct virtio_console *console, int timeout_ms)
{
    struct console_ports *ports = console->ports;
    struct pollfd fds[CONSOLE_PORTS_MAX];
    bool going, exhausted = false;

    vm_thread_enter(&ports->thread);
    dma_lock(console->device.dma);
    if (work_on_all(console))
        timeout_ms = 0;
    collect(console, fds);
    going = !ports->ending;
    dma_unlock(console->device.dma);
    vm_thread_leave(&ports->thread);
    if (!going || poll(fds, ports->count, timeout_ms) <= 0)
        return going;
    if (fds[0].revents)
        vm_thread_woken(&ports->thread);
    vm_thread_enter(&ports->thread);
    dma_lock(console->device.dma);
    for (unsigned id = 1; id < ports->count; id++) {
        struct console_port *port = &ports->port[id];

        if (!fds[id].revents)
            continue;
        if (!state_of(console, id)->connected) {
            exhausted |= !admit(console, id);
            continue;
        }
        port->hung_up |= fds[id].revents & (POLLHUP | POLLERR | POLLNVAL);
        if (fds[id].revents & POLLOUT)
            port->tx_blocked = false;
    }
    dma_unlock(console->device.dma);
    vm_thread_leave(&ports->thread);
    /* Who cannot be let in waits, and poll would return at once. */
    if (exhausted)
        usleep(ACCEPT_AGAIN_US);
    return true;
}

void console_ports_turn(struct virtio_console *console)
{
    look(console, 0);
    dma_lock(console->device.dma);
    work_on_all(console);
    dma_unlock(console->device.dma);
}

static void thread(void *owner)
{
    while (look(owner, -1))
        ;
}

int console_ports_start(struct virtio_console *console)
{
    vm_thread_init(&console->ports->thread, console->vm, VM_THREAD_BACK, "console ports");
    return vm_thread_start(&console->ports->thread, thread, console);
}

void console_ports_end(struct virtio_console *console)
{
    struct console_ports *ports = console->ports;

    dma_lock(console->device.dma);
    ports->ending = true;
    vm_thread_wake(&ports->thread);
    dma_unlock(console->device.dma);
    vm_thread_end(&ports->thread);
}

/* ---- The device -------------------------------------------------------------------------------
 */

/* Wakes the thread if it waits for something else than it should, or has somebody to part from. */
static void wake_if_stale(struct virtio_console *console)
{
    struct console_ports *ports = console->ports;

    for (unsigned id = 1; id < ports->count; id++) {
        if (interest(console, id) & ~ports->port[id].polled || is_over(console, id)) {
            vm_thread_wake(&ports->thread);
            return;
        }
    }
}

void console_ports_notify(struct virtio_console *console, unsigned queue)
{
    unsigned id = queue / 2 - 1; /* 0: control */
    bool more = false;

    if (!console_ports_used(console))
        return;
    if (queue == VIRTIO_CONSOLE_CONTROL_TRANSMIT)
        more = console_control_take(console);
    else if (id && queue == receive_queue(id))
        state_of(console, id)->no_rx_buffers = false;
    more |= id ? work(console, id, id) : work_on_all(console);
    if (more)
        virtio_device_set_pending(&console->device, queue);
    wake_if_stale(console);
}

void console_ports_stop(struct virtio_console *console, unsigned queue)
{
    unsigned id = queue / 2 - 1;

    if (queue < 4)
        return;
    if (queue % 2)
        state_of(console, id)->sending = console->ports->port[id].tx_blocked = false;
    else
        state_of(console, id)->no_rx_buffers = false;
}

/* Who is connected stays so; the next driver is told. */
void console_ports_reset(struct virtio_console *console)
{
    struct console_ports *ports = console->ports;

    for (unsigned id = 0; id < ports->count; id++) {
        struct console_port_state *state = state_of(console, id);

        state->ready = state->guest_open = false;
        state->send = 0;
        state->sending = state->no_rx_buffers = false;
        ports->port[id].tx_blocked = false;
    }
    vm_thread_wake(&ports->thread);
}

static bool can_be(const struct console_port_state *state)
{
    return state->first <= state->end && state->end <= CONSOLE_PORT_INPUT &&
           state->sent <= state->output.readable_bytes &&
           state->output.nreadable + state->output.nwritable <= VIRTQUEUE_SIZE_MAX;
}

int console_ports_restore(struct virtio_console *console, const struct console_ports_state *state)
{
    struct console_ports *ports = console->ports;

    if (state->count != ports->count)
        return -EINVAL;
    for (unsigned id = 0; id < ports->count; id++) {
        if (!can_be(&state->port[id]))
            return -EINVAL;
    }
    for (unsigned id = 1; id < ports->count; id++) {
        struct console_port *port = &ports->port[id];

        if (port->fd >= 0)
            part(console, id);
        /* What is to be delivered of one who was connected is what is left of them. */
        port->hung_up = port->eof = state->port[id].connected;
    }
    memcpy(ports->state, state, state_bytes(ports->count));
    vm_thread_wake(&ports->thread);
    return 0;
}

const char *console_ports_count(struct virtio_console *console, unsigned id,
                                struct console_port_counts *counts)
{
    struct console_ports *ports = console->ports;

    if (!ports || id < 1 || id >= ports->count)
        return NULL;
    dma_lock(console->device.dma);
    *counts = ports->port[id].counts;
    dma_unlock(console->device.dma);
    return ports->port[id].name;
}

void console_ports_destroy(struct console_ports *ports)
{
    for (unsigned id = 0; id < ports->count; id++) {
        if (ports->port[id].fd >= 0)
            close(ports->port[id].fd);
        unix_listener_close(&ports->port[id].listener);
    }
    free(ports->state);
    free(ports->queues);
    free(ports);
}

int console_ports_create(struct console_ports **created, const struct console_port_config *configs,
                         unsigned count, bool console, char *error, size_t error_bytes)
{
    struct console_ports *ports = calloc(1, sizeof(*ports) + (count + 1) * sizeof(ports->port[0]));
    char why[256] = "no memory";
    int err = -ENOMEM;

    if (!ports)
        goto explain;
    vm_thread_init(&ports->thread, NULL, VM_THREAD_BACK, "console ports");
    for (unsigned id = 0; id <= count; id++)
        ports->port[id].fd = ports->port[id].listener.fd = -1;
    ports->count = 1;
    ports->queues = calloc(2 * (count + 2), sizeof(ports->queues[0]));
    ports->state = calloc(1, state_bytes(count + 1));
    err = ports->queues && ports->state ? 0 : -ENOMEM;
    for (unsigned id = 1; id <= count && !err; id++) {
        struct console_port *port = &ports->port[id];

        port->name = configs[id - 1].name;
        err = unix_listen(&port->listener, configs[id - 1].path, BACKLOG, why, sizeof(why));
        ports->count = id + 1;
    }
    if (!err) {
        ports->state->count = count + 1;
        for (unsigned id = 0; id <= count; id++)
            ports->state->port[id].there = id || console;
        *created = ports;
        return 0;
    }
    console_ports_destroy(ports);
explain:
    snprintf(error, error_bytes, "--virtio-port: %s", why);
    return err;
}
