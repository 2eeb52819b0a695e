#include "vmm/measure/session.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "vmm/boot/boot.h"

#define TIMEOUT_S 60
#define POLL_MS   20 /* how often a waiting caller looks whether the machine has ended */

/* Copies between the program's shared page, from byte `offset` of it on, and the host. */
static int copy_shared_page(struct session *session, size_t offset, void *to, const void *from,
                            size_t bytes)
{
    uint64_t va = session->record.arg[0] + offset;
    size_t done = 0;

    while (done < bytes) {
        size_t part = ABI_PAGE_BYTES - va % ABI_PAGE_BYTES;
        struct paging_walk walk;
        char *at;

        if (part > bytes - done)
            part = bytes - done;
        if (guest_walk(&session->view, session->root, va, &walk))
            return -EFAULT;
        at = memory_at(&session->vm.memory, walk.gpa, part);
        if (!at)
            return -EFAULT;
        if (to)
            memcpy((char *)to + done, at, part);
        else
            memcpy(at, (const char *)from + done, part);
        done += part;
        va += part;
    }
    return 0;
}

/* The program's page tables, from what it said. */
static int recognise(struct session *session)
{
    struct abi_process process;

    if (session->record.exercise != ABI_MEASURE || session->record.nargs < 1 ||
        guest_view_open(&session->view, &session->vm.memory, session->record.kernel) ||
        guest_process(&session->view, session->record.pid, &process))
        return -EINVAL;
    session->root = process.root;
    return 0;
}

/* The program reached its checkpoint: the world rests until there is a command, or an end. */
static int on_checkpoint(void *owner, struct vcpu *vcpu, uint32_t frame)
{
    struct session *session = owner;
    int err;

    vm_pause(&session->vm, vcpu);
    pthread_mutex_lock(&session->lock);
    err = guest_checkpoint(&session->vm.memory, frame, &session->record);
    if (!err)
        err = recognise(session);
    if (!err) {
        session->reached = true;
        pthread_cond_broadcast(&session->changed);
        while (session->reached && !session->ending)
            pthread_cond_wait(&session->changed, &session->lock);
        session->reached = false;
    }
    pthread_mutex_unlock(&session->lock);
    vm_resume(&session->vm, vcpu);
    return err;
}

static bool machine_ended(const struct session *session)
{
    struct pollfd end = { .fd = session->vm.end_fd, .events = POLLIN };

    return poll(&end, 1, 0) > 0;
}

/* With the lock. */
static int wait_for_checkpoint(struct session *session)
{
    for (unsigned waited = 0; !session->reached; waited += POLL_MS) {
        struct timespec until;

        if (machine_ended(session)) {
            snprintf(session->failure, sizeof(session->failure), "the guest ended: %s, status %d",
                     vm_end_name(session->vm.end.reason), session->vm.end.status);
            return -ESHUTDOWN;
        }
        if (waited >= session->timeout_s * 1000) {
            snprintf(session->failure, sizeof(session->failure), "no answer within %u s",
                     session->timeout_s);
            return -ETIMEDOUT;
        }
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += POLL_MS * 1000000l;
        until.tv_sec += until.tv_nsec / 1000000000l;
        until.tv_nsec %= 1000000000l;
        pthread_cond_timedwait(&session->changed, &session->lock, &until);
    }
    return 0;
}

