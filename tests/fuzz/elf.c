/*
 * libFuzzer: broken and hostile kernels. The input is an ELF image, loaded into a small
 * memory. Whatever it holds, the loader must stay inside both, and what it says it has
 * loaded must lie in RAM, clear of the boot structures.
 */
#include <stdlib.h>
#include <string.h>

#include "vmm/boot/elf.h"
#include "vmm/boot/layout.h"
#include "vmm/boot/pvh.h"

#define MEMORY_BYTES (8ull << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct memory memory = { .vm_fd = -1, .bytes = MEMORY_BYTES, .nslots = 1 };
    struct error error = { .text = "" };
    struct elf_info info;
    /* Untouched pages of it cost nothing: calloc of this size is a fresh mapping. */
    void *ram = calloc(1, MEMORY_BYTES);
    int err;

    if (!ram)
        abort();
    memory.slots[0] = (struct memory_slot){ .bytes = MEMORY_BYTES, .hva = ram };
    err = elf_load(&memory, data, size, &info, &error);
    if (err > 0 || (err < 0) != (error.text[0] != 0))
        abort();
    if (!err) {
        if (info.start >= info.end || info.end > MEMORY_BYTES || !info.segments)
            abort();
        if (pvh_write(&memory, &(struct pvh_info){ .cmdline = "fuzz" }, &error))
            abort();
    }
    free(ram);
    return 0;
}
