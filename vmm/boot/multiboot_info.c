#include "vmm/boot/multiboot_info.h"
#include "vmm/boot/source.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "vmm/boot/layout.h"
#include "vmm/boot/memory_map.h"

#define HAS_MEMORY      (1u << 0)
#define HAS_CMDLINE     (1u << 2)
#define HAS_MODULES     (1u << 3)
#define HAS_MEMORY_MAP  (1u << 6)
#define HAS_LOADER_NAME (1u << 9)
#define LOADER_NAME     "strata"
#define KIB             1024u
/* The BIOS data area: what kernels read there that expect a PC below their boot loader. */
#define BDA_GPA         0x400ull
#define BDA_BYTES       0x100ull
#define BDA_COM1        0x00 /* its port */
#define BDA_BASE_MEMORY 0x13 /* KiB from 0 */
#define COM1_PORT       0x3f8

struct info {
    uint32_t flags;
    uint32_t mem_lower, mem_upper; /* KiB from 0 and from 1 MiB */
    uint32_t boot_device;
    uint32_t cmdline;
    uint32_t mods_count, mods_addr;
    uint32_t syms[4];
    uint32_t mmap_length, mmap_addr;
    uint32_t drives_length, drives_addr;
    uint32_t config_table;
    uint32_t boot_loader_name;
};

struct module {
    uint32_t mod_start, mod_end;
    uint32_t string;
    uint32_t reserved;
};

struct mmap_entry {
    uint32_t size; /* of what follows */
    uint64_t addr;
    uint64_t len;
    uint32_t type;
} __attribute__((packed));

/* All of it as it lies at LAYOUT_START_INFO_GPA. */
struct boot_page {
    struct info info;
    struct mmap_entry mmap[MEMORY_MAP_MAX];
    struct module modules[MULTIBOOT_MODULES_MAX];
};

_Static_assert(offsetof(struct info, boot_loader_name) == 64, "multiboot_info, 3.3");
_Static_assert(sizeof(struct mmap_entry) == 24, "multiboot_info, 3.3");
_Static_assert(sizeof(struct boot_page) <= LAYOUT_FDT_GPA - LAYOUT_START_INFO_GPA, "room");

/* Strings, one after another. */
struct strings {
    char *bytes; /* of LAYOUT_STRINGS_BYTES */
    size_t used;
};

static uint32_t multiboot_info_gpa_of(size_t offset)
{
    return (uint32_t)(LAYOUT_START_INFO_GPA + offset);
}

/* "first second", or "first" where there is no second. -E2BIG: no room for it. */
static int multiboot_info_add_string(struct strings *strings, const char *first, const char *second,
                                     uint32_t *gpa)
{
    size_t room = LAYOUT_STRINGS_BYTES - strings->used;
    int length = snprintf(strings->bytes + strings->used, room, "%s%s%s", first, *second ? " " : "",
                          second);

    if (length < 0 || (size_t)length >= room)
        return -E2BIG;
    *gpa = (uint32_t)(LAYOUT_STRINGS_GPA + strings->used);
    strings->used += (size_t)length + 1;
    return 0;
}

/* The file of "FILE ARGUMENTS". */
static int multiboot_info_module_path(const char *text, char path[], size_t bytes,
                                      struct error *error)
{
    size_t length = strcspn(text, " ");

    if (!length)
        return error_field(error, -EINVAL, BOOT_FIELD_MODULES,
                           "\"%.64s\": no file; say \"FILE ARGS\"", text);
    if (length >= bytes)
        return error_field(error, -ENAMETOOLONG, BOOT_FIELD_MODULES,
                           "%.64s...: the path is longer than %zu bytes", text, bytes - 1);
    memcpy(path, text, length);
    path[length] = 0;
    return 0;
}