static void init_lock(struct session *session)
{
    pthread_condattr_t attributes;

    pthread_mutex_init(&session->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&session->changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

static void destroy_lock(struct session *session)
{
    pthread_cond_destroy(&session->changed);
    pthread_mutex_destroy(&session->lock);
}

/* Ends the run, whoever waits for whom. */
static void end_run(struct session *session)
{
    vm_stop(&session->vm, VM_END_HOST_STOP, 0);
    pthread_mutex_lock(&session->lock);
    session->ending = true;
    pthread_cond_broadcast(&session->changed);
    pthread_mutex_unlock(&session->lock);
    vm_wait(&session->vm, -1);
}

int session_open(struct session *session, const struct kvm_host *host,
                 const struct session_shape *shape, char *error, size_t error_bytes)
{
    const struct vm_config config = { .boot_args = "exec=measure",
                                      .memory_bytes = shape->memory_bytes,
                                      .vcpu_count = shape->cpus,
                                      .huge_pages = shape->backing,
                                      .devices = shape->devices,
                                      .ndevices = shape->ndevices };
    struct vm_shape vm_shape = boot_shape(&config);
    struct board_config board_config = boot_board(&config);
    struct boot_error boot_error;
    int err;

    vm_shape.dirty_ring_bytes = shape->dirty_ring_bytes;
    memset(session, 0, sizeof(*session));
    session->timeout_s = shape->timeout_s ? shape->timeout_s : TIMEOUT_S;
    err = vm_create(&session->vm, host, &vm_shape);
    if (err) {
        snprintf(error, error_bytes, "cannot create a virtual machine of %llu MiB: %s",
                 (unsigned long long)(shape->memory_bytes >> 20), strerror(-err));
        return err;
    }
    init_lock(session);
    board_config.checkpoint = on_checkpoint;
    board_config.checkpoint_owner = session;
    session->tsc_hz = vcpu_tsc_hz(&session->vm.vcpus[0]);
    err = board_create(&session->board, &session->vm, &board_config);
    if (err) {
        snprintf(error, error_bytes, "cannot create the devices: %s", strerror(-err));
        goto destroy_vm;
    }
    err = shape->prepare ? shape->prepare(shape->prepare_owner, session) : 0;
    if (err) {
        snprintf(error, error_bytes, "cannot prepare the machine: %s", strerror(-err));
        goto destroy_board;
    }
    err = boot(&session->vm, &session->board, &config, &boot_error);
    if (err) {
        snprintf(error, error_bytes, "%s", boot_error.text);
        goto destroy_board;
    }
    err = vm_start(&session->vm);
    if (err) {
        snprintf(error, error_bytes, "cannot start the CPUs' threads: %s", strerror(-err));
        goto destroy_board;
    }
    pthread_mutex_lock(&session->lock);
    err = wait_for_checkpoint(session);
    pthread_mutex_unlock(&session->lock);
    if (!err)
        return 0;
    snprintf(error, error_bytes, "the measuring program did not start: %s", session->failure);
    end_run(session);

destroy_board:
    board_destroy(&session->board);
destroy_vm:
    vm_destroy(&session->vm);
    destroy_lock(session);
    return err;
}

void session_close(struct session *session)
{
    end_run(session);
    board_destroy(&session->board);
    vm_destroy(&session->vm);
    destroy_lock(session);
}

int session_command(struct session *session, const struct abi_command *command,
                    struct abi_reply *reply)
{
    int err;

    if (session->failure[0])
        return -ESHUTDOWN;
    pthread_mutex_lock(&session->lock);
    err = copy_shared_page(session, offsetof(struct abi_shared_page, command), NULL, command,
                           sizeof(*command));
    if (!err) {
        session->reached = false;
        pthread_cond_broadcast(&session->changed);
        err = wait_for_checkpoint(session);
    }
    if (!err)
        err = copy_shared_page(session, offsetof(struct abi_shared_page, reply), reply, NULL,
                               sizeof(*reply));
    pthread_mutex_unlock(&session->lock);
    if (err && !session->failure[0])
        snprintf(session->failure, sizeof(session->failure), "the program's shared page is gone");
    return err;
}

int session_walk(const struct session *session, uint64_t va, struct paging_walk *walk)
{
    return guest_walk(&session->view, session->root, va, walk);
}

void *session_hva(const struct session *session, uint64_t va)
{
    struct paging_walk walk;

    return session_walk(session, va, &walk) ? NULL : memory_at(&session->vm.memory, walk.gpa, 1);
}
