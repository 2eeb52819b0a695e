/*
 * devices/backend/delay over real files, through io_uring and through system calls. What
 * must not come is asked for with a latency so long that it cannot come by itself.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "devices/backend/delay.h"
#include "devices/backend/file.h"
#include "tests/unit/suites.h"

#define BYTES    (1u << 20)
#define REQUESTS 16
#define SHORT_NS 3000000ull
#define LONG_NS  DELAY_NS_MAX

enum { URING, CALLS, WAYS };

static char path[64];
static struct block *block;
static uint8_t buffer[BYTES];
static struct iovec iov[REQUESTS];
static struct block_request requests[REQUESTS];

/* The user's side: a lock, and what came back, when. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t came = PTHREAD_COND_INITIALIZER;
static unsigned ndone, entered;
static uint64_t done_ns[REQUESTS];

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void enter(void *owner)
{
    (void)owner;
    pthread_mutex_lock(&lock);
    entered++;
}

static void done(void *owner, struct block_request *request)
{
    (void)owner;
    done_ns[request - requests] = now_ns();
    ndone++;
    pthread_cond_broadcast(&came);
}

static void leave(void *owner)
{
    (void)owner;
    entered--;
    pthread_mutex_unlock(&lock);
}

static void open_slow(int way, uint64_t latency_ns)
{
    const struct file_options options = { .without_uring = way == CALLS, .depth = REQUESTS };
    char error[200];

    ck_assert_msg(file_open(&block, path, &options, error, sizeof(error)) == 0, "%s", error);
    ck_assert_int_eq(delay_create(&block, NULL, block, latency_ns), 0);
    ck_assert_uint_eq(block->sectors, BYTES / BLOCK_SECTOR_BYTES);
    block->user = (struct block_user){ .enter = enter, .done = done, .leave = leave };
}

static void setup(void)
{
    int fd;

    snprintf(path, sizeof(path), "/tmp/strata-unit-XXXXXX");
    fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    for (unsigned i = 0; i < BYTES; i++)
        buffer[i] = (uint8_t)(i * 7 + i / 251);
    ck_assert_int_eq(write(fd, buffer, BYTES), BYTES);
    close(fd);
    memset(buffer, 0, BYTES);
    memset(done_ns, 0, sizeof(done_ns));
    ndone = 0;
}

static void teardown(void)
{
    unlink(path);
}

/* Under the lock: all requests, each for its part of the file. */
static void submit_all(void)
{
    for (unsigned i = 0; i < REQUESTS; i++) {
        iov[i] = (struct iovec){ .iov_base = buffer + i * (BYTES / REQUESTS),
                                 .iov_len = BYTES / REQUESTS };
        requests[i] = (struct block_request){ .op = BLOCK_READ,
                                              .offset = i * (BYTES / REQUESTS),
                                              .bytes = BYTES / REQUESTS,
                                              .iov = &iov[i],
                                              .niov = 1 };
        block_submit(block, &requests[i]);
    }
    block_kick(block);
}

static void await(unsigned n)
{
    while (ndone < n)
        pthread_cond_wait(&came, &lock);
}

START_TEST(test_takes_its_time)
{
    uint64_t start;

    open_slow(_i, SHORT_NS);
    pthread_mutex_lock(&lock);
    start = now_ns();
    submit_all();
    await(REQUESTS);
    pthread_mutex_unlock(&lock);
    for (unsigned i = 0; i < REQUESTS; i++) {
        ck_assert_int_eq(requests[i].result, 0);
        ck_assert_uint_ge(done_ns[i], start + SHORT_NS);
    }
    for (unsigned i = 0; i < BYTES; i++) {
        if (buffer[i] != (uint8_t)(i * 7 + i / 251))
            ck_abort_msg("byte %u is %u", i, buffer[i]);
    }
    block_destroy(block);
    ck_assert_uint_eq(ndone, REQUESTS);
    ck_assert_uint_eq(entered, 0);
}
END_TEST

/* The one that is asked to comes back, and no other; who kicked did not wait. */
START_TEST(test_cancel)
{
    open_slow(_i, LONG_NS);
    pthread_mutex_lock(&lock);
    submit_all();
    ck_assert_uint_eq(ndone, 0);
    for (unsigned i = 0; i < REQUESTS; i += 2)
        block_cancel(block, &requests[i]);
    await(REQUESTS / 2);
    for (unsigned i = 0; i < REQUESTS; i++) {
        ck_assert_int_eq(done_ns[i] != 0, i % 2 == 0);
        ck_assert_uint_lt(done_ns[i], requests[i].due_ns);
    }
    /* Some more, that come after those. */
    block_cancel(block, &requests[1]);
    await(REQUESTS / 2 + 1);
    ck_assert_uint_ne(done_ns[1], 0);
    ck_assert_uint_lt(done_ns[1], requests[1].due_ns);
    pthread_mutex_unlock(&lock);
    block_destroy(block);
    ck_assert_uint_eq(ndone, REQUESTS);
}
END_TEST

/* What waits is handed back at the end, whatever its time. */
START_TEST(test_destroy)
{
    open_slow(_i, LONG_NS);
    pthread_mutex_lock(&lock);
    submit_all();
    pthread_mutex_unlock(&lock);
    block_destroy(block);
    ck_assert_uint_eq(ndone, REQUESTS);
    ck_assert_uint_eq(entered, 0);
    for (unsigned i = 0; i < REQUESTS; i++)
        ck_assert_uint_lt(done_ns[i], requests[i].due_ns);
}
END_TEST

START_TEST(test_unused)
{
    open_slow(_i, LONG_NS);
    block->user = (struct block_user){ 0 };
    block_destroy(block);
    ck_assert_uint_eq(ndone, 0);
}
END_TEST

START_TEST(test_errors_take_their_time)
{
    uint64_t start;

    open_slow(_i, SHORT_NS);
    ck_assert_int_eq(truncate(path, BYTES / 2), 0);
    pthread_mutex_lock(&lock);
    start = now_ns();
    submit_all();
    await(REQUESTS);
    pthread_mutex_unlock(&lock);
    for (unsigned i = 0; i < REQUESTS; i++) {
        ck_assert_int_eq(requests[i].result, i < REQUESTS / 2 ? 0 : -EIO);
        ck_assert_uint_ge(done_ns[i], start + SHORT_NS);
    }
    block_destroy(block);
}
END_TEST

START_TEST(test_too_long)
{
    const struct file_options options = { .without_uring = _i == CALLS, .depth = REQUESTS };
    struct block *store;
    char error[200];

    ck_assert_int_eq(file_open(&store, path, &options, error, sizeof(error)), 0);
    ck_assert_int_eq(delay_create(&block, NULL, store, DELAY_NS_MAX + 1), -EINVAL);
    block_destroy(store);
}
END_TEST

Suite *delay_suite(void)
{
    Suite *suite = suite_create("delay");
    TCase *tc = tcase_create("delay");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, test_takes_its_time, 0, WAYS);
    tcase_add_loop_test(tc, test_cancel, 0, WAYS);
    tcase_add_loop_test(tc, test_destroy, 0, WAYS);
    tcase_add_loop_test(tc, test_unused, 0, WAYS);
    tcase_add_loop_test(tc, test_errors_take_their_time, 0, WAYS);
    tcase_add_loop_test(tc, test_too_long, 0, WAYS);
    suite_add_tcase(suite, tc);
    return suite;
}
