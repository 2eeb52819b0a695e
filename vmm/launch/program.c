#include "vmm/launch/program.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "vmm/machine/vm.h"

#define POLL_MS 20 /* how often a waiting caller looks whether the machine has ended */

void program_init(struct program *program, struct vm *vm, const struct program_config *config)
{
    pthread_condattr_t attributes;

    *program = (struct program){ .vm = vm, .config = *config };
    pthread_mutex_init(&program->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&program->changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

void program_destroy(struct program *program)
{
    pthread_cond_destroy(&program->changed);
    pthread_mutex_destroy(&program->lock);
}

/* ---- On the vCPU's thread, the world stopped ----------------------------------------------- */

/* Whose checkpoint it is, and where the program's page tables are. */
static int program_recognise(struct program *program)
{
    const struct program_config *config = &program->config;
    const struct abi_checkpoint *record = &program->record;
    struct abi_process process;

    if (record->exercise != config->exercise || record->step < config->first_step ||
        record->step > config->last_step || record->nargs < config->nargs ||
        guest_view_open(&program->view, &program->vm->memory, record->kernel))
        return -EINVAL;
    program->root = guest_process(&program->view, record->pid, &process) ? 0 : process.root;
    if (!program->root && !config->look)
        return -EINVAL;
    return config->accept ? config->accept(config->owner, program) : 0;
}

/* With the lock. */
static void program_wait_in_checkpoint(struct program *program, uint32_t frame)
{
    uint8_t *record;

    program->waiting = true;
    pthread_cond_broadcast(&program->changed);
    while (program->waiting && !program->ending)
        pthread_cond_wait(&program->changed, &program->lock);
    program->waiting = false;
    record = memory_at(&program->vm->memory, (uint64_t)frame * ABI_PAGE_BYTES,
                       sizeof(struct abi_checkpoint));
    if (program->reply && record)
        memcpy(record + offsetof(struct abi_checkpoint, reply), &program->reply,
               sizeof(program->reply));
}

int program_checkpoint(void *owner, struct vcpu *vcpu, uint32_t frame)
{
    struct program *program = owner;
    int err;

    vm_pause(program->vm, vcpu);
    pthread_mutex_lock(&program->lock);
    err = guest_checkpoint(&program->vm->memory, frame, &program->record);
    if (!err)
        err = program_recognise(program);
    if (!err && !program->config.look)
        program_wait_in_checkpoint(program, frame);
    pthread_mutex_unlock(&program->lock);
    if (!err && program->config.look)
        program->config.look(program->config.owner, program, vcpu);
    vm_resume(program->vm, vcpu);
    return err;
}

/* ---- On the host's ------------------------------------------------------------------------- */

static bool program_machine_ended(const struct program *program)
{
    struct pollfd end = { .fd = program->vm->end_fd, .events = POLLIN };

    return poll(&end, 1, 0) > 0;
}

/* With the lock, which it gives up meanwhile. */
static void program_wait_for_change(struct program *program)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += POLL_MS * 1000000l;
    until.tv_sec += until.tv_nsec / 1000000000l;
    until.tv_nsec %= 1000000000l;
    pthread_cond_timedwait(&program->changed, &program->lock, &until);
}

int program_wait(struct program *program, unsigned timeout_ms)
{
    int err = 0;

    pthread_mutex_lock(&program->lock);
    for (unsigned waited = 0; !program->waiting && !err; waited += POLL_MS) {
        if (program_machine_ended(program)) {
            snprintf(program->failure, sizeof(program->failure), "the guest ended: %s, status %d",
                     vm_end_name(program->vm->end.reason), program->vm->end.status);
            err = -ESHUTDOWN;
        } else if (waited >= timeout_ms) {
            err = -ETIMEDOUT;
        } else {
            program_wait_for_change(program);
        }
    }
    pthread_mutex_unlock(&program->lock);
    return err;
}

int program_resume(struct program *program)
{
    int err;

    pthread_mutex_lock(&program->lock);
    err = program->waiting ? 0 : -EBUSY;
    program->waiting = false;
    pthread_cond_broadcast(&program->changed);
    pthread_mutex_unlock(&program->lock);
    return err;
}

void program_release(struct program *program, uint32_t reply)
{
    pthread_mutex_lock(&program->lock);
    program->reply = reply;
    program->ending = true;
    pthread_cond_broadcast(&program->changed);
    pthread_mutex_unlock(&program->lock);
}

int program_read_block(struct program *program)
{
    return guest_view_open(&program->view, &program->vm->memory, program->record.kernel);
}

int program_walk(const struct program *program, uint64_t va, struct paging_walk *walk)
{
    return guest_walk(&program->view, program->root, va, walk);
}

void *program_hva(const struct program *program, uint64_t va)
{
    struct paging_walk walk;

    return program_walk(program, va, &walk) ? NULL : memory_at(&program->vm->memory, walk.gpa, 1);
}

int program_read(const struct program *program, uint64_t va, void *to, size_t bytes)
{
    return guest_read(&program->view, program->root, va, to, bytes);
}

int program_write(const struct program *program, uint64_t va, const void *from, size_t bytes)
{
    const char *rest = from;

    while (bytes) {
        size_t part = ABI_PAGE_BYTES - va % ABI_PAGE_BYTES;
        char *to = program_hva(program, va);

        if (!to)
            return -EFAULT;
        if (part > bytes)
            part = bytes;
        memcpy(to, rest, part);
        rest += part;
        va += part;
        bytes -= part;
    }
    return 0;
}
