#include "devices/virtio/console.h"

#include <errno.h>
#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/core/device.h"
#include "devices/virtio/console_control.h"
#include "devices/virtio/console_ports.h"
#include "vmm/machine/vm.h"

#define QUEUE_SIZE  64
#define PIECE_BYTES 4096

void virtio_console_signal_input_ready(const struct virtio_console *console)
{
    uint64_t one = 1;

    /* An eventfd that is already readable says the same: the result does not matter. */
    if (console->input_ready_fd >= 0 && write(console->input_ready_fd, &one, sizeof(one)) < 0)
        return;
}

/* ---- Transmit: guest to host ------------------------------------------------------ */

/* Gives the chain in work back. A transmit buffer has nothing written to it. */
static int end_chain(struct virtio_console *console, struct virtqueue *queue)
{
    console->state.sending = false;
    return virtqueue_push(queue, console->state.output.head, 0);
}

/*
 * Under the lock: the next bytes that the guest sent, at most `max`; fewer at the end of
 * each chain. *more: look again, there may be more.
 */
static size_t take_output(struct virtio_console *console, uint8_t *bytes, size_t max, bool *more)
{
    struct virtqueue *queue = &console->device.queues[VIRTIO_CONSOLE_TRANSMIT];
    int64_t count;
    int taken;

    *more = false;
    if (!console->state.sending) {
        taken = virtqueue_pop(queue, &console->state.output);
        if (taken < 0)
            virtio_device_set_needs_reset(&console->device, queue->broken);
        if (taken <= 0)
            return 0;
        console->state.sending = true;
        console->state.sent = 0;
    }
    *more = true;
    count = virtqueue_read(queue, &console->state.output, console->state.sent, bytes, max);
    if (count > 0)
        console->state.sent += (uint64_t)count;
    /* What may not be read is not sent; the fault is on record. */
    if ((count < 0 || console->state.sent == console->state.output.readable_bytes) &&
        end_chain(console, queue))
        virtio_device_set_needs_reset(&console->device, queue->broken);
    virtio_device_notify_used(&console->device, VIRTIO_CONSOLE_TRANSMIT);
    return count > 0 ? (size_t)count : 0;
}

/* Without the lock. False: the VM is ending. */
static bool write_output(struct virtio_console *console, struct vm_thread *self,
                         const uint8_t *bytes, size_t count)
{
    size_t done = 0;

    while (done < count) {
        done += console_write(console->out, bytes + done, count - done);
        if (done < count && self && !vm_thread_park(self)) {
            console_drop(console->out, count - done);
            return false;
        }
    }
    return true;
}

/* One thread at a time writes, so that output keeps its order; it looks again for the others. */
static void deferred_work(void *owner, struct vm_thread *self)
{
    struct virtio_console *console = owner;
    uint8_t bytes[PIECE_BYTES];
    bool more = true, alive = true;

    if (!atomic_load_explicit(&console->transmit_due, memory_order_relaxed))
        return;
    while (more && alive) {
        size_t count = 0;

        dma_lock(console->device.dma);
        if (console->draining) {
            dma_unlock(console->device.dma);
            return;
        }
        atomic_store_explicit(&console->transmit_due, false, memory_order_relaxed);
        count = take_output(console, bytes, sizeof(bytes), &more);
        console->draining = count > 0;
        dma_unlock(console->device.dma);
        if (count) {
            alive = write_output(console, self, bytes, count);
            dma_lock(console->device.dma);
            console->draining = false;
            dma_unlock(console->device.dma);
        }
        /* A guest that never stops sending must not keep the world from pausing. */
        if (more && alive && self)
            alive = vm_thread_park(self);
    }
}

/* ---- Receive: host to guest ------------------------------------------------------- */

static bool listening(const struct virtio_console *console)
{
    const struct virtio_device *device = &console->device;

    /* A driver that knows of ports throws away what comes before it has opened one. */
    if (console_ports_used(console) && !console->ports->state->port[0].guest_open)
        return false;
    return virtio_device_is_running(device) && !device->resetting &&
           device->queues[VIRTIO_CONSOLE_RECEIVE].state.ready;
}

