#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/base/parse.h"
#include "vmm/cli/commands.h"
#include "vmm/cli/inspect_dump.h"
#include "vmm/cli/options.h"
#include "vmm/cli/results.h"
#include "vmm/control/inspect_client.h"
#include "vmm/report/inspect_html.h"
#include "vmm/report/inspect_text.h"

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
    const char *socket, *file;
    struct results results;
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

    if (count < 2 && !(count && options->results.html_path))
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
    if (options->results.html_path && command != INSPECT_REPORT)
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

/* Nothing that is asked for is silently left out. */
static void check_options(const struct inspect_options *options, bool vcpu, bool pid)
{
    const struct inspect_request *request = &options->request;
    const char *json = options->results.json_path, *html = options->results.html_path;

    if ((vcpu || pid) && !request->va[0])
        usage_error(&inspect_line, "%s goes with walk, disasm and report VA, not with %s",
                    vcpu ? "--vcpu" : "--pid",
                    request->command == INSPECT_REPORT ? "a report without one"
                                                       : inspect_command_name(request->command));
    if (options->watch && (json || html || options->file))
        usage_error(&inspect_line, "--watch shows on the terminal; it goes without %s",
                    json   ? "--json"
                    : html ? "--html"
                           : "dump");
    if (options->watch && request->has_size)
        usage_error(&inspect_line, "--watch looks; it goes without a SIZE for the balloon");
    if (output_file_same(json, options->file))
        usage_error(&inspect_line, "--json and the dump cannot both go to %s", json);
}

static void parse_options(struct inspect_options *options, int argc, char **argv)
{
    const char *value;
    bool vcpu = false, pid = false;
    int option;

    *options = (struct inspect_options){ 0 };
    while ((option = options_next(&inspect_line, argc, argv, &value)) >= 0) {
        switch (option) {
        case OPT_VCPU:
            options->request.vcpu = parse_number("--vcpu", value, UINT16_MAX);
            vcpu = true;
            break;
        case OPT_PID:
            options->request.pid = parse_number("--pid", value, UINT32_MAX);
            if (!options->request.pid)
                usage_error(&inspect_line, "--pid 0: processes have numbers from 1 on");
            pid = true;
            break;
        case OPT_WATCH: options->watch = true; break;
        case OPT_HTML: options->results.html_path = value; break;
        case OPT_JSON: options->results.json_path = value; break;
        default: break;
        }
    }
    parse_operands(options, argc - optind, argv + optind);
    check_options(options, vcpu, pid);
}

static int failure(const char *error, int err)
{
    fprintf(stderr, "strata inspect: %s\n", error);
    return err == -ENOENT || err == -ENOTSOCK || err == -ENAMETOOLONG ? STATUS_USAGE
                                                                      : STATUS_FAILED;
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

static int once(struct inspect_options *options)
{
    char error[CLIENT_ERROR_BYTES];
    struct inspect_reply reply;
    int err = inspect_look(options->socket, &options->request, &reply, error), status;

    if (err) {
        inspect_reply_free(&reply);
        return failure(error, err);
    }
    if (options->results.out == stdout)
        inspect_print(stdout, inspect_command_name(options->request.command), reply.json);
    status = verdict(&options->request, reply.json);
    if (!results_write(&options->results, json_incref(reply.json), inspect_print_html, reply.json))
        status = STATUS_FAILED;
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
        int err = inspect_look(options->socket, &options->request, &reply, error);

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
            inspect_print(out, inspect_command_name(options->request.command), reply.json);
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

static int dump(struct inspect_options *options)
{
    char error[CLIENT_ERROR_BYTES];
    int err = inspect_dump(options->socket, &options->request, options->file,
                           &options->results.json, error);

    return err ? failure(error, err) : STATUS_OK;
}

int cmd_inspect(int argc, char **argv)
{
    struct inspect_options options;
    int status;

    parse_options(&options, argc, argv);
    results_open(&options.results, &inspect_line);
    if (options.file)
        status = dump(&options);
    else if (options.watch)
        status = watch(&options);
    else
        status = once(&options);
    results_close(&options.results);
    return status;
}
