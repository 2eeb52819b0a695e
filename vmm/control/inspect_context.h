/*
 * One request to the inspector while it is being answered: what the files that answer
 * requests have in common.
 */
#ifndef STRATA_CONTROL_INSPECT_CONTEXT_H
#define STRATA_CONTROL_INSPECT_CONTEXT_H

#include <jansson.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/control/inspect_request.h"
#include "vmm/inspect/frames.h"
#include "vmm/inspect/spaces.h"
#include "vmm/inspect/translate.h"
#include "vmm/machine/vm.h"

struct inspector;

struct inspect_context {
    struct inspector *in;
    struct vm *vm;
    struct inspect_request request;
    json_t *reply;
    char error[256]; /* "" as long as all is well */
    uint64_t budget;
    bool stopped;                    /* by the caller: not to be stopped, nor to go on */
    uint64_t paused_at_ns, pause_ns; /* while paused; the sum of all pauses */
    char *payload;
    size_t payload_bytes;
    /* Filled in by inspect_pause. */
    struct kvm_regs regs[VM_CPUS_MAX];
    struct kvm_sregs sregs[VM_CPUS_MAX];
    struct spaces spaces;
};

/* Gives up, with one line for the client. */
void inspect_fail(struct inspect_context *context, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A field of the reply; takes the value. */
void inspect_set(struct inspect_context *context, const char *name, json_t *value);

/* Stops the world and finds registers and address spaces. False: nothing is held. */
bool inspect_pause(struct inspect_context *context);
void inspect_resume(struct inspect_context *context);

/* Counts all frames, with the world stopped on return: room is made before. False: nothing
 * is held. */
bool inspect_count(struct inspect_context *context, struct frame_map *map);

/* Page tables that a virtual address is meant in; format NULL: paging is off. */
struct inspect_view {
    const struct paging_format *format;
    uint64_t root;
    int space; /* < 0: none */
};

/* What request.va means: a number, a register or a symbol, and any of them with +NUMBER behind
 * it; and the page tables that the request means. False: it failed. */
bool inspect_va(struct inspect_context *context, uint64_t *va);
bool inspect_view(struct inspect_context *context, struct inspect_view *view);

/* As translate_gva. */
int inspect_translate(const struct inspect_context *context, const struct inspect_view *view,
                      const struct host_pages *pages, uint64_t va, struct translation *out);

/* "name+0x12", or null. */
json_t *inspect_symbol(const struct inspect_context *context, uint64_t va);

/* The fields of `pages`; the world may go on. */
void inspect_set_pages(struct inspect_context *context, const struct frame_map *map,
                       const struct frame_totals *totals);

#endif