int64_t virtio_console_input(struct virtio_console *console, const uint8_t *bytes, size_t count)
{
    struct virtqueue *queue = &console->device.queues[VIRTIO_CONSOLE_RECEIVE];
    size_t done = 0;
    int64_t taken;
    int err = 0;

    dma_lock(console->device.dma);
    if (!listening(console)) {
        dma_unlock(console->device.dma);
        return -EAGAIN;
    }
    for (unsigned turn = 0; done < count && turn < QUEUE_SIZE; turn++) {
        int64_t written = 0;

        err = virtqueue_pop(queue, &console->input);
        if (err <= 0)
            break;
        console->state.takes_input = true;
        written = virtqueue_write(queue, &console->input, 0, bytes + done, count - done);
        /* A buffer that may not be written goes back empty; its bytes go into the next. */
        err = virtqueue_push(queue, console->input.head, written > 0 ? (uint32_t)written : 0);
        if (err)
            break;
        done += written > 0 ? (size_t)written : 0;
        err = 1;
    }
    if (err < 0)
        virtio_device_set_needs_reset(&console->device, queue->broken);
    virtio_device_notify_used(&console->device, VIRTIO_CONSOLE_RECEIVE);
    console->state.no_rx_buffers = done < count;
    /* Useless buffers only: there may be better ones behind them, or somebody else to read. */
    if (console->state.no_rx_buffers && err)
        virtio_console_signal_input_ready(console);
    taken = console->state.takes_input ? (int64_t)done : -EAGAIN;
    dma_unlock(console->device.dma);
    return taken;
}

/* ---- The device -------------------------------------------------------------------- */

static void notify(void *owner, unsigned queue)
{
    struct virtio_console *console = owner;

    if (queue > VIRTIO_CONSOLE_TRANSMIT) {
        console_ports_notify(console, queue);
    } else if (queue == VIRTIO_CONSOLE_TRANSMIT) {
        /* Drivers in use (Linux) look at the size only when they are told that it changed. */
        if (!console->state.size_told && console->state.columns)
            virtio_device_config_changed(&console->device);
        console->state.size_told = true;
        atomic_store_explicit(&console->transmit_due, true, memory_order_relaxed);
    } else if (console->state.no_rx_buffers || !console->state.takes_input) {
        /* The first buffers, or more: what waits, maybe elsewhere, is for this device. */
        console->state.no_rx_buffers = false;
        console->state.takes_input = true;
        virtio_console_signal_input_ready(console);
    }
}

static void reset(void *owner)
{
    struct virtio_console *console = owner;

    console->state.sending = console->state.no_rx_buffers = console->state.takes_input =
        console->state.size_told = false;
    virtio_console_signal_input_ready(console); /* to somebody else */
    if (console->ports)
        console_ports_reset(console);
}

static void stop(void *owner, unsigned queue)
{
    struct virtio_console *console = owner;

    if (queue == VIRTIO_CONSOLE_TRANSMIT)
        console->state.sending = false;
    else if (queue > VIRTIO_CONSOLE_TRANSMIT)
        console_ports_stop(console, queue);
}

/* 5.3.4: without MULTIPORT and EMERG_WRITE their fields mean nothing, and read 0. */
static uint64_t config_read(void *owner, uint32_t offset, unsigned size)
{
    const struct virtio_console *console = owner;
    const struct virtio_console_config config = {
        .cols = console->state.columns,
        .rows = console->state.rows,
        .max_nr_ports = console->ports ? console->ports->count : 0,
    };
    uint64_t value = 0;

    memcpy(&value, (const char *)&config + offset, size);
    return value;
}

static const struct virtio_class console_class = {
    .name = "virtio-console",
    .device_id = VIRTIO_ID_CONSOLE,
    .features = 1ull << VIRTIO_CONSOLE_F_SIZE,
    .nqueues = 2,
    .queue_max = QUEUE_SIZE,
    .config_bytes = sizeof(struct virtio_console_config),
    .notify = notify,
    .reset = reset,
    .stop = stop,
    .config_read = config_read,
    .deferred_work = deferred_work,
};

