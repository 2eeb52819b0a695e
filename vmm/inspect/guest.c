#include "vmm/inspect/guest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/machine/guest_memory.h"
#include "vmm/machine/memory.h"

/* Bounds for what a guest may claim, and for how long its tables are followed. */
#define PROCESSES_MAX 4096
#define WALK_BUDGET   (64ull << 20)

#define USER_LAST     0x00007fffffffffffull
#define KERNEL_FIRST  0xffff800000000000ull

int guest_checkpoint(const struct memory *memory, uint32_t frame, struct abi_checkpoint *record)
{
    const void *at = memory_at(memory, (uint64_t)frame * ABI_PAGE_BYTES, sizeof(*record));

    if (!at)
        return -EINVAL;
    memcpy(record, at, sizeof(*record));
    if (record->magic != ABI_CHECKPOINT_MAGIC || record->nargs > ABI_CHECKPOINT_ARGS)
        return -EINVAL;
    return 0;
}

int guest_view_open(struct guest_view *view, const struct memory *memory, uint64_t kernel_gpa)
{
    const void *at = memory_at(memory, kernel_gpa, sizeof(view->kernel));
    const struct abi_kernel *kernel = &view->kernel;

    if (!at)
        return -EINVAL;
    memcpy(&view->kernel, at, sizeof(view->kernel));
    if (kernel->magic != ABI_KERNEL_MAGIC || kernel->version != ABI_KERNEL_VERSION)
        return -EINVAL;
    if (kernel->nframes > UINT32_MAX || kernel->nprocesses > PROCESSES_MAX ||
        kernel->process_stride < sizeof(struct abi_process) || kernel->process_stride % 8 ||
        kernel->processes % 8 || kernel->frames % 8)
        return -EINVAL;
    view->memory = memory;
    view->reader = guest_memory_reader(memory);
    view->frames = memory_at(memory, kernel->frames, kernel->nframes * sizeof(struct abi_frame));
    if (!view->frames || !memory_at(memory, kernel->processes,
                                    (uint64_t)kernel->nprocesses * kernel->process_stride))
        return -EINVAL;
    return 0;
}

/* Slot i of the process table; it lies in guest memory, as guest_view_open has seen. */
static void guest_process_at(const struct guest_view *view, uint32_t i, struct abi_process *process)
{
    const void *at = memory_at(view->memory,
                               view->kernel.processes + (uint64_t)i * view->kernel.process_stride,
                               sizeof(*process));

    memcpy(process, at, sizeof(*process));
}

int guest_process(const struct guest_view *view, uint64_t pid, struct abi_process *process)
{
    for (uint32_t i = 0; i < view->kernel.nprocesses; i++) {
        guest_process_at(view, i, process);
        if (process->state != ABI_PROCESS_FREE && process->pid == pid)
            return 0;
    }
    return -ESRCH;
}

struct abi_frame guest_frame(const struct guest_view *view, uint64_t gpa)
{
    uint64_t frame = gpa / ABI_PAGE_BYTES;

    return frame < view->kernel.nframes ? view->frames[frame] : (struct abi_frame){ 0 };
}

int guest_walk(const struct guest_view *view, uint64_t root, uint64_t va, struct paging_walk *walk)
{
    return paging_walk(&paging_x86_4level, &view->reader, root, va, walk);
}

int guest_read(const struct guest_view *view, uint64_t root, uint64_t va, void *to, size_t bytes)
{
    char *at = to;

    while (bytes) {
        size_t part = ABI_PAGE_BYTES - va % ABI_PAGE_BYTES;
        struct paging_walk walk;
        const void *from;

        if (part > bytes)
            part = bytes;
        if (guest_walk(view, root, va, &walk))
            return -EFAULT;
        from = memory_at(view->memory, walk.gpa, part);
        if (!from)
            return -EFAULT;
        memcpy(at, from, part);
        at += part;
        va += part;
        bytes -= part;
    }
    return 0;
}

/* ---- The audit ------------------------------------------------------------ */

struct counting {
    const struct guest_view *view;
    struct guest_audit *audit;
    uint16_t *mappings; /* for each frame, as far as 16 bits go */
    uint16_t *links;    /* for each frame, how often a walk met it as a table */
};

static void guest_count(uint16_t *counter)
{
    if (*counter < UINT16_MAX)
        ++*counter;
}

