#include "vmm/report/dma_text.h"

#include <inttypes.h>
#include <string.h>

#include "vmm/base/size.h"
#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/rules.h"

/* The matrix: one column for the attack's name, one for each device; 100 in all. */
#define NAME_COLUMNS 20
#define CELL_COLUMNS 9 /* "stop open" */
#define LINE_COLUMNS 100

struct page {
    FILE *out;
    const struct dma_report *report;
    const struct harness_result *result;
    const struct abi_policy *policy;
    bool colour;
    int column; /* width of a device's column, with the space before it */
};

static const char *dma_text_paint(const struct page *page, const char *sequence)
{
    return page->colour ? sequence : "";
}

static const char *dma_text_word_of(enum dma_verdict verdict)
{
    switch (verdict) {
    case DMA_STOPPED: return "stop";
    case DMA_PARTLY: return "part";
    case DMA_OPEN: return "OPEN";
    default: return "-";
    }
}

static const char *dma_text_colour_of(const struct dma_matrix_cell *matrix_cell)
{
    if (!matrix_cell->ok)
        return "\033[1;31m";
    if (matrix_cell->observed == DMA_STOPPED)
        return "\033[32m";
    return matrix_cell->observed == DMA_NONE ? "\033[2m" : "\033[33m";
}

static void dma_text_print_heading(const struct page *page)
{
    const struct policy *policy = page->result->policy;

    fprintf(page->out, "%s%s%s%s%s\n", dma_text_paint(page, "\033[1m"), policy->name,
            dma_text_paint(page, "\033[0m"), policy->description[0] ? ": " : "",
            policy->description);
    fprintf(page->out, "%s on KVM backend %s, seed %" PRIu64 "\n\n", page->report->path,
            page->report->backend, page->result->seed);
}

/* Nothing follows the last column. */
static int dma_text_padding(const struct page *page, unsigned device, int width)
{
    return device + 1 < page->policy->ndevices ? width : 0;
}

static void dma_text_print_columns(const struct page *page)
{
    fprintf(page->out, "%-*s", NAME_COLUMNS, "attack");
    for (unsigned d = 0; d < page->policy->ndevices; d++)
        fprintf(page->out, " %-*.*s", dma_text_padding(page, d, page->column - 1), page->column - 1,
                page->policy->device[d].name);
    fprintf(page->out, "\n%-*s", NAME_COLUMNS, "");
    for (unsigned d = 0; d < page->policy->ndevices; d++)
        fprintf(page->out, " %-*s", dma_text_padding(page, d, page->column - 1), "exp. obs.");
    fputc('\n', page->out);
}

static const char *dma_text_observed_word(const struct dma_matrix_cell *matrix_cell)
{
    return dma_matrix_cell_untried(matrix_cell) ? "?" : dma_text_word_of(matrix_cell->observed);
}

static void dma_text_print_row(const struct page *page, unsigned attack)
{
    fprintf(page->out, "%-*s", NAME_COLUMNS, attack_table[attack]->name);
    for (unsigned d = 0; d < page->policy->ndevices; d++) {
        struct dma_matrix_cell matrix_cell;
        char text[16];

        dma_matrix_cell(page->result, d, attack, &matrix_cell);
        snprintf(text, sizeof(text), "%-4s %s", dma_text_word_of(matrix_cell.expected),
                 dma_text_observed_word(&matrix_cell));
        fprintf(page->out, " %s%s%s%*s", dma_text_paint(page, dma_text_colour_of(&matrix_cell)),
                text, dma_text_paint(page, "\033[0m"),
                dma_text_padding(page, d, page->column - 1 - (int)strlen(text)), "");
    }
    fputc('\n', page->out);
}

static void dma_text_print_matrix(struct page *page)
{
    page->column = page->policy->ndevices
                       ? (LINE_COLUMNS - NAME_COLUMNS) / (int)page->policy->ndevices
                       : CELL_COLUMNS + 1;
    if (page->column > ABI_POLICY_NAME_BYTES + 1)
        page->column = ABI_POLICY_NAME_BYTES + 1;
    dma_text_print_columns(page);
    for (unsigned attack = 0; attack < ATTACK_COUNT; attack++) {
        if (dma_attack_wanted(page->report, attack))
            dma_text_print_row(page, attack);
    }
    fprintf(page->out,
            "\nexp.: what the policy promises; obs.: what happened; they must agree, OPEN or not\n"
            "stop: in no region; OPEN: in all regions; part: in some; -: does not apply "
            "to the device%s\n",
            page->result->guest_lives ? "" : ";\n?: not tried, since the test could not go on");
}

