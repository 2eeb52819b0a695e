#include "vmm/report/measure_text.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "vmm/measure/measure.h"

#define COLUMNS 100

const char *measure_paging(const struct measure_host *host)
{
    switch (host->kvm->backend) {
    case KVM_BACKEND_EPT: return "two-dimensional walks through EPT";
    case KVM_BACKEND_NPT: return "two-dimensional walks through nested page tables";
    case KVM_BACKEND_SHADOW: return "shadow page tables: walks have one dimension";
    case KVM_BACKEND_SOFTWARE:
        return "shadow page tables, kernel code interpreted: walks have one dimension";
    }
    return "?";
}

void measure_print_heading(FILE *out, const struct measure_host *host, bool quick)
{
    fprintf(out,
            "strata measure on KVM backend %s (%s): %s\n%s, %s; %u host CPU%s, up to %" PRIu64
            " MiB used%s%s\n",
            kvm_backend_name(host->kvm->backend), host->kvm->how, measure_paging(host), host->cpu,
            host->kernel, host->cpus, host->cpus == 1 ? "" : "s", host->memory_bytes >> 20,
            host->virtual_machine ? "; this machine is itself virtual, and other load shows" : "",
            quick ? "; quick" : "");
}

/* Words, broken into lines of COLUMNS. */
static void measure_text_print_wrapped(FILE *out, const char *text, int indent)
{
    bool first = true;
    int at = 0;

    while (*text) {
        int len = (int)strcspn(text, " ");

        if (first || at + 1 + len > COLUMNS) {
            fprintf(out, "%s%*s", first ? "" : "\n", indent, "");
            at = indent;
            first = false;
        } else {
            fputc(' ', out);
            at++;
        }
        fprintf(out, "%.*s", len, text);
        at += len;
        text += len;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

static void measure_text_print_number(FILE *out, double value)
{
    /* Also below zero, where it would be printed as -0.00. */
    if (fabs(value) < 0.005)
        value = 0;
    if (value != floor(value) && fabs(value) < 10)
        fprintf(out, " %10.2f", value);
    else
        fprintf(out, " %10.0f", value);
}

static void measure_text_print_figure(FILE *out, const struct measure_figure *figure)
{
    fprintf(out, "  %-52s", figure->name);
    switch (figure->kind) {
    case MEASURE_DISTRIBUTION:
        measure_text_print_number(out, figure->value);
        measure_text_print_number(out, figure->p99);
        measure_text_print_number(out, figure->p999);
        measure_text_print_number(out, figure->max);
        fprintf(out, " %9" PRIu64, figure->count);
        break;
    case MEASURE_VALUE:
        measure_text_print_number(out, figure->value);
        if (!isnan(figure->low))
            fprintf(out, "  (%.3g to %.3g, %" PRIu64 " times)", figure->low, figure->high,
                    figure->count);
        break;
    case MEASURE_COUNT: measure_text_print_number(out, figure->value); break;
    case MEASURE_UNAVAILABLE: fprintf(out, "  not available here: %s", figure->text); break;
    }
    fputc('\n', out);
}

static bool measure_text_has_distribution(const struct measure_run *run)
{
    for (size_t i = 0; i < run->nfigures; i++) {
        if (run->figures[i].kind == MEASURE_DISTRIBUTION)
            return true;
    }
    return false;
}

void measure_print(FILE *out, const struct measure_run *run)
{
    fprintf(out, "\n%s: %s (%.1f s)\n", run->experiment->name, run->experiment->shows,
            (double)run->elapsed_ns / 1e9);
    if (run->error[0]) {
        measure_text_print_wrapped(out, run->error, 2);
        return;
    }
    if (measure_text_has_distribution(run))
        fprintf(out, "  %-52s %10s %10s %10s %10s %9s\n", "", "p50", "p99", "p99.9", "max",
                "count");
    for (size_t i = 0; i < run->nfigures; i++)
        measure_text_print_figure(out, &run->figures[i]);
    measure_text_print_wrapped(out, run->meaning, 2);
}
