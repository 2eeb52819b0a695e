/*
 * The machine as the bundled guest sees it: fixed ports, and the names of what
 * strata adds to the device tree beyond the standard bindings.
 *
 * The device tree is the way to find things; the fixed numbers are where strata
 * puts them, and what the guest falls back to under a VMM that hands over no
 * device tree (QEMU's -kernel, for one).
 */
#ifndef STRATA_ABI_MACHINE_H
#define STRATA_ABI_MACHINE_H

/* COM1, a 16550A on its usual port and interrupt. */
#define ABI_SERIAL_PORT 0x3f8
#define ABI_SERIAL_GSI  4

/*
 * The hypercall port, a 16-byte port window with 32-bit registers:
 *   +0 read:  ABI_HYPERCALL_MAGIC (all ones where there is no hypercall port)
 *   +0 write: ring a checkpoint; the value is the frame number (GPA / 4096) of a
 *             struct abi_checkpoint. The write returns when the host has looked.
 *   +4 write: end the machine; the low byte becomes the VMM's exit status.
 *   +8 write: give up the host CPU once (any value): the guest is spinning.
 *  +12 write: the guest kernel panicked (any value); the VMM reports and ends.
 */
#define ABI_HYPERCALL_PORT       0x5c0
#define ABI_HYPERCALL_BYTES      16
#define ABI_HYPERCALL_MAGIC      0x41525453u /* "STRA" */
#define ABI_HYPERCALL_CHECKPOINT 0
#define ABI_HYPERCALL_EXIT       4
#define ABI_HYPERCALL_YIELD      8
#define ABI_HYPERCALL_PANIC      12

/* Interrupt controllers, where every PC has them. */
#define ABI_LAPIC_GPA  0xfee00000ull
#define ABI_IOAPIC_GPA 0xfec00000ull

/* RAM is [0, 3 GiB) and, beyond that, from 4 GiB on. */
#define ABI_RAM_LOW_END    0xc0000000ull
#define ABI_RAM_HIGH_START 0x100000000ull

/*
 * Memory-mapped devices: one page each from ABI_MMIO_GPA on, in the hole below 4 GiB. The
 * first has GSI ABI_MMIO_GSI, the next ones the following; beyond the last GSI of the I/O
 * APIC they begin again and share them. A device's number is also its IOMMU endpoint, unless
 * a policy names another.
 */
#define ABI_MMIO_GPA         0xd0000000ull
#define ABI_MMIO_BYTES       0x1000ull
#define ABI_MMIO_GSI         16
#define ABI_MMIO_DEVICES_MAX 32

/*
 * Device tree:
 *   /chosen      bootargs; strata,host-cpus <u32>: CPUs of the host that may run
 *                vCPUs (with one, spinning across vCPUs wastes whole time slices);
 *                strata,tsc-hz <u64>
 *   /memory@0    reg: one (address, size) pair for each range, 64-bit cells
 *   /cpus/cpu@N  reg: the local APIC id
 *   /isa/serial@3f8    compatible "ns16550a", reg <1 port bytes>, interrupts <gsi type>
 *   /isa/hypercall-port@5c0  compatible ABI_HYPERCALL_COMPATIBLE, reg <1 port bytes>
 *   /virtio@GPA        compatible "virtio,mmio", reg (64-bit cells), interrupts <gsi type>,
 *                      dma-coherent; the IOMMU: #iommu-cells <1>, a phandle and strata,prompt:
 *                      whenever a device behind it is notified, it carries out first what it
 *                      was asked for, without a notification of its own; the others
 *                      iommus <phandle endpoint>, where there is an IOMMU
 *   /dma-probe@GPA     compatible ABI_PROBE_COMPATIBLE (probe.h), reg, interrupts, iommus
 *   /chosen      strata,dma-mode <string>: "off", "identity", "DMA" or "DMA-FQ", how the
 *                kernel is to use the IOMMU where no policy says otherwise;
 *                strata,dma-policy: struct abi_policy (policy.h)
 */
#define ABI_FDT_IOMMU_PROMPT     "strata,prompt"
#define ABI_FDT_HOST_CPUS        "strata,host-cpus"
#define ABI_FDT_TSC_HZ           "strata,tsc-hz"
#define ABI_FDT_DMA_MODE         "strata,dma-mode"
#define ABI_FDT_DMA_POLICY       "strata,dma-policy"
#define ABI_HYPERCALL_COMPATIBLE "strata,hypercall-port"

#endif
