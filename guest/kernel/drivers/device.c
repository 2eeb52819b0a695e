#include "guest/kernel/drivers/device.h"

#include "guest/abi/dma.h"
#include "guest/abi/machine.h"
#include "guest/kernel/arch/cpu.h"
#include "guest/kernel/arch/lapic.h"
#include "guest/kernel/dma/dma.h"
#include "guest/kernel/dma/dma_attach.h"
#include "guest/kernel/dma/viommu.h"
#include "guest/kernel/drivers/balloon.h"
#include "guest/kernel/drivers/blk.h"
#include "guest/kernel/drivers/probe.h"
#include "guest/kernel/drivers/rng.h"
#include "guest/kernel/drivers/vconsole.h"
#include "guest/kernel/drivers/virtio.h"
#include "guest/kernel/kernel.h"
#include "guest/kernel/kstring.h"
#include "guest/kernel/proc/process.h"

#define TICK_US 10000 /* how often somebody looks at the clock while a device is waited for */

struct device devices[BOOT_DEVICES_MAX];
unsigned device_count;
uint64_t device_deadline;

/* Which boot_info.device[] each is, and back. */
static const struct boot_device *boot_of[BOOT_DEVICES_MAX];

/* ---- Registers ------------------------------------------------------------ */

uint64_t device_read(const struct device *device, uint32_t offset, unsigned bytes)
{
    uint64_t at = device->registers + offset, value = 0;

    switch (bytes) {
    case 1: __asm__ volatile("movb (%1), %b0" : "+r"(value) : "r"(at) : "memory"); break;
    case 2: __asm__ volatile("movw (%1), %w0" : "+r"(value) : "r"(at) : "memory"); break;
    case 4: __asm__ volatile("movl (%1), %k0" : "=r"(value) : "r"(at) : "memory"); break;
    case 8: __asm__ volatile("movq (%1), %0" : "=r"(value) : "r"(at) : "memory"); break;
    default: break;
    }
    return value;
}

void device_write(const struct device *device, uint32_t offset, unsigned bytes, uint64_t value)
{
    uint64_t at = device->registers + offset;

    switch (bytes) {
    case 1: __asm__ volatile("movb %b0, (%1)" : : "r"(value), "r"(at) : "memory"); break;
    case 2: __asm__ volatile("movw %w0, (%1)" : : "r"(value), "r"(at) : "memory"); break;
    case 4: __asm__ volatile("movl %k0, (%1)" : : "r"(value), "r"(at) : "memory"); break;
    case 8: __asm__ volatile("movq %0, (%1)" : : "r"(value), "r"(at) : "memory"); break;
    default: break;
    }
}

/* ---- The list ------------------------------------------------------------- */

static bool kind_of(struct device *device, const struct boot_device *boot)
{
    static const struct {
        uint32_t id, kind;
        const struct driver *driver;
        const char *name;
    } known[] = {
        { VIRTIO_ID_BLK, ABI_DEVICE_BLK, &blk_driver, "blk" },
        { VIRTIO_ID_CONSOLE, ABI_DEVICE_CONSOLE, &vconsole_driver, "console" },
        { VIRTIO_ID_RNG, ABI_DEVICE_RNG, &rng_driver, "rng" },
        { VIRTIO_ID_BALLOON, ABI_DEVICE_BALLOON, &balloon_driver, "balloon" },
        { VIRTIO_ID_IOMMU, ABI_DEVICE_IOMMU, &viommu_driver, "iommu" },
    };
    uint32_t id;

    if (boot->probe) {
        device->kind = ABI_DEVICE_PROBE;
        device->driver = &probe_driver;
        copy_name(device->name, sizeof(device->name), "dma-probe");
        return true;
    }
    id = virtio_identify(device);
    for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (known[i].id != id)
            continue;
        device->kind = known[i].kind;
        device->driver = known[i].driver;
        copy_name(device->name, sizeof(device->name), known[i].name);
    }
    return id != 0;
}

/* Everything of a device that the policy does not name. */
static struct device *add(const struct boot_device *boot, enum abi_dma_mode mode)
{
    struct device *device = &devices[device_count];

