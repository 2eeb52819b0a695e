/*
 * A report of the inspector as a page.
 */
#ifndef STRATA_REPORT_INSPECT_HTML_H
#define STRATA_REPORT_INSPECT_HTML_H

#include <jansson.h>
#include <stdio.h>

/* `report` is the reply to the command of this name; a json_t, for html_write. */
void inspect_print_html(FILE *out, const void *report);

#endif
