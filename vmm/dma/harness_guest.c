#include "vmm/dma/harness_guest.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "vmm/machine/vm.h"

#define POLL_MS 20 /* how often a waiting caller looks whether the machine has ended */

void harness_guest_init(struct harness_guest *guest, struct vm *vm)
{
    pthread_condattr_t attributes;

    *guest = (struct harness_guest){ .vm = vm };
    pthread_mutex_init(&guest->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&guest->changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

void harness_guest_destroy(struct harness_guest *guest)
{
    pthread_cond_destroy(&guest->changed);
    pthread_mutex_destroy(&guest->lock);
}

/* The program's page and page tables, from what it said and from a walk of the tables. */
static int recognise(struct harness_guest *guest)
{
    const struct memory *memory = &guest->vm->memory;
    struct abi_process process;
    uint64_t gpa;

    if (guest->record.exercise != ABI_DMA_HARNESS || guest->record.step != ABI_HARNESS_STEP ||
        guest->record.nargs < ABI_HARNESS_NARGS)
        return -EINVAL;
    if (guest_view_open(&guest->view, memory, guest->record.kernel) ||
        guest_process(&guest->view, guest->record.pid, &process))
        return -EINVAL;
    guest->root = process.root;
    gpa = harness_guest_gpa(guest, guest->record.arg[ABI_HARNESS_VA]);
    guest->page = gpa % ABI_PAGE_BYTES ? NULL : memory_at(memory, gpa, sizeof(*guest->page));
    return guest->page && guest->page->magic == ABI_HARNESS_MAGIC ? 0 : -EINVAL;
}

int harness_guest_checkpoint(void *owner, struct vcpu *vcpu, uint32_t frame)
{
    struct harness_guest *guest = owner;
    uint8_t *record;
    int err;

    vm_pause(guest->vm, vcpu);
    pthread_mutex_lock(&guest->lock);
    err = guest_checkpoint(&guest->vm->memory, frame, &guest->record);
    if (!err)
        err = recognise(guest);
    if (!err) {
        guest->reached = true;
        pthread_cond_broadcast(&guest->changed);
        while (guest->reached && !guest->ending)
            pthread_cond_wait(&guest->changed, &guest->lock);
        guest->reached = false;
        record = memory_at(&guest->vm->memory, (uint64_t)frame * ABI_PAGE_BYTES,
                           sizeof(struct abi_checkpoint));
        if (guest->quit && record)
            record[offsetof(struct abi_checkpoint, reply)] = 1;
    }
    pthread_mutex_unlock(&guest->lock);
    vm_resume(guest->vm, vcpu);
    return err;
}

static bool machine_ended(const struct harness_guest *guest)
{
    struct pollfd end = { .fd = guest->vm->end_fd, .events = POLLIN };

    return poll(&end, 1, 0) > 0;
}

/* Waits until the program rings. With the lock. */
static int wait_for_checkpoint(struct harness_guest *guest, unsigned timeout_ms)
{
    for (unsigned waited = 0; !guest->reached; waited += POLL_MS) {
        struct timespec until;

        if (machine_ended(guest)) {
            snprintf(guest->failure, sizeof(guest->failure), "the guest ended: %s, status %d",
                     vm_end_name(guest->vm->end.reason), guest->vm->end.status);
            return -ESHUTDOWN;
        }
        if (waited >= timeout_ms)
            return -ETIMEDOUT;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += POLL_MS * 1000000l;
        until.tv_sec += until.tv_nsec / 1000000000l;
        until.tv_nsec %= 1000000000l;
        pthread_cond_timedwait(&guest->changed, &guest->lock, &until);
    }
    return 0;
}

int harness_guest_wait_ready(struct harness_guest *guest, unsigned timeout_ms)
{
    int err;

    pthread_mutex_lock(&guest->lock);
    err = wait_for_checkpoint(guest, timeout_ms);
    pthread_mutex_unlock(&guest->lock);
    if (err == -ETIMEDOUT)
        snprintf(guest->failure, sizeof(guest->failure), "the guest did not come up within %u ms",
                 timeout_ms);
    return err;
}

int harness_guest_post(struct harness_guest *guest, const struct abi_harness_command *commands,
                       unsigned n)
{
    if (guest->failure[0] || n > ABI_HARNESS_COMMANDS)
        return guest->failure[0] ? -ESHUTDOWN : -E2BIG;
    pthread_mutex_lock(&guest->lock);
    if (!guest->reached) {
        pthread_mutex_unlock(&guest->lock);
        return -EBUSY;
    }
    memcpy(guest->page->command, commands, n * sizeof(commands[0]));
    guest->page->ncommands = n;
    guest->page->tsc_hz = vcpu_tsc_hz(&guest->vm->vcpus[0]);
    guest->page->flag = ABI_HARNESS_IDLE;
    guest->page->challenge = ++guest->challenge;
    guest->calls++;
    guest->reached = false;
    pthread_cond_broadcast(&guest->changed);
    pthread_mutex_unlock(&guest->lock);
    return 0;
}

int harness_guest_collect(struct harness_guest *guest, struct abi_harness_command *commands,
                          unsigned n, unsigned timeout_ms)
{
    int err;

    if (guest->failure[0])
        return -ESHUTDOWN;
    pthread_mutex_lock(&guest->lock);
    err = wait_for_checkpoint(guest, timeout_ms);
    if (!err && guest->page->answer != ABI_HARNESS_ANSWER(guest->challenge)) {
        snprintf(guest->failure, sizeof(guest->failure),
                 "the guest's program answers wrongly: expected 0x%llx, observed 0x%llx",
                 (unsigned long long)ABI_HARNESS_ANSWER(guest->challenge),
                 (unsigned long long)guest->page->answer);
        err = -EPROTO;
    }
    if (!err)
        memcpy(commands, guest->page->command, n * sizeof(commands[0]));
    pthread_mutex_unlock(&guest->lock);
    return err;
}

uint64_t harness_guest_flag(const struct harness_guest *guest)
{
    return __atomic_load_n(&guest->page->flag, __ATOMIC_ACQUIRE);
}

void harness_guest_set_flag(struct harness_guest *guest, uint64_t flag)
{
    __atomic_store_n(&guest->page->flag, flag, __ATOMIC_RELEASE);
}

int harness_guest_read_block(struct harness_guest *guest)
{
    return guest_view_open(&guest->view, &guest->vm->memory, guest->record.kernel);
}

uint64_t harness_guest_gpa(const struct harness_guest *guest, uint64_t va)
{
    struct paging_walk walk;

    return guest_walk(&guest->view, guest->root, va, &walk) ? 0 : walk.gpa;
}

void harness_guest_release(struct harness_guest *guest)
{
    pthread_mutex_lock(&guest->lock);
    guest->quit = true;
    guest->ending = true;
    pthread_cond_broadcast(&guest->changed);
    pthread_mutex_unlock(&guest->lock);
}
