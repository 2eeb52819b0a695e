#include "devices/core/board.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "devices/core/virtio_device.h"
#include "devices/core/virtio_mmio.h"
#include "devices/iommu/dma.h"
#include "guest/abi/machine.h"
#include "vmm/machine/vm.h"

#define DEVICE_ROW(kind, ops) [kind] = &(ops),
static const struct device_ops *const board_kinds[DEVICE_KINDS] = { DEVICE_LIST(DEVICE_ROW) };

struct board_slot {
    struct device device;
    struct dma dma;
    struct virtio_mmio mmio; /* how the guest reaches a virtio device */
    uint64_t gpa;
    unsigned gsi;
};

/* What the slot's window and interrupt are, and its dma handle, before the device itself. */
static int board_open_slot(struct board *board, unsigned window, const struct device_ops *ops,
                           uint32_t endpoint)
{
    struct board_slot *slot = &board->slots[window];
    int err;

    slot->device.ops = ops;
    slot->gpa = ABI_MMIO_GPA + window * ABI_MMIO_BYTES;
    slot->gsi = irq_line_alloc(board->vm);
    err = dma_create(&slot->dma, &board->vm->memory, ops->untranslated ? NULL : board->iommu,
                     endpoint);
    slot->dma.vm = board->vm;
    return err;
}

/* The device and, of a virtio device, the transport by which the guest reaches it. */
static int board_create_device(struct board *board, struct board_slot *slot,
                               const struct device_config *config)
{
    const struct device_place place = {
        .vm = board->vm,
        .dma = &slot->dma,
        .iommu = board->iommu,
        .gpa = slot->gpa,
        .gsi = slot->gsi,
        .console_out = &board->serial.console,
        .console_input_ready_fd = board->serial.input_ready_fd,
        .error = board->error,
        .error_bytes = sizeof(board->error),
    };
    struct device *device = &slot->device;
    int err = device->ops->create(device, config, &place);

    if (err || !device->virtio)
        return err;
    err = virtio_mmio_create(&slot->mmio, device->virtio, board->vm, slot->gpa, slot->gsi);
    if (err)
        device->ops->destroy(device->model);
    return err;
}

/* The last ones first: the IOMMU's own device outlives those behind it. */
static void board_destroy_slots(struct board *board)
{
    while (board->nslots > 0) {
        struct board_slot *slot = &board->slots[--board->nslots];

        slot->device.ops->destroy(slot->device.model);
        dma_destroy(&slot->dma);
    }
    free(board->slots);
    board->slots = NULL;
    if (board->iommu)
        iommu_destroy(board->iommu);
    board->iommu = NULL;
}

static int board_create_slot(struct board *board, const struct device_config *config,
                             bool io_thread)
{
    struct board_slot *slot = &board->slots[board->nslots];
    const struct device_ops *ops = config->kind < DEVICE_KINDS ? board_kinds[config->kind] : NULL;
    int err = ops ? board_open_slot(board, board->nslots, ops, config->endpoint) : -EINVAL;

    if (err)
        return err;
    err = board_create_device(board, slot, config);
    if (err) {
        dma_destroy(&slot->dma);
        return err;
    }
    board->nslots++;
    if (io_thread && ops->worth_a_thread)
        slot->device.virtio->io = &board->io;
    return 0;
}

static int board_create_slots(struct board *board, const struct board_config *config)
{
    static const struct device_config of_iommu = { .kind = DEVICE_IOMMU };
    unsigned count = config->ndevices + (config->iommu ? 1 : 0);
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
    if (board->iommu)
        err = board_create_slot(board, &of_iommu, false);
    for (unsigned i = 0; i < config->ndevices && !err; i++)
        err = config->devices[i].kind == DEVICE_IOMMU
                  ? -EINVAL
                  : board_create_slot(board, &config->devices[i], config->io_thread);
    if (err)
        board_destroy_slots(board);
    return err;
}

static int board_create_debug_exit(struct board *board, uint16_t port)
{
    int err = debug_exit_create(&board->debug_exit, board->vm, port);

    if (err)
        snprintf(board->error, sizeof(board->error),
                 "--debug-exit 0x%x: %s; give another port, such as 0x%x", port,
                 err == -EEXIST ? "another device is there" : "not 4 ports", DEBUG_EXIT_PORT);
    return err;
}

static void board_add_fixed(struct board *board, const struct device_ops *ops, void *model)
{
    board->fixed[board->nfixed++] = (struct device){ .ops = ops, .model = model };
}

