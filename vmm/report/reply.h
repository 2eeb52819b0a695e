/*
 * Reading JSON that another strata may have written: a field that is missing or of another
 * type is as good as empty, so that what prints a reply need not fear who wrote it.
 */
#ifndef STRATA_REPORT_REPLY_H
#define STRATA_REPORT_REPLY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

const char *reply_text(const json_t *json, const char *name);
uint64_t reply_number(const json_t *json, const char *name);
bool reply_yes(const json_t *json, const char *name);

/* Of a string like "0x1000". */
uint64_t reply_address(const json_t *json, const char *name);

/* "pid 3 fork-cow", "kernel", or the root of a space without a name. */
const char *reply_space(const json_t *space, char *buffer, size_t room);

/* The same in a buffer that lasts to the end of the block. */
#define SPACE_TEXT(space) reply_space(space, (char[64]){ 0 }, 64)

#endif
