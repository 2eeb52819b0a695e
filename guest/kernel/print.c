#include "guest/kernel/print.h"

#include <stdarg.h>

#include "guest/abi/machine.h"
#include "guest/kernel/arch/cpu.h"
#include "guest/kernel/drivers/console.h"
#include "guest/kernel/kernel.h"
#include "guest/kernel/kstring.h"

struct line {
    char text[256];
    unsigned n;
};

static void put(struct line *line, char c)
{
    if (line->n < sizeof(line->text))
        line->text[line->n++] = c;
}

static void put_number(struct line *line, uint64_t value, unsigned base, unsigned width, char pad)
{
    char digit[24];
    unsigned n = 0;

    do {
        digit[n++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    while (width-- > n && width < 24)
        put(line, pad);
    while (n)
        put(line, digit[--n]);
}

static void format_line(struct line *line, const char *format, va_list args)
{
    for (; *format; format++) {
        unsigned width = 0;
        bool is_long = false;
        char pad = ' ';

        if (*format != '%') {
            put(line, *format);
            continue;
        }
        format++;
        if (*format == '0')
            pad = '0';
        while (*format >= '0' && *format <= '9')
            width = width * 10 + (unsigned)(*format++ - '0');
        if (*format == 'l')
            is_long = true, format++;
        if (*format == 's') {
            const char *s = va_arg(args, const char *);

            while (*s)
                put(line, *s++);
        } else if (*format == 'c') {
            put(line, (char)va_arg(args, int));
        } else if (*format == 'd') {
            int64_t value = is_long ? va_arg(args, int64_t) : va_arg(args, int);

            if (value < 0)
                put(line, '-');
            put_number(line, (uint64_t)(value < 0 ? -value : value), 10, width, pad);
        } else {
            uint64_t value = is_long ? va_arg(args, uint64_t) : va_arg(args, uint32_t);

            put_number(line, value, *format == 'x' ? 16 : 10, width, pad);
        }
    }
}

void printk(const char *format, ...)
{
    struct line line;
    va_list args;

    line.n = 0;
    va_start(args, format);
    format_line(&line, format, args);
    va_end(args);
    console_write(line.text, line.n);
}

/* The kernel's functions in ascending order; made after the first link. */
extern const struct symbol {
    uint64_t address;
    const char *name;
} symbol_table[];

static void print_address(uint64_t address)
{
    const struct symbol *s = symbol_table;

    if (address < s->address) {
        printk("  %016lx\n", address);
        return;
    }
    while (s[1].address <= address)
        s++;
    printk("  %016lx %s+0x%lx\n", address, s->name, address - s->address);
}

void panic(const char *format, ...)
{
    static bool again;
    struct line line;
    va_list args;
    uint64_t *rbp;

    line.n = 0;
    va_start(args, format);
    format_line(&line, format, args);
    va_end(args);
    console_write("\nguest kernel panic: ", 21);
    console_write(line.text, line.n);
    console_write("\nbacktrace:\n", 12);
    __asm__ volatile("mov %%rbp, %0" : "=r"(rbp));
    /* Frames of the kernel's own stacks only, and no more than make sense. */
    for (unsigned i = 0; !again && i < 32 && (uint64_t)rbp >= DIRECT_MAP; i++) {
        again = true;
        print_address(rbp[1]);
        again = false;
        rbp = (uint64_t *)rbp[0];
    }
    if (boot_info.hypercall_port_number)
        outl((uint16_t)(boot_info.hypercall_port_number + ABI_HYPERCALL_PANIC), 1);
    for (;;)
        __asm__ volatile("cli; hlt");
}