static int guest_count_user_leaf(void *owner, const struct paging_leaf *leaf)
{
    struct counting *counting = owner;
    uint64_t frame = leaf->gpa / ABI_PAGE_BYTES;
    uint64_t end = (leaf->gpa + leaf->page_bytes) / ABI_PAGE_BYTES;

    /* The kernel counts a 1G page as so many of 2M. */
    for (; frame < end; frame += ABI_HUGE_BYTES / ABI_PAGE_BYTES) {
        if (frame < counting->view->kernel.nframes)
            guest_count(&counting->mappings[frame]);
        else
            counting->audit->missing++;
    }
    return 0;
}

static int guest_count_user_table(void *owner, const struct paging_table *table)
{
    struct counting *counting = owner;
    uint64_t frame = table->gpa / ABI_PAGE_BYTES;

    if (frame < counting->view->kernel.nframes)
        guest_count(&counting->links[frame]);
    return 0;
}

static int guest_count_kernel_leaf(void *owner, const struct paging_leaf *leaf)
{
    struct counting *counting = owner;

    counting->audit->kernel_open += leaf->user;
    counting->audit->kernel_wx += leaf->writable && !leaf->nx;
    return 0;
}

static int guest_count_broken(void *owner, uint64_t va, unsigned level, enum paging_status status)
{
    struct counting *counting = owner;

    (void)va;
    (void)level;
    (void)status;
    counting->audit->broken++;
    return 0;
}

/* The lower half of every process's tables, and the kernel's half of one. */
static int guest_walk_all(struct counting *counting)
{
    const struct guest_view *view = counting->view;
    const struct paging_visitor user = { .owner = counting,
                                         .leaf = guest_count_user_leaf,
                                         .table = guest_count_user_table,
                                         .broken = guest_count_broken };
    const struct paging_visitor kernel = { .owner = counting,
                                           .leaf = guest_count_kernel_leaf,
                                           .broken = guest_count_broken };
    struct abi_process process;
    int err;

    for (uint32_t i = 0; i < view->kernel.nprocesses; i++) {
        guest_process_at(view, i, &process);
        if (process.state == ABI_PROCESS_FREE || !process.root)
            continue;
        err = paging_each(&paging_x86_4level, &view->reader, process.root,
                          (struct paging_range){ 0, USER_LAST }, WALK_BUDGET, &user);
        if (!err)
            err = paging_each(&paging_x86_4level, &view->reader, process.root,
                              (struct paging_range){ KERNEL_FIRST, UINT64_MAX }, WALK_BUDGET,
                              &kernel);
        if (err)
            return err;
        counting->audit->address_spaces++;
    }
    return 0;
}

static void guest_compare(const struct counting *counting)
{
    const struct guest_view *view = counting->view;
    struct guest_audit *audit = counting->audit;

    for (uint64_t i = 0; i < view->kernel.nframes; i++) {
        struct abi_frame frame = view->frames[i];
        bool user = frame.kind == ABI_FRAME_USER || frame.kind == ABI_FRAME_HUGE;
        /* Pages of bundled programs are counted, but live below the allocator. */
        bool program = i < view->kernel.first_frame;
        uint16_t mappings = counting->mappings[i];

        audit->user_frames += mappings && !program;
        audit->claimed_frames += user;
        audit->tables += counting->links[i] != 0;
        audit->claimed_tables += frame.kind == ABI_FRAME_TABLE;
        if (!user && !program) {
            audit->missing += mappings;
            continue;
        }
        audit->pinned += frame.pins;
        if (frame.refs > mappings)
            audit->unexplained += frame.refs - mappings;
        else
            audit->missing += mappings - frame.refs;
    }
}

int guest_audit(const struct guest_view *view, struct guest_audit *audit)
{
    struct counting counting = { .view = view, .audit = audit };
    int err = -ENOMEM;

    *audit = (struct guest_audit){ 0 };
    counting.mappings = calloc(view->kernel.nframes, sizeof(*counting.mappings));
    counting.links = calloc(view->kernel.nframes, sizeof(*counting.links));
    if (!counting.mappings || !counting.links)
        goto free_counters;
    err = guest_walk_all(&counting);
    if (!err)
        guest_compare(&counting);

free_counters:
    free(counting.links);
    free(counting.mappings);
    return err;
}
