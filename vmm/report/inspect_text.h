/*
 * A reply of the control socket as text for people.
 */
#ifndef STRATA_REPORT_INSPECT_TEXT_H
#define STRATA_REPORT_INSPECT_TEXT_H

#include <jansson.h>
#include <stdio.h>

/* `command` by its name, as in the request. What is not in the reply is passed over. */
void inspect_print(FILE *out, const char *command, const json_t *reply);

#endif
