#include "devices/hostile/probe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/core/device.h"
#include "devices/hostile/probe_command.h"
#include "vmm/machine/vm.h"

#define WIDE_REGISTERS 0x80 /* from here on a register may have 64 bits */
#define FACTORIAL_LAST 33   /* 2^32 divides n! for every n beyond */

/* ---- Registers: with the lock held ---------------------------------------- */

static bool valid(uint64_t offset, unsigned size)
{
    return (size == 4 || (size == 8 && offset >= WIDE_REGISTERS)) && offset % size == 0;
}

/* The 64-bit register that the guest may write without further effect, or NULL. */
static uint64_t *parameter(struct probe *probe, uint64_t offset)
{
    struct probe_state *state = &probe->state;

    switch (offset & ~7ull) {
    case ABI_PROBE_DMA_SOURCE: return &state->dma_source;
    case ABI_PROBE_DMA_TARGET: return &state->dma_target;
    case ABI_PROBE_DMA_COUNT: return &state->dma_count;
    case ABI_PROBE_ADDRESS: return &state->address;
    case ABI_PROBE_LENGTH: return &state->length;
    case ABI_PROBE_STRIDE: return &state->stride;
    case ABI_PROBE_REQUESTER: return &state->requester;
    case ABI_PROBE_VALUE: return &state->value;
    case ABI_PROBE_FLAGS: return &state->flags;
    default: return NULL;
    }
}

static uint64_t read_wide(struct probe *probe, uint64_t offset)
{
    const struct probe_state *state = &probe->state;
    const uint64_t *at = parameter(probe, offset);

    if (at)
        return *at;
    switch (offset & ~7ull) {
    case ABI_PROBE_DMA_COMMAND: return state->dma_command;
    case ABI_PROBE_ATTACK: return state->attack;
    case ABI_PROBE_RESULT: return state->result;
    case ABI_PROBE_ERROR: return state->error;
    case ABI_PROBE_FIRST: return state->first;
    default: return ~0ull;
    }
}

static uint64_t read_narrow(const struct probe_state *state, uint64_t offset)
{
    switch (offset) {
    case ABI_PROBE_ID: return ABI_PROBE_ID_VALUE;
    case ABI_PROBE_LIVENESS: return state->liveness;
    case ABI_PROBE_FACTORIAL: return state->factorial;
    case ABI_PROBE_STATUS: return state->status;
    case ABI_PROBE_IRQ_STATUS: return state->irq_status;
    default: return ~0u;
    }
}

static uint64_t probe_read(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size)
{
    struct probe *probe = owner;
    uint64_t value = ~0ull;

    (void)vcpu;
    dma_lock(probe->dma);
    if (!valid(offset, size))
        probe->bad_accesses++;
    else if (offset < WIDE_REGISTERS)
        value = read_narrow(&probe->state, offset);
    else
        value = read_wide(probe, offset) >> (offset % 8 * 8);
    dma_unlock(probe->dma);
    return value;
}

/* Done before anybody can look, so the status bit for "computing" is never seen set. */
static void compute_factorial(struct probe *probe, uint32_t n)
{
    uint32_t product = n > FACTORIAL_LAST ? 0 : 1;

    for (uint32_t i = 2; product && i <= n; i++)
        product *= i;
    probe->state.factorial = product;
    if (probe->state.status & ABI_PROBE_STATUS_IRQ)
        probe_raise(probe, ABI_PROBE_IRQ_FACT);
}

static void write_narrow(struct probe *probe, uint64_t offset, uint32_t value)
{
    switch (offset) {
    case ABI_PROBE_LIVENESS: probe->state.liveness = ~value; break;
    case ABI_PROBE_FACTORIAL: compute_factorial(probe, value); break;
    case ABI_PROBE_STATUS: probe->state.status = value & ABI_PROBE_STATUS_IRQ; break;
    case ABI_PROBE_IRQ_RAISE: probe_raise(probe, value); break;
    case ABI_PROBE_IRQ_ACK:
        probe->state.irq_status &= ~value;
        probe_set_line(probe);
        break;
    default: break;
    }
}

