#include "vmm/boot/kernel.h"
#include "vmm/boot/source.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "guest/abi/machine.h"
#include "vmm/boot/bundled.h"
#include "vmm/boot/foreign.h"
#include "vmm/boot/layout.h"
#include "vmm/boot/long_mode.h"
#include "vmm/boot/multiboot_info.h"
#include "vmm/boot/pvh.h"

#define LOW_1M 0x100000ull
#define LOW_4G 0x100000000ull

static bool is_elf(const struct image *image)
{
    char magic[SELFMAG];

    return image_read(image, 0, magic, SELFMAG) == 0 && memcmp(magic, ELFMAG, SELFMAG) == 0;
}

/* An ELF that has both entries is started by PVH, unless there are modules for the other. */
static int recognise_elf(struct kernel *kernel, struct error *error)
{
    int err = elf_open(&kernel->image, &kernel->elf, error);
    int found = MULTIBOOT_NONE;

    if (err)
        return err;
    kernel->is_elf = true;
    kernel->is_linux = kernel->elf.is_linux;
    kernel->format = KERNEL_PVH;
    if (!kernel->elf.has_pvh || kernel->source->nmodules)
        found = multiboot_find(&kernel->image, &kernel->multiboot, error);
    if (found < 0)
        return found;
    if (found == MULTIBOOT_1)
        kernel->format = KERNEL_MULTIBOOT;
    else if (!kernel->elf.has_pvh && found == MULTIBOOT_2)
        return error_set(error, -ENOEXEC,
                         "%s: a kernel of Multiboot 2, which strata does not have; build it for "
                         "Multiboot 1 or PVH",
                         kernel->image.name);
    else
        return elf_pvh_entry(&kernel->image, &kernel->elf, &kernel->entry32, error);
    return 0;
}

static int recognise_other(struct kernel *kernel, struct error *error)
{
    int found;

    if (bzimage_recognise(&kernel->image)) {
        kernel->format = KERNEL_BZIMAGE;
        kernel->is_linux = true;
        return bzimage_open(&kernel->image, &kernel->bzimage, error);
    }
    found = multiboot_find(&kernel->image, &kernel->multiboot, error);
    if (found < 0)
        return found;
    if (found != MULTIBOOT_1)
        return foreign_refuse(&kernel->image, error);
    kernel->format = KERNEL_MULTIBOOT;
    return 0;
}

/* Options that this format has no use for are mistakes, not to be passed over. */
static int check_source(const struct kernel *kernel, struct error *error)
{
    const struct boot_source *source = kernel->source;

    if (source->nmodules && kernel->format != KERNEL_MULTIBOOT)
        return error_field(
            error, -EINVAL, BOOT_FIELD_MODULES,
            "%s: modules are for Multiboot kernels, and this is none; for Linux give "
            "an initrd",
            kernel->image.name);
    if (source->initrd_path && kernel->format == KERNEL_MULTIBOOT)
        return error_field(error, -EINVAL, BOOT_FIELD_INITRD,
                           "%s: a Multiboot kernel takes no initrd; give it as a module",
                           kernel->image.name);
    return 0;
}

int kernel_open(struct kernel *kernel, const struct boot_source *source, struct error *error)
{
    int err = 0;

    memset(&kernel->source, 0, offsetof(struct kernel, elf) - offsetof(struct kernel, source));
    kernel->source = source;
    if (source->kernel_path)
        err = image_open(&kernel->image, source->kernel_path, "kernel", error);
    else
        kernel->image = image_in_memory("bundled guest", bundled_kernel,
                                        (uint64_t)(bundled_kernel_end - bundled_kernel));
    if (err)
        return err;
    if (source->flat.bits)
        kernel->format = KERNEL_FLAT;
    else if (is_elf(&kernel->image))
        err = recognise_elf(kernel, error);
    else
        err = recognise_other(kernel, error);
    if (!err)
        err = check_source(kernel, error);
    if (err)
        kernel_close(kernel);
    return err;
}

void kernel_close(struct kernel *kernel)
{
    image_close(&kernel->image);
}

