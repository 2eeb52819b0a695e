/*
 * virtio-console (virtio 1.2, 5.3) with one port: a receive and a transmit queue. Its
 * output goes where the serial port's goes; its size is that of the terminal there.
 *
 * Output is copied out of guest memory under the lock of the dma handle and written without it,
 * on the thread of the vCPU that kicked: a reader that takes nothing stops neither the
 * IOMMU nor the other vCPUs. More ports are console_ports.h's.
 */
#ifndef STRATA_VIRTIO_CONSOLE_H
#define STRATA_VIRTIO_CONSOLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/backend/console.h"
#include "devices/core/virtio_device.h"

#define VIRTIO_CONSOLE_RECEIVE  0 /* queues (5.3.2) */
#define VIRTIO_CONSOLE_TRANSMIT 1

struct console_port_config;
struct console_ports;
struct vm;

/* What the guest can see or has set, beside the device's, the queues' and the ports' states. */
struct virtio_console_state {
    uint16_t columns, rows; /* 0: not known */
    bool size_told;         /* to this driver, by an interrupt */
    bool takes_input;       /* the driver has made a receive buffer available */
    bool no_rx_buffers;     /* virtio_console_input had to leave bytes behind */
    bool sending;           /* `sent` bytes of `output` are done with, the chain is not */
    uint64_t sent;
    struct virtqueue_chain output;
};

struct virtio_console {
    struct virtio_device device;
    struct console_ports *ports; /* owned; NULL: there is but one, and nothing else is offered */
    struct vm *vm;
    struct console *out; /* not owned */
    int input_ready_fd;
    atomic_bool transmit_due; /* the driver kicked, and nobody has looked yet */
    /* The rest is under the lock of the dma handle. */
    struct virtio_console_state state;
    bool draining; /* a thread writes what it took from the transmit queue */
    struct virtqueue_chain input;
};

struct console_config {
    struct vm *vm; /* whose pauses the ports' thread obeys; NULL: tests */
    struct dma *dma;
    struct console *out; /* gets the guest's output */
    int input_ready_fd;  /* eventfd: input that was refused should be offered again; < 0: none */
    /* More ports (console_ports.h), at most CONSOLE_PORTS_MAX - 1, whose sockets listen. */
    const struct console_port_config *ports;
    unsigned nports;
    bool ports_only; /* it is no console to drivers that know of ports */
};

/*
 * All that the configuration says outlives the device. 0; or -errno and one line for the
 * user. Ports need console_ports_start.
 */
int virtio_console_create(struct virtio_console **console, const struct console_config *config,
                          char *error, size_t error_bytes);

/* After the VM has ended. */
void virtio_console_destroy(struct virtio_console *console);

/*
 * Bytes from the outside, from any thread, which is inside where it must not come in the middle
 * of a pause (vm_thread.h): how many fitted into the buffers that the
 * driver has made available, or -EAGAIN while no driver runs the device, or one that has
 * never made any available: it only writes. What was not taken is to be offered again
 * when input_ready_fd is readable.
 */
int64_t virtio_console_input(struct virtio_console *console, const uint8_t *bytes, size_t count);

/* The terminal has this size from now on. Any thread, without the lock of the dma handle. */
void virtio_console_resize(struct virtio_console *console, uint16_t columns, uint16_t rows);

/* Under the lock: what was refused may be taken now, by this or another one. */
void virtio_console_signal_input_ready(const struct virtio_console *console);

#endif
