/* From the way in to the first process. */
#include "guest/kernel/arch/cpu.h"
#include "guest/kernel/arch/fdt.h"
#include "guest/kernel/arch/lapic.h"
#include "guest/kernel/arch/smp.h"
#include "guest/kernel/dma/region.h"
#include "guest/kernel/drivers/console.h"
#include "guest/kernel/drivers/device.h"
#include "guest/kernel/kernel.h"
#include "guest/kernel/kstring.h"
#include "guest/kernel/mm/paging.h"
#include "guest/kernel/proc/process.h"

#include "guest/abi/machine.h"
#include "guest/kernel/proc/sched.h"

/* PVH start info, version 1 (Xen public/arch-x86/hvm/start_info.h). */
struct start_info {
    uint32_t magic, version, flags, nr_modules;
    uint64_t modules, command_line, rsdp, memory_map;
    uint32_t memory_map_entries, reserved;
};

struct module {
    uint64_t address, bytes, command_line, reserved;
};

struct memory_range {
    uint64_t address, bytes;
    uint32_t type, reserved;
};

#define START_INFO_MAGIC 0x336ec578
#define MEMORY_RAM       1

struct abi_kernel kernel_info;

struct boot_info boot_info = {
    .host_cpus = 1,
    .serial_port = ABI_SERIAL_PORT,
    .serial_gsi = ABI_SERIAL_GSI,
};

static volatile uint32_t lock;

void kernel_lock(void)
{
    /* Pairs with the release in kernel_unlock. */
    for (unsigned tries = 1; __atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE); tries++) {
        /* The holder may not have a host CPU at all. */
        if (tries % 64 == 0)
            host_yield();
        cpu_relax();
    }
}

void kernel_unlock(void)
{
    __atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
}

void host_yield(void)
{
    if (boot_info.hypercall_port_number)
        outl((uint16_t)(boot_info.hypercall_port_number + ABI_HYPERCALL_YIELD), 0);
    else
        cpu_relax();
}

/* What the loader left below BOOT_MAPPED_BYTES; anything else is out of reach. */
static const void *boot_pointer(uint64_t address)
{
    return address && address < BOOT_MAPPED_BYTES ? (const void *)(KERNEL_OFFSET + address) : NULL;
}

static void read_memory_map(const struct memory_range *range, unsigned count)
{
    for (; range && count--; range++) {
        uint64_t end = range->address + range->bytes;

        if (range->type != MEMORY_RAM)
            continue;
        if (range->address == ABI_RAM_HIGH_START)
            boot_info.high_frames = range->bytes >> 12;
        else if (end <= ABI_RAM_HIGH_START && end >> 12 > boot_info.low_frames)
            boot_info.low_frames = end >> 12;
    }
}

static void read_start_info(const struct start_info *info)
{
    const struct module *module;
    const char *command_line;
    bool found = false;

    if (!info || info->magic != START_INFO_MAGIC)
        panic("not started by PVH");
    module = boot_pointer(info->modules);
    for (unsigned i = 0; module && i < info->nr_modules && !found; i++) {
        const void *blob = boot_pointer(module[i].address);

        found = blob && fdt_read(blob);
    }
    if (found)
        return;
    command_line = boot_pointer(info->command_line);
    if (command_line)
        copy_name(boot_info.command_line, sizeof(boot_info.command_line), command_line);
    if (info->version >= 1)
        read_memory_map(boot_pointer(info->memory_map), info->memory_map_entries);
}

void kernel_main(uint32_t start_info);
void kernel_main(uint32_t start_info)
{
    extern char boot_stack_top[];

    kernel_lock();
    read_start_info(boot_pointer(start_info));
    if (boot_info.hypercall_port_number &&
        inl(boot_info.hypercall_port_number) != ABI_HYPERCALL_MAGIC)
        boot_info.hypercall_port_number = 0;
    paging_setup();
    if (boot_info.has_policy)
        region_setup();
    cpu_setup(&cpus[0], (uint64_t)boot_stack_top);
    pic_off();
    lapic_setup();
    cpus[0].apic_id = lapic_id();
    kernel_info.magic = ABI_KERNEL_MAGIC;
    kernel_info.version = ABI_KERNEL_VERSION;
    kernel_info.processes = (uint64_t)processes - KERNEL_OFFSET;
    kernel_info.nprocesses = PROCESSES_MAX;
    kernel_info.process_stride = sizeof(struct process);
    smp_start();
    /* In this order: an edge that comes while the line is masked is lost. */
    ioapic_route(boot_info.serial_gsi, VECTOR_SERIAL, false, cpus[0].apic_id);
    console_setup();
    printk("strata guest: %u CPU%s, %lu MiB\n", cpu_count, cpu_count == 1 ? "" : "s",
           (boot_info.low_frames + boot_info.high_frames) >> 8);
    if (boot_info.ndevices)
        device_start();
    process_start_init();
    schedule();
}
