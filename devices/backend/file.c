#include "devices/backend/file.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/backend/disk_image.h"
#include "devices/backend/file_step.h"
#include "vmm/machine/vm_thread.h"

#define DEPTH_MAX 1024

struct queue {
    struct block_request *first, **end;
};

struct file {
    struct block block;
    struct file_info info;
    char why_not[96];
    struct disk_image image;
    struct vm_thread thread;
    atomic_bool stop;
    atomic_bool cancels; /* some request is to be cancelled */

    /* Under the user's lock. */
    struct io_uring ring;
    struct block_request *in_ring;
    struct queue queue; /* for the thread */
    struct queue now;   /* for the next kick */
    struct queue held;  /* while the VM is paused */
    unsigned under_way;
    bool watching; /* the thread knows that it has to wait for the ring */
};

static struct file *file_of(struct block *block)
{
    return (struct file *)block;
}

static void list_add(struct block_request **list, struct block_request *request)
{
    request->next = *list;
    request->link = list;
    if (request->next)
        request->next->link = &request->next;
    *list = request;
}

static void list_remove(struct block_request *request)
{
    *request->link = request->next;
    if (request->next)
        request->next->link = request->link;
}

static void queue_init(struct queue *queue)
{
    queue->first = NULL;
    queue->end = &queue->first;
}

static void queue_add(struct queue *queue, struct block_request *request)
{
    request->next = NULL;
    request->link = queue->end;
    *queue->end = request;
    queue->end = &request->next;
}

static void queue_remove(struct queue *queue, struct block_request *request)
{
    if (!request->next)
        queue->end = request->link;
    list_remove(request);
}

static void finish(struct file *file, struct block_request *request, int result)
{
    request->result = result;
    file->under_way--;
    file->block.user.done(file->block.user.owner, request);
}

/* Carries out what is queued, one at a time, with the lock given up meanwhile. */
static void run_queue(struct file *file)
{
    const struct block_user *user = &file->block.user;
    struct block_request *request;
    int result;

    while ((request = file->queue.first) && !vm_thread_is_held(&file->thread)) {
        queue_remove(&file->queue, request);
        user->leave(user->owner);
        while (!file_step_over(request, file_step_call(&file->image, request), &result))
            ;
        user->enter(user->owner);
        finish(file, request, result);
    }
}

/*
 * Files in memory: io_uring gives them to a thread of its own, while the copy itself takes
 * less than waking that. They are done right here.
 */
static bool goes_now(const struct file *file, const struct block_request *request)
{
    return file->image.in_memory && (request->op == BLOCK_READ || request->op == BLOCK_WRITE);
}

static void run_now(struct file *file)
{
    struct block_request *request;
    int result;

    while ((request = file->now.first)) {
        queue_remove(&file->now, request);
        result = -ECANCELED;
        while (!atomic_load(&request->cancelled) &&
               !file_step_over(request, file_step_call(&file->image, request), &result))
            ;
        finish(file, request, result);
    }
}

/* ---- Steps through the ring ---- */

static bool goes_through_ring(const struct file *file, const struct block_request *request)
{
    /* A device's discard is an ioctl, which io_uring does not know. */
    return file->info.uring && !(file->image.is_device && request->op == BLOCK_DISCARD);
}

/* Queues the request's next step. */
static void step(struct file *file, struct block_request *request)
{
    struct io_uring_sqe *sqe = NULL;

    if (vm_thread_is_held(&file->thread)) {
        queue_add(&file->held, request);
        return;
    }
    if (goes_now(file, request)) {
        queue_add(&file->now, request);
        return;
    }
    if (goes_through_ring(file, request))
        sqe = io_uring_get_sqe(&file->ring);
    if (sqe) {
        file_step_prepare(&file->image, request, sqe);
        list_add(&file->in_ring, request);
    } else {
        queue_add(&file->queue, request);
    }
}

/* What a pause held goes on when it is over. */
static void release_held(struct file *file)
{
    struct block_request *request = file->held.first, *next;

    queue_init(&file->held);
    for (; request; request = next) {
        next = request->next;
        step(file, request);
    }
}

