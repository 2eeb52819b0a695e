/*
 * A virtio-console with more ports than one (virtio 1.2, 5.3, VIRTIO_CONSOLE_F_MULTIPORT):
 * port 0 is the console, each other one a named stream of bytes between the guest and who
 * connects to a Unix socket on the host, one at a time. Linux has it as vport0pN, and udev
 * makes /dev/virtio-ports/NAME of that.
 *
 * No byte is lost on the way: what the guest sends while nobody is connected stays in its
 * queue, where it fills up; what the host sends is read from the socket only while the guest
 * has the port open, and buffers for it. Whoever hangs up leaves what it has sent, and the
 * next one is let in after the guest has had that and has been told. Lost is only what a
 * client was sent and did not read.
 *
 * All work is done with the lock of the dma handle held and never waits, on the thread that was
 * notified or the device's own. Data is copied, so nothing is in flight without the lock.
 */
#ifndef STRATA_VIRTIO_CONSOLE_PORTS_H
#define STRATA_VIRTIO_CONSOLE_PORTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/backend/unix_socket.h"
#include "devices/core/virtio_device.h"
#include "vmm/machine/vm_thread.h"

#define CONSOLE_PORTS_MAX               15u /* with port 0: 2 queues each, and 2 for control (5.3.2) */
#define CONSOLE_PORT_NAME_MAX           63u
#define CONSOLE_PORT_INPUT              4096u
#define CONSOLE_PORT_PIECE              16384u /* sent to a socket at once */
#define CONSOLE_PORTS_TURN              64u    /* buffers, before others get their turn */

#define VIRTIO_CONSOLE_CONTROL_RECEIVE  2
#define VIRTIO_CONSOLE_CONTROL_TRANSMIT 3

struct virtio_console;

struct console_port_config {
    const char *name; /* 1 to CONSOLE_PORT_NAME_MAX characters */
    const char *path; /* of the socket */
};

/* Messages that a port has for the driver (5.3.6.2), by bit, in this order. */
enum {
    CONSOLE_SEND_ADD = 1,
    CONSOLE_SEND_CONSOLE = 2,
    CONSOLE_SEND_NAME = 4,
    CONSOLE_SEND_RESIZE = 8,
    CONSOLE_SEND_OPEN = 16,
};

struct console_port_counts {
    uint64_t connections;
    uint64_t sent_bytes;     /* to the guest */
    uint64_t received_bytes; /* from it */
};

/* What the guest can see or has set of a port, and what it has not got yet. */
struct console_port_state {
    bool there;             /* drivers are told of it */
    bool ready, guest_open; /* the driver has said so */
    uint8_t send;           /* CONSOLE_SEND_… */

    /* The rest is not of port 0. */
    bool connected;      /* the host's end is open for the guest, until it has had all input */
    bool no_rx_buffers;  /* the driver has left no receive buffer */
    bool sending;        /* `sent` bytes of `output` are done with, the chain is not */
    uint32_t first, end; /* in `input`, which was read from the socket and is not delivered */
    uint64_t sent;
    struct virtqueue_chain output;
    uint8_t input[CONSOLE_PORT_INPUT];
};

struct console_ports_state {
    uint32_t count;
    struct console_port_state port[];
};

/* A port on this host; the socket and all that is said of it are not of port 0. */
struct console_port {
    const char *name; /* NULL: port 0 */
    struct unix_listener listener;
    int fd;          /* < 0: there is no socket; only the thread opens and closes it */
    bool eof;        /* nothing more to read from it */
    bool hung_up;    /* nobody is at its other end */
    bool tx_blocked; /* it has no room for `output` */
    short polled;    /* what the thread looks for */
    struct console_port_counts counts;
};

struct console_ports {
    struct virtio_class class;
    struct virtqueue *queues;
    struct vm_thread thread;
    /* The rest is under the lock of the dma handle. */
    bool ending;
    uint64_t bad_messages; /* of the driver: too short, unknown, of a port that there is not */
    struct virtqueue_chain chain;
    uint8_t piece[CONSOLE_PORT_PIECE];
    struct console_ports_state *state; /* owned */
    unsigned count;
    struct console_port port[];
};

/*
 * The ports of `configs` and port 0, which drivers are told of if `console`; their sockets
 * listen (unix_listen). 0; or -errno and one line for the user.
 */
int console_ports_create(struct console_ports **ports, const struct console_port_config *configs,
                         unsigned count, bool console, char *error, size_t error_bytes);
void console_ports_destroy(struct console_ports *ports);

/* What there is to tell of a port, from 1 on: its name; NULL: there is no such port. */
const char *console_ports_count(struct virtio_console *console, unsigned id,
                                struct console_port_counts *counts);

/* Whether a driver runs the device and knows of ports. */
bool console_ports_used(const struct virtio_console *console);

/* ---- With the lock of the dma handle ---- */

void console_ports_notify(struct virtio_console *console, unsigned queue);
void console_ports_reset(struct virtio_console *console);
void console_ports_stop(struct virtio_console *console, unsigned queue);

/*
 * The state was taken of the ports of another device with as many. Who was connected there is
 * not here: the driver is told so when it has had what was read from them. 0; or -EINVAL for a
 * state that cannot be, and nothing has changed.
 */
int console_ports_restore(struct virtio_console *console, const struct console_ports_state *state);

/* ---- Without it ---- */

/* Starts the thread: 0 or -errno. */
int console_ports_start(struct virtio_console *console);
/* Ends it. */
void console_ports_end(struct virtio_console *console);
/* What the thread does, once, without waiting. */
void console_ports_turn(struct virtio_console *console);

#endif
