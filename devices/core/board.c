#include "devices/core/board.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "devices/core/virtio_mmio.h"
#include "devices/hostile/probe.h"
#include "devices/virtio/balloon.h"
#include "devices/virtio/blk.h"
#include "devices/virtio/console.h"
#include "devices/virtio/console_ports.h"
#include "devices/virtio/iommu.h"
#include "devices/virtio/net.h"
#include "devices/virtio/rng.h"
#include "devices/virtio/vsock.h"
#include "guest/abi/machine.h"
#include "guest/abi/probe.h"
#include "vmm/machine/vm.h"

#define BALLOON_PAGE_SHIFT 12 /* virtio 1.2, 5.5.6: always 4K */

struct board_slot {
    const struct board_device *device; /* NULL: the IOMMU's own device */
    struct dma dma;
    struct virtio_mmio mmio; /* how the guest reaches it, but for a probe */
    uint64_t gpa;
    unsigned gsi;
    union {
        struct virtio_iommu *iommu;
        struct probe probe;
        struct virtio_blk *blk;
        struct virtio_rng *rng;
        struct virtio_console *console;
        struct virtio_balloon *balloon;
        struct virtio_net *net;
        struct virtio_vsock *vsock;
    };
};

/* What the slot's window and interrupt are, and its dma handle, before the device itself. */
static int open_slot(struct board *board, unsigned window, const struct board_device *device)
{
    struct board_slot *slot = &board->slots[window];
    int err;

    slot->device = device;
    slot->gpa = ABI_MMIO_GPA + window * ABI_MMIO_BYTES;
    slot->gsi = irq_line_alloc(board->vm);
    /* The accesses of the IOMMU itself and of a balloon are not translated. */
    err = dma_create(&slot->dma, &board->vm->memory,
                     device && device->kind != BOARD_BALLOON ? board->iommu : NULL,
                     device ? device->endpoint : 0);
    slot->dma.vm = board->vm;
    return err;
}

static int create_disk(struct board *board, struct board_slot *slot)
{
    const struct blk_config config = { .vm = board->vm,
                                       .dma = &slot->dma,
                                       .path = slot->device->path,
                                       .read_only = slot->device->read_only,
                                       .latency_ns = slot->device->latency_ns };

    return virtio_blk_create(&slot->blk, &config, board->error, sizeof(board->error));
}

static int create_console(struct board *board, struct board_slot *slot)
{
    const struct board_device *device = slot->device;
    const struct console_config config = { .vm = board->vm,
                                           .dma = &slot->dma,
                                           .out = &board->serial.console,
                                           .input_ready_fd = board->serial.input_ready_fd,
                                           .ports = device->ports,
                                           .nports = device->nports,
                                           .ports_only = device->ports_only };
    int err = virtio_console_create(&slot->console, &config, board->error, sizeof(board->error));

    if (err || !device->nports)
        return err;
    err = console_ports_start(slot->console);
    if (err)
        virtio_console_destroy(slot->console);
    return err;
}

static int create_net(struct board *board, struct board_slot *slot)
{
    const struct net_device_config config = { .vm = board->vm,
                                              .dma = &slot->dma,
                                              .net = slot->device->net };

    return virtio_net_create(&slot->net, &config, board->error, sizeof(board->error));
}

static int create_vsock(struct board *board, struct board_slot *slot)
{
    const struct vsock_config config = { .vm = board->vm,
                                         .dma = &slot->dma,
                                         .guest_cid = slot->device->guest_cid,
                                         .path = slot->device->path };
    int err = virtio_vsock_create(&slot->vsock, &config, board->error, sizeof(board->error));

    if (err)
        return err;
    err = virtio_vsock_start(slot->vsock);
    if (err)
        virtio_vsock_destroy(slot->vsock);
    return err;
}

static int create_rng(struct board_slot *slot)
{
    const struct rng_config config = { .dma = &slot->dma };

    return virtio_rng_create(&slot->rng, &config);
}

static int create_balloon(struct board *board, struct board_slot *slot)
{
    const struct balloon_config config = {
        .dma = &slot->dma,
        .iommu = board->iommu,
        .target_pages = (uint32_t)(slot->device->bytes >> BALLOON_PAGE_SHIFT),
    };

    return virtio_balloon_create(&slot->balloon, &config);
}

