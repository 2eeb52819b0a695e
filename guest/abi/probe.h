/*
 * The DMA probe: a device that can be told to misbehave. Its first registers are those
 * of QEMU's educational device "edu" (docs/specs/edu.rst), in a memory-mapped window;
 * the attack registers from 0x100 on are strata's.
 *
 * 32-bit registers take 4-byte accesses only, from 0x80 on 4 or 8 bytes: a write of 4
 * bytes to a 64-bit register clears its upper half, which is at offset + 4. Other accesses
 * read all ones and write nothing, as do those to offsets without a register.
 *
 * Like edu, the device has a buffer of its own, at ABI_PROBE_BUFFER in the device's
 * address space; unlike edu's with its default mask, its DMA addresses have 64 bits. While
 * a DMA command runs, or is withheld, writes to the DMA registers are ignored, and while
 * an attack function runs, writes to ATTACK.
 */
#ifndef STRATA_ABI_PROBE_H
#define STRATA_ABI_PROBE_H

#define ABI_PROBE_COMPATIBLE "strata,dma-probe"
#define ABI_PROBE_BYTES      0x1000

/* As edu. */
#define ABI_PROBE_ID           0x00 /* RO: 0xRRrr00ed, major and minor version */
#define ABI_PROBE_LIVENESS     0x04 /* RW: reads as the complement of what was written */
#define ABI_PROBE_FACTORIAL    0x08 /* RW: n, then n! (modulo 2^32) */
#define ABI_PROBE_STATUS       0x20 /* RW: bit 0 computing (RO), bit 7 interrupt after factorial */
#define ABI_PROBE_STATUS_IRQ   0x80u
#define ABI_PROBE_IRQ_STATUS   0x24 /* RO: what raised the interrupt */
#define ABI_PROBE_IRQ_RAISE    0x60 /* WO: raises with this value or-ed into the status */
#define ABI_PROBE_IRQ_ACK      0x64 /* WO: clears these bits; at 0 the line goes down */
#define ABI_PROBE_DMA_SOURCE   0x80
#define ABI_PROBE_DMA_TARGET   0x88
#define ABI_PROBE_DMA_COUNT    0x90
#define ABI_PROBE_DMA_COMMAND  0x98
#define ABI_PROBE_DMA_START    1u /* reads 1 while it runs */
#define ABI_PROBE_DMA_TO_RAM   2u /* direction: from the buffer to memory, else from memory */
#define ABI_PROBE_DMA_IRQ      4u
#define ABI_PROBE_IRQ_DMA      0x100u /* in IRQ_STATUS after a DMA, as edu has it */
#define ABI_PROBE_IRQ_FACT     0x001u
#define ABI_PROBE_ID_VALUE     0x010000edu
#define ABI_PROBE_BUFFER       0x40000ull /* the buffer's address on the device's side */
#define ABI_PROBE_BUFFER_BYTES 4096

/* Attack functions: parameters, then the function's number written to ATTACK starts it. */
#define ABI_PROBE_ATTACK    0x100 /* RW: enum abi_probe_attack; reads 0 when it is over */
#define ABI_PROBE_ADDRESS   0x108
#define ABI_PROBE_LENGTH    0x110
#define ABI_PROBE_STRIDE    0x118 /* SWEEP: distance of its probes, at least 1 */
#define ABI_PROBE_REQUESTER 0x120 /* SPOOF: the requester id to claim */
#define ABI_PROBE_VALUE     0x128 /* MESSAGE: the data; FILL: the byte to write */
#define ABI_PROBE_FLAGS     0x130
/* Of the last attack function or DMA command: */
#define ABI_PROBE_RESULT     0x138 /* RO: bytes that got through (SWEEP: probes that did) */
#define ABI_PROBE_ERROR      0x140 /* RO: 0, or the errno the device saw first */
#define ABI_PROBE_FIRST      0x148 /* RO: SWEEP: the first address that answered */
#define ABI_PROBE_RESET      0x150 /* WO: as at power-on, but for the buffer and REMEMBER */
#define ABI_PROBE_FLAG_WRITE 1u
#define ABI_PROBE_FLAG_ATS   2u /* the request says it is translated */

/* More than this at once is not begun: ERROR says EINVAL. */
#define ABI_PROBE_SWEEP_MAX 0x20000u  /* probes of one SWEEP */
#define ABI_PROBE_FILL_MAX  0x400000u /* bytes of one FILL; other functions: the buffer's */

enum abi_probe_attack {
    ABI_PROBE_IDLE = 0,
    ABI_PROBE_ACCESS = 1, /* one request at ADDRESS, to or from the buffer */
    /* 8 bytes at every STRIDE of [ADDRESS, ADDRESS + LENGTH); what the n-th answer read goes to
       8 n of the buffer, around and around; writes write VALUE */
    ABI_PROBE_SWEEP = 2,
    ABI_PROBE_SPOOF = 3,    /* ACCESS with REQUESTER for an identity */
    ABI_PROBE_REMEMBER = 4, /* keeps the translation of ADDRESS, LENGTH */
    ABI_PROBE_REPLAY = 5,   /* to or from the buffer by what REMEMBER kept */
    ABI_PROBE_MESSAGE = 6,  /* VALUE to ADDRESS in the MSI window */
    ABI_PROBE_FILL = 7,     /* writes VALUE over [ADDRESS, ADDRESS + LENGTH) */
    ABI_PROBE_WITHHOLD = 8, /* from now on a DMA_COMMAND is carried out, never completed */
    ABI_PROBE_RELEASE = 9,  /* what was withheld completes, and no more is withheld */
};

#endif