/* With ports: the class is this device's own, as it has as many queues as its ports need. */
static const struct virtio_class *make_class(struct console_ports *ports)
{
    if (!ports)
        return &console_class;
    ports->class = console_class;
    ports->class.features |= 1ull << VIRTIO_CONSOLE_F_MULTIPORT;
    ports->class.nqueues = 2 * (ports->count + 1);
    ports->class.queues = ports->queues;
    return &ports->class;
}

int virtio_console_create(struct virtio_console **created, const struct console_config *config,
                          char *error, size_t error_bytes)
{
    struct virtio_console *console = calloc(1, sizeof(*console));
    int err = console ? 0 : -ENOMEM;

    if (err)
        snprintf(error, error_bytes, "a virtio-console: %s", strerror(-err));
    else if (config->nports)
        err = console_ports_create(&console->ports, config->ports, config->nports,
                                   !config->ports_only, error, error_bytes);
    if (err) {
        free(console);
        return err;
    }
    console->vm = config->vm;
    console->out = config->out;
    console->input_ready_fd = config->input_ready_fd;
    virtio_device_init(&console->device, make_class(console->ports), console, config->dma);
    *created = console;
    return 0;
}

void virtio_console_destroy(struct virtio_console *console)
{
    if (console->ports) {
        console_ports_end(console);
        console_ports_destroy(console->ports);
    }
    free(console);
}

void virtio_console_resize(struct virtio_console *console, uint16_t columns, uint16_t rows)
{
    dma_lock(console->device.dma);
    if (columns != console->state.columns || rows != console->state.rows) {
        console->state.columns = columns;
        console->state.rows = rows;
        virtio_device_config_changed(&console->device);
        /* Drivers that know of ports take a port's size from a message (5.3.6.2). */
        if (console_ports_used(console) && console->ports->state->port[0].ready) {
            console->ports->state->port[0].send |= CONSOLE_SEND_RESIZE;
            console_control_send(console);
        }
    }
    dma_unlock(console->device.dma);
}

/* ---- As a device of a board ---------------------------------------------------------------- */

static int console_create(struct device *device, const struct device_config *config,
                          const struct device_place *place)
{
    const struct console_config console_config = { .vm = place->vm,
                                                   .dma = place->dma,
                                                   .out = place->console_out,
                                                   .input_ready_fd = place->console_input_ready_fd,
                                                   .ports = config->ports,
                                                   .nports = config->nports,
                                                   .ports_only = config->ports_only };
    struct virtio_console *console;
    int err = virtio_console_create(&console, &console_config, place->error, place->error_bytes);

    if (err)
        return err;
    if (console->ports)
        err = console_ports_start(console);
    if (err) {
        virtio_console_destroy(console);
        return err;
    }
    device->model = console;
    device->virtio = &console->device;
    return 0;
}

static void console_destroy(void *model)
{
    virtio_console_destroy(model);
}

/* Of a console with ports: theirs. */
static bool console_stats(void *model, struct device_stats *stats)
{
    struct virtio_console *console = model;
    struct console_port_counts counts;
    const char *name;

    if (!console->ports)
        return false;
    for (unsigned id = 1; (name = console_ports_count(console, id, &counts)); id++) {
        stats->item(stats);
        stats->text(stats, "name", name);
        stats->number(stats, "connections", counts.connections);
        stats->number(stats, "received_bytes", counts.received_bytes);
        stats->number(stats, "sent_bytes", counts.sent_bytes);
    }
    return true;
}

static int64_t console_input(void *model, const uint8_t *bytes, size_t count)
{
    return virtio_console_input(model, bytes, count);
}

static void console_resize(void *model, uint16_t columns, uint16_t rows)
{
    virtio_console_resize(model, columns, rows);
}

const struct device_ops virtio_console_ops = {
    .name = "virtio-console",
    .stats_name = "ports",
    .stats_list = true,
    .worth_a_thread = true,
    .create = console_create,
    .destroy = console_destroy,
    .stats = console_stats,
    .input = console_input,
    .resize = console_resize,
};