static int load_flat(struct kernel *kernel, struct memory *memory, struct error *error)
{
    const struct boot_flat *flat = &kernel->source->flat;
    const struct image *image = &kernel->image;
    const struct layout_area *taken;
    void *to = memory_at(memory, flat->gpa, image->size);
    int err;

    kernel->start = flat->gpa;
    kernel->end = flat->gpa + image->size;
    if (flat->entry - flat->gpa >= image->size)
        return error_field(error, -EINVAL, BOOT_FIELD_FLAT,
                           "%s: entry 0x%" PRIx64 " is not in its %" PRIu64 " bytes at 0x%" PRIx64
                           "; correct it",
                           image->name, flat->entry, image->size, flat->gpa);
    /* In 64-bit mode no more is mapped (write_flat). */
    if (flat->entry >= (flat->bits == 16 ? LOW_1M : LOW_4G))
        return error_field(error, -EINVAL, BOOT_FIELD_FLAT,
                           "%s: entry 0x%" PRIx64 " is beyond the first %s, in which %u-bit code "
                           "starts; correct it",
                           image->name, flat->entry, flat->bits == 16 ? "MiB" : "4 GiB",
                           flat->bits);
    taken = to ? layout_taken(kernel->start, kernel->end) : NULL;
    if (taken)
        return error_field(error, -ENOSPC, BOOT_FIELD_FLAT,
                           "%s: at 0x%" PRIx64 " it overlaps %s at 0x%" PRIx64 "-0x%" PRIx64
                           "; give another address",
                           image->name, flat->gpa, taken->what, taken->start, taken->end - 1);
    if (!to)
        return error_field(error, -ENOSPC, BOOT_FIELD_FLAT,
                           "%s: %" PRIu64 " bytes at 0x%" PRIx64
                           " do not fit into RAM, which ends at 0x%" PRIx64
                           "; give another address, or more memory",
                           image->name, image->size, flat->gpa, memory_low_end(memory));
    err = image_read(image, 0, to, image->size);
    return err ? error_set(error, err, "%s: cannot read it: %s; see to the file", image->name,
                           strerror(-err))
               : 0;
}

int kernel_load(struct kernel *kernel, struct memory *memory, struct error *error)
{
    struct multiboot_kernel multiboot = { .entry = 0 };
    struct elf_info info;
    int err;

    switch (kernel->format) {
    case KERNEL_PVH:
        err = elf_load_segments(memory, &kernel->image, &kernel->elf, &info, error);
        kernel->start = info.start;
        kernel->end = info.end;
        return err;
    case KERNEL_BZIMAGE:
        return bzimage_load(memory, &kernel->image, &kernel->bzimage, &kernel->start, &kernel->end,
                            error);
    case KERNEL_MULTIBOOT:
        err = multiboot_load(memory, &kernel->image, &kernel->multiboot,
                             kernel->is_elf ? &kernel->elf : NULL, &multiboot, error);
        kernel->start = multiboot.start;
        kernel->end = multiboot.end;
        kernel->entry32 = multiboot.entry;
        return err;
    case KERNEL_FLAT: return load_flat(kernel, memory, error);
    }
    return -EINVAL;
}

bool kernel_wants_fdt(const struct kernel *kernel)
{
    return kernel->format == KERNEL_PVH || kernel->format == KERNEL_FLAT;
}

static int load_initrd(const struct kernel *kernel, struct memory *memory, struct initrd *initrd,
                       struct error *error)
{
    struct initrd_room room = { .start = LAYOUT_HIGH_MEMORY_GPA,
                                .end = LOW_4G,
                                .limit = "initrd_addr_max" };

    *initrd = (struct initrd){ .bytes = 0 };
    if (!kernel->source->initrd_path)
        return 0;
    if (kernel->format == KERNEL_BZIMAGE)
        room.end = bzimage_initrd_end(&kernel->bzimage);
    /* A kernel that is loaded beyond low memory leaves all of that free. */
    if (kernel->start < memory_low_end(memory) && kernel->end > room.start)
        room.start = kernel->end;
    return initrd_load(memory, kernel->source->initrd_path, &room, initrd, error);
}

