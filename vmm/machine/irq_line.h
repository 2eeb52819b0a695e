/*
 * Level-triggered interrupt lines that devices share: pins of the IOAPIC that no ISA device
 * has. A line is high while any of its sources is.
 */
#ifndef STRATA_MACHINE_IRQ_LINE_H
#define STRATA_MACHINE_IRQ_LINE_H

#include <pthread.h>
#include <stdbool.h>

struct vm;

#define IRQ_LINES       24 /* pins of the IOAPIC, GSIs from 0 on */
#define IRQ_LINE_SHARED 16 /* the first that are handed out; those before are ISA's */

/* Of one VM; zero is as good as new. */
struct irq_lines {
    pthread_mutex_t lock;
    unsigned users[IRQ_LINES]; /* how often a line was handed out */
    unsigned high[IRQ_LINES];  /* how many of its sources are high */
    /* Sets a line in place of irq_line (tests); NULL: irq_line does. */
    int (*set)(struct vm *vm, unsigned gsi, bool level);
};

/* What one device does to a line. Its user sees to it that one thread at a time changes it. */
struct irq_source {
    struct vm *vm; /* NULL: there is no line (tests) */
    unsigned gsi;
    bool level;
};

/* The GSI of a line for one more device, the one with the fewest. From any thread. */
unsigned irq_line_alloc(struct vm *vm);

/*
 * The source's level from now on. KVM hears of it only when the line's changes, as a call
 * costs microseconds.
 */
void irq_source_set(struct irq_source *source, bool level);

#endif
