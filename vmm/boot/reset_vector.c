#include "vmm/boot/reset_vector.h"
#include "vmm/boot/source.h"

#include <errno.h>
#include <string.h>

#include "devices/legacy/i8042.h"
#include "vmm/boot/layout.h"

int reset_vector_write(struct memory *memory, struct error *error)
{
    /* In whatever mode the CPU is, wherever the segment begins. */
    static const uint8_t code[] = {
        0xb0, I8042_RESET, /* mov $I8042_RESET, %al */
        0xe6, I8042_PORT,  /* out %al, $I8042_PORT */
        0xf4,              /* 1: hlt */
        0xeb, 0xfd,        /* jmp 1b */
    };
    void *to = memory_at(memory, LAYOUT_RESET_GPA, sizeof(code));

    if (!to)
        return error_field(error, -ENOSPC, BOOT_FIELD_MEMORY,
                           "too little memory for a reset vector; give more");
    memcpy(to, code, sizeof(code));
    return 0;
}
