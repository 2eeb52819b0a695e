#include "vmm/control/inspect_request.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[INSPECT_COMMANDS] = {
    [INSPECT_MAPS] = "maps",       [INSPECT_WALK] = "walk", [INSPECT_PAGES] = "pages",
    [INSPECT_SHARED] = "shared",   [INSPECT_FIND] = "find", [INSPECT_DISASM] = "disasm",
    [INSPECT_REGS] = "regs",       [INSPECT_DUMP] = "dump", [INSPECT_REPORT] = "report",
    [INSPECT_BALLOON] = "balloon",
};

const char *inspect_command_name(enum inspect_command command)
{
    return command < INSPECT_COMMANDS ? names[command] : "?";
}

int inspect_command_find(const char *name)
{
    for (int i = 0; i < INSPECT_COMMANDS; i++) {
        if (!strcmp(names[i], name))
            return i;
    }
    return -EINVAL;
}

int inspect_number(const char *text, uint64_t *number)
{
    char *end;

    if (!isdigit((unsigned char)*text))
        return -EINVAL;
    errno = 0;
    /* Not base 0: that would take 010 for eight. */
    *number = strtoull(text, &end, text[0] == '0' && (text[1] | 0x20) == 'x' ? 16 : 10);
    if (*end || end[-1] == 'x' || end[-1] == 'X')
        return -EINVAL;
    return errno ? -ERANGE : 0;
}

/* Fields as they stand in the line; NULL and -1: not there. */
struct fields {
    const char *schema, *command, *va, *gpa, *bytes, *offset, *pattern;
    json_int_t version, vcpu, pid, count;
};

static const char *inspect_request_check(const struct fields *f, struct inspect_request *request)
{
    int command = inspect_command_find(f->command), n;

    if (strcmp(f->schema, INSPECT_REQUEST_SCHEMA))
        return "not a request of schema " INSPECT_REQUEST_SCHEMA;
    if (f->version != INSPECT_VERSION)
        return "a request of another version than 1; use the strata that runs the VM";
    if (command < 0)
        return "no such command";
    request->command = (enum inspect_command)command;
    if (f->vcpu < 0 || f->vcpu > UINT16_MAX)
        return "vcpu: not the number of a vCPU";
    if (f->pid < 0 || f->pid > UINT32_MAX)
        return "pid: not the number of a process";
    if (f->count < 1 || f->count > INSPECT_INSTRUCTIONS_MAX)
        return "count: 1 to 256 instructions";
    request->vcpu = (unsigned)f->vcpu;
    request->pid = (uint32_t)f->pid;
    request->count = (unsigned)f->count;
    if (command == INSPECT_WALK || command == INSPECT_DISASM ||
        (command == INSPECT_REPORT && f->va)) {
        if (!f->va || !*f->va || strlen(f->va) >= sizeof(request->va))
            return "va: a number, a register or a symbol is needed";
        strcpy(request->va, f->va);
    }
    if (command == INSPECT_FIND) {
        n = f->pattern ? find_parse(f->pattern, request->pattern) : -EINVAL;
        if (n < 0)
            return n == -E2BIG ? "pattern: too long, 256 bytes at most"
                               : "pattern: text, or 0x and an even number of hex digits";
        request->pattern_bytes = (size_t)n;
    }
    if (command == INSPECT_DUMP && (!f->gpa || inspect_number(f->gpa, &request->gpa) || !f->bytes ||
                                    inspect_number(f->bytes, &request->bytes) ||
                                    (f->offset && inspect_number(f->offset, &request->offset))))
        return "gpa, bytes and offset: numbers are needed";
    if (command == INSPECT_BALLOON && f->bytes) {
        if (inspect_number(f->bytes, &request->bytes))
            return "bytes: a number is needed";
        request->has_size = true;
    }
    return NULL;
}

int inspect_request_parse(const char *line, size_t n, struct inspect_request *request, char *error,
                          size_t error_bytes)
{
    struct fields f = { .count = 1 };
    json_error_t json_error;
    const char *wrong;
    json_t *json;

    *request = (struct inspect_request){ 0 };
    json = json_loadb(line, n, JSON_REJECT_DUPLICATES, &json_error);
    if (!json ||
        json_unpack_ex(json, &json_error, JSON_STRICT,
                       "{s:s, s:I, s:s, s?s, s?I, s?I, s?I, s?s, s?s, s?s, s?s}", "schema",
                       &f.schema, "version", &f.version, "command", &f.command, "va", &f.va, "vcpu",
                       &f.vcpu, "pid", &f.pid, "count", &f.count, "gpa", &f.gpa, "bytes", &f.bytes,
                       "offset", &f.offset, "pattern", &f.pattern)) {
        snprintf(error, error_bytes, "not a request: %s", json_error.text);
        json_decref(json);
        return -EINVAL;
    }
    wrong = inspect_request_check(&f, request);
    if (wrong)
        snprintf(error, error_bytes, "%s", wrong);
    json_decref(json);
    return wrong ? -EINVAL : 0;
}

static void inspect_request_set_number(json_t *json, const char *name, uint64_t number)
{
    char text[24];

    snprintf(text, sizeof(text), "0x%" PRIx64, number);
    json_object_set_new(json, name, json_string(text));
}

char *inspect_request_line(const struct inspect_request *request)
{
    json_t *json = json_pack("{s:s, s:i, s:s, s:I, s:I}", "schema", INSPECT_REQUEST_SCHEMA,
                             "version", INSPECT_VERSION, "command",
                             inspect_command_name(request->command), "vcpu",
                             (json_int_t)request->vcpu, "pid", (json_int_t)request->pid);
    char pattern[2 + 2 * FIND_PATTERN_MAX + 1] = "0x";
    char *text, *line;

    if (request->count)
        json_object_set_new(json, "count", json_integer(request->count));
    if (request->va[0])
        json_object_set_new(json, "va", json_string(request->va));
    if (request->command == INSPECT_DUMP) {
        inspect_request_set_number(json, "gpa", request->gpa);
        inspect_request_set_number(json, "bytes", request->bytes);
        inspect_request_set_number(json, "offset", request->offset);
    }
    if (request->command == INSPECT_BALLOON && request->has_size)
        inspect_request_set_number(json, "bytes", request->bytes);
    /* In hex, whatever bytes it has. */
    for (size_t i = 0; i < request->pattern_bytes; i++)
        sprintf(pattern + 2 + 2 * i, "%02x", request->pattern[i]);
    if (request->command == INSPECT_FIND)
        json_object_set_new(json, "pattern", json_string(pattern));
    text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    if (!text || asprintf(&line, "%s\n", text) < 0)
        line = NULL;
    free(text);
    return line;
}
