#include "vmm/report/tour_html.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/machine/kvm.h"
#include "vmm/report/html.h"
#include "vmm/report/memory_html.h"
#include "vmm/report/plot.h"
#include "vmm/report/reply.h"
#include "vmm/report/tour_plots.h"
#include "vmm/report/tour_report.h"

/* ---- The rows ------------------------------------------------------------- */

static double tour_html_seconds(const struct tour_entry *entry)
{
    return (double)(entry->run.elapsed_ns + (entry->has_control ? entry->control.elapsed_ns : 0)) /
           1e9;
}

static void tour_html_print_rows(FILE *out, const struct tour *tour)
{
    static const char *const heads[] = { "result",  "exercise", "checks",      "seconds",
                                         "control", "shown",    "key figures", NULL };

    html_table(out, heads);
    for (size_t i = 0; i < tour->nentries; i++) {
        const struct tour_entry *entry = &tour->entries[i];
        bool ok = entry->has_run && tour_entry_ok(tour, entry);

        html_row(out);
        html_cell(out, ok ? "ok" : "failed", "%s", ok ? "ok" : "FAILED");
        fprintf(out, "<td><a href=\"#row-%zu\">", i);
        html_text(out, entry->exercise->name);
        fputs("</a></td>", out);
        if (!entry->has_run) {
            html_cell(out, "none", "did not run");
            continue;
        }
        html_cell(out, "n", "%zu/%zu", tour_count_passed(&entry->run), entry->run.nchecks);
        html_cell(out, "n", "%.2f", tour_html_seconds(entry));
        html_cell(out, NULL, "%s", tour_control_words(tour, entry));
        html_cell(out, NULL, "%s", entry->exercise->shows);
        html_cell(out, NULL, "%s", entry->run.key);
    }
    html_table_end(out);
}

static void tour_html_print_checks(FILE *out, const struct tour_run *run)
{
    static const char *const heads[] = { "", "check", "expected", "observed", NULL };

    html_table(out, heads);
    for (size_t i = 0; i < run->nchecks; i++) {
        const struct tour_check *check = &run->checks[i];

        html_row(out);
        html_cell(out, check->ok ? "ok" : "failed", "%s", check->ok ? "ok" : "failed");
        html_cell(out, NULL, "%s", check->name);
        html_cell(out, NULL, "%s", check->expected);
        html_cell(out, NULL, "%s", check->observed);
    }
    html_table_end(out);
    if (run->dropped)
        html_printf(out, "%zu checks more than there is room for.", run->dropped);
}

static void tour_html_print_figures(FILE *out, const struct tour_run *run)
{
    static const char *const heads[] = { "figure", "value", NULL };

    if (!run->nfigures)
        return;
    fputs("<details><summary>", out);
    html_printf(out, "%zu figures", run->nfigures);
    fputs("</summary>", out);
    html_table(out, heads);
    for (size_t i = 0; i < run->nfigures; i++) {
        html_row(out);
        html_cell(out, NULL, "%s", run->figures[i].name);
        if (isfinite(run->figures[i].value))
            html_cell(out, "n", "%.10g", run->figures[i].value);
        else
            html_cell(out, "none", "none");
    }
    html_table_end(out);
    fputs("</details>\n", out);
}

static void tour_html_print_details(FILE *out, const char *heading, const struct tour_run *run,
                                    bool open)
{
    fprintf(out, "<details%s><summary>", open ? " open" : "");
    html_printf(out, "%s: %zu of %zu checks passed", heading, tour_count_passed(run), run->nchecks);
    fputs("</summary>\n", out);
    tour_html_print_checks(out, run);
    fputs("</details>\n", out);
}