/* By a thread that is inside: the kernel writes guest memory as long as the ring has requests. */
static void note_in_flight(struct file *file)
{
    vm_thread_set_in_flight(&file->thread, file->in_ring != NULL);
}

/* Reports what the ring has done. */
static void reap(struct file *file)
{
    struct io_uring_cqe *cqe;

    while (io_uring_peek_cqe(&file->ring, &cqe) == 0) {
        struct block_request *request = io_uring_cqe_get_data(cqe);
        int result = cqe->res;

        io_uring_cqe_seen(&file->ring, cqe);
        if (!request) /* the answer to a cancellation; the request has its own */
            continue;
        list_remove(request);
        if (result == -EAGAIN)
            queue_add(&file->queue, request); /* the ring could not: it is done by hand */
        else if (file_step_over(request, result, &result))
            finish(file, request, result);
        else
            step(file, request);
    }
}

/* Starts all steps there are and reports those that are done at once. */
static void advance_ring(struct file *file)
{
    /* Each turn moves bytes of some request, or is the last. */
    while (io_uring_sq_ready(&file->ring) && io_uring_submit(&file->ring) > 0)
        reap(file);
}

/* The kernel had no memory for all steps; the thread tries again. */
static bool unsubmitted(const struct file *file)
{
    return file->info.uring && io_uring_sq_ready(&file->ring) > 0;
}

static void file_submit(struct block *block, struct block_request *request)
{
    struct file *file = file_of(block);

    file_step_begin(request);
    file->under_way++;
    step(file, request);
}

static void file_kick(struct block *block)
{
    struct file *file = file_of(block);

    run_now(file);
    if (file->info.uring)
        advance_ring(file);
    if (file->queue.first || unsubmitted(file) || (file->under_way && !file->watching)) {
        file->watching = true;
        vm_thread_wake(&file->thread);
    }
    note_in_flight(file);
}

/* ---- Cancellation: noted by anybody, carried out by the thread ---- */

static void file_cancel(struct block *block, struct block_request *request)
{
    struct file *file = file_of(block);

    atomic_store(&request->cancelled, true);
    atomic_store(&file->cancels, true);
    vm_thread_wake(&file->thread);
}

static void cancel_queued(struct file *file, struct queue *queue)
{
    struct block_request *request, *next;

    for (request = queue->first; request; request = next) {
        next = request->next;
        if (atomic_load(&request->cancelled)) {
            queue_remove(queue, request);
            finish(file, request, -ECANCELED);
        }
    }
}

static void run_cancels(struct file *file)
{
    struct block_request *request;

    if (!atomic_exchange(&file->cancels, false))
        return;
    for (request = file->in_ring; request; request = request->next) {
        struct io_uring_sqe *sqe;

        if (!atomic_load(&request->cancelled))
            continue;
        sqe = io_uring_get_sqe(&file->ring);
        if (!sqe) {
            atomic_store(&file->cancels, true); /* when the ring has room again */
            break;
        }
        io_uring_prep_cancel(sqe, request, 0);
        io_uring_sqe_set_data(sqe, NULL);
    }
    cancel_queued(file, &file->queue);
    cancel_queued(file, &file->held);
}

/* ---- The thread ---- */

/* Until somebody woke the thread or, if `ring`, until the ring has done something. */
static void wait_for_work(struct file *file, bool ring, bool retry)
{
    struct pollfd fds[] = { { .fd = file->thread.wake_fd, .events = POLLIN },
                            { .fd = ring ? file->ring.ring_fd : -1, .events = POLLIN } };

    /* Retry: the kernel had no memory for a submission; it may have in a while. */
    if (poll(fds, 2, retry ? 1 : -1) > 0 && fds[0].revents)
        vm_thread_woken(&file->thread);
}

