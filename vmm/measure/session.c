#include "vmm/measure/session.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

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
        at = memory_at(&session->machine.vm.memory, walk.gpa, part);
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
        guest_view_open(&session->view, &session->machine.vm.memory, session->record.kernel) ||
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

    machine_pause(&session->machine, vcpu);
    pthread_mutex_lock(&session->lock);
    err = guest_checkpoint(&session->machine.vm.memory, frame, &session->record);
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
    machine_resume(&session->machine, vcpu);
    return err;
}

static bool machine_ended(const struct session *session)
{
    struct pollfd end = { .fd = session->machine.vm.end_fd, .events = POLLIN };

    return poll(&end, 1, 0) > 0;
}

/* With the lock. */
static int wait_for_checkpoint(struct session *session)
{
    for (unsigned waited = 0; !session->reached; waited += POLL_MS) {
        struct timespec until;

        if (machine_ended(session)) {
            snprintf(session->failure, sizeof(session->failure), "the guest ended: %s, status %d",
                     vm_end_name(session->machine.vm.end.reason), session->machine.vm.end.status);
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
    machine_stop(&session->machine, VM_END_HOST_STOP, 0);
    pthread_mutex_lock(&session->lock);
    session->ending = true;
    pthread_cond_broadcast(&session->changed);
    pthread_mutex_unlock(&session->lock);
    machine_wait(&session->machine, -1);
}

/* The machine that the parameters ask for: 0 or -errno. */
static int session_configure(struct session *session, const struct session_params *params,
                             struct error *error)
{
    struct vm_config *config = &session->config;
    int err = 0;

    config_init(config);
    config->boot_args = "exec=measure";
    config->memory_bytes = params->memory_bytes;
    config->vcpu_count = params->cpus;
    config->huge_pages = (int)params->backing;
    config->dirty_ring_bytes = params->dirty_ring_bytes;
    for (unsigned i = 0; i < params->ndevices && !err; i++)
        err = config_add_device(config, &params->devices[i], error);
    return err;
}

/* Boots the machine and waits for its program. */
static int session_start(struct session *session, struct error *error)
{
    int err = machine_boot(&session->machine, error);

    if (!err)
        err = machine_start(&session->machine, error);
    if (err)
        return err;
    pthread_mutex_lock(&session->lock);
    err = wait_for_checkpoint(session);
    pthread_mutex_unlock(&session->lock);
    if (err) {
        error_set(error, err, "the measuring program did not start: %s", session->failure);
        end_run(session);
    }
    return err;
}

int session_open(struct session *session, const struct kvm_host *host,
                 const struct session_params *params, char *text, size_t text_bytes)
{
    struct machine_hooks hooks = MACHINE_NO_HOOKS;
    struct error error;
    int err;

    memset(session, 0, sizeof(*session));
    session->timeout_s = params->timeout_s ? params->timeout_s : TIMEOUT_S;
    hooks.checkpoint = on_checkpoint;
    hooks.checkpoint_owner = session;
    init_lock(session);
    err = session_configure(session, params, &error);
    if (!err)
        err = machine_create(&session->machine, host, &session->config, &hooks, &error);
    if (err)
        goto destroy_lock;
    session->tsc_hz = vcpu_tsc_hz(&session->machine.vm.vcpus[0]);
    err = params->prepare ? params->prepare(params->prepare_owner, session) : 0;
    if (err)
        error_set(&error, err, "cannot prepare the machine: %s", strerror(-err));
    else
        err = session_start(session, &error);
    if (!err)
        return 0;
    machine_destroy(&session->machine);

destroy_lock:
    snprintf(text, text_bytes, "%s", error.text);
    destroy_lock(session);
    return err;
}

void session_close(struct session *session)
{
    end_run(session);
    machine_destroy(&session->machine);
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

    return session_walk(session, va, &walk) ? NULL
                                            : memory_at(&session->machine.vm.memory, walk.gpa, 1);
}