static int multiboot_info_load_modules(struct memory *memory, struct boot_page *page,
                                       struct strings *strings, uint64_t start,
                                       const struct multiboot_info *info, struct error *error)
{
    struct initrd_room room = { .start = start, .end = UINT32_MAX, .limit = "4 GiB" };
    char path[4096];

    if (info->nmodules > MULTIBOOT_MODULES_MAX)
        return error_field(error, -E2BIG, BOOT_FIELD_MODULES,
                           "%u modules; the limit is %d, give fewer", info->nmodules,
                           MULTIBOOT_MODULES_MAX);
    for (unsigned i = 0; i < info->nmodules; i++) {
        struct module *module = &page->modules[i];
        struct initrd file;
        int err = multiboot_info_module_path(info->modules[i], path, sizeof(path), error);

        if (!err)
            err = initrd_load_module(memory, path, &room, &file, error);
        if (err)
            return err;
        module->mod_start = (uint32_t)file.gpa;
        module->mod_end = (uint32_t)(file.gpa + file.bytes);
        room.start = module->mod_end;
        if (multiboot_info_add_string(strings, info->modules[i], "", &module->string))
            return error_field(error, -E2BIG, BOOT_FIELD_MODULES,
                               "the modules' arguments are longer than %llu bytes; shorten them",
                               LAYOUT_STRINGS_BYTES - 1);
    }
    page->info.mods_count = info->nmodules;
    page->info.mods_addr = multiboot_info_gpa_of(offsetof(struct boot_page, modules));
    return 0;
}

static void multiboot_info_write_memory(struct boot_page *page, const struct memory *memory)
{
    struct memory_range ranges[MEMORY_MAP_MAX];
    unsigned count = memory_map(memory, ranges);

    page->info.mem_lower = (uint32_t)(LAYOUT_LOW_MEMORY_END / KIB);
    page->info.mem_upper = (uint32_t)((memory_low_end(memory) - LAYOUT_HIGH_MEMORY_GPA) / KIB);
    page->info.mmap_addr = multiboot_info_gpa_of(offsetof(struct boot_page, mmap));
    page->info.mmap_length = count * (uint32_t)sizeof(page->mmap[0]);
    for (unsigned i = 0; i < count; i++)
        page->mmap[i] = (struct mmap_entry){ .size = sizeof(page->mmap[0]) - sizeof(uint32_t),
                                             .addr = ranges[i].gpa,
                                             .len = ranges[i].bytes,
                                             .type = ranges[i].type };
}

/*
 * GRUB leaves what the BIOS wrote. Xen puts its start-up code below the end of base memory
 * that it finds here, however much mem_lower is.
 */
static void multiboot_info_write_bios_data(struct memory *memory,
                                           const struct multiboot_kernel *kernel)
{
    const uint16_t com1 = COM1_PORT, base_memory = LAYOUT_LOW_MEMORY_END / KIB;
    uint8_t *bda = memory_at(memory, BDA_GPA, BDA_BYTES);

    if (kernel->start < BDA_GPA + BDA_BYTES)
        return; /* There is a kernel instead. */
    memcpy(bda + BDA_COM1, &com1, sizeof(com1));
    memcpy(bda + BDA_BASE_MEMORY, &base_memory, sizeof(base_memory));
}

int multiboot_info_write(struct memory *memory, const struct multiboot_kernel *kernel,
                         const struct multiboot_info *info, struct vcpu_entry *entry,
                         struct error *error)
{
    struct boot_page *page = memory_at(memory, LAYOUT_START_INFO_GPA, sizeof(*page));
    struct strings strings = { .bytes = memory_at(memory, LAYOUT_STRINGS_GPA,
                                                  LAYOUT_STRINGS_BYTES) };
    /* Below 1 MiB there may be a kernel, but its modules would be in the way of all else. */
    uint64_t start = kernel->end > LAYOUT_HIGH_MEMORY_GPA ? kernel->end : LAYOUT_HIGH_MEMORY_GPA;
    int err;

    page->info.flags = HAS_MEMORY | HAS_CMDLINE | HAS_MODULES | HAS_MEMORY_MAP | HAS_LOADER_NAME;
    err = multiboot_info_add_string(&strings, LOADER_NAME, "", &page->info.boot_loader_name);
    if (!err)
        err = multiboot_info_add_string(&strings, info->kernel_path, info->cmdline,
                                        &page->info.cmdline);
    if (err)
        return error_field(error, err, BOOT_FIELD_BOOT_ARGS,
                           "boot arguments are %zu bytes long; the limit is %llu with the kernel's "
                           "name; shorten them",
                           strlen(info->cmdline), LAYOUT_STRINGS_BYTES - sizeof(LOADER_NAME) - 1);
    multiboot_info_write_memory(page, memory);
    multiboot_info_write_bios_data(memory, kernel);
    err = multiboot_info_load_modules(memory, page, &strings, start, info, error);
    *entry = (struct vcpu_entry){ .rip = kernel->entry,
                                  .rax = MULTIBOOT_ENTRY_EAX,
                                  .rbx = LAYOUT_START_INFO_GPA };
    return err;
}
