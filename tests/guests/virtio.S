/*
 * A virtio driver in a few lines (virtio 1.2, 3.1 and 4.2.3), for the first virtio-console:
 * says "hello by virtio" on its transmit queue, then breaks the rules with a chain that is a
 * loop. Ends with 0; 2: there is no such device, 3: it did
 * not take the features (ACCESS_PLATFORM is among them only if boot arguments begin with p),
 * 4: it did not use the buffer, 5: it did not interrupt, 6: it did not notice the loop.
 */
#include "tests/guests/pvh.h"

PVH_KERNEL virtio_start

#define CMDLINE    24 /* in hvm_start_info */
#define CONSOLE_ID 3
#define TRANSMIT   1
#define SIZE       4

#define MAGIC               0x00
#define DEVICE_ID           0x08
#define DRIVER_FEATURES     0x20
#define DRIVER_FEATURES_SEL 0x24
#define QUEUE_SEL           0x30
#define QUEUE_NUM           0x38
#define QUEUE_READY         0x44
#define QUEUE_NOTIFY        0x50
#define INTERRUPT_STATUS    0x60
#define INTERRUPT_ACK       0x64
#define STATUS              0x70
#define QUEUE_DESC          0x80
#define QUEUE_DRIVER        0x90
#define QUEUE_DEVICE        0xa0

#define NEXT                1

.macro SET register value
    movl $\value, \register(%ebx)
.endm

.macro UNLESS register bits status
    mov \register(%ebx), %eax
    and $\bits, %eax
    jnz 6f
    END \status
6:
.endm

virtio_start:
    mov CMDLINE(%ebx), %esi
    mov $1, %edi /* VERSION_1, and */
    cmpb $'p', (%esi)
    jne 1f
    or $2, %edi /* ACCESS_PLATFORM, of the upper 32 features */
1:  mov $ABI_MMIO_GPA, %ebx
1:  cmpl $0x74726976, MAGIC(%ebx)
    jne 2f
    cmpl $CONSOLE_ID, DEVICE_ID(%ebx)
    je there
2:  add $ABI_MMIO_BYTES, %ebx
    cmp $(ABI_MMIO_GPA + ABI_MMIO_DEVICES_MAX * ABI_MMIO_BYTES), %ebx
    jb 1b
    END 2

there:
    SET STATUS, 0
    SET STATUS, 1
    SET STATUS, 3
    SET DRIVER_FEATURES_SEL, 1
    mov %edi, DRIVER_FEATURES(%ebx)
    SET STATUS, 0xb
    UNLESS STATUS, 8, 3
    SET QUEUE_SEL, TRANSMIT
    SET QUEUE_NUM, SIZE
    SET QUEUE_DESC, descriptors
    SET QUEUE_DRIVER, available
    SET QUEUE_DEVICE, used
    SET QUEUE_READY, 1
    SET STATUS, 0xf

    movw $1, available + 2
    SET QUEUE_NOTIFY, TRANSMIT
    cmpw $1, used + 2
    je sent
    END 4
sent:
    UNLESS INTERRUPT_STATUS, 1, 5
    SET INTERRUPT_ACK, 1

    movw $2, available + 2
    SET QUEUE_NOTIFY, TRANSMIT
    UNLESS STATUS, 64, 6
    END 0

    .data
    .balign 16
descriptors:
    .quad text
    .long text_end - text
    .word 0, 0
    .quad text
    .long 1
    .word NEXT, 1
    .fill 2 * 16
    .balign 4
available:
    .word 0, 0, 0, 1, 0, 0, 0
    .balign 4
used:
    .fill 6 + 8 * SIZE
text:
    .ascii "hello by virtio\n"
text_end:
