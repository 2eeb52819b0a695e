/* The console: a 16550A. Output waits for the FIFO; input is collected by lines. */
#ifndef STRATA_KERNEL_DRIVERS_CONSOLE_H
#define STRATA_KERNEL_DRIVERS_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void console_setup(void);
void console_write(const char *text, uint64_t bytes);

/* Output goes by `write` from now on, unless that returns false; NULL: by the serial port. */
void console_divert(bool (*write)(const char *text, uint64_t bytes));

/* The serial interrupt: takes what came in and wakes readers. */
void console_interrupt(void);

/* Up to a line, newline included, into `to`; 0 if no whole line is there yet. */
uint64_t console_read(char *to, uint64_t room);

/* What a reader waits for. */
extern const char console_input;

#endif
