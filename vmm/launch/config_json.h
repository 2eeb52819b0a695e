/*
 * A configuration as JSON: what `strata run --config` reads and --print-config writes. Which
 * fields there are config_fields.c knows.
 */
#ifndef STRATA_LAUNCH_CONFIG_JSON_H
#define STRATA_LAUNCH_CONFIG_JSON_H

#include <stddef.h>

#include "vmm/base/error.h"
#include "vmm/launch/config.h"

/* A file is refused unread beyond this. */
#define CONFIG_JSON_BYTES_MAX (1u << 20)

/*
 * Adds what the text says to a configuration: fields that it does not name stay as they are. The
 * text is not trusted. 0, or -EINVAL, -ERANGE, -E2BIG, -ENOMEM and an error that names the
 * field, or the line where it is no JSON; the configuration is then good for config_destroy
 * only. config_check is still to be called.
 */
int config_json_read(struct vm_config *config, const char *text, size_t bytes, struct error *error);

/* The same from a file ("-" for standard input); also -errno of opening and reading it. */
int config_json_load(struct vm_config *config, const char *path, struct error *error);

/*
 * The configuration as JSON with a newline at its end, which the caller frees; reading it gives the
 * same machine, and the same text again. NULL: no memory.
 */
char *config_json_write(struct vm_config *config);

#endif
