#include "vmm/report/memory_html.h"

#include <inttypes.h>
#include <string.h>

#include "vmm/base/size.h"
#include "vmm/inspect/frames.h"
#include "vmm/machine/memory.h"
#include "vmm/report/html.h"
#include "vmm/report/plot.h"
#include "vmm/report/reply.h"

#define STRETCH_BUCKETS 24 /* up to 2^23 pages, 32 GiB */

/* ---- The map -------------------------------------------------------------- */

void memory_map_html(FILE *out, const json_t *captures, unsigned first)
{
    html_json(out, "captures", captures);
    fprintf(out,
            "<div class=\"memory\" data-from=\"captures\" data-first=\"%u\">"
            "<noscript><p>The map is drawn by a script, which does not run here.</p></noscript>"
            "</div>\n",
            first);
}

/* ---- Totals --------------------------------------------------------------- */

static void memory_html_total_row(FILE *out, const char *what, uint64_t pages, uint64_t ram)
{
    html_row(out);
    html_cell(out, NULL, "%s", what);
    html_cell(out, "n", "%" PRIu64, pages);
    html_cell(out, "n", "%s", SIZE_TEXT(pages * MEMORY_PAGE_BYTES));
    html_cell(out, "n", "%.1f %%", ram ? 100.0 * (double)pages / (double)ram : 0);
}

static void memory_html_sharing_rows(FILE *out, const json_t *report, uint64_t ram)
{
    json_t *mapped = json_object_get(report, "user_pages_by_mappings"), *pages;
    size_t i;

    json_array_foreach (mapped, i, pages) {
        char what[64];

        if (!json_integer_value(pages))
            continue;
        snprintf(what, sizeof(what),
                 i == 0                          ? "user memory that is not mapped"
                 : i == 1                        ? "user memory, private"
                 : i + 1 < FRAMES_SHARED_MAX + 1 ? "user memory, shared by %zu"
                                                 : "user memory, shared by %zu or more",
                 i);
        memory_html_total_row(out, what, (uint64_t)json_integer_value(pages), ram);
    }
}

static void memory_html_second_stage_text(FILE *out, const json_t *second)
{
    html_printf(out, "Second stage (%s): ", reply_text(second, "kind"));
    if (*reply_text(second, "unknown"))
        html_printf(out, "table memory not available here, because %s.",
                    reply_text(second, "unknown"));
    else
        html_printf(out,
                    "at least %s of tables, for %" PRIu64 " mappings of 4K, %" PRIu64
                    " of 2M and %" PRIu64 " of 1G.",
                    SIZE_TEXT(reply_number(second, "least_table_bytes")),
                    reply_number(second, "pages_4k"), reply_number(second, "pages_2m"),
                    reply_number(second, "pages_1g"));
}

void memory_totals_html(FILE *out, const json_t *report)
{
    static const char *const heads[] = { "what", "page frames", "size", "of RAM", NULL };
    const json_t *resident = json_object_get(report, "resident");
    uint64_t ram = reply_number(report, "ram_pages");
    const char *kind;
    json_t *pages;

    html_table(out, heads);
    json_object_foreach (json_object_get(report, "pages_by_kind"), kind, pages) {
        memory_html_total_row(out, kind, (uint64_t)json_integer_value(pages), ram);
    }
    memory_html_sharing_rows(out, report, ram);
    memory_html_total_row(out, "copied on write", reply_number(report, "cow_pages"), ram);
    memory_html_total_row(out, "pinned for DMA", reply_number(report, "dma_pinned_frames"), ram);
    html_table_end(out);
    fputs("<p>", out);
    if (json_is_object(resident))
        html_printf(out, "Of %s the host has %s resident, %s of them in huge pages. ",
                    SIZE_TEXT(reply_number(report, "ram_bytes")),
                    SIZE_TEXT(reply_number(resident, "rss_bytes")),
                    SIZE_TEXT(reply_number(resident, "huge_bytes")));
    html_printf(out, "Guest page tables: %s. ",
                SIZE_TEXT(reply_number(json_object_get(report, "guest_tables"), "bytes")));
    memory_html_second_stage_text(out, json_object_get(report, "second_stage"));
    if (reply_number(report, "saved_by_sharing_bytes"))
        html_printf(out, " Sharing saves %s.",
                    SIZE_TEXT(reply_number(report, "saved_by_sharing_bytes")));
    fputs("</p>\n", out);
}

/* ---- Stretches ------------------------------------------------------------ */

struct stretches {
    double free[STRETCH_BUCKETS], user[STRETCH_BUCKETS];
    unsigned most; /* the last bucket that has any */
};

