#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/cli/commands.h"
#include "vmm/cli/html.h"
#include "vmm/cli/inspect_client.h"
#include "vmm/cli/inspect_html.h"
#include "vmm/cli/inspect_text.h"
#include "vmm/cli/json.h"
#include "vmm/cli/options.h"

enum { OPT_VCPU, OPT_PID, OPT_WATCH, OPT_HTML, OPT_JSON };

static const struct option_entry option_entries[] = {
    [OPT_VCPU] = { "vcpu", "N", "whose registers and page tables (default 0)" },
    [OPT_PID] = { "pid", "N", "the page tables of this process of the bundled guest" },
    [OPT_WATCH] = { "watch", NULL, "look again every second, until the machine ends" },
    [OPT_HTML] = { "html", "FILE",
                   "write the report as a page to FILE (- for standard output); a COMMAND\n"
                   "other than report does not go with it, and none is needed" },
    [OPT_JSON] = { "json", "FILE", "write the result to FILE (- for standard output)" },
};

static const struct command_line inspect_line = {
    .command = "inspect",
    .operands = "SOCK COMMAND",
    .summary =
        "Looks at the machine that strata run --control SOCK has started. The guest stands still\n"
        "only while page tables are walked. Commands:\n"
        "  maps                every address space, ranges folded\n"
        "  walk VA             one address through all layers\n"
        "  pages               what guest memory is used for, and page tables\n"
        "  shared              frames that several mappings share, and whose they are\n"
        "  find PATTERN        text, or hex with 0x, in guest memory\n"
        "  disasm VA [N]       N instructions (default 16)\n"
        "  regs                registers of every vCPU\n"
        "  dump GPA LEN FILE   guest-physical memory into a file\n"
        "  balloon [SIZE]      how full the balloon is, what the guest says of its memory; with\n"
        "                      SIZE, how full it should be from now on\n"
        "  report [VA]         all there is to see of one moment, for --html\n"
        "VA is a number, a register (rip) or a symbol of the bundled guest, each with +N if "
        "wanted.",
    .options = option_entries,
    .noptions = sizeof(option_entries) / sizeof(option_entries[0]),
};

struct inspect_options {
    const char *socket, *json, *html, *file;
    bool watch;
    struct inspect_request request;
};

static unsigned parse_number(const char *option, const char *text, unsigned max)
{
    unsigned value;

    if (parse_count(text, max, &value))
        usage_error(&inspect_line, "%s %s: not a number up to %u", option, text, max);
    return value;
}

static uint64_t parse_address(const char *what, const char *text)
{
    uint64_t value;

    if (inspect_number(text, &value))
        usage_error(&inspect_line, "%s %s: not a number; say for example 0x200000", what, text);
    return value;
}

static void parse_find(struct inspect_request *request, const char *text)
{
    int n = find_parse(text, request->pattern);

    if (n == -E2BIG)
        usage_error(&inspect_line, "find: a pattern has %d bytes at most", FIND_PATTERN_MAX);
    if (n < 0)
        usage_error(&inspect_line, "find %s: give text, or 0x and an even number of hex digits",
                    text);
    request->pattern_bytes = (size_t)n;
}

/* Where there is no FILE, LEN is a count of bytes like any size. */
static uint64_t parse_length(const char *text)
{
    uint64_t bytes;

    if (inspect_number(text, &bytes) && parse_size(text, &bytes))
        usage_error(&inspect_line, "dump: %s: not a length; say for example 0x1000 or 64K", text);
    if (!bytes)
        usage_error(&inspect_line, "dump: a length of 0; give more");
    return bytes;
}

/* Numbers, registers and symbols are made of these; it goes into a line of JSON. */
static bool is_word(const char *text)
{
    const char *c = text;

    while (*c > ' ' && *c <= '~')
        c++;
    return c > text && !*c;
}

