/* vmm/control/control and inspect_request: the socket file, clients of all kinds, requests. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/suites.h"
#include "vmm/control/control.h"
#include "vmm/control/inspect_client.h"
#include "vmm/control/inspect_request.h"
#include "vmm/report/inspect_text.h"

#define BIG (4u << 20) /* more than a socket takes at once */

static char directory[] = "/tmp/strata-control.XXXXXX";
static char path[64], error[CONTROL_ERROR_BYTES];
static struct control control;

static void setup(void)
{
    strcpy(directory + strlen(directory) - 6, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/s", directory);
}

static void teardown(void)
{
    unlink(path);
    rmdir(directory);
}

/* Says the line back; "big" gets BIG bytes, "quit" is hung up on. */
static void echo(void *owner, const char *line, size_t n, struct control_answer *answer)
{
    (void)owner;
    if (n == 4 && !memcmp(line, "quit", 4))
        return;
    answer->n = n == 3 && !memcmp(line, "big", 3) ? BIG : n + 1;
    answer->bytes = malloc(answer->n);
    memset(answer->bytes, 'b', answer->n);
    if (answer->n != BIG)
        memcpy(answer->bytes, line, n);
    answer->bytes[answer->n - 1] = '\n';
}

static void start(uint64_t limit_ms)
{
    ck_assert_int_eq(control_open(&control, path, error), 0);
    control.busy = "busy\n";
    control.too_long = "too long\n";
    control.limit_ms = limit_ms;
    ck_assert_int_eq(control_start(&control, echo, NULL), 0);
}

static int client(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct timeval limit = { .tv_sec = 20 };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    strcpy(address.sun_path, path);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void expect(int fd, const char *sent, const char *received)
{
    char text[64] = "";
    size_t n = 0;

    if (*sent)
        ck_assert_int_eq(send(fd, sent, strlen(sent), MSG_NOSIGNAL), (ssize_t)strlen(sent));
    while (n < strlen(received)) {
        ssize_t got = recv(fd, text + n, sizeof(text) - 1 - n, 0);

        ck_assert_int_gt(got, 0);
        n += (size_t)got;
    }
    ck_assert_str_eq(text, received);
}

static bool hung_up(int fd)
{
    char byte;
    ssize_t n;

    while ((n = recv(fd, &byte, 1, 0)) > 0)
        ;
    return n == 0 || errno == ECONNRESET;
}

START_TEST(socket_file)
{
    struct control second;
    struct stat status;
    FILE *file;

    start(CONTROL_LIMIT_MS);
    ck_assert_int_eq(lstat(path, &status), 0);
    ck_assert(S_ISSOCK(status.st_mode));
    ck_assert_uint_eq(status.st_mode & 07777, 0600);

    /* Somebody listens: it stays, and the other one is told. */
    ck_assert_int_eq(control_open(&second, path, error), -EADDRINUSE);
    ck_assert_ptr_nonnull(strstr(error, "another process listens"));
    control_close(&second);
    ck_assert_int_eq(lstat(path, &status), 0);
    control_close(&control);
    ck_assert_int_eq(lstat(path, &status), -1);

    /* Left behind by somebody who is gone: replaced. */
    ck_assert_int_eq(control_open(&control, path, error), 0);
    close(control.socket.fd);
    control.socket.fd = -1;
    control_close(&control);
    ck_assert_int_eq(lstat(path, &status), 0);
    ck_assert_int_eq(control_open(&second, path, error), 0);
    /* Removed by somebody else, and something new there: not ours to remove. */
    ck_assert_int_eq(unlink(path), 0);
    file = fopen(path, "w");
    fclose(file);
    control_close(&second);
    ck_assert_int_eq(lstat(path, &status), 0);
    /* No socket: it stays. */
    ck_assert_int_eq(control_open(&second, path, error), -EEXIST);
    ck_assert_int_eq(lstat(path, &status), 0);

    ck_assert_int_eq(control_open(&second, "/nonexistent/s", error), -ENOENT);
    ck_assert_int_eq(control_open(&second, "", error), -ENAMETOOLONG);
}
END_TEST

START_TEST(clients)
{
    int fd[CONTROL_CLIENTS_MAX + 1];

    start(CONTROL_LIMIT_MS);
    for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        fd[i] = client();
        expect(fd[i], "hello\n", "hello\n");
    }
    /* One too many is told so, and disturbs nobody. */
    fd[CONTROL_CLIENTS_MAX] = client();
    expect(fd[CONTROL_CLIENTS_MAX], "", "busy\n");
    ck_assert(hung_up(fd[CONTROL_CLIENTS_MAX]));
    expect(fd[3], "one\ntwo\nthr", "one\ntwo\n");
    expect(fd[3], "ee\n", "three\n");
    send(fd[3], "quit\n", 5, MSG_NOSIGNAL);
    ck_assert(hung_up(fd[3]));
    close(fd[3]);
    fd[3] = client();
    expect(fd[3], "again\n", "again\n");
    /* The end hangs up on all. */
    control_close(&control);
    ck_assert(hung_up(fd[0]));
    for (unsigned i = 0; i <= CONTROL_CLIENTS_MAX; i++)
        close(fd[i]);
}
END_TEST

START_TEST(hostile_clients)
{
    char line[CONTROL_LINE_BYTES];
    int slow, idle, loud, good;
    size_t got = 0;

    start(1000);
    slow = client();
    idle = client();
    loud = client();
    good = client();
    /* Takes no byte of a large answer; says half a line; never ends a line. */
    send(slow, "big\n", 4, MSG_NOSIGNAL);
    send(idle, "hal", 3, MSG_NOSIGNAL);
    memset(line, 'x', sizeof(line));
    send(loud, line, sizeof(line), MSG_NOSIGNAL);
    expect(loud, "", "too long\n");
    ck_assert(hung_up(loud));
    expect(good, "still there\n", "still there\n");
    /* Each is hung up on when its time is over, and others never notice. */
    ck_assert(hung_up(idle));
    ck_assert(hung_up(slow));
    close(good);
    good = client();
    send(good, "big\n", 4, MSG_NOSIGNAL);
    while (got < BIG) {
        ssize_t n = recv(good, line, sizeof(line), 0);

        ck_assert_int_gt(n, 0);
        got += (size_t)n;
    }
    control_close(&control);
    close(slow);
    close(idle);
    close(loud);
    close(good);
}
END_TEST

/* ---- Requests ------------------------------------------------------------- */

static const struct {
    const char *line, *wrong;
} bad_requests[] = {
    { "", "not a request" },
    { "[]", "not a request" },
    { "{\"schema\":\"strata.inspect.request\",\"version\":1}", "not a request" },
    { "{\"schema\":\"other\",\"version\":1,\"command\":\"maps\"}", "schema" },
    { "{\"schema\":\"strata.inspect.request\",\"version\":2,\"command\":\"maps\"}", "version" },
    { "{\"schema\":\"strata.inspect.request\",\"version\":1,\"command\":\"mops\"}",
      "no such command" },
    { "{\"schema\":\"strata.inspect.request\",\"version\":1,\"command\":\"maps\",\"x\":1}",
      "not a request" },
    { "{\"schema\":\"strata.inspect.request\",\"version\":1,\"command\":\"maps\",\"vcpu\":-1}",
      "vcpu" },
    { "{\"schema\":\"strata.inspect.request\",\"version\":1,\"command\":\"maps\",\"pid\":"
      "4294967296}",
      "pid" },
    { "{\"schema\":\"strata.inspect.request\",\"version\":1,\"command\":\"walk\"}", "va" },
    { "{\"schema\":\"strata.inspect.request\",\"version\":1,\"command\":\"find\",\"pattern\":"
      "\"0x1\"}",
      "pattern" },
    { "{\"schema\":\"strata.inspect.request\",\"version\":1,\"command\":\"dump\",\"gpa\":\"0\"}",
      "gpa" },
    { "{\"schema\":\"strata.inspect.request\",\"version\":1,\"command\":\"disasm\",\"va\":\"rip\","
      "\"count\":257}",
      "count" },
    { "{\"schema\":\"strata.inspect.request\",\"version\":1,\"command\":\"balloon\",\"bytes\":"
      "\"64M\"}",
      "bytes" },
};

START_TEST(bad_request)
{
    struct inspect_request request;

    error[0] = 0;
    ck_assert_int_eq(inspect_request_parse(bad_requests[_i].line, strlen(bad_requests[_i].line),
                                           &request, error, sizeof(error)),
                     -EINVAL);
    ck_assert_msg(strstr(error, bad_requests[_i].wrong), "%s", error);
}
END_TEST

/* What a client writes, the server reads. */
START_TEST(good_request)
{
    const struct inspect_request sent[] = {
        { .command = INSPECT_MAPS, .vcpu = 3 },
        { .command = INSPECT_WALK, .va = "rip+8", .pid = 7 },
        { .command = INSPECT_FIND, .pattern = { 0, '"', 0xff }, .pattern_bytes = 3 },
        { .command = INSPECT_DISASM, .va = "kernel_main", .count = 256 },
        { .command = INSPECT_DUMP, .gpa = 0xfffffffffffff000, .bytes = 5, .offset = 1 },
        { .command = INSPECT_BALLOON },
        { .command = INSPECT_BALLOON, .has_size = true, .bytes = 0 },
        { .command = INSPECT_BALLOON, .has_size = true, .bytes = 1ull << 40 },
    };
    struct inspect_request got;
    char *line = inspect_request_line(&sent[_i]);

    ck_assert_ptr_nonnull(line);
    ck_assert_int_eq(line[strlen(line) - 1], '\n');
    ck_assert_int_eq(inspect_request_parse(line, strlen(line) - 1, &got, error, sizeof(error)), 0);
    ck_assert_int_eq(got.command, sent[_i].command);
    ck_assert_str_eq(got.va, sent[_i].va);
    ck_assert_uint_eq(got.vcpu, sent[_i].vcpu);
    ck_assert_uint_eq(got.pid, sent[_i].pid);
    ck_assert_uint_eq(got.gpa, sent[_i].gpa);
    ck_assert_uint_eq(got.bytes, sent[_i].bytes);
    ck_assert_uint_eq(got.offset, sent[_i].offset);
    ck_assert(got.has_size == sent[_i].has_size);
    ck_assert_uint_eq(got.pattern_bytes, sent[_i].pattern_bytes);
    ck_assert_int_eq(memcmp(got.pattern, sent[_i].pattern, got.pattern_bytes), 0);
    if (sent[_i].count)
        ck_assert_uint_eq(got.count, sent[_i].count);
    free(line);
}
END_TEST

START_TEST(numbers)
{
    uint64_t number;

    ck_assert_int_eq(inspect_number("0xffffffff80200000", &number), 0);
    ck_assert_uint_eq(number, 0xffffffff80200000);
    ck_assert_int_eq(inspect_number("010", &number), 0);
    ck_assert_uint_eq(number, 10);
    ck_assert_int_eq(inspect_number("", &number), -EINVAL);
    ck_assert_int_eq(inspect_number("0x", &number), -EINVAL);
    ck_assert_int_eq(inspect_number("-1", &number), -EINVAL);
    ck_assert_int_eq(inspect_number("12k", &number), -EINVAL);
    ck_assert_int_eq(inspect_number("0x10000000000000000", &number), -ERANGE);
}
END_TEST

/* Clients of what is no socket, of nobody, and of one that is no strata. */
START_TEST(connecting)
{
    const struct inspect_request request = { .command = INSPECT_MAPS };
    char wrong[CLIENT_ERROR_BYTES];
    struct inspect_reply reply;
    FILE *file;
    int fd;

    ck_assert_int_eq(inspect_connect(path, wrong), -ENOENT);
    file = fopen(path, "w");
    fclose(file);
    ck_assert_int_eq(inspect_connect(path, wrong), -ENOTSOCK);
    unlink(path);
    ck_assert_int_eq(control_open(&control, path, error), 0);
    close(control.socket.fd);
    control.socket.fd = -1;
    control_close(&control);
    ck_assert_int_eq(inspect_connect(path, wrong), -ECONNREFUSED);
    ck_assert_ptr_nonnull(strstr(wrong, "gone"));

    start(CONTROL_LIMIT_MS);
    fd = inspect_connect(path, wrong);
    ck_assert_int_ge(fd, 0);
    /* It echoes the request, which is JSON of another schema. */
    ck_assert_int_eq(inspect_ask(fd, &request, &reply, wrong), -EPROTO);
    ck_assert_ptr_nonnull(strstr(wrong, "no strata, or not of this version"));
    inspect_reply_free(&reply);
    control_close(&control);
    ck_assert_int_eq(inspect_ask(fd, &request, &reply, wrong), -ECONNRESET);
    inspect_reply_free(&reply);
    close(fd);
}
END_TEST

/* A bundled guest that is still starting is not called another kernel. */
START_TEST(who_says_nothing)
{
    static const char *const words[] = { "not the bundled guest: ",
                                         "the bundled guest does not say (yet) " };
    json_t *reply = json_pack("{s:[], s:b, s:b, s:b, s:i}", "spaces", "bundled", 0, "runs_bundled",
                              _i, "complete", 1, "pause_ns", 0);
    char *text = NULL;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);

    ck_assert_ptr_nonnull(out);
    inspect_print(out, "maps", reply);
    fclose(out);
    ck_assert_int_eq(strncmp(text, words[_i], strlen(words[_i])), 0);
    free(text);
    json_decref(reply);
}
END_TEST

Suite *control_suite(void)
{
    Suite *suite = suite_create("control");
    TCase *tcase = tcase_create("control");

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, socket_file);
    tcase_add_test(tcase, clients);
    tcase_add_test(tcase, hostile_clients);
    tcase_add_loop_test(tcase, bad_request, 0, sizeof(bad_requests) / sizeof(bad_requests[0]));
    tcase_add_loop_test(tcase, good_request, 0, 8);
    tcase_add_test(tcase, numbers);
    tcase_add_test(tcase, connecting);
    tcase_add_loop_test(tcase, who_says_nothing, 0, 2);
    suite_add_tcase(suite, tcase);
    return suite;
}
