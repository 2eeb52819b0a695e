#include <inttypes.h>
#include <string.h>

#include "vmm/cli/dma_report.h"

static const char style[] =
    "body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:75em;padding:0 1em;"
    "color:#1b1f24;background:#fff}"
    "h1{font-size:1.5em;margin-bottom:.2em}h2{font-size:1.15em;margin-top:2em}"
    "table{border-collapse:collapse;margin:.6em 0}"
    "th,td{border:1px solid #c8ccd2;padding:.3em .6em;text-align:left;vertical-align:top}"
    "th{background:#f0f2f5;font-weight:600}td.n{text-align:right;font-variant-numeric:tabular-nums}"
    "td.stop{background:#d5efd9}td.open{background:#ffe3b8}td.part{background:#fff3c4}"
    "td.none{color:#8a9099}td.bad{background:#c4262e;color:#fff;font-weight:600}"
    ".ok{color:#1a7f37;font-weight:600}.failed{color:#c4262e;font-weight:600}"
    "small{color:#57606a}.bar{display:block;position:relative;height:1em;width:18em;"
    "background:#f0f2f5}.bar i{position:absolute;left:0;top:0;height:100%;background:#e5943a}"
    ".bar b{position:absolute;left:0;top:0;height:100%;background:#4a9c5d}"
    "a{color:inherit}:target{outline:3px solid #3b82f6}"
    "@media(prefers-color-scheme:dark){body{background:#15181c;color:#e3e6ea}"
    "th,.bar{background:#242a31}th,td{border-color:#3a424c}td.stop{background:#1d4028}"
    "td.open{background:#6b430c}td.part{background:#55490f}small{color:#9aa4af}}";

static void text(FILE *out, const char *from)
{
    for (; *from; from++) {
        switch (*from) {
        case '&': fputs("&amp;", out); break;
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        case '"': fputs("&quot;", out); break;
        default:
            fputc((unsigned char)*from < 0x20 || (unsigned char)*from > 0x7e ? '?' : *from, out);
        }
    }
}

static const char *class_of(enum dma_verdict verdict, bool ok)
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

static const char *word_of(enum dma_verdict verdict)
{
    switch (verdict) {
    case DMA_STOPPED: return "stopped";
    case DMA_PARTLY: return "partly open";
    case DMA_OPEN: return "open";
    default: return "does not apply";
    }
}

static void print_square(FILE *out, const struct dma_square *square, unsigned device,
                         unsigned attack)
{
    fprintf(out, "<td class=\"%s\" title=\"", class_of(square->observed, square->ok));
    text(out, square->because);
    fprintf(out, "\"><a href=\"#c%u-%u\">%s</a>", device, attack, word_of(square->observed));
    if (!square->ok)
        fprintf(out, "<br>expected: %s", word_of(square->expected));
    fputs("</td>", out);
}

static void print_matrix(FILE *out, const struct dma_report *report)
{
    const struct abi_policy *policy = &report->result->policy->guest;

    fputs("<h2>Attacks</h2><table><tr><th>attack</th>", out);
    for (unsigned d = 0; d < policy->ndevices; d++) {
        fputs("<th>", out);
        text(out, policy->device[d].name);
        fprintf(out, "<br><small>%s, endpoint %u<br>%s, %s</small></th>",
                dma_kind_name(policy->device[d].kind), policy->device[d].endpoint,
                dma_mode_name(policy->device[d].mode), dma_buffers_name(policy->device[d].buffers));
    }
    fputs("</tr>\n", out);
    for (unsigned attack = 0; attack < LAB_ATTACKS; attack++) {
        if (!dma_attack_wanted(report, attack))
            continue;
        fputs("<tr><th title=\"", out);
        text(out, lab_attacks[attack].source);
        fputs("\">", out);
        text(out, lab_attacks[attack].name);
        fputs("<br><small>", out);
        text(out, lab_attacks[attack].mechanism);
        fputs("</small></th>", out);
        for (unsigned d = 0; d < policy->ndevices; d++) {
            struct dma_square square;

            dma_square(report->result, d, attack, &square);
            print_square(out, &square, d, attack);
        }
        fputs("</tr>\n", out);
    }
    fputs("</table>\n<table><tr><td class=\"stop\">stopped: in no region</td>"
          "<td class=\"part\">partly open: in some regions</td>"
          "<td class=\"open\">open: in all, as the policy lets expect</td>"
          "<td class=\"bad\">not what the policy promises</td>"
          "<td class=\"none\">does not apply to the device</td></tr></table>\n",
          out);
}

static void print_bar(FILE *out, uint64_t bytes, uint64_t needed, uint64_t most)
{
    char a[16], b[16];
    double scale = most ? 100.0 / (double)most : 0;

    fprintf(out,
            "<td>%s, needed %s<span class=\"bar\"><i style=\"width:%.2f%%\"></i>"
            "<b style=\"width:%.2f%%\"></b></span></td>",
            dma_bytes(bytes, a), dma_bytes(needed, b), (double)bytes * scale,
            (double)(needed < bytes ? needed : bytes) * scale);
}

