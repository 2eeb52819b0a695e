#include "vmm/control/inspector_report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/core/board.h"
#include "vmm/control/inspector.h"
#include "vmm/control/look.h"
#include "vmm/report/inspect_json.h"
#include "vmm/report/picture.h"

#define WALKS_MAX 5

struct report_walk {
    const char *what;
    uint64_t va;
    int space; /* < 0: none */
    struct translation t;
    struct translation table[PAGING_LEVELS_MAX]; /* of each entry that was read */
};

struct report {
    struct picture picture;
    struct host_pages pages;
    unsigned nwalks;
    struct report_walk walk[WALKS_MAX];
};

static void add_walk(struct look *look, struct report *report, const char *what,
                     const struct look_view *view, uint64_t va)
{
    struct report_walk *walk;

    if (report->nwalks == WALKS_MAX)
        return;
    walk = &report->walk[report->nwalks++];
    *walk = (struct report_walk){ .what = what, .va = va, .space = view->space };
    look_translate(look, view, &report->pages, va, &walk->t);
    for (unsigned i = 0; i < walk->t.walk.nsteps; i++) {
        const struct paging_step *step = &walk->t.walk.step[i];

        translate_gpa(&look->vm->memory, &report->pages,
                      step->table + step->index * sizeof(uint64_t), &walk->table[i]);
    }
}

static struct look_view view_of(const struct look *look, unsigned space)
{
    const struct space *at = &look->spaces.space[space];

    return (struct look_view){ at->format, at->root, (int)space };
}

/* ---- Which addresses are worth it ----------------------------------------- */

static int first_code(void *owner, unsigned space, const struct paging_leaf *leaf)
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
static void walk_code(struct look *look, struct report *report)
{
    for (unsigned i = 0; i < look->vm->ncpus; i++) {
        for (unsigned s = 0; s < look->spaces.n && look->sregs[i].ss.dpl == 3; s++) {
            struct look_view view = view_of(look, s);

            if (look->spaces.space[s].cpus >> i & 1) {
                add_walk(look, report, "the instruction that a process runs right now", &view,
                         look->regs[i].rip);
                return;
            }
        }
    }
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned s = 0; s < look->spaces.n; s++) {
            struct look_view view = view_of(look, s);
            uint64_t va = 0;
            const struct spaces_visitor visitor = { .owner = &va, .leaf = first_code };

            if ((pass || look->spaces.space[s].cpus) &&
                spaces_visit(&look->spaces, s, SPACES_LOWER, &look->budget, &visitor) == 1) {
                add_walk(look, report, "code of a process", &view, va);
                return;
            }
        }
    }
}

/* The first mapping of a frame that is shared, by copy-on-write or not. */
static void walk_shared(struct look *look, struct report *report, bool cow, const char *what)
{
    const struct shared_list *list = &report->picture.mapped;

    for (size_t i = 0; i < list->n; i++) {
        const struct shared_run *run = &list->run[i];

        /* Of the frames that are just shared, one that is written to, if there is one. */
        for (unsigned n = 0; n < run->nsharers && (cow || run->mappings > 1); n++) {
            struct look_view view = view_of(look, run->sharer[n].space);

            if (cow ? run->sharer[n].cow : run->sharer[n].writable) {
                add_walk(look, report, what, &view, run->sharer[n].va);
                return;
            }
        }
    }
}

static void walk_kernel(struct look *look, struct report *report)
{
    struct look_view view = { .space = -1 };
    uint64_t va = look->in->kernel_va;

    if (!look->spaces.n)
        return;
    view = view_of(look, 0);
    for (unsigned s = 0; s < look->spaces.n && !va; s++) {
        for (unsigned i = 0; i < look->vm->ncpus && !va; i++) {
            if (!(look->spaces.space[s].cpus >> i & 1) || look->sregs[i].ss.dpl)
                continue;
            view = view_of(look, s);
            va = look->regs[i].rip;
        }
    }
    if (va)
        add_walk(look, report, look->in->kernel_va ? "the kernel's data" : "the kernel's code",
                 &view, va);
}

static bool walk_all(struct look *look, struct report *report)
{
    struct look_view view;
    uint64_t va;

    if (look->request.va[0]) {
        if (!look_va(look, &va) || !look_view(look, &view))
            return false;
        add_walk(look, report, "the address that was asked for", &view, va);
    }
    walk_code(look, report);
    walk_shared(look, report, false, "a page that several mappings share");
    walk_shared(look, report, true, "a page that is copied when it is written to");
    walk_kernel(look, report);
    return true;
}

/* ---- The reply ------------------------------------------------------------ */

static json_t *describe_walk(const struct look *look, const struct report_walk *walk)
{
    json_t *json = json_pack("{s:s, s:o, s:o}", "what", walk->what, "va", json_hex(walk->va),
                             "symbol", look_symbol(look, walk->va));
    json_t *level;
    size_t i;

    json_object_set_new(json, "space",
                        walk->space < 0 ? json_null()
                                        : json_space(&look->spaces, (unsigned)walk->space));
    json_add_walk(json, &walk->t, look->spaces.bundled);
    json_array_foreach (json_object_get(json, "levels"), i, level) {
        json_add_place(level, &walk->table[i]);
    }
    return json;
}

void inspector_report(struct look *look)
{
    struct report *report = calloc(1, sizeof(*report));
    json_t *walks;
    bool ok;

    if (!report || picture_create(&report->picture, &look->vm->memory)) {
        look_fail(look, "no memory for a table of all frames");
        if (report)
            picture_destroy(&report->picture);
        free(report);
        return;
    }
    host_pages_open(&report->pages);
    ok = look_stop(look);
    if (ok) {
        if (picture_capture(&report->picture, &look->spaces, board_iommu(look->in->board),
                            &look->budget)) {
            look_fail(look, "no memory for the list of mapped frames");
            ok = false;
        }
        ok = ok && walk_all(look, report);
        look_go_on(look);
    }
    host_pages_close(&report->pages);
    if (ok) {
        look_set_pages(look, &report->picture.map, &report->picture.totals);
        look_set(look, "map", picture_map(&report->picture, &look->spaces));
        walks = json_array();
        for (unsigned i = 0; i < report->nwalks; i++)
            json_array_append_new(walks, describe_walk(look, &report->walk[i]));
        look_set(look, "walks", walks);
    }
    picture_destroy(&report->picture);
    free(report);
}