static void run(void *arg)
{
    struct file *file = arg;
    const struct block_user *user = &file->block.user;
    bool ring = false, retry = false, stop = false;

    while (!stop) {
        wait_for_work(file, ring, retry);
        stop = atomic_load(&file->stop);
        if (!user->done) /* nobody ever used it */
            continue;
        vm_thread_enter(&file->thread);
        user->enter(user->owner);
        run_cancels(file);
        release_held(file);
        run_now(file);
        if (file->info.uring) {
            reap(file);
            advance_ring(file);
        }
        run_queue(file);
        retry = unsubmitted(file);
        file->watching = ring = file->in_ring != NULL;
        stop = stop && !file->under_way;
        note_in_flight(file);
        user->leave(user->owner);
        vm_thread_leave(&file->thread);
    }
}

/* ---- Opening and closing ---- */

static void close_file(struct file *file)
{
    vm_thread_end(&file->thread);
    if (file->info.uring)
        io_uring_queue_exit(&file->ring);
    disk_image_close(&file->image);
    free(file);
}

static void file_destroy(struct block *block)
{
    struct file *file = file_of(block);

    atomic_store(&file->stop, true);
    vm_thread_wake(&file->thread);
    close_file(file);
}

static const struct block_ops file_ops = {
    .submit = file_submit,
    .kick = file_kick,
    .cancel = file_cancel,
    .destroy = file_destroy,
};

/* A ring for so many requests: whether there is one, or why not. */
static bool make_ring(struct io_uring *ring, unsigned depth, char *why, size_t why_bytes)
{
    /* Twice the depth: each request may be joined by its cancellation. */
    int err = io_uring_queue_init(2 * depth, ring, 0);

    if (err < 0) {
        snprintf(why, why_bytes, "io_uring: %s",
                 err == -ENOSYS  ? "this kernel has none"
                 : err == -EPERM ? "not permitted here"
                                 : strerror(-err));
        return false;
    }
    /* All operations that are used here came before this feature did (Linux 5.7). */
    if (!(ring->features & IORING_FEAT_FAST_POLL)) {
        io_uring_queue_exit(ring);
        snprintf(why, why_bytes, "io_uring: older than Linux 5.7");
        return false;
    }
    return true;
}

bool file_has_uring(char *why, size_t why_bytes)
{
    struct io_uring ring;

    if (!make_ring(&ring, 1, why, why_bytes))
        return false;
    io_uring_queue_exit(&ring);
    return true;
}

static void choose_way(struct file *file, const struct file_options *options)
{
    if (options->without_uring)
        snprintf(file->why_not, sizeof(file->why_not), "io_uring: not wanted");
    else
        file->info.uring = make_ring(&file->ring, options->depth, file->why_not,
                                     sizeof(file->why_not));
    file->info.why_not = file->info.uring ? NULL : file->why_not;
}

int file_open(struct block **block, const char *path, const struct file_options *options,
              char *error, size_t error_bytes)
{
    char name[VM_THREAD_NAME_BYTES];
    struct file *file;
    int err = -EINVAL;

    if (!options->depth || options->depth > DEPTH_MAX)
        goto say;
    err = -ENOMEM;
    file = calloc(1, sizeof(*file));
    if (!file)
        goto say;
    err = disk_image_open(&file->image, path, options->read_only, error, error_bytes);
    if (err) {
        free(file);
        return err;
    }
    file->block = (struct block){ .ops = &file_ops,
                                  .sectors = file->image.bytes / BLOCK_SECTOR_BYTES,
                                  .read_only = options->read_only };
    file->info.bytes = file->image.bytes;
    file->info.unused_bytes = file->image.bytes % BLOCK_SECTOR_BYTES;
    queue_init(&file->queue);
    queue_init(&file->now);
    queue_init(&file->held);
    snprintf(name, sizeof(name), "disk %s", path);
    vm_thread_init(&file->thread, options->vm, VM_THREAD_BACK, name);
    choose_way(file, options);
    err = vm_thread_start(&file->thread, run, file);
    if (err) {
        close_file(file);
        goto say;
    }
    *block = &file->block;
    return 0;

say:
    snprintf(error, error_bytes, "%s: %s", path, strerror(-err));
    return err;
}

void file_info(const struct block *block, struct file_info *info)
{
    *info = ((const struct file *)block)->info;
}