static int create_iommu(struct board *board, struct board_slot *slot)
{
    const struct viommu_config config = { .dma = &slot->dma, .iommu = board->iommu };

    return virtio_iommu_create(&slot->iommu, &config);
}

static int create_model(struct board *board, struct board_slot *slot)
{
    if (!slot->device)
        return create_iommu(board, slot);
    switch (slot->device->kind) {
    case BOARD_PROBE:
        return probe_create(&slot->probe, board->vm, &slot->dma, slot->gpa, slot->gsi);
    case BOARD_BLK: return create_disk(board, slot);
    case BOARD_RNG: return create_rng(slot);
    case BOARD_CONSOLE: return create_console(board, slot);
    case BOARD_NET: return create_net(board, slot);
    case BOARD_VSOCK: return create_vsock(board, slot);
    case BOARD_BALLOON: return create_balloon(board, slot);
    }
    return -EINVAL;
}

/* What works on its own threads ends; the others only ever work on a vCPU's. */
static void destroy_device(struct board_slot *slot)
{
    if (!slot->device) {
        virtio_iommu_destroy(slot->iommu);
        return;
    }
    switch (slot->device->kind) {
    case BOARD_PROBE: break;
    case BOARD_BLK: virtio_blk_destroy(slot->blk); break;
    case BOARD_RNG: virtio_rng_destroy(slot->rng); break;
    case BOARD_CONSOLE: virtio_console_destroy(slot->console); break;
    case BOARD_NET: virtio_net_destroy(slot->net); break;
    case BOARD_VSOCK: virtio_vsock_destroy(slot->vsock); break;
    case BOARD_BALLOON: virtio_balloon_destroy(slot->balloon); break;
    }
}

/* The device itself; NULL: it is no virtio device. */
static struct virtio_device *virtio_of(struct board_slot *slot)
{
    if (!slot->device)
        return &slot->iommu->device;
    switch (slot->device->kind) {
    case BOARD_PROBE: return NULL;
    case BOARD_BLK: return &slot->blk->device;
    case BOARD_RNG: return &slot->rng->device;
    case BOARD_CONSOLE: return &slot->console->device;
    case BOARD_BALLOON: return &slot->balloon->device;
    case BOARD_NET: return &slot->net->device;
    case BOARD_VSOCK: return &slot->vsock->device;
    }
    return NULL;
}

/* The device and the transport by which the guest reaches it. */
static int create_device(struct board *board, struct board_slot *slot)
{
    int err = create_model(board, slot);
    struct virtio_device *device = err ? NULL : virtio_of(slot);

    if (!device)
        return err;
    err = virtio_mmio_create(&slot->mmio, device, board->vm, slot->gpa, slot->gsi);
    if (err)
        destroy_device(slot);
    return err;
}

/* The last ones first: the IOMMU's own device outlives those behind it. */
static void destroy_slots(struct board *board)
{
    while (board->nslots > 0) {
        struct board_slot *slot = &board->slots[--board->nslots];

        destroy_device(slot);
        dma_destroy(&slot->dma);
    }
    free(board->slots);
    board->slots = NULL;
    if (board->iommu)
        iommu_destroy(board->iommu);
    board->iommu = NULL;
}

/* Those whose notifications mean work: for a disk, a network, somebody's terminal. */
static bool worth_a_thread(const struct board_slot *slot)
{
    return slot->device && (slot->device->kind == BOARD_BLK || slot->device->kind == BOARD_NET ||
                            slot->device->kind == BOARD_CONSOLE);
}

static int create_slots(struct board *board, const struct board_config *config)
{
    unsigned first = config->iommu ? 1 : 0;
    unsigned count = first + config->ndevices;
    int err = 0;

    if (!count)
        return 0;
    if (count > ABI_MMIO_DEVICES_MAX)
        return -E2BIG;
    board->slots = calloc(count, sizeof(board->slots[0]));
    if (!board->slots)
        return -ENOMEM;
    if (config->iommu)
        err = iommu_create(&board->iommu, &board->vm->memory, &config->iommu_config);
    for (unsigned i = 0; i < count && !err; i++) {
        err = open_slot(board, i, i < first ? NULL : &config->devices[i - first]);
        if (err)
            break;
        err = create_device(board, &board->slots[i]);
        if (err) {
            dma_destroy(&board->slots[i].dma);
            break;
        }
        board->nslots++;
        if (config->io_thread && worth_a_thread(&board->slots[i]))
            virtio_of(&board->slots[i])->io = &board->io;
    }
    if (err)
        destroy_slots(board);
    return err;
}

