#include "vmm/report/measure_compare.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/report/html.h"
#include "vmm/report/json.h"

#define CAUTION                                                                                 \
    "Significant: the 95 % intervals within the runs do not meet. What varies from one run to " \
    "the next is not in them; two runs on the same host, compared, show how much that is."

int measure_comparison_make(struct measure_comparison *comparison, const char *a, const char *b,
                            char *error, size_t error_bytes)
{
    long n = -ENOMEM;
    int err;

    *comparison = (struct measure_comparison){ 0 };
    err = measure_read(&comparison->a, a, error, error_bytes);
    if (!err)
        err = measure_read(&comparison->b, b, error, error_bytes);
    if (!err) {
        const struct measure_record *one = &comparison->a, *other = &comparison->b;

        comparison->each = calloc(one->nfigures + other->nfigures + 1, sizeof(comparison->each[0]));
        if (comparison->each)
            n = compare_all(one->figures, one->nfigures, other->figures, other->nfigures,
                            comparison->each);
        if (n < 0) {
            snprintf(error, error_bytes, "out of memory");
            err = (int)n;
        }
    }
    if (err) {
        measure_comparison_free(comparison);
        return err;
    }
    comparison->n = (size_t)n;
    for (size_t i = 0; i < comparison->n; i++)
        comparison->count[comparison->each[i].verdict]++;
    return 0;
}

void measure_comparison_free(struct measure_comparison *comparison)
{
    measure_read_free(&comparison->a);
    measure_read_free(&comparison->b);
    free(comparison->each);
    comparison->each = NULL;
    comparison->n = 0;
}

static const char *measure_compare_name_of(const struct comparison *one)
{
    return one->a ? one->a->name : one->b->name;
}

/* ---- For people ----------------------------------------------------------- */

static void measure_compare_print_side(FILE *out, char side, const struct measure_record *record)
{
    fprintf(out, "  %c  %s: KVM backend %s (%s); %s, %s%s\n", side, record->path, record->kvm,
            record->paging, record->cpu, record->kernel, record->quick ? "; quick" : "");
}

static const char *measure_compare_number_text(double value, char *buffer, size_t room)
{
    if (!isfinite(value))
        snprintf(buffer, room, "-");
    else if (value == floor(value) && fabs(value) < 1e9)
        snprintf(buffer, room, "%.0f", value);
    else
        snprintf(buffer, room, "%.4g", value);
    return buffer;
}

static const char *measure_compare_side_text(const struct measure_figure *figure, char *buffer,
                                             size_t room)
{
    if (!figure)
        return "none";
    return figure->kind == MEASURE_UNAVAILABLE
               ? "lacking"
               : measure_compare_number_text(figure->value, buffer, room);
}

/* The same in a buffer that lasts to the end of the block. */
#define NUMBER_TEXT(value) measure_compare_number_text(value, (char[24]){ 0 }, 24)
#define SIDE_TEXT(figure)  measure_compare_side_text(figure, (char[24]){ 0 }, 24)

static const char *measure_compare_interval_text(const struct comparison *one, char *buffer,
                                                 size_t room)
{
    buffer[0] = 0;
    if (isfinite(one->low) && isfinite(one->high))
        snprintf(buffer, room, "%.3g to %.3g", one->low, one->high);
    return buffer;
}

#define INTERVAL_TEXT(one) measure_compare_interval_text(one, (char[48]){ 0 }, 48)

/* What else than the hosts makes a difference: sentences, each with a space before it. */
static void measure_compare_remark(const struct measure_comparison *comparison, char *text,
                                   size_t room)
{
    const struct measure_record *a = &comparison->a, *b = &comparison->b;
    size_t used = 0;

    text[0] = 0;
    if (a->quick != b->quick)
        used += (size_t)snprintf(text, room, " One of them was quick: sizes and counts differ.");
    if (a->seed != b->seed)
        used += (size_t)snprintf(text + used, room - used,
                                 " Their seeds differ, and with them what workloads come to.");
    for (unsigned i = 0; i < 2; i++) {
        const struct measure_record *record = i ? b : a;

        if (record->failed[0])
            used += (size_t)snprintf(text + used, room - used,
                                     " %c could not measure %s: \"error\" in it says why.",
                                     'A' + (int)i, record->failed);
    }
}

#define REMARK_BYTES 512 /* more than all of them take */

static void measure_compare_print_totals(FILE *out, const struct measure_comparison *comparison)
{
    fprintf(out, "%zu figures:", comparison->n);
    for (unsigned i = 0; i < COMPARISON_VERDICTS; i++) {
        if (comparison->count[i])
            fprintf(out, " %zu %s", comparison->count[i], comparison_verdict_name(i));
    }
}

