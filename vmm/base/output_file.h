/*
 * A result in a file that is there whole or not at all.
 */
#ifndef STRATA_BASE_OUTPUT_FILE_H
#define STRATA_BASE_OUTPUT_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct output_file {
    const char *path; /* as given; NULL: no output wanted */
    char *target;     /* path with symbolic links resolved */
    int fd;           /* stdout, a special file, or an unnamed file next to target; -1: none */
    bool direct;      /* fd is the destination itself */
    mode_t mode;
};

/*
 * Finds out, before long work starts, whether `path` can be written: NULL for no
 * output, "-" for stdout. A regular file stays as it is until output_file_write.
 * 0 or -errno.
 */
int output_file_open(struct output_file *output, const char *path);

/*
 * Whether two paths (each may be NULL) are one place, by whatever names: what is written to
 * the one would not outlast what is written to the other.
 */
bool output_file_same(const char *a, const char *b);

/* Writes the text and ends the output. 0, or -errno with a regular target unchanged. */
int output_file_write(struct output_file *output, const char *text, size_t bytes);

/* Gives up without writing; nothing to do after output_file_write. */
void output_file_close(struct output_file *output);

#endif
