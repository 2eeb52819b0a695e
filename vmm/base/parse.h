/*
 * Numbers as people write them: sizes, counts, times.
 */
#ifndef STRATA_BASE_PARSE_H
#define STRATA_BASE_PARSE_H

#include <stdint.h>

/* "256M", "1G", "4096": bytes, or -EINVAL (not a number) or -ERANGE. */
int parse_size(const char *text, uint64_t *bytes);

/* A plain decimal number: -EINVAL or -ERANGE (above `max`). */
int parse_count(const char *text, unsigned max, unsigned *count);

/* "2ms", "150us", "0": nanoseconds; -EINVAL (no such time) or -ERANGE (above `max_ns`). */
int parse_time(const char *text, uint64_t max_ns, uint64_t *ns);

#endif