static void memory_html_add_stretch(struct stretches *all, bool is_free, uint64_t pages)
{
    unsigned bucket = 0;

    while (bucket + 1 < STRETCH_BUCKETS && pages >> (bucket + 1))
        bucket++;
    (is_free ? all->free : all->user)[bucket]++;
    if (bucket > all->most)
        all->most = bucket;
}

static uint64_t memory_html_part(const json_t *run, size_t i)
{
    return (uint64_t)json_integer_value(json_array_get(run, i));
}

/* Runs of frames (memory_map.h) alike in use and owner, put together. */
static void memory_html_find_stretches(const json_t *map, struct stretches *all)
{
    uint64_t pages = 0, kind = FRAME_KINDS, owner = 0;
    json_t *run;
    size_t i;

    json_array_foreach (json_object_get(map, "runs"), i, run) {
        bool goes_on = memory_html_part(run, 2) == kind &&
                       (kind == FRAME_FREE || memory_html_part(run, 3) == owner);

        if (!goes_on && (kind == FRAME_FREE || kind == FRAME_USER))
            memory_html_add_stretch(all, kind == FRAME_FREE, pages);
        pages = (goes_on ? pages : 0) + memory_html_part(run, 1);
        kind = memory_html_part(run, 2);
        owner = memory_html_part(run, 3);
    }
    if (kind == FRAME_FREE || kind == FRAME_USER)
        memory_html_add_stretch(all, kind == FRAME_FREE, pages);
}

void memory_stretches_html(FILE *out, const json_t *report)
{
    double from[STRETCH_BUCKETS], to[STRETCH_BUCKETS];
    struct stretches all = { 0 };
    struct plot_series series[2];
    const struct plot plot = { .kind = PLOT_HISTOGRAM,
                               .title = "Stretches of page frames with one use and owner",
                               .x_label = "length in pages",
                               .y_label = "stretches",
                               .log_x = true,
                               .nseries = 2,
                               .series = series };

    memory_html_find_stretches(json_object_get(report, "map"), &all);
    /* Each pair of powers of two side by side, so that no bar hides another. */
    for (unsigned i = 0; i < STRETCH_BUCKETS; i++) {
        from[i] = (double)(1u << i);
        to[i] = (double)(2u << i);
    }
    series[0] = (struct plot_series){
        .name = "user memory", .n = all.most + 1, .x = from, .to = to, .y = all.user
    };
    series[1] = (struct plot_series){
        .name = "free", .n = all.most + 1, .x = from, .to = to, .y = all.free
    };
    if (json_object_get(json_object_get(report, "map"), "runs"))
        plot_figure(out, &plot);
}

/* ---- Translations --------------------------------------------------------- */

/* One box of a chain: what it is, a number, and a remark. */
static void memory_html_box(FILE *out, const char *class, const char *what, const char *number,
                            const char *note)
{
    fprintf(out, "<div class=\"%s\"><b>", class);
    html_text(out, what);
    fputs("</b><code>", out);
    html_text(out, number);
    fputs("</code><small>", out);
    html_text(out, note);
    fputs("</small></div>", out);
}

/* The host's side of one place: slot and HVA, then PFN. */
static void memory_html_host_boxes(FILE *out, const json_t *place)
{
    const json_t *host = json_object_get(place, "host");
    const char *pfn = reply_text(host, "pfn");
    uint64_t bytes = reply_number(host, "page_bytes");
    char note[64];

    if (!json_is_object(host)) {
        memory_html_box(out, "slot missing", "no RAM", "", "no memory slot has it");
        return;
    }
    snprintf(note, sizeof(note), "slot %" PRIu64,
             reply_number(json_object_get(place, "slot"), "id"));
    memory_html_box(out, "slot", "HVA", reply_text(place, "hva"), note);
    if (!reply_yes(host, "present")) {
        memory_html_box(out, "host missing", "no page", "",
                        reply_yes(host, "swapped") ? "swapped out"
                                                   : "never touched, or given back");
        return;
    }
    snprintf(note, sizeof(note), bytes ? "host page of %s" : "size not told", SIZE_TEXT(bytes));
    memory_html_box(out, "host", "PFN", *pfn ? pfn : "not told", note);
}

/* One level: the entry to the right, and down where the host has its table. */
static void memory_html_level_boxes(FILE *out, const json_t *level)
{
    char what[48], entry[24], note[64];

    snprintf(what, sizeof(what), "%s [%" PRIu64 "]", reply_text(level, "name"),
             reply_number(level, "index"));
    snprintf(entry, sizeof(entry), "%016" PRIx64, reply_address(level, "entry"));
    snprintf(note, sizeof(note), "%s", reply_text(level, "bits"));
    fputs("<li>", out);
    memory_html_box(out, "guest", what, entry, note);
    snprintf(entry, sizeof(entry), "0x%" PRIx64,
             reply_address(level, "table") + sizeof(uint64_t) * reply_number(level, "index"));
    memory_html_box(out, "gpa", "GPA of the entry", entry, "");
    memory_html_host_boxes(out, level);
    fputs("</li>", out);
}

