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

bool console_ports_used(const struct virtio_console *console)
{
    const struct virtio_device *device = &console->device;

    return console->ports && virtio_device_is_running(device) &&
           virtio_device_has_feature(device, VIRTIO_CONSOLE_F_MULTIPORT);
}

/* ---- Host to guest ---------------------------------------------------------------------- */

static bool wants_input(const struct virtio_console *console, unsigned id)
{
    const struct console_port *port = &console->ports->port[id];

    return console_ports_used(console) && port->guest_open && !port->no_rx_buffers &&
           console->device.queues[receive_queue(id)].state.ready;
}

/* More from the socket into `input`: false if there is nothing now. */
static bool fetch(struct console_port *port)
{
    ssize_t count;

    if (port->fd < 0 || port->eof)
        return false;
    count = recv(port->fd, port->input, sizeof(port->input), MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    port->eof = count <= 0;
    port->first = 0;
    port->end = count > 0 ? (unsigned)count : 0;
    return count > 0;
}

/* One buffer of the driver: 1; 0, there is none; or an error of the queue. */
static int deliver(struct virtio_console *console, unsigned id)
{
    struct virtqueue *queue = &console->device.queues[receive_queue(id)];
    struct console_ports *ports = console->ports;
    struct console_port *port = &ports->port[id];
    int64_t written;
    int err = virtqueue_pop(queue, &ports->chain);

    if (err <= 0)
        return err;
    written = virtqueue_write(queue, &ports->chain, 0, port->input + port->first,
                              port->end - port->first);
    /* A buffer that may not be written goes back empty; its bytes go into the next. */
    if (written > 0) {
        port->first += (unsigned)written;
        port->counts.sent_bytes += (uint64_t)written;
    }
    err = virtqueue_push(queue, ports->chain.head, written > 0 ? (uint32_t)written : 0);
    return err ? err : 1;
}

/* True: there may be more. */
static bool feed(struct virtio_console *console, unsigned id)
{
    struct console_port *port = &console->ports->port[id];
    unsigned turn = 0;
    int delivered = 1;

    if (!wants_input(console, id))
        return false;
    while (delivered > 0 && turn < CONSOLE_PORTS_TURN && (port->first < port->end || fetch(port))) {
        delivered = deliver(console, id);
        turn++;
    }
    port->no_rx_buffers = !delivered;
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
    int64_t bytes = virtqueue_read(queue, &port->output, port->sent, ports->piece,
                                   sizeof(ports->piece));
    ssize_t count;

    /* What may not be read is not sent; the fault is on record. */
    if (bytes <= 0) {
        port->sent = port->output.readable_bytes;
        return true;
    }
    count = send(port->fd, ports->piece, (size_t)bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count > 0) {
        port->sent += (uint64_t)count;
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
    unsigned turn = 0;
    int taken = 1;

    if (!console_ports_used(console))
        return false;
    while (port->fd >= 0 && !port->hung_up && !port->tx_blocked && turn < CONSOLE_PORTS_TURN) {
        taken = port->sending ? 1 : virtqueue_pop(queue, &port->output);
        if (taken <= 0)
            break;
        if (!port->sending)
            port->sent = 0;
        port->sending = true;
        turn++;
        if (port->sent < port->output.readable_bytes && !send_piece(console, id))
            break;
        if (port->sent < port->output.readable_bytes)
            continue;
        port->sending = false;
        taken = virtqueue_push(queue, port->output.head, 0);
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

static void tell_open(struct console_port *port)
{
    if (port->ready)
        port->send |= CONSOLE_SEND_OPEN;
}

/* Whether all that it has sent before it hung up has been read and delivered. */
static bool is_over(struct console_port *port)
{
    char byte;

    if (port->fd < 0 || !port->hung_up || port->first < port->end)
        return false;
    if (!port->eof && recv(port->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0)
        port->eof = true;
    return port->eof;
}

/* On the thread: false if there are no file descriptors. */
static bool admit(struct console_port *port)
{
    int fd = unix_accept(&port->listener);

    if (fd < 0)
        return fd == -EAGAIN || fd == -ECONNABORTED;
    port->fd = fd;
    port->eof = port->hung_up = port->tx_blocked = false;
    port->counts.connections++;
    tell_open(port);
    return true;
}

static void part(struct console_port *port)
{
    close(port->fd);
    port->fd = -1;
    port->tx_blocked = false;
    tell_open(port);
}

/*
 * What the thread is to look for: who comes, when the guest knows that the last one has gone;
 * or what the one that there is does. POLLHUP comes without being asked for, and forever.
 */
static short interest(const struct virtio_console *console, unsigned id)
{
    const struct console_port *port = &console->ports->port[id];
    int events = POLLHUP;

    if (port->fd < 0)
        return port->send & CONSOLE_SEND_OPEN ? 0 : POLLIN;
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

        if (is_over(port)) {
            part(port);
            if (console_ports_used(console))
                console_control_send(console);
        }
        port->polled = interest(console, id);
        fds[id] = (struct pollfd){ .fd = !port->polled  ? -1
                                         : port->fd < 0 ? port->listener.fd
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
        if (port->fd < 0) {
            exhausted |= !admit(port);
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
static void wake_if_stale(const struct virtio_console *console)
{
    struct console_ports *ports = console->ports;

    for (unsigned id = 1; id < ports->count; id++) {
        if (interest(console, id) & ~ports->port[id].polled || is_over(&ports->port[id])) {
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
        console->ports->port[id].no_rx_buffers = false;
    more |= id ? work(console, id, id) : work_on_all(console);
    if (more)
        virtio_device_set_pending(&console->device, queue);
    wake_if_stale(console);
}

void console_ports_stop(struct virtio_console *console, unsigned queue)
{
    struct console_port *port = &console->ports->port[queue / 2 - 1];

    if (queue < 4)
        return;
    if (queue % 2)
        port->sending = port->tx_blocked = false;
    else
        port->no_rx_buffers = false;
}

/* Who is connected stays so; the next driver is told. */
void console_ports_reset(struct virtio_console *console)
{
    struct console_ports *ports = console->ports;

    for (unsigned id = 0; id < ports->count; id++) {
        struct console_port *port = &ports->port[id];

        port->ready = port->guest_open = false;
        port->send = 0;
        port->sending = port->tx_blocked = port->no_rx_buffers = false;
    }
    vm_thread_wake(&ports->thread);
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
    ports->port[0].there = console;
    ports->count = 1;
    ports->queues = calloc(2 * (count + 2), sizeof(ports->queues[0]));
    err = ports->queues ? 0 : -ENOMEM;
    for (unsigned id = 1; id <= count && !err; id++) {
        struct console_port *port = &ports->port[id];

        port->name = configs[id - 1].name;
        port->there = true;
        err = unix_listen(&port->listener, configs[id - 1].path, BACKLOG, why, sizeof(why));
        ports->count = id + 1;
    }
    if (!err) {
        *created = ports;
        return 0;
    }
    console_ports_destroy(ports);
explain:
    snprintf(error, error_bytes, "--virtio-port: %s", why);
    return err;
}
