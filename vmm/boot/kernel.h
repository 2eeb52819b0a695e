/*
 * Kernels of every kind: recognised by their bytes, loaded, and handed what their boot
 * protocol promises.
 */
#ifndef STRATA_BOOT_KERNEL_H
#define STRATA_BOOT_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/error.h"
#include "vmm/boot/bzimage.h"
#include "vmm/boot/elf.h"
#include "vmm/boot/image.h"
#include "vmm/boot/multiboot.h"
#include "vmm/boot/source.h"
#include "vmm/machine/memory.h"
#include "vmm/machine/vcpu.h"

enum kernel_format {
    KERNEL_PVH, /* ELF with a PVH entry */
    KERNEL_BZIMAGE,
    KERNEL_MULTIBOOT,
    KERNEL_FLAT, /* plain code; it gets what a PVH kernel gets */
};

struct kernel {
    struct image image;
    const struct boot_source *source;
    enum kernel_format format;
    bool is_linux;
    bool is_elf; /* elf is valid */
    struct multiboot multiboot;
    struct bzimage bzimage;

    /* Set by kernel_load. */
    uint64_t start, end; /* what it needs of guest memory */
    uint32_t entry32;

    struct elf elf; /* last: of its room for segments only what is used is touched */
};

/*
 * Opens and recognises the kernel that the configuration names, which must outlive it: by
 * --flat, else an ELF by its PVH entry (with modules: by its Multiboot header), else by
 * that header, else a bzImage. 0; or -errno and a line that says what the file is and what
 * to do, also where the configuration asks for what the format does not have.
 */
int kernel_open(struct kernel *kernel, const struct boot_source *source, struct error *error);
void kernel_close(struct kernel *kernel);

/*
 * Reads the kernel into guest memory, which must be zero and have LAYOUT_MEMORY_BYTES_MIN.
 * 0, or -errno and a line.
 */
int kernel_load(struct kernel *kernel, struct memory *memory, struct error *error);

struct kernel_info {
    uint32_t fdt_bytes; /* of the device tree blob at LAYOUT_FDT_GPA; 0: none */
    uint64_t rsdp_gpa;  /* 0: no ACPI */
};

/* Whether the kernel is given a device tree. */
bool kernel_wants_fdt(const struct kernel *kernel);

/*
 * After kernel_load: reads initrd or modules, writes the structures of its protocol, and
 * puts the boot CPU to the kernel's entry, in the mode that it starts in. 0, or -errno
 * and a line.
 */
int kernel_start(const struct kernel *kernel, struct memory *memory, struct vcpu *vcpu,
                 const struct kernel_info *info, struct error *error);

#endif