static void memory_html_page_boxes(FILE *out, const json_t *walk)
{
    uint64_t bytes = reply_number(walk, "page_bytes");
    char note[64], place[32];

    fputs("<li>", out);
    if (!reply_yes(walk, "mapped")) {
        memory_html_box(out, "guest missing", "not mapped", "", reply_text(walk, "status"));
        fputs("</li>", out);
        return;
    }
    snprintf(place, sizeof(place), "byte 0x%" PRIx64,
             bytes ? reply_address(walk, "va") % bytes : reply_address(walk, "va"));
    snprintf(note, sizeof(note), bytes ? "page of %s, %s" : "paging is off", SIZE_TEXT(bytes),
             reply_text(walk, "rights"));
    memory_html_box(out, "guest", "page", place, note);
    memory_html_box(out, "gpa", "GPA", reply_text(walk, "gpa"), "");
    memory_html_host_boxes(out, walk);
    fputs("</li>", out);
}

/* Levels of a second-stage walk that ends at a page of this size; 0: not known. */
static unsigned memory_html_second_levels(const json_t *place)
{
    switch (reply_number(json_object_get(place, "host"), "page_bytes")) {
    case 4096: return 4;
    case 2u << 20: return 3;
    case 1u << 30: return 2;
    default: return 0;
    }
}

/*
 * What the walk costs the MMU at most. Each guest entry is at a GPA, so that reading it
 * takes a walk of the second stage before; and so does the page itself (SDM 29.3; APM
 * vol. 2, 15.25.4).
 */
static void memory_html_cost(FILE *out, const json_t *walk, const char *second_stage)
{
    const json_t *levels = json_object_get(walk, "levels");
    unsigned references = memory_html_second_levels(walk);
    bool known = references && reply_yes(walk, "mapped");
    json_t *level;
    size_t i;

    if (strcmp(second_stage, "ept") && strcmp(second_stage, "npt")) {
        html_printf(out,
                    "The second stage here is %s: no MMU walks these two dimensions, KVM keeps "
                    "tables that lead from GVA to PFN at once.",
                    second_stage);
        return;
    }
    json_array_foreach (levels, i, level) {
        known = known && memory_html_second_levels(level);
        references += memory_html_second_levels(level) + 1;
    }
    if (known)
        html_printf(out,
                    "A walk in two dimensions: up to %u memory references, %zu of them for the "
                    "guest's entries, the rest for where those and the page are.",
                    references, json_array_size(levels));
}

/* Why a PFN or a size is missing, once for a walk. */
static void memory_html_why_unknown(FILE *out, const json_t *walk)
{
    const json_t *host = json_object_get(walk, "host");

    if (*reply_text(host, "pfn_unknown"))
        html_printf(out, " PFN: not available here, because %s.", reply_text(host, "pfn_unknown"));
    else if (*reply_text(host, "page_bytes_unknown"))
        html_printf(out, " Size of the host's page: not available here, because %s.",
                    reply_text(host, "page_bytes_unknown"));
}

static void memory_html_walk(FILE *out, const json_t *walk, const char *second_stage)
{
    const json_t *space = json_object_get(walk, "space");
    json_t *level;
    size_t i;

    fputs("<figure class=\"walk\"><figcaption>", out);
    html_text(out, reply_text(walk, "what"));
    fputs(" <small>GVA <code style=\"display:inline\">", out);
    html_text(out, reply_text(walk, "va"));
    fputs("</code>", out);
    if (*reply_text(walk, "symbol"))
        html_printf(out, " (%s)", reply_text(walk, "symbol"));
    if (json_is_object(space))
        html_printf(out, " in %s, %s", SPACE_TEXT(space), reply_text(space, "format"));
    fputs("</small></figcaption>\n<div class=\"scroll\"><ol class=\"chain\"><li>", out);
    memory_html_box(out, "guest", "CR3", json_is_object(space) ? reply_text(space, "root") : "",
                    "root of the tables");
    fputs("</li>", out);
    json_array_foreach (json_object_get(walk, "levels"), i, level) {
        memory_html_level_boxes(out, level);
    }
    memory_html_page_boxes(out, walk);
    fputs("</ol></div><p><small>", out);
    memory_html_cost(out, walk, second_stage);
    memory_html_why_unknown(out, walk);
    fputs("</small></p></figure>\n", out);
}

void memory_walks_html(FILE *out, const json_t *report)
{
    const char *second_stage = reply_text(json_object_get(report, "second_stage"), "kind");
    json_t *walk;
    size_t i;

    json_array_foreach (json_object_get(report, "walks"), i, walk) {
        memory_html_walk(out, walk, second_stage);
    }
}
