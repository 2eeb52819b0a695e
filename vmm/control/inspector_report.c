#include "vmm/control/inspector_report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/core/board.h"
#include "vmm/control/inspect_context.h"
#include "vmm/control/inspector.h"
#include "vmm/report/inspect_json.h"
#include "vmm/report/memory_map.h"

#define WALKS_MAX 5

struct report_walk {
    const char *what;
    uint64_t va;
    int space; /* < 0: none */
    struct translation t;
    struct translation table[PAGING_LEVELS_MAX]; /* of each entry that was read */
};

struct report {
    struct memory_map memory_map;
    struct host_pages pages;
    unsigned nwalks;
    struct report_walk walk[WALKS_MAX];
};

static void inspector_report_add_walk(struct inspect_context *context, struct report *report,
                                      const char *what, const struct inspect_view *view,
                                      uint64_t va)
{
    struct report_walk *walk;

    if (report->nwalks == WALKS_MAX)
        return;
    walk = &report->walk[report->nwalks++];
    *walk = (struct report_walk){ .what = what, .va = va, .space = view->space };
    inspect_translate(context, view, &report->pages, va, &walk->t);
    for (unsigned i = 0; i < walk->t.walk.nsteps; i++) {
        const struct paging_step *step = &walk->t.walk.step[i];

        translate_gpa(&context->vm->memory, &report->pages,
                      step->table + step->index * sizeof(uint64_t), &walk->table[i]);
    }
}

static struct inspect_view inspector_report_view_of(const struct inspect_context *context,
                                                    unsigned space)
{
    const struct space *at = &context->spaces.space[space];

    return (struct inspect_view){ at->format, at->root, (int)space };
}

/* ---- Which addresses are worth it ----------------------------------------- */

static int inspector_report_first_code(void *owner, unsigned space, const struct paging_leaf *leaf)
{
    uint64_t *va = owner;

    (void)space;
    if (!leaf->user || leaf->nx)
        return 0;
    *va = leaf->va;
    return 1;
}

/*
 * Code of a running process: where a vCPU is right now, if that is in user mode; else the
 * first page of code in a space that a vCPU has loaded, or in any.
 */
static void inspector_report_walk_code(struct inspect_context *context, struct report *report)
{
    for (unsigned i = 0; i < context->vm->ncpus; i++) {
        for (unsigned s = 0; s < context->spaces.n && context->sregs[i].ss.dpl == 3; s++) {
            struct inspect_view view = inspector_report_view_of(context, s);

            if (context->spaces.space[s].cpus >> i & 1) {
                inspector_report_add_walk(context, report,
                                          "the instruction that a process runs right now", &view,
                                          context->regs[i].rip);
                return;
            }
        }
    }
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned s = 0; s < context->spaces.n; s++) {
            struct inspect_view view = inspector_report_view_of(context, s);
            uint64_t va = 0;
            const struct spaces_visitor visitor = { .owner = &va,
                                                    .leaf = inspector_report_first_code };

            if ((pass || context->spaces.space[s].cpus) &&
                spaces_visit(&context->spaces, s, SPACES_LOWER, &context->budget, &visitor) == 1) {
                inspector_report_add_walk(context, report, "code of a process", &view, va);
                return;
            }
        }
    }
}

/* The first mapping of a frame that is shared, by copy-on-write or not. */
static void inspector_report_walk_shared(struct inspect_context *context, struct report *report,
                                         bool cow, const char *what)
{
    const struct shared_list *list = &report->memory_map.mapped;

    for (size_t i = 0; i < list->n; i++) {
        const struct shared_run *run = &list->run[i];

        /* Of the frames that are just shared, one that is written to, if there is one. */
        for (unsigned n = 0; n < run->nsharers && (cow || run->mappings > 1); n++) {
            struct inspect_view view = inspector_report_view_of(context, run->sharer[n].space);

            if (cow ? run->sharer[n].cow : run->sharer[n].writable) {
                inspector_report_add_walk(context, report, what, &view, run->sharer[n].va);
                return;
            }
        }
    }
}

static void inspector_report_walk_kernel(struct inspect_context *context, struct report *report)
{
    struct inspect_view view = { .space = -1 };
    uint64_t va = context->in->kernel_va;

    if (!context->spaces.n)
        return;
    view = inspector_report_view_of(context, 0);
    for (unsigned s = 0; s < context->spaces.n && !va; s++) {
        for (unsigned i = 0; i < context->vm->ncpus && !va; i++) {
            if (!(context->spaces.space[s].cpus >> i & 1) || context->sregs[i].ss.dpl)
                continue;
            view = inspector_report_view_of(context, s);
            va = context->regs[i].rip;
        }
    }
    if (va)
        inspector_report_add_walk(
            context, report, context->in->kernel_va ? "the kernel's data" : "the kernel's code",
            &view, va);
}

static bool inspector_report_walk_all(struct inspect_context *context, struct report *report)
{
    struct inspect_view view;
    uint64_t va;

    if (context->request.va[0]) {
        if (!inspect_va(context, &va) || !inspect_view(context, &view))
            return false;
        inspector_report_add_walk(context, report, "the address that was asked for", &view, va);
    }
    inspector_report_walk_code(context, report);
    inspector_report_walk_shared(context, report, false, "a page that several mappings share");
    inspector_report_walk_shared(context, report, true,
                                 "a page that is copied when it is written to");
    inspector_report_walk_kernel(context, report);
    return true;
}

/* ---- The reply ------------------------------------------------------------ */

static json_t *inspector_report_describe_walk(const struct inspect_context *context,
                                              const struct report_walk *walk)
{
    json_t *json = json_pack("{s:s, s:o, s:o}", "what", walk->what, "va", json_hex(walk->va),
                             "symbol", inspect_symbol(context, walk->va));
    json_t *level;
    size_t i;

    json_object_set_new(json, "space",
                        walk->space < 0 ? json_null()
                                        : json_space(&context->spaces, (unsigned)walk->space));
    json_add_walk(json, &walk->t, context->spaces.bundled);
    json_array_foreach (json_object_get(json, "levels"), i, level) {
        json_add_place(level, &walk->table[i]);
    }
    return json;
}

void inspector_report(struct inspect_context *context)
{
    struct report *report = calloc(1, sizeof(*report));
    json_t *walks;
    bool ok;

    if (!report || memory_map_create(&report->memory_map, &context->vm->memory)) {
        inspect_fail(context, "no memory for a table of all frames");
        if (report)
            memory_map_destroy(&report->memory_map);
        free(report);
        return;
    }
    host_pages_open(&report->pages);
    ok = inspect_pause(context);
    if (ok) {
        if (memory_map_capture(&report->memory_map, &context->spaces,
                               board_iommu(context->in->board), &context->budget)) {
            inspect_fail(context, "no memory for the list of mapped frames");
            ok = false;
        }
        ok = ok && inspector_report_walk_all(context, report);
        inspect_resume(context);
    }
    host_pages_close(&report->pages);
    if (ok) {
        inspect_set_pages(context, &report->memory_map.map, &report->memory_map.totals);
        inspect_set(context, "map", memory_map_json(&report->memory_map, &context->spaces));
        walks = json_array();
        for (unsigned i = 0; i < report->nwalks; i++)
            json_array_append_new(walks, inspector_report_describe_walk(context, &report->walk[i]));
        inspect_set(context, "walks", walks);
    }
    memory_map_destroy(&report->memory_map);
    free(report);
}
