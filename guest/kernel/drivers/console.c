#include "guest/kernel/drivers/console.h"

#include <stdbool.h>

#include "guest/kernel/arch/cpu.h"
#include "guest/kernel/kernel.h"
#include "guest/kernel/proc/process.h"

#define FIFO_BYTES 16
#define RING_BYTES 1024u

/* 16550A registers. */
#define UART_DATA 0
#define UART_IER  1
#define UART_FCR  2
#define UART_LCR  3
#define UART_MCR  4
#define UART_LSR  5
#define LSR_DATA  0x01
#define LSR_EMPTY 0x20

const char console_input = 0;

static bool (*diverted)(const char *text, uint64_t bytes);
static char ring[RING_BYTES];
static uint32_t ring_in, ring_out, ring_lines;

static uint16_t port(unsigned reg)
{
    return (uint16_t)(boot_info.serial_port + reg);
}

void console_setup(void)
{
    outb(port(UART_LCR), 0x03); /* 8n1 */
    outb(port(UART_FCR), 0x07); /* FIFOs on and empty */
    outb(port(UART_MCR), 0x0b); /* DTR, RTS, and OUT2, which lets interrupts through */
    outb(port(UART_IER), 0x01);
}

void console_divert(bool (*write)(const char *text, uint64_t bytes))
{
    diverted = write;
}

void console_write(const char *text, uint64_t bytes)
{
    if (diverted && diverted(text, bytes))
        return;
    while (bytes) {
        uint64_t part = bytes < FIFO_BYTES ? bytes : FIFO_BYTES;

        bytes -= part;
        while (!(inb(port(UART_LSR)) & LSR_EMPTY))
            cpu_relax();
        __asm__ volatile("rep outsb" : "+S"(text), "+c"(part) : "d"(port(UART_DATA)) : "memory");
    }
}

void console_interrupt(void)
{
    while (inb(port(UART_LSR)) & LSR_DATA) {
        char c = (char)inb(port(UART_DATA));

        if (c == '\r')
            c = '\n';
        /* The last place is kept for a newline, so that a long line still ends. */
        if (ring_in - ring_out >= RING_BYTES - (c != '\n'))
            continue;
        ring[ring_in++ % RING_BYTES] = c;
        ring_lines += c == '\n';
    }
    if (ring_lines)
        process_wake(&console_input);
}

uint64_t console_read(char *to, uint64_t room)
{
    uint64_t n = 0;

    if (!ring_lines)
        return 0;
    while (n < room) {
        char c = ring[ring_out++ % RING_BYTES];

        to[n++] = c;
        if (c == '\n') {
            ring_lines--;
            break;
        }
    }
    return n;
}
