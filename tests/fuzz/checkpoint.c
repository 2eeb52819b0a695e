/*
 * libFuzzer: a guest that lies. The input is guest memory with a checkpoint record in
 * its first frame; the host's side of every exercise looks at it, in any order of
 * steps, as if it had been reached.
 */
#include <stdlib.h>
#include <string.h>

#include "devices/core/board.h"
#include "guest/abi/exercises.h"
#include "vmm/machine/memory.h"
#include "vmm/machine/vm.h"
#include "vmm/tour/tour.h"

#define MEMORY_BYTES (64 * ABI_PAGE_BYTES)
#define ROUNDS       4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct board no_devices;
static const struct tour_host host = { .cpus = 2, .timeout_s = 1, .memory_bytes = MEMORY_BYTES };

enum { RECORD_FRAME, KERNEL_FRAME, PML4_FRAME, PDPT_FRAME, PD_FRAME, PT_FRAME, PROCESS_FRAME };

static void *frame_at(uint8_t *ram, unsigned frame)
{
    return ram + frame * ABI_PAGE_BYTES;
}

/*
 * A fuzzer would hardly find a kernel's block, processes and page tables by itself: it
 * gets plausible ones, with its own bytes wherever there is a choice.
 */
static void plant_kernel(uint8_t *ram)
{
    struct abi_checkpoint *record = frame_at(ram, RECORD_FRAME);
    struct abi_kernel *kernel = frame_at(ram, KERNEL_FRAME);
    struct abi_process *process = frame_at(ram, PROCESS_FRAME);
    uint64_t *pt = frame_at(ram, PT_FRAME);

    record->magic = ABI_CHECKPOINT_MAGIC;
    record->kernel = KERNEL_FRAME * ABI_PAGE_BYTES;
    record->nargs %= ABI_CHECKPOINT_ARGS + 1;
    record->pid %= 3;
    for (unsigned i = 0; i < ABI_CHECKPOINT_ARGS; i++)
        record->arg[i] %= ABI_HUGE_BYTES;
    kernel->magic = ABI_KERNEL_MAGIC;
    kernel->version = ABI_KERNEL_VERSION;
    kernel->process_stride = sizeof(struct abi_process);
    kernel->nprocesses = 2;
    kernel->processes = PROCESS_FRAME * ABI_PAGE_BYTES;
    kernel->frames = kernel->frames % MEMORY_BYTES & ~7ull;
    kernel->nframes %= 256;
    for (unsigned i = 0; i < 2; i++) {
        process[i].pid = 1 + i;
        process[i].state = ABI_PROCESS_RUNNING;
        process[i].root = PML4_FRAME * ABI_PAGE_BYTES;
    }
    for (unsigned frame = PML4_FRAME; frame < PT_FRAME; frame++)
        *(uint64_t *)frame_at(ram, frame) = (frame + 1) * ABI_PAGE_BYTES | PAGING_P | PAGING_W |
                                            PAGING_U;
    for (unsigned i = 0; i < ABI_PAGE_BYTES / sizeof(*pt); i++)
        pt[i] &= (MEMORY_BYTES - 1) | PAGING_NX;
}

static void look(const struct tour_exercise *exercise, const struct abi_checkpoint *record,
                 const struct guest_view *view, struct vm *vm)
{
    struct tour_run *run = calloc(1, sizeof(*run));
    struct abi_checkpoint reached = *record;

    if (!run)
        abort();
    run->exercise = exercise;
    run->host = &host;
    run->vm = vm;
    run->board = &no_devices;
    run->state = calloc(1, exercise->state_bytes);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        reached.step = 1 + (record->step + i) % (exercise->steps - 1);
        exercise->checkpoint(run, &reached, view);
    }
    exercise->conclude(run, run->key, sizeof(run->key));
    free(run->state);
    free(run);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t ram[MEMORY_BYTES] __attribute__((aligned(4096)));
    struct memory memory = { .vm_fd = -1, .bytes = MEMORY_BYTES };
    struct vm vm = { .ncpus = 0 };
    struct abi_checkpoint record;
    struct guest_view view;

    if (size > sizeof(ram))
        return -1;
    memset(ram, 0, sizeof(ram));
    memcpy(ram, data, size);
    if (size % 8)
        plant_kernel(ram);
    memory.slots[memory.nslots++] = (struct memory_slot){ .bytes = MEMORY_BYTES, .hva = ram };
    if (guest_checkpoint(&memory, 0, &record) || guest_view_open(&view, &memory, record.kernel))
        return 0;
    for (size_t i = 0; i < tour_exercises_count; i++)
        look(tour_exercises[i], &record, &view, &vm);
    return 0;
}
