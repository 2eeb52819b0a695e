#include "guest/kernel/drivers/probe.h"

#include "guest/abi/dma.h"
#include "guest/abi/probe.h"
#include "guest/kernel/arch/cpu.h"
#include "guest/kernel/dma/dma.h"
#include "guest/kernel/mm/frame.h"

struct probe {
    enum { IDLE, RUNNING, DONE } phase;
    uint32_t pid; /* whose transfer it is */
    int64_t result;
    uint64_t error;
};

static int start(struct device *device)
{
    uint64_t frame;

    if ((device_read32(device, ABI_PROBE_ID) & 0xffff) != (ABI_PROBE_ID_VALUE & 0xffff))
        return -ABI_ENODEV;
    frame = frame_alloc(ABI_FRAME_KERNEL, true);
    if (!frame)
        return -ABI_ENOMEM;
    device->state = frame_va(frame);
    return 0;
}

static void end(struct device *device, int64_t result, uint64_t error)
{
    struct probe *probe = device->state;

    probe->phase = DONE;
    probe->result = result;
    probe->error = error;
    device_set_deadline(device, 0);
    process_wake(probe);
}

/* Takes note of a completion, if there is one. */
static void look(struct device *device)
{
    struct probe *probe = device->state;
    uint32_t status = device_read32(device, ABI_PROBE_IRQ_STATUS);
    uint64_t error;

    if (!status)
        return;
    device_write32(device, ABI_PROBE_IRQ_ACK, status);
    if (!(status & ABI_PROBE_IRQ_DMA) || probe->phase != RUNNING)
        return;
    error = device_read(device, ABI_PROBE_ERROR, 8);
    device->errors += error != 0;
    end(device, error ? -ABI_EIO : 0, error);
}

static void interrupt(struct device *device)
{
    if (device->state)
        look(device);
}

static void reset(struct device *device, int error)
{
    struct probe *probe = device->state;

    if (!probe)
        return;
    /* There is no reset register: no command, nothing withheld, no interrupt. */
    device_write(device, ABI_PROBE_DMA_COMMAND, 8, 0);
    device_write(device, ABI_PROBE_ATTACK, 8, ABI_PROBE_RELEASE);
    device_write32(device, ABI_PROBE_IRQ_ACK, ~0u);
    if (probe->phase == RUNNING)
        end(device, error, 0);
}

/*
 * The device keeps its completion to itself, maybe to keep the mapping open: what it can
 * reach goes first, then the device is reset.
 */
static void timeout(struct device *device)
{
    struct probe *probe = device->state;

    look(device);
    if (probe->phase != RUNNING)
        return;
    dma_revoke(device);
    device->errors++;
    reset(device, -ABI_ETIMEDOUT);
}

static void drop_owned(struct device *device, struct process *p)
{
    struct probe *probe = device->state;

    if (!probe || probe->phase == IDLE || probe->pid != p->pub.pid)
        return;
    if (probe->phase == RUNNING)
        reset(device, -ABI_EIO);
    probe->phase = IDLE;
    process_wake(probe);
}

int64_t probe_transfer(struct device *device, struct process *p, uint64_t iova, uint64_t bytes,
                       uint32_t rights, uint64_t *error)
{
    struct probe *probe = device->state;
    uint32_t command = ABI_PROBE_DMA_START | ABI_PROBE_DMA_IRQ;

    if (!probe)
        return -ABI_ENODEV;
    if (probe->phase != IDLE && probe->pid != p->pub.pid)
        return process_block(p, probe);
    if (probe->phase == IDLE) {
        if (!bytes || bytes > ABI_PROBE_BUFFER_BYTES || (rights != DMA_READ && rights != DMA_WRITE))
            return -ABI_EINVAL;
        if (rights == DMA_WRITE)
            command |= ABI_PROBE_DMA_TO_RAM;
        probe->phase = RUNNING;
        probe->pid = p->pub.pid;
        if (device->timeout_ms)
            device_set_deadline(device, rdtsc() + device_ticks(device->timeout_ms * 1000ull));
        device_write(device, ABI_PROBE_DMA_SOURCE, 8,
                     rights == DMA_WRITE ? ABI_PROBE_BUFFER : iova);
        device_write(device, ABI_PROBE_DMA_TARGET, 8,
                     rights == DMA_WRITE ? iova : ABI_PROBE_BUFFER);
        device_write(device, ABI_PROBE_DMA_COUNT, 8, bytes);
        device_write(device, ABI_PROBE_DMA_COMMAND, 8, command);
        /* Often it is over by now, and waiting takes longer than looking. */
        look(device);
    }
    if (probe->phase == RUNNING)
        return process_block(p, probe);
    probe->phase = IDLE;
    process_wake(probe);
    *error = probe->error;
    return probe->result;
}

const struct driver probe_driver = {
    .start = start,
    .interrupt = interrupt,
    .reset = reset,
    .timeout = timeout,
    .drop_owned = drop_owned,
};