static void tour_html_print_row(FILE *out, const struct tour *tour, size_t i)
{
    const struct tour_entry *entry = &tour->entries[i];
    bool ok = entry->has_run && tour_entry_ok(tour, entry);

    if (!entry->has_run)
        return;
    fprintf(out, "<details class=\"row\" id=\"row-%zu\"%s><summary><b class=\"%s\">%s</b> <b>", i,
            ok ? "" : " open", ok ? "ok" : "failed", ok ? "ok" : "FAILED");
    html_text(out, entry->exercise->name);
    fputs("</b> <small>", out);
    html_text(out, entry->exercise->shows);
    fputs("</small></summary>\n<p>", out);
    html_text(out, entry->run.key);
    fputs("<br><small>", out);
    html_printf(out, "The guest ran: %s", entry->run.command);
    fputs("</small></p>\n", out);
    tour_plots_html(out, &entry->run);
    tour_html_print_details(out, "The host's checks", &entry->run, true);
    if (entry->has_control) {
        fputs("<p>", out);
        html_printf(out, "Broken on purpose: %s.", entry->exercise->breaks);
        fputs("</p>\n", out);
        tour_html_print_details(out, "Broken on purpose", &entry->control, false);
    }
    tour_html_print_figures(out, &entry->run);
    if (entry->run.console[0]) {
        fputs("<p>The guest's last words:</p><pre>", out);
        html_text(out, entry->run.console);
        fputs("</pre>\n", out);
    }
    if (json_object_get(entry->memory_map, "walks")) {
        fputs("<h3>", out);
        html_printf(out, "Through all layers: %s", entry->exercise->memory_map.shows);
        fputs("</h3>\n", out);
        memory_walks_html(out, entry->memory_map);
    }
    fputs("</details>\n", out);
}

/* ---- The page ------------------------------------------------------------- */

static void tour_html_print_verdict(FILE *out, const struct tour *tour)
{
    const struct kvm_host *kvm = tour->host.kvm;
    size_t good = 0, checks = 0;

    for (size_t i = 0; i < tour->nentries; i++) {
        good += tour->entries[i].has_run && tour_entry_ok(tour, &tour->entries[i]);
        checks += tour->entries[i].run.nchecks;
    }
    fputs("<p>", out);
    html_printf(out, "On KVM backend %s (%s), %u host CPU%s, a guest of %d MiB.%s",
                kvm_backend_name(kvm->backend), kvm->how, tour->host.cpus,
                tour->host.cpus == 1 ? "" : "s", (int)(tour->host.memory_bytes >> 20),
                tour->host.interprets ? " Kernel code is interpreted here, so sizes are smaller."
                                      : "");
    fprintf(out, "</p>\n<p class=\"%s\">", good == tour->nentries ? "ok" : "failed");
    html_printf(out, "%zu of %zu exercises are as they should be, %zu checks by the host.", good,
                tour->nentries, checks);
    fputs("</p>\n", out);
}

/* The captures of all rows that have one; and which of them shows most sharing. */
static json_t *tour_html_list_captures(const struct tour *tour, unsigned *first)
{
    json_t *list = json_array();
    uint64_t most = 0;

    for (size_t i = 0; i < tour->nentries; i++) {
        const struct tour_entry *entry = &tour->entries[i];
        json_t *map = json_object_get(entry->memory_map, "map");
        uint64_t cow = reply_number(entry->memory_map, "cow_pages");

        if (!map)
            continue;
        if (cow > most) {
            most = cow;
            *first = (unsigned)json_array_size(list);
        }
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:O}", "title", entry->exercise->name, "shows",
                                        entry->exercise->memory_map.shows, "map", map));
    }
    return list;
}

void tour_html_print(FILE *out, const void *owner)
{
    const struct tour *tour = owner;
    unsigned first = 0;
    json_t *captures = tour_html_list_captures(tour, &first);

    html_begin(out, "A tour of memory", "strata tour");
    tour_html_print_verdict(out, tour);
    tour_html_print_rows(out, tour);
    if (json_array_size(captures)) {
        html_section(out, "map", "Guest-physical memory");
        memory_map_html(out, captures, first);
    }
    json_decref(captures);
    html_section(out, "rows", "Row by row");
    for (size_t i = 0; i < tour->nentries; i++)
        tour_html_print_row(out, tour, i);
    html_end(out);
}
