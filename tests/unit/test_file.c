/*
 * devices/backend/file: real files, through io_uring and through system calls. Each test
 * runs in both ways; the case names the one it had.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/backend/file.h"
#include "tests/unit/suites.h"

#define SECTORS  4096
#define BYTES    (SECTORS * BLOCK_SECTOR_BYTES)
#define REQUESTS 64

enum { URING, CALLS, WAYS };

static char path[64];
static struct block *block;
static uint8_t *buffer;

/* The user's side: a lock, and what came back. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t came = PTHREAD_COND_INITIALIZER;
static unsigned ndone, entered;

static void enter(void *owner)
{
    (void)owner;
    pthread_mutex_lock(&lock);
    entered++;
}

static void done(void *owner, struct block_request *request)
{
    (void)owner;
    (void)request;
    ndone++;
    pthread_cond_broadcast(&came);
}

static void leave(void *owner)
{
    (void)owner;
    entered--;
    pthread_mutex_unlock(&lock);
}

static int try_open(bool read_only, int way, char error[200])
{
    const struct file_options options = { .read_only = read_only,
                                          .without_uring = way == CALLS,
                                          .depth = REQUESTS };

    error[0] = 0;
    return file_open(&block, path, &options, error, 200);
}

static void open_as(bool read_only, int way)
{
    struct file_info info;
    char error[200];

    ck_assert_msg(try_open(read_only, way, error) == 0, "%s", error);
    block->user = (struct block_user){ .enter = enter, .done = done, .leave = leave };
    file_info(block, &info);
    if (way == CALLS)
        ck_assert(!info.uring);
    else if (!info.uring)
        printf("# file: as with system calls, because %s\n", info.why_not);
    ck_assert(info.uring == (info.why_not == NULL));
}

static void make_file(uint64_t bytes)
{
    int fd;

    snprintf(path, sizeof(path), "/tmp/strata-unit-XXXXXX");
    fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, (off_t)bytes), 0);
    close(fd);
}

static void setup(void)
{
    make_file(BYTES);
    buffer = aligned_alloc(4096, BYTES);
    ndone = 0;
}

static void teardown(void)
{
    unlink(path);
    free(buffer);
}

/* Submits n requests, and waits until all have come back. */
static void run(struct block_request *requests, unsigned n)
{
    pthread_mutex_lock(&lock);
    ndone = 0;
    for (unsigned i = 0; i < n; i++)
        block_submit(block, &requests[i]);
    block_kick(block);
    while (ndone < n)
        pthread_cond_wait(&came, &lock);
    pthread_mutex_unlock(&lock);
}

static int run_one(enum block_op op, uint64_t offset, uint64_t bytes, void *data)
{
    struct iovec iov = { .iov_base = data, .iov_len = bytes };
    struct block_request request = {
        .op = op, .offset = offset, .bytes = bytes, .iov = &iov, .niov = 1
    };

    run(&request, 1);
    if (!request.result && op <= BLOCK_WRITE)
        ck_assert_uint_eq(request.transfer, bytes);
    return request.result;
}

static void fill(uint8_t *bytes, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 251 + seed);
}

START_TEST(test_transfer)
{
    uint8_t *back = malloc(BYTES);
    struct iovec iov[REQUESTS][5];
    struct block_request requests[REQUESTS];

    open_as(false, _i);
    ck_assert_uint_eq(block->sectors, SECTORS);
    fill(buffer, BYTES, 1);
    ck_assert_int_eq(run_one(BLOCK_WRITE, 0, BYTES, buffer), 0);
    ck_assert_int_eq(run_one(BLOCK_FLUSH, 0, 0, NULL), 0);
    memset(back, 0, BYTES);
    ck_assert_int_eq(run_one(BLOCK_READ, 0, BYTES, back), 0);
    ck_assert_int_eq(memcmp(buffer, back, BYTES), 0);

    /* Many at once, each in five pieces of odd sizes, in the reverse order. */
    memset(back, 0, BYTES);
    for (unsigned i = 0; i < REQUESTS; i++) {
        uint64_t each = BYTES / REQUESTS, at = (REQUESTS - 1 - i) * each, from = at;

        for (unsigned j = 0; j < 5; j++) {
            uint64_t len = j < 4 ? 1000 * j + 17 : at + each - from;

            iov[i][j] = (struct iovec){ .iov_base = back + from, .iov_len = len };
            from += len;
        }
        requests[i] = (struct block_request){
            .op = BLOCK_READ, .offset = at, .bytes = each, .iov = iov[i], .niov = 5
        };
    }
    run(requests, REQUESTS);
    for (unsigned i = 0; i < REQUESTS; i++)
        ck_assert_int_eq(requests[i].result, 0);
    ck_assert_int_eq(memcmp(buffer, back, BYTES), 0);
    block_destroy(block);
    free(back);
}
END_TEST