static int create_debug_exit(struct board *board, uint16_t port)
{
    int err = debug_exit_create(&board->debug_exit, board->vm, port);

    if (err)
        snprintf(board->error, sizeof(board->error),
                 "--debug-exit 0x%x: %s; give another port, such as 0x%x", port,
                 err == -EEXIST ? "another device is there" : "not 4 ports", DEBUG_EXIT_PORT);
    return err;
}

static int create_pc(struct board *board)
{
    struct vm *vm = board->vm;
    int err;

    board->pc = true;
    err = rtc_create(&board->rtc, vm);
    if (!err)
        err = pit_create(&board->pit, vm);
    if (!err)
        err = acpi_pm_create(&board->acpi_pm, vm);
    if (!err)
        err = pvpanic_create(&board->pvpanic, vm);
    return err;
}

int board_create(struct board *board, struct vm *vm, const struct board_config *config)
{
    int err;

    *board = (struct board){ .vm = vm };
    io_thread_create(&board->io, vm);
    vm_thread_init(&board->input, vm, VM_THREAD_BACK, "console input");
    vm_thread_register(&board->input, config->console_input_ready_fd);
    err = serial_create(&board->serial, vm, ABI_SERIAL_PORT, ABI_SERIAL_GSI, config->console_out_fd,
                        config->console_input_ready_fd);
    if (err)
        goto destroy_io;
    err = hypercall_port_create(&board->hypercall_port, vm, config->checkpoint,
                                config->checkpoint_owner);
    if (err)
        goto destroy_serial;
    err = i8042_create(&board->i8042, vm);
    if (err)
        goto destroy_serial;
    err = config->pc ? create_pc(board) : 0;
    if (!err && config->debug_exit_port)
        err = create_debug_exit(board, config->debug_exit_port);
    if (err)
        goto destroy_serial;
    err = create_slots(board, config);
    if (err)
        goto destroy_serial;
    return 0;

destroy_serial:
    serial_destroy(&board->serial);
destroy_io:
    vm_thread_unregister(&board->input);
    io_thread_destroy(&board->io);
    return err;
}

void board_destroy(struct board *board)
{
    io_thread_destroy(&board->io);
    destroy_slots(board);
    serial_destroy(&board->serial);
    vm_thread_unregister(&board->input);
}

static struct board_slot *slot_of(const struct board *board, unsigned device)
{
    unsigned window = device + (board->iommu ? 1 : 0);

    return window < board->nslots ? &board->slots[window] : NULL;
}

struct dma *board_dma(const struct board *board, unsigned device)
{
    struct board_slot *slot = slot_of(board, device);

    return slot ? &slot->dma : NULL;
}

struct probe *board_probe(const struct board *board, unsigned device)
{
    struct board_slot *slot = slot_of(board, device);

    return slot && slot->device->kind == BOARD_PROBE ? &slot->probe : NULL;
}

struct virtio_blk *board_blk(const struct board *board, unsigned device)
{
    struct board_slot *slot = slot_of(board, device);

    return slot && slot->device->kind == BOARD_BLK ? slot->blk : NULL;
}

struct virtio_balloon *board_balloon(const struct board *board, unsigned device)
{
    struct board_slot *slot = slot_of(board, device);

    return slot && slot->device->kind == BOARD_BALLOON ? slot->balloon : NULL;
}

bool board_report(const struct board *board, unsigned window, struct board_report *report)
{
    struct board_slot *slot = window < board->nslots ? &board->slots[window] : NULL;
    const struct virtio_device *device = slot ? virtio_of(slot) : NULL;

    if (!slot)
        return false;
    *report = (struct board_report){ .name = "dma-probe", /* which has no queues */
                                     .gpa = slot->gpa,
                                     .translated = slot->dma.iommu != NULL,
                                     .endpoint = slot->dma.id,
                                     .dma_faults = slot->dma.faults };
    if (!slot->device)
        report->iommu = slot->iommu;
    else if (slot->device->kind == BOARD_BLK)
        report->disk = slot->blk;
    else if (slot->device->kind == BOARD_BALLOON)
        report->balloon = slot->balloon;
    else if (slot->device->kind == BOARD_CONSOLE)
        report->ports = slot->console->ports ? slot->console : NULL;
    else if (slot->device->kind == BOARD_NET)
        report->net = slot->net;
    else if (slot->device->kind == BOARD_VSOCK)
        report->vsock = slot->vsock;
    if (device) {
        report->name = device->class->name;
        report->kicks = device->kicks;
        report->interrupts = device->interrupts;
        report->bad_accesses = device->bad_accesses;
        report->needed_resets = device->needed_resets;
        report->needed_reset = device->last_needs_reset;
    } else {
        report->bad_accesses = slot->probe.bad_accesses;
    }
    return true;
}