static void parse_operands(struct inspect_options *options, int count, char **operand)
{
    static const struct {
        int least, most;
    } arguments[INSPECT_COMMANDS] = {
        [INSPECT_MAPS] = { 0, 0 },    [INSPECT_WALK] = { 1, 1 }, [INSPECT_PAGES] = { 0, 0 },
        [INSPECT_SHARED] = { 0, 0 },  [INSPECT_FIND] = { 1, 1 }, [INSPECT_DISASM] = { 1, 2 },
        [INSPECT_REGS] = { 0, 0 },    [INSPECT_DUMP] = { 3, 3 }, [INSPECT_REPORT] = { 0, 1 },
        [INSPECT_BALLOON] = { 0, 1 },
    };
    struct inspect_request *request = &options->request;
    int command;

    if (count < 2 && !(count && options->html))
        usage_error(&inspect_line, "give the control socket and a command");
    options->socket = operand[0];
    if (count == 1) {
        request->command = INSPECT_REPORT;
        return;
    }
    command = inspect_command_find(operand[1]);
    if (command < 0)
        usage_error(&inspect_line, "unknown command \"%s\"", operand[1]);
    request->command = (enum inspect_command)command;
    count -= 2;
    operand += 2;
    if (count < arguments[command].least)
        usage_error(&inspect_line, "%s needs more arguments",
                    inspect_command_name(request->command));
    if (count > arguments[command].most)
        usage_error(&inspect_line, "unexpected argument \"%s\"", operand[arguments[command].most]);
    if (options->html && command != INSPECT_REPORT)
        usage_error(&inspect_line, "--html goes with report, not with %s", operand[-1]);
    if (command == INSPECT_WALK || command == INSPECT_DISASM ||
        (command == INSPECT_REPORT && count)) {
        if (!is_word(operand[0]) || strlen(operand[0]) >= sizeof(request->va))
            usage_error(&inspect_line, "\"%.20s\": not a number, a register or a symbol",
                        operand[0]);
        strcpy(request->va, operand[0]);
    }
    if (command == INSPECT_DISASM) {
        request->count = count > 1 ? parse_number("disasm", operand[1], INSPECT_INSTRUCTIONS_MAX)
                                   : 16;
        if (!request->count)
            usage_error(&inspect_line, "disasm: 0 instructions; give 1 or more");
    }
    if (command == INSPECT_FIND)
        parse_find(request, operand[0]);
    if (command == INSPECT_BALLOON && count) {
        if (strcmp(operand[0], "0") && parse_size(operand[0], &request->bytes))
            usage_error(&inspect_line, "balloon %s: not a size; say for example 64M, or 0",
                        operand[0]);
        request->has_size = true;
    }
    if (command == INSPECT_DUMP) {
        request->gpa = parse_address("dump", operand[0]);
        request->bytes = parse_length(operand[1]);
        if (!*operand[2])
            usage_error(&inspect_line,
                        "dump: FILE is empty; give a file, or - for standard output");
        options->file = operand[2];
    }
}

static void parse_options(struct inspect_options *options, int argc, char **argv)
{
    const char *value;
    int option;

    *options = (struct inspect_options){ 0 };
    while ((option = options_next(&inspect_line, argc, argv, &value)) >= 0) {
        switch (option) {
        case OPT_VCPU: options->request.vcpu = parse_number("--vcpu", value, UINT16_MAX); break;
        case OPT_PID: options->request.pid = parse_number("--pid", value, UINT32_MAX); break;
        case OPT_WATCH: options->watch = true; break;
        case OPT_HTML: options->html = value; break;
        case OPT_JSON: options->json = value; break;
        default: break;
        }
    }
    parse_operands(options, argc - optind, argv + optind);
    if (options->watch && (options->json || options->html || options->file))
        usage_error(&inspect_line, "--watch shows on the terminal; it goes without %s",
                    options->json   ? "--json"
                    : options->html ? "--html"
                                    : "dump");
    if (options->watch && options->request.has_size)
        usage_error(&inspect_line, "--watch looks; it goes without a SIZE for the balloon");
    if (options->json && options->html && !strcmp(options->json, options->html))
        usage_error(&inspect_line, "--json and --html cannot both go to %s", options->json);
}

static int failure(const char *error, int err)
{
    fprintf(stderr, "strata inspect: %s\n", error);
    return err == -ENOENT || err == -ENOTSOCK || err == -ENAMETOOLONG ? STATUS_USAGE
                                                                      : STATUS_FAILED;
}