static void reset(struct probe *probe)
{
    struct probe_state *state = &probe->state;

    memset(state, 0, offsetof(struct probe_state, buffer));
    probe_set_line(probe);
}

/* What a register write sets off, once the lock is free. */
struct start {
    bool dma;
    uint64_t attack;
};

static void write_command(struct probe *probe, uint64_t value, struct start *start)
{
    const uint64_t bits = ABI_PROBE_DMA_START | ABI_PROBE_DMA_TO_RAM | ABI_PROBE_DMA_IRQ;

    if (probe->state.dma_command & ABI_PROBE_DMA_START)
        return;
    if (value & ABI_PROBE_DMA_START) {
        start->dma = probe_begin(probe);
        if (!start->dma)
            return;
    }
    probe->state.dma_command = value & bits;
}

static void write_wide(struct probe *probe, uint64_t offset, uint64_t value, struct start *start)
{
    uint64_t *at = parameter(probe, offset);
    bool dma = offset < ABI_PROBE_ATTACK;

    if (at) {
        if (dma && (probe->state.dma_command & ABI_PROBE_DMA_START))
            return;
        *at = offset % 8 ? (*at & UINT32_MAX) | value << 32 : value;
        return;
    }
    switch (offset) {
    case ABI_PROBE_DMA_COMMAND: write_command(probe, value, start); break;
    case ABI_PROBE_ATTACK:
        if (value && probe_begin(probe))
            start->attack = value;
        break;
    case ABI_PROBE_RESET: reset(probe); break;
    default: break;
    }
}

static void probe_write(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size,
                        uint64_t value)
{
    struct probe *probe = owner;
    struct start start = { 0 };

    (void)vcpu;
    if (size == 4)
        value = (uint32_t)value;
    dma_lock(probe->dma);
    if (!valid(offset, size))
        probe->bad_accesses++;
    else if (offset < WIDE_REGISTERS)
        write_narrow(probe, offset, (uint32_t)value);
    else
        write_wide(probe, offset, value, &start);
    dma_unlock(probe->dma);
    if (start.dma)
        probe_run_dma(probe);
    if (start.attack)
        probe_run_attack(probe, start.attack);
}

int probe_create(struct probe *probe, struct vm *vm, struct dma *dma, uint64_t base, unsigned gsi)
{
    memset(probe, 0, sizeof(*probe));
    probe->dma = dma;
    probe->irq = (struct irq_source){ .vm = vm, .gsi = gsi };
    probe->region = (struct bus_region){ .base = base,
                                         .len = ABI_PROBE_BYTES,
                                         .owner = probe,
                                         .read = probe_read,
                                         .write = probe_write };
    return vm ? bus_add(&vm->mmio, &probe->region) : 0;
}

/* ---- As a device of a board ---------------------------------------------------------------- */

static int probe_device_create(struct device *device, const struct device_config *config,
                               const struct device_place *place)
{
    struct probe *probe = malloc(sizeof(*probe));
    int err;

    (void)config;
    if (!probe)
        return -ENOMEM;
    err = probe_create(probe, place->vm, place->dma, place->gpa, place->gsi);
    if (err) {
        free(probe);
        return err;
    }
    device->model = probe;
    return 0;
}

static void probe_device_destroy(void *model)
{
    free(model);
}

static bool probe_device_describe(const void *model, struct device_node *node)
{
    (void)model;
    node->name = "dma-probe";
    node->compatible = ABI_PROBE_COMPATIBLE;
    node->hid = NULL;
    return true;
}

static void probe_device_count(const void *model, struct device_counts *counts)
{
    counts->bad_accesses = ((const struct probe *)model)->bad_accesses;
}

const struct device_ops probe_ops = {
    .name = "dma-probe",
    .create = probe_device_create,
    .destroy = probe_device_destroy,
    .describe = probe_device_describe,
    .count = probe_device_count,
};