    if (boot->gpa < ABI_MMIO_GPA || boot->gpa % ABI_MMIO_BYTES ||
        boot->gpa + ABI_MMIO_BYTES > ABI_MMIO_GPA + ABI_HUGE_BYTES) {
        printk("device at 0x%lx: out of reach\n", boot->gpa);
        return NULL;
    }
    if (device_count == BOOT_DEVICES_MAX)
        return NULL;
    *device = (struct device){
        .gpa = boot->gpa,
        .registers = DIRECT_MAP + boot->gpa,
        .endpoint = boot->endpoint,
        .domain_number = boot->endpoint + 1,
        .mode = boot->translated ? mode : ABI_DMA_OFF,
        .pool = ~0u,
        .prompt = boot->prompt,
    };
    if (!kind_of(device, boot))
        return NULL;
    boot_of[device_count++] = boot;
    return device;
}

static void apply(struct device *device, unsigned index)
{
    const struct abi_policy_device *policy = &boot_info.policy.device[index];

    copy_name(device->name, sizeof(device->name), policy->name);
    device->endpoint = policy->endpoint;
    device->domain_number = policy->domain;
    device->buffers = policy->buffers;
    device->pool = policy->pool;
    device->flags = policy->flags;
    device->fault_action = policy->fault_action;
    device->timeout_ms = policy->timeout_ms;
    for (unsigned i = 0; i < boot_info.policy.nregions; i++) {
        if (boot_info.policy.region[i].endpoints >> index & 1)
            device->regions |= 1ull << i;
    }
}

/* Devices of the policy in its order, then the others, the IOMMU last. */
static void list(void)
{
    const struct abi_policy *policy = &boot_info.policy;
    uint64_t taken = 0;

    for (unsigned i = 0; i < policy->ndevices; i++) {
        unsigned k = 0;
        struct device *device;

        /* Without an IOMMU no endpoint is in the device tree; the order is the same. */
        while (k < boot_info.ndevices &&
               (taken >> k & 1 || boot_info.device[k].is_iommu ||
                (boot_info.device[k].translated &&
                 boot_info.device[k].endpoint != policy->device[i].endpoint)))
            k++;
        if (k == boot_info.ndevices) {
            printk("policy: there is no device %s\n", policy->device[i].name);
            continue;
        }
        taken |= 1ull << k;
        device = add(&boot_info.device[k], policy->device[i].mode);
        if (device)
            apply(device, i);
    }
    for (unsigned last = 0; last < 2; last++) {
        for (unsigned k = 0; k < boot_info.ndevices; k++) {
            if (!(taken >> k & 1) && boot_info.device[k].is_iommu == last)
                add(&boot_info.device[k], boot_info.dma_mode);
        }
    }
}

struct device *device_at(uint64_t index)
{
    return index < device_count ? &devices[index] : NULL;
}

/* The vectors of devices: one for each interrupt line, which several of them may share. */
static uint32_t gsi_of_line[VECTOR_DEVICE_LINES];
static unsigned line_count;

static void open_interrupt(unsigned index)
{
    const struct boot_device *boot = boot_of[index];
    unsigned line = 0;

    while (line < line_count && gsi_of_line[line] != boot->gsi)
        line++;
    devices[index].line = line;
    if (line < line_count)
        return;
    if (line == VECTOR_DEVICE_LINES) {
        printk("%s: no vector for interrupt %u\n", devices[index].name, boot->gsi);
        return;
    }
    gsi_of_line[line_count++] = boot->gsi;
    cpu_open_vector(VECTOR_DEVICE + line);
    /*
     * Not the same: a local APIC takes a vector for level- or edge-triggered as it came last.
     * One that this CPU sends itself is edge-triggered; while the device's own is in service,
     * its end would not get to the I/O APIC, which then never sends the device's again.
     */
    cpu_open_vector(VECTOR_POLL + line);
    ioapic_route(boot->gsi, (uint8_t)(VECTOR_DEVICE + line), boot->level, cpus[0].apic_id);
}