/* One look, on a connection of its own. 0, or -errno with one line. */
static int look(const struct inspect_options *options, struct inspect_reply *reply, char *error)
{
    int fd = inspect_connect(options->socket, error), err;

    *reply = (struct inspect_reply){ 0 };
    if (fd < 0)
        return fd;
    err = inspect_ask(fd, &options->request, reply, error);
    close(fd);
    return err;
}

/* Whether what was looked for is there: what scripts ask. */
static int verdict(const struct inspect_request *request, const json_t *reply)
{
    if (request->command == INSPECT_WALK && !json_is_true(json_object_get(reply, "mapped")))
        return STATUS_FAILED;
    if (request->command == INSPECT_FIND && !json_array_size(json_object_get(reply, "hits")))
        return STATUS_FAILED;
    return STATUS_OK;
}

static int once(const struct inspect_options *options, struct json_output *json,
                struct json_output *html)
{
    char error[CLIENT_ERROR_BYTES];
    struct inspect_reply reply;
    int err = look(options, &reply, error), status;

    if (err) {
        inspect_reply_free(&reply);
        return failure(error, err);
    }
    if (json->fd != STDOUT_FILENO && html->fd != STDOUT_FILENO)
        inspect_print(stdout, options->request.command, reply.json);
    status = verdict(&options->request, reply.json);
    err = json_output_write(json, reply.json);
    if (err) {
        fprintf(stderr, "strata inspect: --json %s: %s\n", options->json, strerror(-err));
        status = STATUS_FAILED;
    }
    err = html_write(html, inspect_print_html, reply.json);
    if (err) {
        fprintf(stderr, "strata inspect: --html %s: %s\n", options->html, strerror(-err));
        status = STATUS_FAILED;
    }
    inspect_reply_free(&reply);
    return status;
}

/* ---- --watch -------------------------------------------------------------- */

/* On a terminal over what was there, no longer and no wider than that; else one after the
 * other. Erased is before a line: behind one of full width that would take its last letter. */
static void show(const char *text)
{
    bool terminal = isatty(STDOUT_FILENO);
    struct winsize size = { 0 };
    int rows = INT32_MAX, columns = INT32_MAX;

    if (terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0) {
        rows = size.ws_row > 1 ? size.ws_row - 1 : size.ws_row ? 1 : rows;
        columns = size.ws_col ? size.ws_col : columns;
    }
    if (terminal)
        fputs("\033[H", stdout);
    for (const char *end; *text && rows--; text = end + 1) {
        end = strchrnul(text, '\n');
        printf("%s%.*s\n", terminal ? "\033[K" : "",
               end - text < columns ? (int)(end - text) : columns, text);
        if (!*end)
            break;
    }
    if (terminal)
        fputs("\033[J", stdout);
    else
        putchar('\n');
}

static int watch(const struct inspect_options *options)
{
    char error[CLIENT_ERROR_BYTES];
    bool looked = false;

    if (isatty(STDOUT_FILENO))
        fputs("\033[2J", stdout);
    for (;;) {
        struct inspect_reply reply;
        size_t bytes;
        char *text = NULL;
        FILE *out;
        int err = look(options, &reply, error);

        if (err) {
            inspect_reply_free(&reply);
            if (!looked || err == -EPROTO)
                return failure(error, err);
            /* Gone between two looks: the end that a watch has. */
            fprintf(stderr, "strata inspect: the VM has ended\n");
            return STATUS_OK;
        }
        looked = true;
        out = open_memstream(&text, &bytes);
        if (out) {
            inspect_print(out, options->request.command, reply.json);
            fclose(out);
            show(text);
        }
        free(text);
        inspect_reply_free(&reply);
        if (fflush(stdout))
            return STATUS_FAILED;
        sleep(1);
    }
}

/* ---- dump ----------------------------------------------------------------- */

static int write_all(int fd, const char *bytes, size_t n)
{
    while (n) {
        ssize_t count = write(fd, bytes, n);

        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return -errno;
        bytes += count;
        n -= (size_t)count;
    }
    return 0;
}

/* A descriptor or -errno; `made`: there was no such file. */
static int dump_open(const char *path, bool *made)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    *made = fd >= 0;
    if (fd < 0 && errno == EEXIST)
        fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* Piece by piece, each of one moment, and on a connection of its own: who takes them may be
 * slow. The file is made when the first one has come; one that does not become whole goes. */