/* Nothing in the page cache: what the kicking thread cannot finish comes from the other. */
START_TEST(test_from_disk)
{
    uint8_t *back = calloc(1, BYTES);
    int fd;

    fill(buffer, BYTES, 2);
    fd = open(path, O_RDWR);
    ck_assert_int_eq(pwrite(fd, buffer, BYTES, 0), BYTES);
    ck_assert_int_eq(fsync(fd), 0);
    posix_fadvise(fd, 0, BYTES, POSIX_FADV_DONTNEED);
    close(fd);
    open_as(true, _i);
    for (unsigned i = 0; i < 16; i++) {
        uint64_t at = (i * 5 % 16) * (BYTES / 16);

        ck_assert_int_eq(run_one(BLOCK_READ, at, BYTES / 16, back + at), 0);
    }
    ck_assert_int_eq(memcmp(buffer, back, BYTES), 0);
    block_destroy(block);
    free(back);
}
END_TEST

START_TEST(test_clear)
{
    struct block_request request = { .offset = 8192, .bytes = 3 * 4096 };
    uint8_t *back = malloc(BYTES);
    struct stat before, after;

    open_as(false, _i);
    for (unsigned i = 0; i < 3; i++) {
        fill(buffer, BYTES, 3);
        ck_assert_int_eq(run_one(BLOCK_WRITE, 0, BYTES, buffer), 0);
        ck_assert_int_eq(run_one(BLOCK_FLUSH, 0, 0, NULL), 0);
        ck_assert_int_eq(stat(path, &before), 0);
        request.op = i == 2 ? BLOCK_DISCARD : BLOCK_ZERO;
        request.unmap = i == 1;
        run(&request, 1);
        ck_assert_int_eq(request.result, 0);
        ck_assert_int_eq(stat(path, &after), 0);
        ck_assert_int_eq(before.st_size, after.st_size);
        ck_assert_int_eq(run_one(BLOCK_READ, 0, BYTES, back), 0);
        if (request.op == BLOCK_ZERO) {
            memset(buffer + 8192, 0, 3 * 4096);
            ck_assert_int_eq(memcmp(buffer, back, BYTES), 0);
        } else {
            ck_assert_int_eq(memcmp(buffer, back, 8192), 0);
            ck_assert_int_eq(memcmp(buffer + 5 * 4096, back + 5 * 4096, BYTES - 5 * 4096), 0);
            if (after.st_blocks >= before.st_blocks)
                printf("# file: /tmp gives no space back on discard\n");
        }
    }
    block_destroy(block);
    free(back);
}
END_TEST

/* The file gets shorter under us: the part that is there moves, then it is an error. */
START_TEST(test_shrunk)
{
    struct iovec iov = { .iov_base = buffer, .iov_len = 8192 };
    struct block_request request = {
        .op = BLOCK_READ, .offset = 4096, .bytes = 8192, .iov = &iov, .niov = 1
    };

    open_as(true, _i);
    ck_assert_int_eq(truncate(path, 8192), 0);
    run(&request, 1);
    ck_assert_int_eq(request.result, -EIO);
    ck_assert_uint_eq(request.transfer, 4096);
    ck_assert_int_eq(run_one(BLOCK_READ, 0, 4096, buffer), 0);
    block_destroy(block);
}
END_TEST

/* The host's errors come through, and the next request is none the worse. */
START_TEST(test_no_room)
{
    const struct rlimit limit = { .rlim_cur = 64 << 10, .rlim_max = RLIM_INFINITY };

    open_as(false, _i);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    memset(buffer, 1, 4096);
    ck_assert_int_eq(run_one(BLOCK_WRITE, 1 << 20, 4096, buffer), -EFBIG);
    ck_assert_int_eq(run_one(BLOCK_WRITE, 4096, 4096, buffer), 0);
    block_destroy(block);
}
END_TEST

/* Cancelled before the thread looks: what has not begun never does; all come back once. */
START_TEST(test_cancel)
{
    struct iovec iov[REQUESTS];
    struct block_request requests[REQUESTS];
    unsigned cancelled = 0;

    open_as(true, _i);
    for (unsigned i = 0; i < REQUESTS; i++) {
        iov[i] = (struct iovec){ .iov_base = buffer, .iov_len = 4096 };
        requests[i] = (struct block_request){
            .op = BLOCK_READ, .bytes = 4096, .iov = &iov[i], .niov = 1
        };
    }
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < REQUESTS; i++)
        block_submit(block, &requests[i]);
    for (unsigned i = 0; i < REQUESTS; i++)
        block_cancel(block, &requests[i]);
    block_kick(block);
    while (ndone < REQUESTS)
        pthread_cond_wait(&came, &lock);
    pthread_mutex_unlock(&lock);
    for (unsigned i = 0; i < REQUESTS; i++) {
        ck_assert(requests[i].result == 0 || requests[i].result == -ECANCELED);
        cancelled += requests[i].result != 0;
    }
    if (_i == CALLS)
        ck_assert_uint_eq(cancelled, REQUESTS);
    ck_assert_int_eq(run_one(BLOCK_READ, 0, 4096, buffer), 0);
    block_destroy(block);
    ck_assert_uint_eq(ndone, 1);
}
END_TEST

