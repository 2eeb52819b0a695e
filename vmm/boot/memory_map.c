#include "vmm/boot/memory_map.h"

#include "guest/abi/machine.h"
#include "vmm/boot/layout.h"

unsigned memory_map(const struct memory *memory, struct memory_range ranges[MEMORY_MAP_MAX])
{
    uint64_t low_end = memory_low_end(memory);
    const struct {
        uint64_t start, end;
        enum memory_type type;
    } all[MEMORY_MAP_MAX] = {
        { 0, LAYOUT_LOW_MEMORY_END, MEMORY_TYPE_RAM },
        /* Where a PC has the EBDA, the video memory and the BIOS, tables among them. */
        { LAYOUT_LOW_MEMORY_END, LAYOUT_HIGH_MEMORY_GPA, MEMORY_TYPE_RESERVED },
        { LAYOUT_HIGH_MEMORY_GPA, low_end, MEMORY_TYPE_RAM },
        { ABI_RAM_HIGH_START, ABI_RAM_HIGH_START + (memory->bytes - low_end), MEMORY_TYPE_RAM },
    };
    unsigned count = 0;

    for (unsigned i = 0; i < MEMORY_MAP_MAX; i++) {
        if (all[i].start < all[i].end)
            ranges[count++] = (struct memory_range){ .gpa = all[i].start,
                                                     .bytes = all[i].end - all[i].start,
                                                     .type = all[i].type };
    }
    return count;
}
