#include "devices/backend/delay.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>

#include "vmm/base/monotonic.h"
#include "vmm/machine/vm_thread.h"

#define NS_PER_S 1000000000ull

struct delay {
    struct block block;
    struct block *store;
    uint64_t latency_ns;
    struct vm_thread thread;
    atomic_bool stop;
    atomic_bool cancels; /* some request is to be cancelled */

    /* Under the user's lock: what the store is done with, the earliest first. */
    struct block_request *waiting;
};

static struct delay *delay_of(struct block *block)
{
    return (struct delay *)block;
}

static void hand_back(struct delay *delay, struct block_request *request)
{
    delay->block.user.done(delay->block.user.owner, request);
}

/* ---- What the store calls, under the user's lock ---- */

static void store_enter(void *owner)
{
    const struct block_user *user = &((struct delay *)owner)->block.user;

    if (user->enter) /* somebody uses it */
        user->enter(user->owner);
}

static void store_leave(void *owner)
{
    const struct block_user *user = &((struct delay *)owner)->block.user;

    if (user->leave)
        user->leave(user->owner);
}

static void store_done(void *owner, struct block_request *request)
{
    struct delay *delay = owner;
    struct block_request **link = &delay->waiting;

    if (request->due_ns <= monotonic_ns() || atomic_load(&request->cancelled)) {
        hand_back(delay, request);
        return;
    }
    /* Nearly always at the end: but for what the store did in another order. */
    while (*link && (*link)->due_ns <= request->due_ns)
        link = &(*link)->next;
    request->next = *link;
    *link = request;
    if (delay->waiting == request)
        vm_thread_wake(&delay->thread);
}

/* ---- What the user calls ---- */

static void delay_submit(struct block *block, struct block_request *request)
{
    struct delay *delay = delay_of(block);

    request->due_ns = monotonic_ns() + delay->latency_ns;
    block_submit(delay->store, request);
}

static void delay_kick(struct block *block)
{
    block_kick(delay_of(block)->store);
}

static void delay_cancel(struct block *block, struct block_request *request)
{
    struct delay *delay = delay_of(block);

    /* The store notes it in the request, wherever that is now. */
    block_cancel(delay->store, request);
    atomic_store(&delay->cancels, true);
    vm_thread_wake(&delay->thread);
}

/* ---- The thread ---- */

/* Hands back what is due, or cancelled, or all: the time of the next one, 0 if there is none. */
static uint64_t hand_back_due(struct delay *delay, bool all)
{
    bool look_at_all = atomic_exchange(&delay->cancels, false) || all;
    struct block_request **link = &delay->waiting, *request, *over = NULL, **end = &over;
    uint64_t now = monotonic_ns();

    while ((request = *link) && (look_at_all || request->due_ns <= now)) {
        if (!all && request->due_ns > now && !atomic_load(&request->cancelled)) {
            link = &request->next;
            continue;
        }
        *link = request->next;
        request->next = NULL;
        *end = request;
        end = &request->next;
    }
    /* Off the list first: the user may submit more, which may come back at once. */
    while ((request = over)) {
        over = request->next;
        hand_back(delay, request);
    }
    return delay->waiting ? delay->waiting->due_ns : 0;
}

/* Until somebody woke the thread, or until `due`. */
static void wait_until(struct delay *delay, uint64_t due)
{
    struct pollfd fd = { .fd = delay->thread.wake_fd, .events = POLLIN };
    uint64_t now = due ? monotonic_ns() : 0, left = due > now ? due - now : 0;
    struct timespec timeout = { .tv_sec = (time_t)(left / NS_PER_S),
                                .tv_nsec = (long)(left % NS_PER_S) };

    if (ppoll(&fd, 1, due ? &timeout : NULL, NULL) > 0)
        vm_thread_woken(&delay->thread);
}

static void run(void *arg)
{
    struct delay *delay = arg;
    const struct block_user *user = &delay->block.user;
    uint64_t due = 0;
    bool stop = false;

    while (!stop) {
        wait_until(delay, due);
        stop = atomic_load(&delay->stop);
        if (!user->done) /* nobody ever used it */
            continue;
        vm_thread_enter(&delay->thread);
        user->enter(user->owner);
        due = hand_back_due(delay, stop);
        user->leave(user->owner);
        vm_thread_leave(&delay->thread);
    }
}

/* ---- Creation ---- */

static void delay_destroy(struct block *block)
{
    struct delay *delay = delay_of(block);

    /* When the store has gone, all that is left waits here, and need not any longer. */
    block_destroy(delay->store);
    atomic_store(&delay->stop, true);
    vm_thread_wake(&delay->thread);
    vm_thread_end(&delay->thread);
    free(delay);
}

static const struct block_ops delay_ops = {
    .submit = delay_submit,
    .kick = delay_kick,
    .cancel = delay_cancel,
    .destroy = delay_destroy,
};

int delay_create(struct block **block, struct vm *vm, struct block *store, uint64_t latency_ns)
{
    struct delay *delay;
    int err;

    if (latency_ns > DELAY_NS_MAX)
        return -EINVAL;
    delay = calloc(1, sizeof(*delay));
    if (!delay)
        return -ENOMEM;
    delay->block = (struct block){ .ops = &delay_ops,
                                   .sectors = store->sectors,
                                   .read_only = store->read_only };
    delay->store = store;
    delay->latency_ns = latency_ns;
    vm_thread_init(&delay->thread, vm, VM_THREAD_BACK, "disk latency");
    err = vm_thread_start(&delay->thread, run, delay);
    if (err) {
        free(delay);
        return err;
    }
    store->user = (struct block_user){
        .owner = delay, .enter = store_enter, .done = store_done, .leave = store_leave
    };
    *block = &delay->block;
    return 0;
}
