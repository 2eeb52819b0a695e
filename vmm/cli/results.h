/*
 * Where the results of a command go: --json FILE and --html FILE, and what is for people.
 */
#ifndef STRATA_CLI_RESULTS_H
#define STRATA_CLI_RESULTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "vmm/base/output_file.h"

struct command_line;

struct results {
    const char *json_path, *html_path; /* as given; NULL: not wanted */
    const struct command_line *line;
    struct output_file json, html;
    FILE *out; /* for people: standard error where a result takes standard output */
};

/*
 * Before long work starts: opens what the two paths name. A place that cannot be written, or
 * is named twice, is misuse of the command and ends the process.
 */
void results_open(struct results *results, const struct command_line *line);

/*
 * Writes what is wanted: `json`, which is taken (NULL: out of memory), and what `page`, which
 * may be NULL where no --html is known, prints of `owner`. False, after a line on standard
 * error for each, if something could not be written.
 */
bool results_write(struct results *results, json_t *json,
                   void (*page)(FILE *out, const void *owner), const void *owner);

/* Gives up what was not written. */
void results_close(struct results *results);

#endif
