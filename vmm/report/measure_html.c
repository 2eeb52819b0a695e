#include "vmm/report/measure_html.h"

#include <math.h>

#include "vmm/report/html.h"
#include "vmm/report/measure_plots.h"
#include "vmm/report/measure_text.h"
#include "vmm/report/plot.h"

static void measure_html_print_figures(FILE *out, const struct measure_run *run)
{
    static const char *const heads[] = { "figure", "p50 or value", "95 %",  "p99",
                                         "p99.9",  "max",          "count", NULL };

    html_table(out, heads);
    for (size_t i = 0; i < run->nfigures; i++) {
        const struct measure_figure *figure = &run->figures[i];

        html_row(out);
        html_cell(out, NULL, "%s", figure->name);
        if (figure->kind == MEASURE_UNAVAILABLE) {
            html_cell(out, "none", "not available here: %s", figure->text);
            continue;
        }
        html_cell(out, "n", "%.6g", figure->value);
        if (isfinite(figure->low) && isfinite(figure->high))
            html_cell(out, "n", "%.4g to %.4g", figure->low, figure->high);
        else
            html_cell(out, NULL, "%s", figure->kind == MEASURE_COUNT ? "exact" : "");
        if (figure->kind == MEASURE_DISTRIBUTION) {
            html_cell(out, "n", "%.6g", figure->p99);
            html_cell(out, "n", "%.6g", figure->p999);
            html_cell(out, "n", "%.6g", figure->max);
        } else {
            html_cell(out, NULL, "%s", "");
            html_cell(out, NULL, "%s", "");
            html_cell(out, NULL, "%s", "");
        }
        if (figure->kind == MEASURE_COUNT)
            html_cell(out, NULL, "%s", "");
        else
            html_cell(out, "n", "%llu", (unsigned long long)figure->count);
    }
    html_table_end(out);
}

static void measure_html_print_histogram(FILE *out, const struct measure_figure *figure)
{
    double from[ABI_HISTOGRAM_BUCKETS], to[ABI_HISTOGRAM_BUCKETS], share[ABI_HISTOGRAM_BUCKETS];
    struct plot_series series = { .name = figure->name, .x = from, .to = to, .y = share };
    const struct plot plot = { .kind = PLOT_HISTOGRAM,
                               .title = figure->name,
                               .x_label = "ns",
                               .y_label = "measurements",
                               .log_x = true,
                               .log_y = true,
                               .nseries = 1,
                               .series = &series };

    for (unsigned i = 0; i + 1 < ABI_HISTOGRAM_BUCKETS; i++) {
        if (!figure->histogram->bucket[i])
            continue;
        from[series.n] = (double)abi_histogram_low(i) * figure->ns_per_tick;
        to[series.n] = (double)abi_histogram_low(i + 1) * figure->ns_per_tick;
        share[series.n++] = figure->histogram->bucket[i];
    }
    plot_figure(out, &plot);
}

static void measure_html_print_histograms(FILE *out, const struct measure_run *run)
{
    size_t n = 0;

    for (size_t i = 0; i < run->nfigures; i++)
        n += run->figures[i].histogram != NULL;
    if (!n)
        return;
    fputs("<details><summary>", out);
    html_printf(out, "%zu histograms, before what measuring nothing takes is subtracted", n);
    fputs("</summary>\n", out);
    for (size_t i = 0; i < run->nfigures; i++) {
        if (run->figures[i].histogram)
            measure_html_print_histogram(out, &run->figures[i]);
    }
    fputs("</details>\n", out);
}

static void measure_html_print_run(FILE *out, const struct measure_run *run)
{
    html_section(out, run->experiment->name, run->experiment->name);
    fputs("<p>", out);
    html_printf(out, "Shown: %s. Took %.1f s.", run->experiment->shows,
                (double)run->elapsed_ns / 1e9);
    fprintf(out, "</p>\n<p%s>", run->error[0] ? " class=\"failed\"" : "");
    html_text(out, run->error[0] ? run->error : run->meaning);
    fputs("</p>\n", out);
    measure_plots_html(out, run);
    fputs("<details open><summary>", out);
    html_printf(out, "%zu figures", run->nfigures);
    fputs("</summary>\n", out);
    measure_html_print_figures(out, run);
    fputs("</details>\n", out);
    measure_html_print_histograms(out, run);
    fputs("<details><summary>How it was measured</summary><p>", out);
    html_text(out, run->experiment->method);
    fputs("</p></details>\n", out);
}

void measure_html(FILE *out, const void *owner)
{
    const struct measure_page *page = owner;
    const struct measure_host *host = page->host;

    html_begin(out, "What nested paging costs", "strata measure");
    fputs("<p>", out);
    html_printf(out, "KVM backend %s (%s): %s. %s, %s, %u host CPU%s.%s%s",
                kvm_backend_name(host->kvm->backend), host->kvm->how, measure_paging(host),
                host->cpu, host->kernel, host->cpus, host->cpus == 1 ? "" : "s",
                host->virtual_machine ? " This machine is itself virtual, and other load shows."
                                      : "",
                page->quick ? " Measured quickly, with smaller sizes and counts." : "");
    fputs("</p>\n", out);
    for (size_t i = 0; i < page->n; i++)
        measure_html_print_run(out, &page->runs[i]);
    html_end(out);
}
