/*
 * What is asked over the control socket: one line of JSON, schema strata.inspect.request
 * version 1 (strata(1), CONTROL SOCKET). Both ends are here: what the server makes of a
 * line that anybody may have written, and the line that a client writes.
 */
#ifndef STRATA_CONTROL_INSPECT_REQUEST_H
#define STRATA_CONTROL_INSPECT_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/inspect/find.h"

#define INSPECT_REQUEST_SCHEMA   "strata.inspect.request"
#define INSPECT_REPLY_SCHEMA     "strata.inspect"
#define INSPECT_VERSION          1
#define INSPECT_VA_BYTES         128
#define INSPECT_INSTRUCTIONS_MAX 256

enum inspect_command {
    INSPECT_MAPS,
    INSPECT_WALK,
    INSPECT_PAGES,
    INSPECT_SHARED,
    INSPECT_FIND,
    INSPECT_DISASM,
    INSPECT_REGS,
    INSPECT_DUMP,
    INSPECT_REPORT,
    INSPECT_BALLOON,
    INSPECT_COMMANDS
};

struct inspect_request {
    enum inspect_command command;
    char va[INSPECT_VA_BYTES];         /* walk, disasm, report: as people write it */
    unsigned vcpu;                     /* whose registers and page tables; 0 if not said */
    uint32_t pid;                      /* or that process's page tables; 0: the vCPU's */
    unsigned count;                    /* disasm: instructions, 1 to INSPECT_INSTRUCTIONS_MAX */
    bool has_size;                     /* balloon: `bytes` is the size that it should have */
    uint64_t gpa, bytes;               /* dump: what, */
    uint64_t offset;                   /* and from which byte of it on to send */
    uint8_t pattern[FIND_PATTERN_MAX]; /* find */
    size_t pattern_bytes;
};

/* "maps", …; the number of a name, or -EINVAL. */
const char *inspect_command_name(enum inspect_command command);
int inspect_command_find(const char *name);

/* 0; or -EINVAL and one line that says what is wrong with it. */
int inspect_request_parse(const char *line, size_t n, struct inspect_request *request, char *error,
                          size_t error_bytes);

/* The line with its newline, for the caller to free; NULL without memory. */
char *inspect_request_line(const struct inspect_request *request);

/* A number as people write it, decimal or with 0x: 0, -EINVAL or -ERANGE. */
int inspect_number(const char *text, uint64_t *number);

#endif