static int dump(const struct inspect_options *options, struct json_output *json)
{
    struct inspect_options piece = *options;
    struct inspect_request *request = &piece.request;
    bool to_stdout = !strcmp(options->file, "-"), made = false;
    FILE *report = to_stdout || json->fd == STDOUT_FILENO ? stderr : stdout;
    uint64_t pause_ns = 0, longest_ns = 0;
    char error[CLIENT_ERROR_BYTES];
    unsigned pieces = 0;
    int file = to_stdout ? STDOUT_FILENO : -1, err = 0;
    json_t *result;

    for (; !err && request->offset < request->bytes; pieces++) {
        struct inspect_reply reply;
        uint64_t paused;

        err = look(&piece, &reply, error);
        if (!err && !reply.payload_bytes) {
            snprintf(error, sizeof(error), "what answers there is no strata");
            err = -EPROTO;
        }
        if (err && !pieces) {
            inspect_reply_free(&reply);
            return failure(error, err);
        }
        /* Gone between two pieces. */
        if (err == -ENOENT || err == -ECONNREFUSED)
            snprintf(error, sizeof(error), "the VM has ended");
        if (!err && file < 0) {
            file = dump_open(options->file, &made);
            err = file < 0 ? file : 0;
            if (err)
                snprintf(error, sizeof(error), "%s: %s", options->file, strerror(-err));
        }
        if (!err) {
            paused = (uint64_t)json_integer_value(json_object_get(reply.json, "pause_ns"));
            pause_ns += paused;
            longest_ns = paused > longest_ns ? paused : longest_ns;
            err = write_all(file, reply.payload, reply.payload_bytes);
            if (err)
                snprintf(error, sizeof(error), "%s: %s", options->file, strerror(-err));
            else
                request->offset += reply.payload_bytes;
        }
        inspect_reply_free(&reply);
    }
    if (file > STDERR_FILENO && close(file) < 0 && !err) {
        err = -errno;
        snprintf(error, sizeof(error), "%s: %s", options->file, strerror(-err));
    }
    if (err) {
        if (made)
            unlink(options->file);
        fprintf(stderr, "strata inspect: %s", error);
        if (request->offset)
            fprintf(stderr, ", after %" PRIu64 " of %" PRIu64 " bytes", request->offset,
                    request->bytes);
        fputc('\n', stderr);
        return STATUS_FAILED;
    }
    fprintf(report,
            "%" PRIu64 " bytes from gpa 0x%" PRIx64 " on, in %u piece%s of one moment each\n",
            request->bytes, request->gpa, pieces, pieces == 1 ? "" : "s");
    fprintf(report, "guest paused for %.3f ms, %.3f ms at most at a time\n", (double)pause_ns / 1e6,
            (double)longest_ns / 1e6);
    result = json_result(INSPECT_REPLY_SCHEMA, INSPECT_VERSION);
    json_object_set_new(result, "command", json_string("dump"));
    json_object_set_new(result, "bytes", json_integer((json_int_t)request->bytes));
    json_object_set_new(result, "pieces", json_integer(pieces));
    json_object_set_new(result, "pause_ns", json_integer((json_int_t)pause_ns));
    json_object_set_new(result, "longest_pause_ns", json_integer((json_int_t)longest_ns));
    err = json_output_write(json, result);
    json_decref(result);
    if (err)
        fprintf(stderr, "strata inspect: --json %s: %s\n", options->json, strerror(-err));
    return err ? STATUS_FAILED : STATUS_OK;
}

int cmd_inspect(int argc, char **argv)
{
    struct inspect_options options;
    struct json_output json, html;
    int status, err;

    parse_options(&options, argc, argv);
    err = json_output_open(&json, options.json);
    if (err)
        usage_error(&inspect_line, "--json %s: %s; give a file that can be written", options.json,
                    strerror(-err));
    err = json_output_open(&html, options.html);
    if (err)
        usage_error(&inspect_line, "--html %s: %s; give a file that can be written", options.html,
                    strerror(-err));
    if (options.file)
        status = dump(&options, &json);
    else
        status = options.watch ? watch(&options) : once(&options, &json, &html);
    json_output_close(&json);
    json_output_close(&html);
    return status;
}