void measure_comparison_print(FILE *out, const struct measure_comparison *comparison)
{
    char remarks[REMARK_BYTES];

    measure_compare_remark(comparison, remarks, sizeof(remarks));
    fputs("strata measure --compare\n", out);
    measure_compare_print_side(out, 'A', &comparison->a);
    measure_compare_print_side(out, 'B', &comparison->b);
    if (remarks[0])
        fprintf(out, " %s\n", remarks);
    fprintf(out, "\n%-54s %10s %10s %8s %-18s\n", "", "A", "B", "B/A", "(95 %)");
    for (size_t i = 0; i < comparison->n; i++) {
        const struct comparison *one = &comparison->each[i];

        fprintf(out, "%-54s %10s %10s %8s %-18s %s\n", measure_compare_name_of(one),
                SIDE_TEXT(one->a), SIDE_TEXT(one->b), NUMBER_TEXT(one->ratio), INTERVAL_TEXT(one),
                comparison_verdict_name(one->verdict));
    }
    fputc('\n', out);
    measure_compare_print_totals(out, comparison);
    fputs("\n" CAUTION "\n", out);
}

void measure_comparison_html(FILE *out, const void *owner)
{
    static const char *const heads[] = { "figure", "A", "B", "B/A", "95 %", "", NULL };
    const struct measure_comparison *comparison = owner;
    const struct measure_record *sides[] = { &comparison->a, &comparison->b };
    char remarks[REMARK_BYTES];

    measure_compare_remark(comparison, remarks, sizeof(remarks));
    html_begin(out, "Two measurements compared", "strata measure --compare");
    for (unsigned i = 0; i < 2; i++) {
        fputs("<p>", out);
        html_printf(out, "%c: %s, KVM backend %s (%s); %s, %s%s.", 'A' + (int)i, sides[i]->path,
                    sides[i]->kvm, sides[i]->paging, sides[i]->cpu, sides[i]->kernel,
                    sides[i]->quick ? "; quick" : "");
        fputs("</p>\n", out);
    }
    fputs("<p>", out);
    measure_compare_print_totals(out, comparison);
    fputs(".", out);
    html_text(out, remarks);
    fputs(" " CAUTION "</p>\n", out);
    html_section(out, "figures", "Figures");
    html_table(out, heads);
    for (size_t i = 0; i < comparison->n; i++) {
        const struct comparison *one = &comparison->each[i];
        bool stands_out = one->verdict == COMPARISON_SIGNIFICANT ||
                          one->verdict == COMPARISON_DIFFERENT;

        html_row(out);
        html_cell(out, NULL, "%s", measure_compare_name_of(one));
        html_cell(out, "n", "%s", SIDE_TEXT(one->a));
        html_cell(out, "n", "%s", SIDE_TEXT(one->b));
        html_cell(out, "n", "%s", NUMBER_TEXT(one->ratio));
        html_cell(out, "n", "%s", INTERVAL_TEXT(one));
        html_cell(out, stands_out ? "part" : "none", "%s", comparison_verdict_name(one->verdict));
    }
    html_table_end(out);
    html_end(out);
}

/* ---- For programs --------------------------------------------------------- */

static json_t *measure_compare_describe_side(const struct measure_record *record)
{
    json_t *file = json_string(record->path);

    /* A name that is no UTF-8 has no place in JSON. */
    return json_pack("{s:o, s:s, s:s, s:s, s:s, s:b, s:I, s:s}", "file", file ? file : json_null(),
                     "kvm", record->kvm, "paging", record->paging, "cpu", record->cpu, "kernel",
                     record->kernel, "quick", record->quick, "seed", (json_int_t)record->seed,
                     "failed", record->failed);
}

/* null: this side has no such figure, or its host cannot give it. */
static json_t *measure_compare_describe_value(const struct measure_figure *figure)
{
    return json_number_or_null(figure && figure->kind != MEASURE_UNAVAILABLE ? figure->value : NAN);
}

json_t *measure_comparison_json(const struct measure_comparison *comparison)
{
    json_t *json = json_result("strata.measure-compare", 1), *figures = json_array();

    for (size_t i = 0; i < comparison->n; i++) {
        const struct comparison *one = &comparison->each[i];

        json_array_append_new(figures, json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:s}", "name",
                                                 measure_compare_name_of(one), "a",
                                                 measure_compare_describe_value(one->a), "b",
                                                 measure_compare_describe_value(one->b), "ratio",
                                                 json_number_or_null(one->ratio), "low",
                                                 json_number_or_null(one->low), "high",
                                                 json_number_or_null(one->high), "verdict",
                                                 comparison_verdict_name(one->verdict)));
    }
    json_object_set_new(json, "a", measure_compare_describe_side(&comparison->a));
    json_object_set_new(json, "b", measure_compare_describe_side(&comparison->b));
    json_object_set_new(json, "figures", figures);
    return json;
}