/* What got through, one line for each attack and each reason. */
static void dma_text_print_open(const struct page *page)
{
    bool any = false;

    for (unsigned attack = 0; attack < ATTACK_COUNT; attack++) {
        uint32_t told = 0;

        for (unsigned d = 0; d < page->policy->ndevices; d++) {
            uint64_t read_bytes = 0, write_bytes = 0;
            char devices[LINE_COLUMNS] = "", readable[16], writable[16];
            struct dma_matrix_cell first, matrix_cell;

            dma_matrix_cell(page->result, d, attack, &first);
            if (told >> d & 1 || first.observed < DMA_PARTLY)
                continue;
            for (unsigned other = d; other < page->policy->ndevices; other++) {
                size_t n = strlen(devices);

                dma_matrix_cell(page->result, other, attack, &matrix_cell);
                if (matrix_cell.observed < DMA_PARTLY || strcmp(matrix_cell.because, first.because))
                    continue;
                told |= 1u << other;
                read_bytes += matrix_cell.read_bytes;
                write_bytes += matrix_cell.write_bytes;
                snprintf(devices + n, sizeof(devices) - n, "%s%s", n ? ", " : "",
                         page->policy->device[other].name);
            }
            if (!any)
                fprintf(page->out, "\nWhat got through\n");
            any = true;
            fprintf(page->out, "%-*s %s: %s read, %s written\n%*s %s\n", NAME_COLUMNS,
                    attack_table[attack]->name, devices, size_long(read_bytes, readable),
                    size_long(write_bytes, writable), NAME_COLUMNS, "", first.because);
        }
    }
}

static const char *dma_text_effect_words(const struct harness_effect *effect, char text[96])
{
    char readable[16], writable[16];

    if (!effect->applies)
        return "does not apply";
    if (!effect->succeeds)
        return "stopped";
    snprintf(text, 96, "succeeds, %s read, %s written", size_long(effect->read_bytes, readable),
             size_long(effect->write_bytes, writable));
    return text;
}

static const char *dma_text_observed_words(const struct matrix_cell *cell, char text[96])
{
    return dma_untried(cell) ? "not tried" : dma_text_effect_words(&cell->observed, text);
}

static void dma_text_print_differences(const struct page *page)
{
    for (size_t i = 0; i < page->result->ncells; i++) {
        const struct matrix_cell *cell = &page->result->cells[i];
        char expected[96], observed[96];

        if (cell->ok || dma_untried(cell) || cell->device >= page->policy->ndevices ||
            cell->attack >= ATTACK_COUNT)
            continue;
        fprintf(
            page->out,
            "\n%sDIFFERS%s %s, %s, %s\n  expected: %s\n            because %s\n  observed: %s\n",
            dma_text_paint(page, "\033[1;31m"), dma_text_paint(page, "\033[0m"),
            page->policy->device[cell->device].name, attack_table[cell->attack]->name, cell->region,
            dma_text_effect_words(&cell->expected, expected), cell->because,
            dma_text_observed_words(cell, observed));
        if (cell->failure[0])
            fprintf(page->out, "  %u of %u checks failed; the first: %s\n", cell->failed,
                    cell->checks, cell->failure);
    }
}

static void dma_text_print_exposure(const struct page *page)
{
    fprintf(page->out, "\n%-24s %10s %12s %12s %12s\n", "exposure", "can read", "of it needed",
            "can write", "of it needed");
    for (unsigned d = 0; d < page->policy->ndevices; d++) {
        const struct harness_exposure *exposure = &page->result->exposure[d];
        char text[4][16];

        fprintf(page->out, "%-24s %10s %12s %12s %12s\n", page->policy->device[d].name,
                size_long(exposure->read_bytes, text[0]),
                size_long(exposure->needed_read_bytes, text[1]),
                size_long(exposure->write_bytes, text[2]),
                size_long(exposure->needed_write_bytes, text[3]));
    }
    fprintf(page->out,
            "with all buffers mapped, at most %d KiB of a region (pools, windows: all); "
            "needed: by the policy\n",
            4 * RULES_REGION_PAGES);
}

static void dma_text_print_windows(const struct page *page)
{
    fprintf(page->out, "\n%-24s %12s %12s %12s %12s %12s %8s\n", "after unmap", "median ns",
            "p99 ns", "max ns", "median acc.", "max acc.", "samples");
    for (unsigned d = 0; d < page->policy->ndevices; d++) {
        const struct harness_window *window = &page->result->window[d];

        if (!window->measured)
            fprintf(page->out, "%-24s %12s\n", page->policy->device[d].name, "not measured");
        else
            fprintf(page->out, "%-24s %12.0f %12.0f %12.0f %12" PRIu64 " %12" PRIu64 " %8u\n",
                    page->policy->device[d].name, window->ns_median, window->ns_p99, window->ns_max,
                    window->accesses_median, window->accesses_max, window->samples);
    }
    fprintf(page->out,
            "from the return of the driver's unmap to the first access that fails; acc.: "
            "accesses until then\n");
}

