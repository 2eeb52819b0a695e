#include "vmm/dma/harness_guest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/machine/vm.h"

/* The program's page: where it said, and what it should be. */
static int harness_guest_accept(void *owner, struct program *program)
{
    struct harness_guest *guest = owner;
    uint64_t gpa = harness_guest_gpa(guest, program->record.arg[ABI_HARNESS_VA]);

    guest->page = gpa % ABI_PAGE_BYTES ? NULL
                                       : memory_at(&program->vm->memory, gpa, sizeof(*guest->page));
    return guest->page && guest->page->magic == ABI_HARNESS_MAGIC ? 0 : -EINVAL;
}

void harness_guest_init(struct harness_guest *guest, struct vm *vm)
{
    const struct program_config config = { .exercise = ABI_DMA_HARNESS,
                                           .first_step = ABI_HARNESS_STEP,
                                           .last_step = ABI_HARNESS_STEP,
                                           .nargs = ABI_HARNESS_NARGS,
                                           .accept = harness_guest_accept,
                                           .owner = guest };

    *guest = (struct harness_guest){ .page = NULL };
    program_init(&guest->program, vm, &config);
}

void harness_guest_destroy(struct harness_guest *guest)
{
    program_destroy(&guest->program);
}

int harness_guest_wait_ready(struct harness_guest *guest, unsigned timeout_ms)
{
    struct program *program = &guest->program;
    int err = program_wait(program, timeout_ms);

    if (err == -ETIMEDOUT)
        snprintf(program->failure, sizeof(program->failure),
                 "the guest did not come up within %u ms", timeout_ms);
    return err;
}

int harness_guest_post(struct harness_guest *guest, const struct abi_harness_command *commands,
                       unsigned n)
{
    const struct program *program = &guest->program;

    if (program->failure[0] || n > ABI_HARNESS_COMMANDS)
        return program->failure[0] ? -ESHUTDOWN : -E2BIG;
    if (program_wait(&guest->program, 0))
        return -EBUSY;
    memcpy(guest->page->command, commands, n * sizeof(commands[0]));
    guest->page->ncommands = n;
    guest->page->tsc_hz = vcpu_tsc_hz(&program->vm->vcpus[0]);
    guest->page->flag = ABI_HARNESS_IDLE;
    guest->page->challenge = ++guest->challenge;
    guest->calls++;
    return program_resume(&guest->program);
}

int harness_guest_collect(struct harness_guest *guest, struct abi_harness_command *commands,
                          unsigned n, unsigned timeout_ms)
{
    struct program *program = &guest->program;
    int err;

    if (program->failure[0])
        return -ESHUTDOWN;
    err = program_wait(program, timeout_ms);
    if (err)
        return err;
    if (guest->page->answer != ABI_HARNESS_ANSWER(guest->challenge)) {
        snprintf(program->failure, sizeof(program->failure),
                 "the guest's program answers wrongly: expected 0x%llx, observed 0x%llx",
                 (unsigned long long)ABI_HARNESS_ANSWER(guest->challenge),
                 (unsigned long long)guest->page->answer);
        return -EPROTO;
    }
    memcpy(commands, guest->page->command, n * sizeof(commands[0]));
    return 0;
}

uint64_t harness_guest_flag(const struct harness_guest *guest)
{
    return __atomic_load_n(&guest->page->flag, __ATOMIC_ACQUIRE);
}

void harness_guest_set_flag(struct harness_guest *guest, uint64_t flag)
{
    __atomic_store_n(&guest->page->flag, flag, __ATOMIC_RELEASE);
}

uint64_t harness_guest_gpa(const struct harness_guest *guest, uint64_t va)
{
    struct paging_walk walk;

    return program_walk(&guest->program, va, &walk) ? 0 : walk.gpa;
}

void harness_guest_release(struct harness_guest *guest)
{
    program_release(&guest->program, 1);
}
