#include "vmm/boot/layout.h"

#include <stddef.h>

const struct layout_area *layout_taken(uint64_t start, uint64_t end)
{
    static const struct layout_area areas[] = {
        { LAYOUT_START_INFO_GPA, LAYOUT_END_GPA, "the boot structures" },
        { LAYOUT_MPTABLE_GPA, LAYOUT_MPTABLE_GPA + LAYOUT_MPTABLE_BYTES, "the MP table" },
        { LAYOUT_RESET_GPA, LAYOUT_RESET_GPA + LAYOUT_RESET_BYTES, "the reset vector" },
        { LAYOUT_ACPI_GPA, LAYOUT_ACPI_GPA + LAYOUT_ACPI_BYTES, "the ACPI tables" },
    };

    for (size_t i = 0; i < sizeof(areas) / sizeof(areas[0]); i++) {
        if (start < areas[i].end && end > areas[i].start)
            return &areas[i];
    }
    return NULL;
}