static int board_create_pc(struct board *board)
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
    board_add_fixed(board, &rtc_ops, &board->rtc);
    board_add_fixed(board, &pvpanic_ops, &board->pvpanic);
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
    board_add_fixed(board, &serial_ops, &board->serial);
    board_add_fixed(board, &hypercall_port_ops, &board->hypercall_port);
    err = config->pc ? board_create_pc(board) : 0;
    if (!err && config->debug_exit_port)
        err = board_create_debug_exit(board, config->debug_exit_port);
    if (err)
        goto destroy_serial;
    err = board_create_slots(board, config);
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
    board_destroy_slots(board);
    serial_destroy(&board->serial);
    vm_thread_unregister(&board->input);
}

/* NULL: no such device. */
static struct board_slot *board_slot(const struct board *board, unsigned device)
{
    unsigned window = device == BOARD_IOMMU_DEVICE ? 0 : device + (board->iommu ? 1 : 0);

    return window < board->nslots ? &board->slots[window] : NULL;
}

struct dma *board_dma(const struct board *board, unsigned device)
{
    struct board_slot *slot = board_slot(board, device);

    return slot ? &slot->dma : NULL;
}

void *board_model(const struct board *board, unsigned device, const struct device_ops *ops)
{
    const struct board_slot *slot = board_slot(board, device);

    return slot && slot->device.ops == ops ? slot->device.model : NULL;
}

bool board_report(const struct board *board, unsigned window, struct board_report *report)
{
    struct board_slot *slot = window < board->nslots ? &board->slots[window] : NULL;
    const struct virtio_device *virtio;

    if (!slot)
        return false;
    *report = (struct board_report){ .device = &slot->device,
                                     .gpa = slot->gpa,
                                     .translated = slot->dma.iommu != NULL,
                                     .endpoint = slot->dma.id,
                                     .dma_faults = slot->dma.faults };
    virtio = slot->device.virtio;
    if (virtio)
        report->counts = (struct device_counts){ .kicks = virtio->kicks,
                                                 .interrupts = virtio->interrupts,
                                                 .bad_accesses = virtio->bad_accesses,
                                                 .needed_resets = virtio->needed_resets,
                                                 .needed_reset = virtio->last_needs_reset };
    else if (slot->device.ops->count)
        slot->device.ops->count(slot->device.model, &report->counts);
    return true;
}

static size_t board_input_inside(struct board *board, const uint8_t *bytes, size_t count)
{
    for (unsigned i = 0; i < board->nslots; i++) {
        const struct device *device = &board->slots[i].device;
        int64_t taken = device->ops->input ? device->ops->input(device->model, bytes, count)
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
    taken = board_input_inside(board, bytes, count);
    vm_thread_leave(&board->input);
    return taken;
}

bool board_resize(struct board *board, uint16_t columns, uint16_t rows)
{
    if (!vm_thread_try_enter(&board->input))
        return false;
    for (unsigned i = 0; i < board->nslots; i++) {
        const struct device *device = &board->slots[i].device;

        if (device->ops->resize)
            device->ops->resize(device->model, columns, rows);
    }
    vm_thread_leave(&board->input);
    return true;
}

struct iommu *board_iommu(const struct board *board)
{
    return board->iommu;
}

static bool board_describe_slot(const struct board_slot *slot, struct device_node *node)
{
    const struct device *device = &slot->device;

    *node = (struct device_node){ .name = "virtio",
                                  .compatible = "virtio,mmio",
                                  .hid = "LNRO0005",
                                  .gpa = slot->gpa,
                                  .bytes = ABI_MMIO_BYTES,
                                  .gsi = (int)slot->gsi,
                                  .sense = DEVICE_LEVEL_HIGH,
                                  .translated = slot->dma.iommu != NULL,
                                  .endpoint = slot->dma.id };
    return !device->ops->describe || device->ops->describe(device->model, node);
}

unsigned board_describe(const struct board *board, struct device_node *nodes, unsigned max)
{
    unsigned count = 0;

    for (unsigned i = 0; i < board->nfixed && count < max; i++) {
        const struct device *device = &board->fixed[i];

        nodes[count] = (struct device_node){ .name = device->ops->name, .gsi = -1 };
        if (device->ops->describe(device->model, &nodes[count]))
            count++;
    }
    for (unsigned i = 0; i < board->nslots && count < max; i++) {
        if (board_describe_slot(&board->slots[i], &nodes[count]))
            count++;
    }
    return count;
}
