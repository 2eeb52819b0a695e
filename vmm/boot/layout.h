/*
 * Where strata puts what it hands to a kernel: one area below 640 KiB, out of the way
 * of kernels (1 MiB and up) and of the start-up code for other CPUs (page 8 or so).
 */
#ifndef STRATA_BOOT_LAYOUT_H
#define STRATA_BOOT_LAYOUT_H

#include <stdint.h>

/* hvm_start_info, multiboot_info or boot_params, with the lists that belong to it. */
#define LAYOUT_START_INFO_GPA 0x10000ull
/* Command lines that fit in the same page, as nearly all do; boot_params needs all of it. */
#define LAYOUT_CMDLINE_GPA   0x10800ull
#define LAYOUT_CMDLINE_BYTES 0x800ull
#define LAYOUT_FDT_GPA       0x11000ull
#define LAYOUT_FDT_BYTES     0xf000ull
/* For kernels that start in 64-bit mode: PML4, PDPT, four page directories, and the GDT. */
#define LAYOUT_TABLES_GPA   0x20000ull
#define LAYOUT_TABLES_BYTES 0x6000ull
#define LAYOUT_GDT_GPA      0x26000ull
/* Command lines of bzImage and long ones of others, strings of Multiboot. */
#define LAYOUT_STRINGS_GPA     0x26040ull
#define LAYOUT_STRINGS_BYTES   0x10000ull
#define LAYOUT_END_GPA         0x37000ull

#define LAYOUT_LOW_MEMORY_END  0x9fc00ull /* RAM ends here, as on a PC with an EBDA */
#define LAYOUT_ACPI_GPA        0xe0000ull /* the RSDP first, where a search for it begins */
#define LAYOUT_ACPI_BYTES      0x10000ull
#define LAYOUT_MPTABLE_GPA     0xff000ull /* the floating pointer first, where it is looked for */
#define LAYOUT_MPTABLE_BYTES   0xff0ull   /* in the page that also has */
#define LAYOUT_RESET_GPA       0xffff0ull /* what a CPU does after a reset */
#define LAYOUT_RESET_BYTES     0x10ull
#define LAYOUT_HIGH_MEMORY_GPA 0x100000ull
/* The least RAM that anything can boot in. */
#define LAYOUT_MEMORY_BYTES_MIN (2ull << 20)

/* Areas that no kernel may be loaded over. */
struct layout_area {
    uint64_t start, end;
    const char *what;
};

/* The first of them that [start, end) has an address of, or NULL. */
const struct layout_area *layout_taken(uint64_t start, uint64_t end);

#endif
