/*
 * What a kernel finds out about the machine from ACPI (ACPI 6.4; VIOT: ACPI 6.5, 5.2.36):
 * RSDP, XSDT, a hardware-reduced FADT, MADT, a DSDT with a device for each of the board's
 * that has a hardware id, and VIOT where there is an IOMMU.
 */
#ifndef STRATA_BOOT_ACPI_H
#define STRATA_BOOT_ACPI_H

#include <stddef.h>
#include <stdint.h>

#include "devices/core/board.h"
#include "vmm/base/error.h"

struct vm;

/*
 * Writes the tables of a machine with these CPUs (APIC ids from 0 on) and devices to `to`,
 * which the guest will see at `gpa`, the RSDP first. How many bytes they take; -ENOSPC:
 * more than there is room for; -ERANGE: a device lies beyond 4 GiB, or too many CPUs for
 * 8-bit APIC ids.
 */
int acpi_build(void *to, size_t bytes, uint64_t gpa, unsigned ncpus,
               const struct device_node *nodes, unsigned count);

/* The same into guest memory at LAYOUT_ACPI_GPA; *rsdp_gpa is then where the RSDP is. */
int acpi_write(struct vm *vm, const struct board *board, uint64_t *rsdp_gpa, struct error *error);

#endif
