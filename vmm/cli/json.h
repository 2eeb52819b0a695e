/*
 * Results as JSON (jansson), to a file that is there whole or not at all.
 */
#ifndef STRATA_CLI_JSON_H
#define STRATA_CLI_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

struct json_output {
    const char *path; /* as given; NULL: no output wanted */
    char *target;     /* path with symbolic links resolved */
    int fd;           /* stdout, a special file, or an unnamed file next to target; -1: none */
    bool direct;      /* fd is the destination itself */
    mode_t mode;
};

/*
 * Finds out, before long work starts, whether `path` can be written: NULL for no
 * output, "-" for stdout. A regular file stays as it is until json_output_write.
 * 0 or -errno.
 */
int json_output_open(struct json_output *output, const char *path);

/*
 * Whether two paths (each may be NULL) are one place, by whatever names: what is written to
 * the one would not outlast what is written to the other.
 */
bool json_output_same(const char *a, const char *b);

/* Writes the value and ends the output. 0, or -errno with a regular target unchanged. */
int json_output_write(struct json_output *output, const json_t *value);

/* The same for text that is no JSON. */
int json_output_write_text(struct json_output *output, const char *text, size_t bytes);

/* Gives up without writing; nothing to do after json_output_write. */
void json_output_close(struct json_output *output);

/* A number; null for what JSON has none for: infinities, and no number at all. */
json_t *json_number_or_null(double value);

/* {"schema": schema, "version": version} */
json_t *json_result(const char *schema, int version);

#endif
