/*
 * libFuzzer: broken and hostile Multiboot kernels, as ELF or by their header's fields, and
 * all else that a kernel file is looked at for. The input is the file, loaded into a small
 * memory. Whatever it holds, the loader must stay inside both, and what it says it has
 * loaded must lie in RAM, clear of the boot structures.
 */
#include <stdlib.h>
#include <string.h>

#include "vmm/boot/foreign.h"
#include "vmm/boot/layout.h"
#include "vmm/boot/multiboot.h"
#include "vmm/boot/multiboot_info.h"

#define MEMORY_BYTES (8ull << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int load(struct memory *memory, const struct image *image, struct error *error)
{
    const struct multiboot_info info = { .kernel_path = "kernel", .cmdline = "fuzz" };
    struct multiboot_kernel kernel;
    struct multiboot header;
    struct vcpu_entry entry;
    struct elf elf;
    bool is_elf = elf_open(image, &elf, error) == 0;
    int found, err;

    error->text[0] = 0;
    found = multiboot_find(image, &header, error);
    if (found != MULTIBOOT_1)
        return found < 0 ? found : foreign_refuse(image, error);
    err = multiboot_load(memory, image, &header, is_elf ? &elf : NULL, &kernel, error);
    if (err)
        return err;
    if (kernel.start >= kernel.end || kernel.end > MEMORY_BYTES || kernel.entry < kernel.start ||
        kernel.entry >= kernel.end)
        abort();
    if (!is_elf && layout_taken(kernel.start, kernel.end))
        abort();
    return multiboot_info_write(memory, &kernel, &info, &entry, error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct memory memory = { .vm_fd = -1, .bytes = MEMORY_BYTES, .nslots = 1 };
    struct image image = image_in_memory("kernel", data, size);
    struct error error = { .text = "" };
    void *ram = calloc(1, MEMORY_BYTES);
    int err;

    if (!ram)
        abort();
    memory.slots[0] = (struct memory_slot){ .bytes = MEMORY_BYTES, .hva = ram };
    err = load(&memory, &image, &error);
    if (err > 0 || (err < 0) != (error.text[0] != 0))
        abort();
    free(ram);
    return 0;
}
