/*
 * Device tree source: dtc compiles it, and tells the line of every node and property
 * (its annotated output), so that what the reader finds wrong can be found by people.
 */
#ifndef STRATA_DMA_POLICY_DTC_H
#define STRATA_DMA_POLICY_DTC_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/dma/policy.h"

/* What a process wrote, up to a limit; what is beyond is read and dropped. */
struct policy_output {
    int fd;     /* < 0: at its end */
    char *text; /* zero-terminated */
    size_t bytes, max;
    bool overflow;
};

/*
 * Runs dtc on a .dts, without a shell and within a time: its output in `format` ("dtb" or
 * "dts", with annotations then). 0, or -errno and one line. The text is the caller's to
 * free in any case (NULL: none).
 */
int policy_compile(const char *path, const char *format, struct policy_output *out,
                   struct policy_error *error);

/*
 * Finds a node, by its path, and a property (NULL: the node itself) in annotated output.
 * False if it is not there; *file is not terminated.
 */
bool policy_find_line(const char *annotated, const char *node, const char *property,
                      const char **file, size_t *bytes, unsigned *line);

/* Makes the error's text and returns err. */
int policy_say(struct policy_error *error, int err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