static int start(struct device *device)
{
    int err = device->driver && device->driver->start ? device->driver->start(device) : 0;

    device->started = !err;
    if (err)
        printk("%s: cannot be started, error %d\n", device->name, -err);
    return err;
}

int device_attach(struct device *device)
{
    int err = dma_attach(device);

    if (!err && !device->started)
        err = start(device);
    return err;
}

void device_start(void)
{
    list();
    for (unsigned i = 0; i < device_count; i++)
        open_interrupt(i);
    /* Where devices may be hostile, messages may come that nobody waits for. */
    for (unsigned vector = VECTOR_STRAY; boot_info.policy.ndevices && vector < VECTOR_NO_MORE;
         vector++)
        cpu_open_vector(vector);
    /* The IOMMU first: until it answers, nothing should be let through. */
    for (unsigned i = 0; i < device_count; i++) {
        if (devices[i].kind == ABI_DEVICE_IOMMU)
            start(&devices[i]);
    }
    /* All are attached, and their reserved addresses known, before any is used. */
    for (unsigned i = 0; i < device_count; i++) {
        if (devices[i].kind != ABI_DEVICE_IOMMU && !(devices[i].flags & ABI_DEVICE_EARLY))
            dma_attach(&devices[i]);
    }
    for (unsigned i = 0; i < device_count; i++) {
        if (devices[i].domain && devices[i].kind != ABI_DEVICE_IOMMU)
            start(&devices[i]);
    }
}

void device_interrupt(uint64_t line)
{
    for (unsigned i = 0; i < device_count; i++) {
        struct device *device = &devices[i];

        if (device->line == line && device->driver && device->driver->interrupt)
            device->driver->interrupt(device);
    }
}

void device_poll(struct device *device)
{
    struct cpu *cpu = cpu_self();

    device->poll = true;
    /* A program runs here: at the next tick. Nobody does: right after other interrupts. */
    if (cpu->current)
        device_expect(rdtsc());
    else
        lapic_send(cpu->apic_id, (uint8_t)(VECTOR_POLL + device->line));
}

void device_reset(struct device *device, int error)
{
    if (device->driver && device->driver->reset)
        device->driver->reset(device, error);
    dma_revoke(device);
}

void device_drop_owned(struct process *p)
{
    for (unsigned i = 0; i < device_count; i++) {
        if (devices[i].driver && devices[i].driver->drop_owned)
            devices[i].driver->drop_owned(&devices[i], p);
        dma_drop_owned(&devices[i], p->pub.pid);
    }
}

/* ---- Time ----------------------------------------------------------------- */

uint64_t device_ticks(uint64_t us)
{
    /* Where nobody told the frequency, a guess: times get longer or shorter by that. */
    return us * ((boot_info.tsc_hz ? boot_info.tsc_hz : 2000000000u) / 1000000u);
}

/*
 * A device has so much time of this machine's. While the host runs other things it may not
 * run the device either: of a time in which no CPU here came by, no more counts than there
 * is between two ticks.
 */
static uint64_t looked; /* at the clock, for the last time */

static void excuse(uint64_t now)
{
    uint64_t tick = device_ticks(TICK_US), gone = now - looked;

    looked = now;
    for (unsigned i = 0; gone > 2 * tick && i < device_count; i++) {
        if (devices[i].deadline)
            devices[i].deadline += gone - tick;
    }
}

void device_expect(uint64_t deadline)
{
    if (!device_deadline)
        looked = rdtsc();
    if (!device_deadline || deadline < device_deadline)
        device_deadline = deadline;
}

void device_set_deadline(struct device *device, uint64_t deadline)
{
    device->deadline = deadline;
    if (deadline)
        device_expect(deadline);
}

void device_check_time(void)
{
    uint64_t now = rdtsc();

    excuse(now);
    if (now < device_deadline)
        return;
    device_deadline = 0;
    dma_flush_due(now);
    for (unsigned i = 0; i < device_count; i++) {
        struct device *device = &devices[i];

        if (device->poll)
            device->driver->interrupt(device);
        if (!device->deadline)
            continue;
        if (now < device->deadline) {
            device_expect(device->deadline);
            continue;
        }
        device->deadline = 0;
        device->driver->timeout(device);
    }
}
