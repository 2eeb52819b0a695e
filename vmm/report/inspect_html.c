#include "vmm/report/inspect_html.h"

#include "vmm/report/html.h"
#include "vmm/report/memory_html.h"
#include "vmm/report/reply.h"

static void inspect_html_spaces(FILE *out, const json_t *report)
{
    static const char *const heads[] = { "address space", "root", "format", "loaded by vCPU",
                                         NULL };
    json_t *spaces = json_object_get(json_object_get(report, "map"), "spaces"), *space, *cpu;
    size_t i, n;

    html_table(out, heads);
    json_array_foreach (spaces, i, space) {
        html_row(out);
        html_cell(out, NULL, "%s", SPACE_TEXT(space));
        html_cell(out, "mono", "%s", reply_text(space, "root"));
        html_cell(out, NULL, "%s", reply_text(space, "format"));
        fputs("<td>", out);
        json_array_foreach (json_object_get(space, "cpus"), n, cpu) {
            html_printf(out, "%s%d", n ? ", " : "", (int)json_integer_value(cpu));
        }
        fputs("</td>", out);
    }
    html_table_end(out);
}

void inspect_print_html(FILE *out, const void *owner)
{
    const json_t *report = owner;
    json_t *captures = json_pack("[{s:s, s:O}]", "title", "now", "map",
                                 json_object_get(report, "map"));

    html_begin(out, "A running machine", "strata inspect");
    fputs("<p>", out);
    html_printf(out,
                "Guest memory of one moment, for which the guest stood still for %.3f ms. Nothing "
                "was written to it.",
                (double)reply_number(report, "pause_ns") / 1e6);
    fputs("</p>\n", out);
    if (captures) {
        html_section(out, "map", "Guest-physical memory");
        memory_map_html(out, captures, 0);
        json_decref(captures);
    }
    html_section(out, "layers", "Through all layers");
    memory_walks_html(out, report);
    html_section(out, "totals", "Totals");
    memory_totals_html(out, report);
    memory_stretches_html(out, report);
    html_section(out, "spaces", "Address spaces");
    inspect_html_spaces(out, report);
    html_end(out);
}
