#include "vmm/report/dma_html.h"

#include <inttypes.h>
#include <string.h>

#include "vmm/base/size.h"
#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/rules.h"
#include "vmm/report/html.h"

static const char *dma_html_class_of(enum dma_verdict verdict, bool ok)
{
    if (!ok)
        return "bad";
    switch (verdict) {
    case DMA_STOPPED: return "stop";
    case DMA_PARTLY: return "part";
    case DMA_OPEN: return "open";
    default: return "none";
    }
}

static const char *dma_html_word_of(enum dma_verdict verdict)
{
    switch (verdict) {
    case DMA_STOPPED: return "stopped";
    case DMA_PARTLY: return "partly open";
    case DMA_OPEN: return "open";
    default: return "does not apply";
    }
}

static void dma_html_print_matrix_cell(FILE *out, const struct dma_matrix_cell *matrix_cell,
                                       unsigned device, unsigned attack)
{
    fprintf(out, "<td class=\"%s\" title=\"",
            dma_html_class_of(matrix_cell->observed, matrix_cell->ok));
    html_text(out, matrix_cell->because);
    fprintf(out, "\"><a href=\"#c%u-%u\">%s</a>", device, attack,
            dma_matrix_cell_untried(matrix_cell) ? "not tried"
                                                 : dma_html_word_of(matrix_cell->observed));
    if (!matrix_cell->ok)
        fprintf(out, "<br>expected: %s", dma_html_word_of(matrix_cell->expected));
    fputs("</td>", out);
}

static void dma_html_print_matrix(FILE *out, const struct dma_report *report)
{
    const struct abi_policy *policy = &report->result->policy->guest;

    html_section(out, "attacks", "Attacks");
    fputs("<p><small>What each device, turned hostile, came to with each attack. What the policy "
          "promises must happen, be it good or bad: an open cell is a failure only where it "
          "says so. Point at a cell for the reason, at an attack for what stops it; a cell "
          "leads to its targets, a row each.</small></p>\n"
          "<div class=\"scroll\"><table><tr><th>attack</th>",
          out);
    for (unsigned d = 0; d < policy->ndevices; d++) {
        fputs("<th>", out);
        html_text(out, policy->device[d].name);
        fprintf(out, "<br><small>%s, endpoint %u<br>%s, %s</small></th>",
                dma_kind_name(policy->device[d].kind), policy->device[d].endpoint,
                dma_mode_name(policy->device[d].mode), dma_buffers_name(policy->device[d].buffers));
    }
    fputs("</tr>\n", out);
    for (unsigned attack = 0; attack < ATTACK_COUNT; attack++) {
        if (!dma_attack_wanted(report, attack))
            continue;
        fputs("<tr><th title=\"", out);
        html_printf(out, "%s; stopped by: %s", attack_table[attack]->source,
                    attack_table[attack]->stopped_by);
        fputs("\">", out);
        html_text(out, attack_table[attack]->name);
        fputs("<br><small>", out);
        html_text(out, attack_table[attack]->mechanism);
        fputs("</small></th>", out);
        for (unsigned d = 0; d < policy->ndevices; d++) {
            struct dma_matrix_cell matrix_cell;

            dma_matrix_cell(report->result, d, attack, &matrix_cell);
            dma_html_print_matrix_cell(out, &matrix_cell, d, attack);
        }
        fputs("</tr>\n", out);
    }
    fputs("</table></div>\n<div class=\"scroll\"><table><tr><td class=\"stop\">stopped: in no "
          "region</td>"
          "<td class=\"part\">partly open: in some regions</td>"
          "<td class=\"open\">open: in all, as the policy lets expect</td>"
          "<td class=\"bad\">not what the policy promises</td>"
          "<td class=\"none\">does not apply to the device</td></tr></table></div>\n",
          out);
}

static void dma_html_print_bar(FILE *out, uint64_t bytes, uint64_t needed, uint64_t most)
{
    char a[16], b[16];
    double scale = most ? 100.0 / (double)most : 0;

    fprintf(out,
            "<td>%s, needed %s<span class=\"bar\"><i style=\"width:%.2f%%\"></i>"
            "<b style=\"width:%.2f%%\"></b></span></td>",
            size_long(bytes, a), size_long(needed, b), (double)bytes * scale,
            (double)(needed < bytes ? needed : bytes) * scale);
}

static void dma_html_print_exposure(FILE *out, const struct harness_result *result)
{
    const struct abi_policy *policy = &result->policy->guest;
    uint64_t most = 0;

    for (unsigned d = 0; d < policy->ndevices; d++) {
        if (result->exposure[d].read_bytes > most)
            most = result->exposure[d].read_bytes;
        if (result->exposure[d].write_bytes > most)
            most = result->exposure[d].write_bytes;
    }
    html_section(out, "reach", "Bytes within reach");
    fprintf(out,
            "<p><small>With all drivers' buffers mapped, at most %d KiB of a region (of pools and "
            "windows all). Green: what "
            "the device's memory-region needs; orange: what it reaches beyond that.</small></p>",
            4 * RULES_REGION_PAGES);
    fputs("<div class=\"scroll\"><table><tr><th>device</th><th>can read</th><th>can "
          "write</th></tr>\n",
          out);
    for (unsigned d = 0; d < policy->ndevices; d++) {
        const struct harness_exposure *exposure = &result->exposure[d];

        fputs("<tr><th>", out);
        html_text(out, policy->device[d].name);
        fputs("</th>", out);
        dma_html_print_bar(out, exposure->read_bytes, exposure->needed_read_bytes, most);
        dma_html_print_bar(out, exposure->write_bytes, exposure->needed_write_bytes, most);
        fputs("</tr>\n", out);
    }
    html_table_end(out);
}

