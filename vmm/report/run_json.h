/*
 * How a run ended, as JSON: schema strata.run.
 */
#ifndef STRATA_REPORT_RUN_JSON_H
#define STRATA_REPORT_RUN_JSON_H

#include <jansson.h>
#include <stdint.h>

struct board;
struct vm;

/*
 * A VM that has ended, with its devices; the caller's to free. `backend`: kvm_backend_name,
 * `status`: run_status, `report`: report_json or NULL, which stays the caller's.
 */
json_t *run_json(const struct vm *vm, const struct board *board, const char *backend, int status,
                 json_t *report, uint64_t elapsed_ns);

#endif
