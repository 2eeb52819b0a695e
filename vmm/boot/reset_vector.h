/*
 * Where a PC's processor begins after a reset (Intel SDM vol. 3, 10.1.4), and where Linux
 * jumps to for a reset when it takes a machine with hardware-reduced ACPI for one with EFI:
 * f000:fff0. Instead of a BIOS there are a few instructions that reset the machine.
 */
#ifndef STRATA_BOOT_RESET_VECTOR_H
#define STRATA_BOOT_RESET_VECTOR_H

#include "vmm/base/error.h"
#include "vmm/machine/memory.h"

/* Writes them to LAYOUT_RESET_GPA. 0 or -errno and a line. */
int reset_vector_write(struct memory *memory, struct error *error);

#endif