static void dma_html_print_windows(FILE *out, const struct harness_result *result)
{
    html_section(out, "windows", "After an unmap");
    fputs("<p><small>For how long a device still reaches a buffer that its driver has unmapped: "
          "from the return of its unmap to the first access that fails, and the accesses until "
          "then.</small></p><div class=\"scroll\"><table><tr><th>device</th><th>median "
          "ns</th><th>p99 ns</th>"
          "<th>max ns</th><th>accesses, median</th><th>accesses, max</th><th>samples</th></tr>\n",
          out);
    for (unsigned d = 0; d < result->policy->guest.ndevices; d++) {
        const struct harness_window *window = &result->window[d];

        fputs("<tr><th>", out);
        html_text(out, result->policy->guest.device[d].name);
        fputs("</th>", out);
        if (window->measured)
            fprintf(out,
                    "<td class=\"n\">%.0f</td><td class=\"n\">%.0f</td><td class=\"n\">%.0f</td>"
                    "<td class=\"n\">%" PRIu64 "</td><td class=\"n\">%" PRIu64
                    "</td><td class=\"n\">%u</td></tr>\n",
                    window->ns_median, window->ns_p99, window->ns_max, window->accesses_median,
                    window->accesses_max, window->samples);
        else
            fputs("<td class=\"none\" colspan=\"6\">not measured</td></tr>\n", out);
    }
    html_table_end(out);
}

static void dma_html_print_effect(FILE *out, const struct harness_effect *effect, bool ok)
{
    char readable[16], writable[16];

    if (!effect->applies)
        fprintf(out, "<td class=\"%s\">does not apply</td>", ok ? "none" : "bad");
    else if (!effect->succeeds)
        fprintf(out, "<td class=\"%s\">stopped</td>", ok ? "stop" : "bad");
    else
        fprintf(out, "<td class=\"%s\">succeeds: %s read, %s written</td>", ok ? "open" : "bad",
                size_long(effect->read_bytes, readable), size_long(effect->write_bytes, writable));
}

static void dma_html_print_cells(FILE *out, const struct harness_result *result)
{
    uint64_t seen[ABI_POLICY_DEVICES_MAX] = { 0 };

    html_section(out, "cells", "Cells");
    fputs(
        "<div "
        "class=\"scroll\"><table><tr><th>device</th><th>attack</th><th>target</th><th>expected</th>"
        "<th>observed</th><th>because</th><th>checks</th></tr>\n",
        out);
    for (size_t i = 0; i < result->ncells; i++) {
        const struct matrix_cell *cell = &result->cells[i];

        /* The matrix leads to the first row of a cell. */
        if (seen[cell->device] >> cell->attack & 1)
            fputs("<tr><td>", out);
        else
            fprintf(out, "<tr id=\"c%u-%u\"><td>", cell->device, cell->attack);
        seen[cell->device] |= 1ull << cell->attack;
        html_text(out, result->policy->guest.device[cell->device].name);
        fputs("</td><td>", out);
        html_text(out, attack_table[cell->attack]->name);
        fputs("</td><td>", out);
        html_text(out, cell->region);
        fputs("</td>", out);
        dma_html_print_effect(out, &cell->expected, true);
        if (dma_untried(cell))
            fputs("<td class=\"bad\">not tried</td>", out);
        else
            dma_html_print_effect(out, &cell->observed, cell->ok);
        fputs("<td>", out);
        html_text(out, cell->because);
        if (!cell->ok) {
            fputs("<br><span class=\"failed\">", out);
            html_text(out, cell->failure);
            fputs("</span>", out);
        }
        fprintf(out, "</td><td class=\"n\">%u of %u</td></tr>\n", cell->checks - cell->failed,
                cell->checks);
    }
    html_table_end(out);
}

static void dma_html_print_verdict(FILE *out, const struct harness_result *result)
{
    bool ok = harness_ok(result);

    fprintf(out, "<p class=\"%s\">", ok ? "ok" : "failed");
    if (ok)
        fprintf(out, "All %zu cells are as the policy promises.", result->ncells);
    else
        fprintf(out, "%u of %zu cells are not as the policy promises%s.", result->differing,
                result->ncells, result->guest_lives ? "" : ", or were not tried");
    if (!result->guest_lives) {
        fputs(" The test could not go on: ", out);
        html_text(out, result->guest_failure);
    }
    if (result->random_steps) {
        fprintf(out, " %" PRIu64 " random accesses, %" PRIu64 " not as promised. ",
                result->random_steps, result->random_failures);
        html_text(out, result->random_failure);
    }
    fputs("</p>\n", out);
}

void dma_html_print(FILE *out, const struct dma_report *report)
{
    const struct policy *policy = report->result->policy;

    html_begin(out, policy->name, "strata dma test");
    fputs("<p>", out);
    html_text(out, policy->description);
    fputs("<br><small>", out);
    html_printf(out, "%s, KVM backend %s, seed %" PRIu64 ", %.1f s", report->path, report->backend,
                report->result->seed, (double)report->result->elapsed_ns / 1e9);
    fputs("</small></p>\n", out);
    dma_html_print_verdict(out, report->result);
    dma_html_print_matrix(out, report);
    dma_html_print_exposure(out, report->result);
    dma_html_print_windows(out, report->result);
    dma_html_print_cells(out, report->result);
    html_end(out);
}
