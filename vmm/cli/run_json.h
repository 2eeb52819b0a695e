/*
 * How a run ended, as JSON: schema strata.run.
 */
#ifndef STRATA_CLI_RUN_JSON_H
#define STRATA_CLI_RUN_JSON_H

#include <jansson.h>
#include <stdint.h>

struct board;
struct vm;

/* A VM that has ended, with its devices; the caller's to free. `backend`: kvm_backend_name. */
json_t *run_json(const struct vm *vm, const struct board *board, const char *backend,
                 uint64_t elapsed_ns);

#endif
