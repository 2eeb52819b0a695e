/* What every part of the kernel uses: the big lock, messages, panic, the ABI block. */
#ifndef STRATA_KERNEL_KERNEL_H
#define STRATA_KERNEL_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/abi/checkpoint.h"
#include "guest/abi/machine.h"
#include "guest/abi/policy.h"
#include "guest/kernel/print.h"

/* Published to the host; the fields are the kernel's own variables. */
extern struct abi_kernel kernel_info;

#define BOOT_DEVICES_MAX ABI_MMIO_DEVICES_MAX

/* One memory-mapped device of the device tree. */
struct boot_device {
    uint64_t gpa;
    uint32_t gsi;
    bool level;      /* its interrupt */
    bool probe;      /* the DMA probe; else virtio-mmio */
    bool is_iommu;   /* others point to it */
    bool prompt;     /* ABI_FDT_IOMMU_PROMPT */
    bool translated; /* its DMA, by the IOMMU, as this endpoint: */
    uint32_t endpoint;
};

/* From the device tree, or a guess where there is none. */
extern struct boot_info {
    uint64_t low_frames, high_frames; /* RAM from 0, and from 4 GiB */
    uint64_t tsc_hz;                  /* 0: unknown */
    unsigned host_cpus;
    unsigned ncpus;
    uint32_t apic_id[16];
    uint16_t serial_port, hypercall_port_number; /* hypercall port 0: none */
    uint32_t serial_gsi;
    char command_line[512];
    unsigned ndevices;
    struct boot_device device[BOOT_DEVICES_MAX];
    enum abi_dma_mode dma_mode; /* where no policy says otherwise */
    bool has_policy;
    struct abi_policy policy;
} boot_info;

/*
 * One lock guards the whole kernel: taken at each entry, released before user code
 * or an idle CPU's halt. Interrupts are off while it is held.
 */
void kernel_lock(void);
void kernel_unlock(void);

/* Gives the host CPU to someone else once, where the host offers that. */
void host_yield(void);

#endif
