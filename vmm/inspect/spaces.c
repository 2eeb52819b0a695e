#include "vmm/inspect/spaces.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/machine/guest_memory.h"
#include "vmm/machine/memory.h"

#define CR0_PG       (1ull << 31)
#define ROOT_ENTRIES 512

/* The guest chose the name: what a terminal would obey does not come through. */
static void spaces_copy_name(char *to, size_t room, const char *from, size_t bytes)
{
    size_t i;

    for (i = 0; i + 1 < room && i < bytes && from[i]; i++)
        to[i] = from[i] >= ' ' && from[i] <= '~' ? from[i] : '?';
    to[i] = 0;
}

static struct space *space_with(struct spaces *s, const struct paging_format *format, uint64_t root)
{
    for (unsigned i = 0; i < s->n; i++) {
        if (s->space[i].root == root && s->space[i].format == format)
            return &s->space[i];
    }
    if (s->n == SPACES_MAX) {
        s->left_out++;
        return NULL;
    }
    s->space[s->n] = (struct space){ .format = format, .root = root };
    return &s->space[s->n++];
}

static void spaces_add_processes(struct spaces *s, const struct paging_format *format)
{
    const struct abi_kernel *kernel = &s->guest.kernel;

    for (uint32_t i = 0; i < kernel->nprocesses; i++) {
        const struct abi_process *from = memory_at(
            s->memory, kernel->processes + (uint64_t)i * kernel->process_stride, sizeof(*from));
        struct abi_process process;
        struct space *space;

        if (!from)
            continue;
        memcpy(&process, from, sizeof(process));
        if (process.state == ABI_PROCESS_FREE || !process.root)
            continue;
        space = space_with(s, format, process.root & format->root);
        if (space && !space->pid) {
            space->pid = process.pid;
            spaces_copy_name(space->name, sizeof(space->name), process.name, sizeof(process.name));
        }
    }
}

/* The guest's block by the address it has in the kernel's half of this CPU's tables. */
static bool spaces_find_block(struct spaces *s, const struct paging_format *format, uint64_t root,
                              uint64_t kernel_va)
{
    struct paging_walk walk;

    return !paging_walk(format, &s->reader, root, kernel_va, &walk) &&
           !guest_view_open(&s->guest, s->memory, walk.gpa);
}

/* Whether entry i of both roots leads to the same, whatever was accessed. */
static bool spaces_same_upper(const struct spaces *s, const struct space *a, const struct space *b)
{
    if (a->format != b->format)
        return false;
    for (unsigned i = ROOT_ENTRIES / 2; i < ROOT_ENTRIES; i++) {
        uint64_t one = 0, two = 0;

        if (s->reader.read(s->reader.owner, a->root + 8ull * i, &one) ||
            s->reader.read(s->reader.owner, b->root + 8ull * i, &two))
            return false;
        if ((one ^ two) & ~PAGING_A)
            return false;
    }
    return true;
}

void spaces_find(struct spaces *s, const struct memory *memory, const struct space_cpu *cpus,
                 unsigned ncpus, uint64_t kernel_va)
{
    *s = (struct spaces){ .memory = memory, .reader = guest_memory_reader(memory) };

    for (unsigned i = 0; i < ncpus && !s->bundled && kernel_va; i++) {
        const struct paging_format *format = paging_format_of(cpus[i].cr0, cpus[i].cr4,
                                                              cpus[i].efer);

        s->bundled = format && spaces_find_block(s, format, cpus[i].cr3, kernel_va);
        if (s->bundled)
            spaces_add_processes(s, format);
    }
    for (unsigned i = 0; i < ncpus; i++) {
        const struct paging_format *format = paging_format_of(cpus[i].cr0, cpus[i].cr4,
                                                              cpus[i].efer);
        struct space *space;

        if (!format) {
            s->unpaged_cpus += !(cpus[i].cr0 & CR0_PG);
            s->unwalked_cpus += !!(cpus[i].cr0 & CR0_PG);
            continue;
        }
        space = space_with(s, format, cpus[i].cr3 & format->root);
        if (!space)
            continue;
        space->cpus |= 1ull << i;
        if (s->bundled && !space->pid && space->root == (s->guest.kernel.root & format->root))
            spaces_copy_name(space->name, sizeof(space->name), "kernel", sizeof("kernel"));
    }
    for (unsigned i = 0; i < s->n; i++) {
        for (s->space[i].upper_as = 0; s->space[i].upper_as < i; s->space[i].upper_as++) {
            if (spaces_same_upper(s, &s->space[s->space[i].upper_as], &s->space[i]))
                break;
        }
    }
}

const struct space *spaces_of_pid(const struct spaces *s, uint32_t pid)
{
    for (unsigned i = 0; i < s->n; i++) {
        if (s->space[i].pid == pid)
            return &s->space[i];
    }
    return NULL;
}

/* The last address of a format's lower half; the upper half starts at its complement. */
static uint64_t spaces_lower_last_of(const struct paging_format *format)
{
    return (1ull << (format->va_bits - 1)) - 1;
}

/* One space's index put before the visitor's arguments. */
struct indexed {
    const struct spaces_visitor *visitor;
    unsigned space;
};

static int spaces_indexed_leaf(void *owner, const struct paging_leaf *leaf)
{
    const struct indexed *x = owner;

    return x->visitor->leaf(x->visitor->owner, x->space, leaf);
}

static int spaces_indexed_table(void *owner, const struct paging_table *table)
{
    const struct indexed *x = owner;

    return x->visitor->table(x->visitor->owner, x->space, table);
}

static int spaces_indexed_broken(void *owner, uint64_t va, unsigned level,
                                 enum paging_status status)
{
    const struct indexed *x = owner;

    (void)level;
    return x->visitor->broken(x->visitor->owner, x->space, va, status);
}

int spaces_visit(const struct spaces *s, unsigned space, unsigned halves, uint64_t *budget,
                 const struct spaces_visitor *visitor)
{
    const struct space *at = &s->space[space];
    const uint64_t lower_last = spaces_lower_last_of(at->format);
    struct indexed x = { .visitor = visitor, .space = space };
    const struct paging_visitor each = { .owner = &x,
                                         .leaf = visitor->leaf ? spaces_indexed_leaf : NULL,
                                         .table = visitor->table ? spaces_indexed_table : NULL,
                                         .broken = visitor->broken ? spaces_indexed_broken : NULL };
    int err = 0;

    if (halves & SPACES_LOWER)
        err = paging_each_within(at->format, &s->reader, at->root,
                                 (struct paging_range){ 0, lower_last }, budget, &each);
    if (!err && halves & SPACES_UPPER)
        err = paging_each_within(at->format, &s->reader, at->root,
                                 (struct paging_range){ ~lower_last, UINT64_MAX }, budget, &each);
    return err;
}

int spaces_each(const struct spaces *s, unsigned halves, uint64_t *budget,
                const struct spaces_visitor *visitor)
{
    int err = 0;

    for (unsigned i = 0; i < s->n && !err; i++) {
        unsigned wanted = s->space[i].upper_as == i ? halves : halves & ~SPACES_UPPER;

        err = spaces_visit(s, i, wanted, budget, visitor);
    }
    return err;
}
