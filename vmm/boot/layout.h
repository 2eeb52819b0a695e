/*
 * Where strata puts what it hands to a kernel: one area below 640 KiB, out of the way
 * of kernels (1 MiB and up) and of the start-up code for other CPUs (page 8 or so).
 */
#ifndef STRATA_BOOT_LAYOUT_H
#define STRATA_BOOT_LAYOUT_H

#define LAYOUT_START_INFO_GPA  0x10000ull /* hvm_start_info, memory map, module list */
#define LAYOUT_CMDLINE_GPA     0x10800ull
#define LAYOUT_CMDLINE_BYTES   0x800ull /* as Linux's COMMAND_LINE_SIZE, zero included */
#define LAYOUT_FDT_GPA         0x11000ull
#define LAYOUT_FDT_BYTES       0xf000ull
#define LAYOUT_END_GPA         0x20000ull
#define LAYOUT_LOW_MEMORY_END  0x9fc00ull /* RAM ends here, as on a PC with an EBDA */
#define LAYOUT_ACPI_GPA        0xe0000ull /* the RSDP first, where a search for it begins */
#define LAYOUT_ACPI_BYTES      0x10000ull
#define LAYOUT_MPTABLE_GPA     0xf0000ull /* the floating pointer first, as above */
#define LAYOUT_MPTABLE_BYTES   0x10000ull
#define LAYOUT_HIGH_MEMORY_GPA 0x100000ull
/* The least RAM that anything can boot in. */
#define LAYOUT_MEMORY_BYTES_MIN (2ull << 20)

#endif