static const char *cmdline_of(const struct kernel *kernel)
{
    return kernel->source->boot_args ? kernel->source->boot_args : "";
}

static int write_pvh(const struct kernel *kernel, struct memory *memory,
                     const struct kernel_info *info, struct vcpu_entry *entry, struct error *error)
{
    bool bundled = !kernel->source->kernel_path;
    struct pvh_info pvh = { .cmdline = cmdline_of(kernel),
                            .cmdline_max = bundled || kernel->is_linux ? PVH_CMDLINE_MAX : 0,
                            .fdt_bytes = info->fdt_bytes,
                            .fdt_first = bundled,
                            .rsdp_gpa = info->rsdp_gpa };
    int err = load_initrd(kernel, memory, &pvh.initrd, error);

    *entry = (struct vcpu_entry){ .rip = kernel->entry32, .rbx = LAYOUT_START_INFO_GPA };
    return err ? err : pvh_write(memory, &pvh, error);
}

static int write_bzimage(const struct kernel *kernel, struct memory *memory,
                         const struct kernel_info *info, struct vcpu_entry *entry,
                         struct error *error)
{
    struct bzimage_info bzimage = { .start = kernel->start,
                                    .cmdline = cmdline_of(kernel),
                                    .rsdp_gpa = info->rsdp_gpa };
    int err = load_initrd(kernel, memory, &bzimage.initrd, error);

    return err ? err
               : bzimage_write(memory, &kernel->image, &kernel->bzimage, &bzimage, entry, error);
}

static int write_multiboot(const struct kernel *kernel, struct memory *memory,
                           struct vcpu_entry *entry, struct error *error)
{
    const struct multiboot_kernel loaded = { .entry = kernel->entry32,
                                             .start = kernel->start,
                                             .end = kernel->end };
    const struct multiboot_info multiboot = { .kernel_path = kernel->image.name,
                                              .cmdline = cmdline_of(kernel),
                                              .modules = kernel->source->modules,
                                              .nmodules = kernel->source->nmodules };

    return multiboot_info_write(memory, &loaded, &multiboot, entry, error);
}

static int write_flat(const struct kernel *kernel, struct memory *memory,
                      const struct kernel_info *info, struct vcpu_entry *entry, struct error *error)
{
    int err = write_pvh(kernel, memory, info, entry, error);

    entry->rip = kernel->source->flat.entry;
    /* It may want to reach devices, too. */
    if (!err && kernel->source->flat.bits == 64)
        long_mode_write(memory, LOW_4G, entry);
    return err;
}

static int enter(const struct kernel *kernel, struct vcpu *vcpu, const struct vcpu_entry *entry)
{
    unsigned flat_bits = kernel->format == KERNEL_FLAT ? kernel->source->flat.bits : 0;

    if (kernel->format == KERNEL_BZIMAGE || flat_bits == 64)
        return vcpu_enter_long(vcpu, entry);
    return flat_bits == 16 ? vcpu_enter_real(vcpu, entry) : vcpu_enter_protected(vcpu, entry);
}

int kernel_start(const struct kernel *kernel, struct memory *memory, struct vcpu *vcpu,
                 const struct kernel_info *info, struct error *error)
{
    struct vcpu_entry entry;
    int err = -EINVAL;

    switch (kernel->format) {
    case KERNEL_PVH: err = write_pvh(kernel, memory, info, &entry, error); break;
    case KERNEL_BZIMAGE: err = write_bzimage(kernel, memory, info, &entry, error); break;
    case KERNEL_MULTIBOOT: err = write_multiboot(kernel, memory, &entry, error); break;
    case KERNEL_FLAT: err = write_flat(kernel, memory, info, &entry, error); break;
    }
    if (err)
        return err;
    err = enter(kernel, vcpu, &entry);
    return err ? error_set(error, err,
                           "KVM refuses the boot CPU's registers: %s; see strata doctor",
                           strerror(-err))
               : 0;
}
