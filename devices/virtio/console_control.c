/* The control queues of a virtio-console with ports (virtio 1.2, 5.3.6.2). */
#include "devices/virtio/console_control.h"

#include <errno.h>
#include <linux/virtio_console.h>
#include <string.h>

#include "devices/virtio/console.h"
#include "devices/virtio/console_ports.h"

#define HEADER_BYTES sizeof(struct virtio_console_control)

_Static_assert(sizeof(struct virtio_console_control) == 8, "5.3.6.2");

struct message {
    struct virtio_console_control header;
    uint8_t more[CONSOLE_PORT_NAME_MAX];
};

/* ---- To the driver -------------------------------------------------------------------- */

/* Makes this message; how long it is. */
static size_t make(const struct virtio_console *console, unsigned id, unsigned which,
                   struct message *message)
{
    const struct console_port *port = &console->ports->port[id];
    /* As specified; older drivers (Linux until 2025) take them the other way round. */
    const uint16_t size[] = { console->state.columns, console->state.rows };
    size_t more = 0;

    message->header = (struct virtio_console_control){ .id = id, .value = 1 };
    switch (which) {
    case CONSOLE_SEND_ADD: message->header.event = VIRTIO_CONSOLE_PORT_ADD; break;
    case CONSOLE_SEND_CONSOLE: message->header.event = VIRTIO_CONSOLE_CONSOLE_PORT; break;
    case CONSOLE_SEND_NAME:
        message->header.event = VIRTIO_CONSOLE_PORT_NAME;
        more = strlen(port->name);
        memcpy(message->more, port->name, more);
        break;
    case CONSOLE_SEND_RESIZE:
        message->header.event = VIRTIO_CONSOLE_RESIZE;
        more = sizeof(size);
        memcpy(message->more, size, more);
        break;
    case CONSOLE_SEND_OPEN:
        message->header.event = VIRTIO_CONSOLE_PORT_OPEN;
        message->header.value = !id || console->ports->state->port[id].connected;
        break;
    }
    return HEADER_BYTES + more;
}

/* Which message is next, and of which port: false if there is none. */
static bool next(const struct console_ports *ports, unsigned *id, unsigned *which)
{
    for (*id = 0; *id < ports->count; ++*id) {
        const struct console_port_state *port = &ports->state->port[*id];
        /* A driver that has not taken a port up knows nothing to do with the others. */
        unsigned due = port->send & (port->ready ? UINT8_MAX : CONSOLE_SEND_ADD);

        if (due) {
            *which = due & -due;
            return true;
        }
    }
    return false;
}

void console_control_send(struct virtio_console *console)
{
    struct virtqueue *queue = &console->device.queues[VIRTIO_CONSOLE_CONTROL_RECEIVE];
    struct console_ports *ports = console->ports;
    unsigned id, which;
    int err = 0;

    while (!err && next(ports, &id, &which) && (err = virtqueue_pop(queue, &ports->chain)) > 0) {
        struct message message;
        size_t bytes = make(console, id, which, &message);
        int64_t written = 0;

        if (ports->chain.writable_bytes < bytes) {
            queue->broken = "a control buffer without room for a message";
            err = -EINVAL;
            break;
        }
        /* What may not be written is lost; the fault is on record. */
        written = virtqueue_write(queue, &ports->chain, 0, &message, bytes);
        ports->state->port[id].send &= (uint8_t)~which;
        err = virtqueue_push(queue, ports->chain.head, written > 0 ? (uint32_t)written : 0);
    }
    if (err < 0)
        virtio_device_set_needs_reset(&console->device, queue->broken);
    virtio_device_notify_used(&console->device, VIRTIO_CONSOLE_CONTROL_RECEIVE);
}

/* ---- From the driver ------------------------------------------------------------------- */

/* It begins: all ports are new to it. */
static void add_all(struct console_ports *ports)
{
    for (unsigned i = 0; i < ports->count; i++) {
        struct console_port_state *port = &ports->state->port[i];

        port->ready = port->guest_open = false;
        port->send = port->there ? CONSOLE_SEND_ADD : 0;
    }
}

static void port_ready(const struct virtio_console *console, unsigned id, bool ready)
{
    struct console_port_state *port = &console->ports->state->port[id];

    port->ready = ready;
    if (!ready)
        port->guest_open = false;
    port->send = 0;
    if (ready && !id)
        port->send = CONSOLE_SEND_CONSOLE | CONSOLE_SEND_OPEN |
                     (console->state.columns ? CONSOLE_SEND_RESIZE : 0);
    else if (ready)
        port->send = CONSOLE_SEND_NAME | (port->connected ? CONSOLE_SEND_OPEN : 0);
}

/* One message, of which this is a copy. False: no driver should send such a one. */
static bool take(struct virtio_console *console, const struct virtio_console_control *message)
{
    struct console_ports *ports = console->ports;
    struct console_port_state *port = message->id < ports->count ? &ports->state->port[message->id]
                                                                 : NULL;

    if (message->event == VIRTIO_CONSOLE_DEVICE_READY) {
        /* Of no port. 0: it has failed, and wants none of them. */
        if (message->value)
            add_all(ports);
        return true;
    }
    if (!port || !port->there)
        return false;
    switch (message->event) {
    case VIRTIO_CONSOLE_PORT_READY: port_ready(console, message->id, message->value); return true;
    case VIRTIO_CONSOLE_PORT_OPEN:
        if (!port->ready)
            return false;
        port->guest_open = message->value;
        if (!message->id && port->guest_open)
            virtio_console_signal_input_ready(console);
        return true;
    default: return false;
    }
}

bool console_control_take(struct virtio_console *console)
{
    struct virtqueue *queue = &console->device.queues[VIRTIO_CONSOLE_CONTROL_TRANSMIT];
    struct console_ports *ports = console->ports;
    unsigned turn = 0;
    int taken = 0;

    while (turn++ < CONSOLE_PORTS_TURN && (taken = virtqueue_pop(queue, &ports->chain)) > 0) {
        struct virtio_console_control message;

        if (virtqueue_read(queue, &ports->chain, 0, &message, sizeof(message)) !=
                (int64_t)sizeof(message) ||
            !take(console, &message))
            ports->bad_messages++;
        taken = virtqueue_push(queue, ports->chain.head, 0);
        if (taken < 0)
            break;
        taken = 1;
    }
    if (taken < 0)
        virtio_device_set_needs_reset(&console->device, queue->broken);
    virtio_device_notify_used(&console->device, VIRTIO_CONSOLE_CONTROL_TRANSMIT);
    return taken > 0;
}