static void print_exposure(FILE *out, const struct lab_result *result)
{
    const struct abi_policy *policy = &result->policy->guest;
    uint64_t most = 0;

    for (unsigned d = 0; d < policy->ndevices; d++) {
        if (result->exposure[d].read_bytes > most)
            most = result->exposure[d].read_bytes;
        if (result->exposure[d].write_bytes > most)
            most = result->exposure[d].write_bytes;
    }
    fputs("<h2>Bytes within reach</h2><p><small>Green: what the device's memory-region needs; "
          "orange: what it reaches beyond that.</small></p>"
          "<table><tr><th>device</th><th>can read</th><th>can write</th></tr>\n",
          out);
    for (unsigned d = 0; d < policy->ndevices; d++) {
        const struct lab_exposure *exposure = &result->exposure[d];

        fputs("<tr><th>", out);
        text(out, policy->device[d].name);
        fputs("</th>", out);
        print_bar(out, exposure->read_bytes, exposure->needed_read_bytes, most);
        print_bar(out, exposure->write_bytes, exposure->needed_write_bytes, most);
        fputs("</tr>\n", out);
    }
    fputs("</table>\n", out);
}

static void print_windows(FILE *out, const struct lab_result *result)
{
    fputs("<h2>After an unmap</h2><p><small>From the driver's unmap to the first access that "
          "fails.</small></p><table><tr><th>device</th><th>median ns</th><th>p99 ns</th>"
          "<th>max ns</th><th>accesses, median</th><th>accesses, max</th><th>samples</th></tr>\n",
          out);
    for (unsigned d = 0; d < result->policy->guest.ndevices; d++) {
        const struct lab_window *window = &result->window[d];

        fputs("<tr><th>", out);
        text(out, result->policy->guest.device[d].name);
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
    fputs("</table>\n", out);
}

static void print_effect(FILE *out, const struct lab_effect *effect, bool ok)
{
    char readable[16], writable[16];

    if (!effect->applies)
        fprintf(out, "<td class=\"%s\">does not apply</td>", ok ? "none" : "bad");
    else if (!effect->succeeds)
        fprintf(out, "<td class=\"%s\">stopped</td>", ok ? "stop" : "bad");
    else
        fprintf(out, "<td class=\"%s\">succeeds: %s read, %s written</td>", ok ? "open" : "bad",
                dma_bytes(effect->read_bytes, readable), dma_bytes(effect->write_bytes, writable));
}

static void print_cells(FILE *out, const struct lab_result *result)
{
    uint64_t seen[ABI_POLICY_DEVICES_MAX] = { 0 };

    fputs("<h2>Cells</h2><table><tr><th>device</th><th>attack</th><th>target</th><th>expected</th>"
          "<th>observed</th><th>because</th><th>checks</th></tr>\n",
          out);
    for (size_t i = 0; i < result->ncells; i++) {
        const struct lab_cell *cell = &result->cells[i];

        /* The matrix leads to the first of a square. */
        if (seen[cell->device] >> cell->attack & 1)
            fputs("<tr><td>", out);
        else
            fprintf(out, "<tr id=\"c%u-%u\"><td>", cell->device, cell->attack);
        seen[cell->device] |= 1ull << cell->attack;
        text(out, result->policy->guest.device[cell->device].name);
        fputs("</td><td>", out);
        text(out, lab_attacks[cell->attack].name);
        fputs("</td><td>", out);
        text(out, cell->region);
        fputs("</td>", out);
        print_effect(out, &cell->expected, true);
        print_effect(out, &cell->observed, cell->ok);
        fputs("<td>", out);
        text(out, cell->because);
        if (!cell->ok) {
            fputs("<br><span class=\"failed\">", out);
            text(out, cell->failure);
            fputs("</span>", out);
        }
        fprintf(out, "</td><td class=\"n\">%u of %u</td></tr>\n", cell->checks - cell->failed,
                cell->checks);
    }
    fputs("</table>\n", out);
}

static void print_verdict(FILE *out, const struct lab_result *result)
{
    bool ok = lab_ok(result);

    fprintf(out, "<p class=\"%s\">", ok ? "ok" : "failed");
    if (ok)
        fprintf(out, "All %zu cells are as the policy promises.", result->ncells);
    else
        fprintf(out, "%u of %zu cells differ from what the policy promises.", result->differing,
                result->ncells);
    if (!result->guest_lives) {
        fputs(" The guest did not survive: ", out);
        text(out, result->guest_failure);
    }
    if (result->random_steps) {
        fprintf(out, " %" PRIu64 " random accesses, %" PRIu64 " not as promised. ",
                result->random_steps, result->random_failures);
        text(out, result->random_failure);
    }
    fputs("</p>\n", out);
}

void dma_print_html(FILE *out, const struct dma_report *report)
{
    const struct policy *policy = report->result->policy;

    fputs("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
          "<meta name=\"viewport\" content=\"width=device-width\"><title>",
          out);
    text(out, policy->name);
    fprintf(out, ": strata dma test</title><style>%s</style></head><body>\n<h1>", style);
    text(out, policy->name);
    fputs("</h1>\n<p>", out);
    text(out, policy->description);
    fputs("<br><small>", out);
    text(out, report->path);
    fprintf(out, ", KVM backend %s, seed %" PRIu64 ", %.1f s</small></p>\n", report->backend,
            report->result->seed, (double)report->result->elapsed_ns / 1e9);
    print_verdict(out, report->result);
    print_matrix(out, report);
    print_exposure(out, report->result);
    print_windows(out, report->result);
    print_cells(out, report->result);
    fputs("</body></html>\n", out);
}
