/*
 * The frame of every report that is a page: one file that needs nothing else, in the look
 * of page.css, with the script page.js. Its Content-Security-Policy lets
 * nothing be fetched and no script run but that one, so that a page stays harmless should
 * a name from a guest ever get past the escaping.
 *
 * A FILE keeps its errors until it is closed (html_write looks), so nothing here returns any.
 */
#ifndef STRATA_REPORT_HTML_H
#define STRATA_REPORT_HTML_H

#include <jansson.h>
#include <stdio.h>

#include "vmm/base/output_file.h"

/* Up to <main>, with the title as heading; `command` is what wrote it, "strata tour". */
void html_begin(FILE *out, const char *title, const char *command);

/* From </main> on. */
void html_end(FILE *out);

/* Text from anywhere. What is no UTF-8, and control characters, come out as U+FFFD. */
void html_text(FILE *out, const char *text);
void html_printf(FILE *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* <h2>, with an anchor by which the page's contents lead here. */
void html_section(FILE *out, const char *anchor, const char *heading);

/* A table: its head from names up to NULL; then rows of cells; then html_table_end. */
void html_table(FILE *out, const char *const *heads);
void html_row(FILE *out);
/* `class` may be NULL, or of page.css: "n" a number, "stop", "open", "part", "bad", "none". */
void html_cell(FILE *out, const char *class, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void html_table_end(FILE *out);

/* A value for the script, in an element with this id. */
void html_json(FILE *out, const char *id, const json_t *value);

/* The page that `print` writes, as output_file_write: 0 or -errno. */
int html_write(struct output_file *output, void (*print)(FILE *out, const void *owner),
               const void *owner);

#endif
