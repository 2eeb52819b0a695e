#include "vmm/machine/irq_line.h"

#include "vmm/machine/irq.h"
#include "vmm/machine/vm.h"

unsigned irq_line_alloc(struct vm *vm)
{
    struct irq_lines *lines = &vm->irq_lines;
    unsigned best = IRQ_LINE_SHARED;

    pthread_mutex_lock(&lines->lock);
    for (unsigned gsi = IRQ_LINE_SHARED; gsi < IRQ_LINES; gsi++) {
        if (lines->users[gsi] < lines->users[best])
            best = gsi;
    }
    lines->users[best]++;
    pthread_mutex_unlock(&lines->lock);
    return best;
}

void irq_source_set(struct irq_source *source, bool level)
{
    struct vm *vm = source->vm;
    struct irq_lines *lines;
    bool changed;

    if (level == source->level)
        return;
    source->level = level;
    if (!vm || source->gsi >= IRQ_LINES)
        return;
    lines = &vm->irq_lines;
    /* KVM is told under the lock: what it hears last is what the sources say last. */
    pthread_mutex_lock(&lines->lock);
    changed = level ? lines->high[source->gsi]++ == 0 : --lines->high[source->gsi] == 0;
    /* It fails only where the chip has no such line, and then no driver listens there. */
    if (changed)
        (void)(lines->set ? lines->set : irq_line)(vm, source->gsi, level);
    pthread_mutex_unlock(&lines->lock);
}
