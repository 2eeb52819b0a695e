#include "guest/kernel/drivers/vconsole.h"

#include "guest/abi/dma.h"
#include "guest/kernel/arch/cpu.h"
#include "guest/kernel/dma/dma.h"
#include "guest/kernel/drivers/console.h"
#include "guest/kernel/drivers/virtio.h"
#include "guest/kernel/kernel.h"
#include "guest/kernel/kstring.h"
#include "guest/kernel/mm/frame.h"

#define QUEUE_TRANSMIT 1
#define QUEUE_SIZE     4
#define WAIT_MS        1000

struct vconsole {
    struct virtq queue;
    char *page;
    uint64_t iova;
};

_Static_assert(sizeof(struct vconsole) <= ABI_PAGE_BYTES, "one frame");

static struct device *output;

/* One buffer at a time, waited for: like the serial port, output is over when this returns. */
static bool transmit(const char *text, uint64_t bytes)
{
    struct vconsole *console = output->state;
    uint64_t limit = rdtsc() + device_ticks(WAIT_MS * 1000);
    uint32_t written;
    void *token;
    int got;

    memcpy(console->page, text, bytes);
    if (virtq_add(&console->queue, console->iova, (uint32_t)bytes, 0, 0, console))
        return false;
    virtq_kick(&console->queue);
    while ((got = virtq_pop(&console->queue, &token, &written)) == 0) {
        if (rdtsc() > limit)
            return false;
        host_yield();
    }
    return got == 1;
}

static bool write(const char *text, uint64_t bytes)
{
    while (bytes) {
        uint64_t part = bytes < ABI_PAGE_BYTES ? bytes : ABI_PAGE_BYTES;

        if (!transmit(text, part)) {
            /* The serial port is always there. */
            output->protocol_errors++;
            console_divert(NULL);
            virtio_reset(output);
            return false;
        }
        text += part;
        bytes -= part;
    }
    return true;
}

static bool asked_for(void)
{
    static const char key[] = "console=virtio";
    unsigned n = 0;

    for (const char *at = boot_info.command_line; *at && key[n]; at++)
        n = *at == key[n] ? n + 1 : *at == key[0];
    return !key[n];
}

static int start(struct device *device)
{
    struct vconsole *console;
    uint64_t frame, features;
    int err;

    if (output || !asked_for())
        return 0;
    frame = frame_alloc(ABI_FRAME_KERNEL, true);
    if (!frame)
        return -ABI_ENOMEM;
    console = frame_va(frame);
    console->page = dma_alloc_page(device, DMA_READ, &console->iova);
    err = console->page ? virtio_negotiate(device, 0, &features) : -ABI_ENOMEM;
    if (!err)
        err = virtq_setup(&console->queue, device, QUEUE_TRANSMIT, QUEUE_SIZE, features);
    if (err)
        return err;
    virtq_quiet(&console->queue);
    virtio_ready(device);
    device->state = console;
    output = device;
    console_divert(write);
    return 0;
}

static void interrupt(struct device *device)
{
    virtio_why(device);
}

static void reset(struct device *device, int error)
{
    (void)error;
    if (output == device) {
        console_divert(NULL);
        output = NULL;
    }
    virtio_reset(device);
}

const struct driver vconsole_driver = { .start = start, .interrupt = interrupt, .reset = reset };
