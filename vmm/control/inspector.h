/*
 * The side of `strata inspect` that runs in the VM's process: from a request to its
 * answer. It stops the world for as long as it takes to walk page tables and copy what
 * is asked for, and lets the guest go on before it makes an answer of that.
 */
#ifndef STRATA_CONTROL_INSPECTOR_H
#define STRATA_CONTROL_INSPECTOR_H

#include <jansson.h>

#include "vmm/control/control.h"
#include "vmm/inspect/symbols.h"

struct board;
struct inspect_request;
struct vm;

struct inspector {
    struct vm *vm;
    struct board *board;
    struct symbols symbols;      /* of the bundled guest; empty for another kernel */
    uint64_t kernel_va;          /* its struct abi_kernel; 0 for another kernel */
    const atomic_bool *stopping; /* set: give up what takes long */
};

/* `bundled`: the VM runs the bundled guest. */
void inspector_init(struct inspector *inspector, struct vm *vm, struct board *board, bool bundled,
                    const atomic_bool *stopping);

/* A control_callback; the owner is the inspector. */
void inspector_answer(void *inspector, const char *line, size_t n, struct control_answer *answer);

/*
 * The reply to a request of a caller that has stopped the world already and lets it go on
 * afterwards; with "error" where something is wrong. NULL: out of memory.
 */
json_t *inspector_look(struct inspector *inspector, const struct inspect_request *request);

/* What control.h needs in words: one client too many, a line too long. */
extern const char inspector_busy[], inspector_too_long[];

#endif
