/* The kernel's messages, on the console. */
#ifndef STRATA_KERNEL_PRINT_H
#define STRATA_KERNEL_PRINT_H

/* %s %d %u %x %lu %lx %c, with a width and 0-padding. */
void printk(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Message, backtrace, end of the machine. */
void panic(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

#endif