static void dma_text_print_sum(const struct page *page)
{
    const struct harness_result *result = page->result;
    unsigned stopped = 0, open = 0, checks = 0, untried = 0;
    bool ok = harness_ok(result);

    for (size_t i = 0; i < result->ncells; i++) {
        checks += result->cells[i].checks;
        untried += dma_untried(&result->cells[i]);
        if (!result->cells[i].observed.applies)
            continue;
        if (result->cells[i].observed.succeeds)
            open++;
        else
            stopped++;
    }
    fputc('\n', page->out);
    if (result->random_steps)
        fprintf(page->out, "random accesses: %" PRIu64 ", %" PRIu64 " not as promised%s%s\n",
                result->random_steps, result->random_failures,
                result->random_failure[0] ? "; the first: " : "", result->random_failure);
    if (!result->guest_lives)
        fprintf(page->out, "the test could not go on: %s\n", result->guest_failure);
    fprintf(page->out, "%s%s%s: ", dma_text_paint(page, ok ? "\033[32m" : "\033[1;31m"),
            ok ? "ok" : "FAILED", dma_text_paint(page, "\033[0m"));
    if (untried)
        fprintf(page->out, "%u of %zu cells were not tried; ", untried, result->ncells);
    if (result->differing > untried)
        fprintf(page->out, "%u of %zu cells differ from what the policy promises; ",
                result->differing - untried, result->ncells);
    else if (!untried && result->guest_lives)
        fprintf(page->out, "%zu cells are as the policy promises; ", result->ncells);
    fprintf(page->out, "%u attacks stopped, %u succeeded, %u checks, %.1f s\n", stopped, open,
            checks, (double)result->elapsed_ns / 1e9);
}

void dma_text_print(FILE *out, const struct dma_report *report, bool colour)
{
    struct page page = { .out = out,
                         .report = report,
                         .result = report->result,
                         .policy = &report->result->policy->guest,
                         .colour = colour };

    dma_text_print_heading(&page);
    dma_text_print_matrix(&page);
    dma_text_print_open(&page);
    dma_text_print_exposure(&page);
    dma_text_print_windows(&page);
    dma_text_print_differences(&page);
    dma_text_print_sum(&page);
}

void dma_text_print_tap(FILE *out, const struct dma_report *report)
{
    const struct harness_result *result = report->result;
    const struct abi_policy *policy = &result->policy->guest;
    size_t n = 0;

    for (size_t i = 0; i < result->ncells; i++) {
        const struct matrix_cell *cell = &result->cells[i];
        char expected[96], observed[96];

        /* What does not apply to a device is no test. */
        if (cell->ok && !cell->expected.applies && !cell->observed.applies)
            continue;
        fprintf(out, "%s %zu - %s: %s: %s of %s: %s\n", cell->ok ? "ok" : "not ok", ++n,
                result->policy->name, policy->device[cell->device].name,
                attack_table[cell->attack]->name, cell->region,
                dma_text_observed_words(cell, observed));
        if (!cell->ok)
            fprintf(out, "# expected: %s, because %s\n# first failed check: %s\n",
                    dma_text_effect_words(&cell->expected, expected), cell->because, cell->failure);
    }
    if (result->random_steps)
        fprintf(out, "%s %zu - %s: %" PRIu64 " random accesses, seed %" PRIu64 "\n%s%s%s",
                result->random_failures ? "not ok" : "ok", ++n, result->policy->name,
                result->random_steps, result->seed, result->random_failure[0] ? "# " : "",
                result->random_failure, result->random_failure[0] ? "\n" : "");
    fprintf(out, "%s %zu - %s: the guest lives\n", result->guest_lives ? "ok" : "not ok", ++n,
            result->policy->name);
    if (!result->guest_lives)
        fprintf(out, "# %s\n", result->guest_failure);
    fprintf(out, "1..%zu\n", n);
}

static void dma_text_print_region(FILE *out, const struct abi_policy *guest, unsigned n)
{
    const struct abi_policy_region *region = &guest->region[n];
    char bytes[16];

    fprintf(out, "region %-24s %-18s %10s", region->name, dma_region_name(region->kind),
            size_long(region->bytes, bytes));
    if (region->gpa)
        fprintf(out, " at 0x%" PRIx64, region->gpa);
    for (unsigned d = 0; d < guest->ndevices; d++) {
        if (region->endpoints >> d & 1)
            fprintf(out, ", %s at 0x%" PRIx64, guest->device[d].name, region->iova);
    }
    fputc('\n', out);
}

void dma_text_print_policy(FILE *out, const struct policy *policy)
{
    const struct abi_policy *guest = &policy->guest;

    fprintf(out, "%s%s%s\n%s\n", policy->name, policy->description[0] ? ": " : "",
            policy->description, policy->iommu ? "with an IOMMU" : "without an IOMMU");
    for (unsigned i = 0; i < guest->nregions; i++)
        dma_text_print_region(out, guest, i);
    for (unsigned d = 0; d < guest->ndevices; d++) {
        const struct abi_policy_device *device = &guest->device[d];

        fprintf(out, "device %-24s %-10s endpoint %u, domain %u, mode %s, buffers %s", device->name,
                dma_kind_name(device->kind), device->endpoint, device->domain,
                dma_mode_name(device->mode), dma_buffers_name(device->buffers));
        for (unsigned i = 0; i < device->nuses; i++)
            fprintf(out, "%s%s %s%s", i ? ", " : "; ", guest->region[device->use[i].region].name,
                    device->use[i].rights & IOMMU_READ ? "r" : "",
                    device->use[i].rights & IOMMU_WRITE ? "w" : "");
        fputc('\n', out);
    }
}
