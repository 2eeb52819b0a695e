#include "devices/backend/file_step.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* A request's next step where it takes several; BLOCK_ZERO goes from one to the next. */
enum { STEP_FALLOCATE, STEP_WRITE_ZEROES };

/* What io_uring and pwrite take zeroes from. Nobody writes to it: it stays one zero page. */
static uint8_t zeroes[64 << 10];

void file_step_begin(struct block_request *request)
{
    request->step = STEP_FALLOCATE;
    request->transfer = 0;
    request->result = 0;
}

/* The rest of a zeroing in writes: where the file system cannot do it by itself. */
static size_t zeroes_left(const struct block_request *request)
{
    uint64_t left = request->bytes - request->transfer;

    return left < sizeof(zeroes) ? left : sizeof(zeroes);
}

/* Both ways leave the file as long as it is, and what was in the range reads as zeroes. */
static int fallocate_mode(const struct block_request *request)
{
    bool punch = request->op == BLOCK_DISCARD || request->unmap;

    return FALLOC_FL_KEEP_SIZE | (punch ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
}

/* Drops the first `bytes` of what is still to be moved. */
static void advance(struct block_request *request, size_t bytes)
{
    request->transfer += bytes;
    while (request->niov && bytes >= request->iov->iov_len) {
        bytes -= request->iov->iov_len;
        request->iov++;
        request->niov--;
    }
    if (request->niov) {
        request->iov->iov_base = (char *)request->iov->iov_base + bytes;
        request->iov->iov_len -= bytes;
    }
}

/* Takes a step's result in. True: *result is the request's; false: another step follows. */
static bool is_over(struct block_request *request, int step, int *result)
{
    *result = step;
    if (step == -EINTR)
        return false;
    switch (request->op) {
    case BLOCK_FLUSH: return true;
    case BLOCK_DISCARD:
        /* A hint: storage that cannot give space back keeps it. */
        if (step == -EOPNOTSUPP)
            *result = 0;
        return true;
    case BLOCK_ZERO:
        if (request->step == STEP_FALLOCATE) {
            request->step = STEP_WRITE_ZEROES;
            return step != -EOPNOTSUPP;
        }
        break;
    case BLOCK_READ:
    case BLOCK_WRITE: break;
    }
    if (step < 0)
        return true;
    advance(request, (size_t)step);
    *result = 0;
    if (request->transfer == request->bytes)
        return true;
    /* Nothing moved although something is left: the file has shrunk under us. */
    if (step == 0)
        *result = -EIO;
    return step == 0;
}

bool file_step_over(struct block_request *request, int step, int *result)
{
    if (is_over(request, step, result))
        return true;
    *result = -ECANCELED;
    return atomic_load(&request->cancelled);
}

static int device_discard(const struct disk_image *image, const struct block_request *request)
{
    uint64_t range[2] = { request->offset, request->bytes };

    return ioctl(image->fd, BLKDISCARD, range) < 0 ? -errno : 0;
}

int file_step_call(const struct disk_image *image, struct block_request *request)
{
    off_t at = (off_t)(request->offset + request->transfer);
    ssize_t n = 0;

    switch (request->op) {
    case BLOCK_READ: n = preadv(image->fd, request->iov, (int)request->niov, at); break;
    case BLOCK_WRITE:
        n = pwritev2(image->fd, request->iov, (int)request->niov, at,
                     request->sync ? RWF_DSYNC : 0);
        break;
    case BLOCK_FLUSH: n = fdatasync(image->fd); break;
    case BLOCK_DISCARD:
        if (image->is_device)
            return device_discard(image, request);
        n = fallocate(image->fd, fallocate_mode(request), at, (off_t)request->bytes);
        break;
    case BLOCK_ZERO:
        if (request->step == STEP_FALLOCATE)
            n = fallocate(image->fd, fallocate_mode(request), at, (off_t)request->bytes);
        else
            n = pwrite(image->fd, zeroes, zeroes_left(request), at);
        break;
    }
    return n < 0 ? -errno : (int)n;
}

void file_step_prepare(const struct disk_image *image, struct block_request *request,
                       struct io_uring_sqe *sqe)
{
    uint64_t at = request->offset + request->transfer;

    switch (request->op) {
    case BLOCK_READ: io_uring_prep_readv(sqe, image->fd, request->iov, request->niov, at); break;
    case BLOCK_WRITE:
        io_uring_prep_writev(sqe, image->fd, request->iov, request->niov, at);
        sqe->rw_flags = request->sync ? RWF_DSYNC : 0;
        break;
    case BLOCK_FLUSH: io_uring_prep_fsync(sqe, image->fd, IORING_FSYNC_DATASYNC); break;
    case BLOCK_DISCARD:
    case BLOCK_ZERO:
        if (request->step == STEP_FALLOCATE)
            io_uring_prep_fallocate(sqe, image->fd, fallocate_mode(request), (off_t)at,
                                    (off_t)request->bytes);
        else
            io_uring_prep_write(sqe, image->fd, zeroes, (unsigned)zeroes_left(request), at);
        break;
    }
    io_uring_sqe_set_data(sqe, request);
}