static size_t input_inside(struct board *board, const uint8_t *bytes, size_t count)
{
    for (unsigned i = 0; i < board->nslots; i++) {
        struct board_slot *slot = &board->slots[i];
        int64_t taken = slot->device && slot->device->kind == BOARD_CONSOLE
                            ? virtio_console_input(slot->console, bytes, count)
                            : -EAGAIN;

        if (taken >= 0)
            return (size_t)taken;
    }
    return serial_input(&board->serial, bytes, count);
}

/* The event loop does not wait for a pause: it is told by console_input_ready_fd. */
size_t board_input(struct board *board, const uint8_t *bytes, size_t count)
{
    size_t taken;

    if (!vm_thread_try_enter(&board->input))
        return 0;
    taken = input_inside(board, bytes, count);
    vm_thread_leave(&board->input);
    return taken;
}

void board_resize(struct board *board, uint16_t columns, uint16_t rows)
{
    vm_thread_enter(&board->input);
    for (unsigned i = 0; i < board->nslots; i++) {
        struct board_slot *slot = &board->slots[i];

        if (slot->device && slot->device->kind == BOARD_CONSOLE)
            virtio_console_resize(slot->console, columns, rows);
    }
    vm_thread_leave(&board->input);
}

struct iommu *board_iommu(const struct board *board)
{
    return board->iommu;
}

static struct board_node describe_slot(const struct board_slot *slot)
{
    bool probe = slot->device && slot->device->kind == BOARD_PROBE;

    return (struct board_node){ .name = probe ? "dma-probe" : "virtio",
                                .compatible = probe ? ABI_PROBE_COMPATIBLE : "virtio,mmio",
                                .hid = probe ? NULL : "LNRO0005",
                                .gpa = slot->gpa,
                                .bytes = ABI_MMIO_BYTES,
                                .gsi = (int)slot->gsi,
                                .sense = BOARD_LEVEL_HIGH,
                                .is_iommu = !slot->device,
                                .translated = slot->device && slot->dma.iommu,
                                .endpoint = slot->device ? slot->device->endpoint : 0 };
}

unsigned board_describe(const struct board *board, struct board_node *nodes, unsigned max)
{
    const struct board_node always[] = {
        { .name = "serial",
          .compatible = "ns16550a",
          .hid = "PNP0501",
          .port = board->serial.region.base,
          .bytes = board->serial.region.len,
          .gsi = (int)board->serial.gsi,
          .sense = BOARD_EDGE_RISING },
        { .name = "hypercall-port",
          .compatible = ABI_HYPERCALL_COMPATIBLE,
          .port = board->hypercall_port.region.base,
          .bytes = board->hypercall_port.region.len,
          .gsi = -1 },
    };
    const struct board_node of_pc[] = {
        { .name = "rtc",
          .compatible = "motorola,mc146818",
          .hid = "PNP0B00",
          .port = board->rtc.region.base,
          .bytes = board->rtc.region.len,
          .gsi = -1 },
        { .name = "pvpanic",
          .hid = "QEMU0001",
          .port = board->pvpanic.region.base,
          .bytes = board->pvpanic.region.len,
          .gsi = -1 },
    };
    unsigned count = 0;

    for (unsigned i = 0; i < sizeof(always) / sizeof(always[0]) && count < max; i++)
        nodes[count++] = always[i];
    for (unsigned i = 0; board->pc && i < sizeof(of_pc) / sizeof(of_pc[0]) && count < max; i++)
        nodes[count++] = of_pc[i];
    for (unsigned i = 0; i < board->nslots && count < max; i++)
        nodes[count++] = describe_slot(&board->slots[i]);
    return count;
}