/* Destroying waits: what is under way comes back before. */
START_TEST(test_destroy)
{
    struct iovec iov[REQUESTS];
    struct block_request requests[REQUESTS];

    open_as(false, _i);
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < REQUESTS; i++) {
        iov[i] = (struct iovec){ .iov_base = buffer, .iov_len = BYTES / REQUESTS };
        requests[i] = (struct block_request){ .op = BLOCK_WRITE,
                                              .sync = true,
                                              .offset = i * (BYTES / REQUESTS),
                                              .bytes = BYTES / REQUESTS,
                                              .iov = &iov[i],
                                              .niov = 1 };
        block_submit(block, &requests[i]);
    }
    block_kick(block);
    pthread_mutex_unlock(&lock);
    block_destroy(block);
    ck_assert_uint_eq(ndone, REQUESTS);
    ck_assert_uint_eq(entered, 0);
}
END_TEST

START_TEST(test_unused)
{
    open_as(false, _i);
    block_destroy(block);
    ck_assert_uint_eq(ndone, 0);
}
END_TEST

START_TEST(test_locked)
{
    struct block *first;
    char error[200];

    open_as(false, _i);
    first = block;
    ck_assert_int_eq(try_open(false, _i, error), -EBUSY);
    ck_assert_ptr_nonnull(strstr(error, "in use by another machine"));
    ck_assert_ptr_nonnull(strstr(error, path));
    ck_assert_int_eq(try_open(true, _i, error), -EBUSY);
    ck_assert_ptr_nonnull(strstr(error, "being written by another machine"));
    block_destroy(first);

    /* Readers do not exclude each other, only a writer. */
    open_as(true, _i);
    first = block;
    open_as(true, _i);
    block_destroy(block);
    ck_assert_int_eq(try_open(false, _i, error), -EBUSY);
    block_destroy(first);
    open_as(false, _i);
    block_destroy(block);
}
END_TEST

START_TEST(test_no_disk)
{
    struct file_info info;
    char error[200], real[64];

    snprintf(real, sizeof(real), "%s", path);
    snprintf(path, sizeof(path), "/tmp/strata-unit-missing");
    ck_assert_int_eq(try_open(true, _i, error), -ENOENT);
    ck_assert_str_eq(error, "/tmp/strata-unit-missing: No such file or directory");
    snprintf(path, sizeof(path), "/tmp");
    ck_assert_int_eq(try_open(true, _i, error), -EISDIR);
    ck_assert_str_eq(error, "/tmp is a directory, not a disk image");
    ck_assert_int_eq(try_open(false, _i, error), -EISDIR);
    snprintf(path, sizeof(path), "/dev/null");
    ck_assert_int_eq(try_open(true, _i, error), -EINVAL);
    snprintf(path, sizeof(path), "%s", real);
    unlink(path);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_int_eq(try_open(true, _i, error), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error, "neither a file nor a block device"));
    unlink(path);
    make_file(511);
    ck_assert_int_eq(try_open(true, _i, error), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error, "smaller than one sector"));

    /* What is behind the last whole sector is nobody's. */
    ck_assert_int_eq(truncate(path, 3 * 512 + 100), 0);
    open_as(true, _i);
    file_info(block, &info);
    ck_assert_uint_eq(block->sectors, 3);
    ck_assert_uint_eq(info.unused_bytes, 100);
    block_destroy(block);
}
END_TEST

Suite *file_suite(void)
{
    Suite *suite = suite_create("file");
    TCase *tc = tcase_create("file");

    tcase_set_timeout(tc, 30);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, test_transfer, 0, WAYS);
    tcase_add_loop_test(tc, test_from_disk, 0, WAYS);
    tcase_add_loop_test(tc, test_clear, 0, WAYS);
    tcase_add_loop_test(tc, test_shrunk, 0, WAYS);
    tcase_add_loop_test(tc, test_no_room, 0, WAYS);
    tcase_add_loop_test(tc, test_cancel, 0, WAYS);
    tcase_add_loop_test(tc, test_destroy, 0, WAYS);
    tcase_add_loop_test(tc, test_unused, 0, WAYS);
    tcase_add_loop_test(tc, test_locked, 0, WAYS);
    tcase_add_loop_test(tc, test_no_disk, 0, WAYS);
    suite_add_tcase(suite, tc);
    return suite;
}
