#include "vmm/report/measure_read.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/measure/compare.h"

/* What is read, and where it would be wrong. */
struct reading {
    struct measure_record *record;
    char *error;
    size_t error_bytes;
};

static int measure_read_wrong(struct reading *reading, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static int measure_read_wrong(struct reading *reading, const char *format, ...)
{
    va_list arguments;
    int used = snprintf(reading->error, reading->error_bytes, "%s: ", reading->record->path);

    va_start(arguments, format);
    if (used > 0 && (size_t)used < reading->error_bytes)
        vsnprintf(reading->error + used, reading->error_bytes - (size_t)used, format, arguments);
    va_end(arguments);
    return -EINVAL;
}

/* For a terminal: whatever is not ASCII and visible becomes a question mark. */
static void measure_read_clean(char *text)
{
    for (; *text; text++) {
        if (*text < ' ' || *text > '~')
            *text = '?';
    }
}

static void measure_read_copy_text(char *to, size_t room, const json_t *from)
{
    snprintf(to, room, "%s", json_is_string(from) ? json_string_value(from) : "unknown");
    measure_read_clean(to);
}

/* A name is one word of visible ASCII, as all those are that strata writes. */
static bool measure_read_copy_name(char name[MEASURE_NAME_BYTES], const json_t *from)
{
    const char *text = json_string_value(from);
    size_t bytes = text ? strlen(text) : 0;

    if (!bytes || bytes >= MEASURE_NAME_BYTES || strcspn(text, "/") == bytes)
        return false;
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    }
    memcpy(name, text, bytes + 1);
    return true;
}

/* NAN for null, as strata writes what is not finite; false: no number at all. */
static bool measure_read_number(const json_t *json, const char *field, double *value)
{
    const json_t *number = json_object_get(json, field);

    *value = json_is_number(number) ? json_number_value(number) : NAN;
    return json_is_number(number) || json_is_null(number);
}

static bool measure_read_kind(const json_t *json, enum measure_kind *kind)
{
    static const char *const names[] = { [MEASURE_DISTRIBUTION] = "distribution",
                                         [MEASURE_VALUE] = "value",
                                         [MEASURE_COUNT] = "count",
                                         [MEASURE_UNAVAILABLE] = "lack" };
    const char *text = json_string_value(json_object_get(json, "kind"));

    for (unsigned i = 0; text && i < sizeof(names) / sizeof(names[0]); i++) {
        if (!strcmp(names[i], text)) {
            *kind = (enum measure_kind)i;
            return true;
        }
    }
    return false;
}

static int measure_read_figure(struct reading *reading, const json_t *json, size_t experiment,
                               size_t index)
{
    struct measure_figure *figure = &reading->record->figures[reading->record->nfigures];
    bool distribution, ok = true;

    *figure = (struct measure_figure){ .low = NAN, .high = NAN };
    if (!measure_read_copy_name(figure->name, json_object_get(json, "name")))
        return measure_read_wrong(reading,
                                  "experiments[%zu].figures[%zu].name is not the name of a figure",
                                  experiment, index);
    if (!measure_read_kind(json, &figure->kind))
        return measure_read_wrong(
            reading, "\"kind\" of %s is not distribution, value, count or lack", figure->name);
    distribution = figure->kind == MEASURE_DISTRIBUTION;
    if (figure->kind == MEASURE_UNAVAILABLE) {
        measure_read_copy_text(figure->text, sizeof(figure->text), json_object_get(json, "why"));
    } else if (figure->kind == MEASURE_COUNT) {
        ok = measure_read_number(json, "value", &figure->value) && figure->value >= 0 &&
             figure->value == floor(figure->value);
    } else {
        ok = measure_read_number(json, distribution ? "p50" : "value", &figure->value);
        if (ok)
            ok = measure_read_number(json, "low", &figure->low) &&
                 measure_read_number(json, "high", &figure->high);
        if (ok && distribution)
            ok = measure_read_number(json, "p99", &figure->p99) &&
                 measure_read_number(json, "p999", &figure->p999) &&
                 measure_read_number(json, "max", &figure->max);
    }
    if (!ok)
        return measure_read_wrong(reading, "%s lacks a number that its kind has", figure->name);
    if (figure->low > figure->high)
        return measure_read_wrong(reading, "\"low\" of %s is above its \"high\"", figure->name);
    reading->record->nfigures++;
    return 0;
}

/* Counts all figures of all experiments. */
static size_t measure_read_count_figures(const json_t *experiments)
{
    size_t n = 0;

    for (size_t i = 0; i < json_array_size(experiments); i++)
        n += json_array_size(json_object_get(json_array_get(experiments, i), "figures"));
    return n;
}

static int measure_read_refuse_twins(struct reading *reading)
{
    const struct measure_record *record = reading->record;
    const struct measure_figure **index = compare_sorted(record->figures, record->nfigures);
    int err = 0;

    if (!index)
        return -ENOMEM;
    for (size_t i = 1; !err && i < record->nfigures; i++) {
        if (!strcmp(index[i - 1]->name, index[i]->name))
            err = measure_read_wrong(reading, "%s is there twice", index[i]->name);
    }
    free(index);
    return err;
}

/* Adds the experiment's name to those that could not be measured, if it was one. */
static void measure_read_note_failure(struct measure_record *record, const json_t *experiment)
{
    size_t used = strlen(record->failed);
    char name[32];

    if (!json_is_string(json_object_get(experiment, "error")))
        return;
    measure_read_copy_text(name, sizeof(name), json_object_get(experiment, "name"));
    snprintf(record->failed + used, sizeof(record->failed) - used, "%s%s", used ? ", " : "", name);
}

static int measure_read_figures(struct reading *reading, const json_t *experiments)
{
    int err = 0;

    reading->record->figures = calloc(measure_read_count_figures(experiments) + 1,
                                      sizeof(reading->record->figures[0]));
    if (!reading->record->figures)
        return -ENOMEM;
    for (size_t i = 0; !err && i < json_array_size(experiments); i++) {
        const json_t *figures = json_object_get(json_array_get(experiments, i), "figures");

        if (!json_is_array(figures))
            return measure_read_wrong(reading, "experiments[%zu] has no \"figures\"", i);
        measure_read_note_failure(reading->record, json_array_get(experiments, i));
        for (size_t j = 0; !err && j < json_array_size(figures); j++)
            err = measure_read_figure(reading, json_array_get(figures, j), i, j);
    }
    return err ? err : measure_read_refuse_twins(reading);
}

static int measure_read_record(struct reading *reading, const json_t *json)
{
    struct measure_record *record = reading->record;
    const json_t *host = json_object_get(json, "host");
    const json_t *experiments = json_object_get(json, "experiments");
    const char *schema = json_string_value(json_object_get(json, "schema"));

    if (!schema || strcmp(schema, "strata.measure"))
        return measure_read_wrong(reading,
                                  "\"schema\" is not \"strata.measure\"; give a file that strata "
                                  "measure --json wrote");
    if (json_integer_value(json_object_get(json, "version")) != 1)
        return measure_read_wrong(reading, "\"version\" is not 1; measure again with this strata");
    if (!json_is_object(host) || !json_is_array(experiments))
        return measure_read_wrong(
            reading, "no \"host\" or no \"experiments\" in it; give a file that strata "
                     "measure --json wrote");
    measure_read_copy_text(record->kvm, sizeof(record->kvm), json_object_get(host, "kvm"));
    measure_read_copy_text(record->paging, sizeof(record->paging), json_object_get(host, "paging"));
    measure_read_copy_text(record->cpu, sizeof(record->cpu), json_object_get(host, "cpu"));
    measure_read_copy_text(record->kernel, sizeof(record->kernel), json_object_get(host, "kernel"));
    record->quick = json_is_true(json_object_get(json, "quick"));
    record->seed = (uint64_t)json_integer_value(json_object_get(json, "seed"));
    return measure_read_figures(reading, experiments);
}

int measure_read(struct measure_record *record, const char *path, char *error, size_t error_bytes)
{
    struct reading reading = { .record = record, .error = error, .error_bytes = error_bytes };
    json_error_t place;
    json_t *json;
    FILE *in;
    int err;

    *record = (struct measure_record){ .path = path };
    in = fopen(path, "re");
    /* A folder can be opened, but not read. */
    if (!in || (ungetc(getc(in), in) == EOF && ferror(in))) {
        err = -errno;
        snprintf(error, error_bytes, "%s: %s", path, strerror(errno));
        if (in)
            fclose(in);
        return err;
    }
    json = json_loadf(in, JSON_REJECT_DUPLICATES, &place);
    fclose(in);
    if (!json) {
        measure_read_clean(place.text); /* quotes the file */
        return measure_read_wrong(&reading,
                                  "line %d: %s; give a file that strata measure --json wrote",
                                  place.line, place.text);
    }
    err = measure_read_record(&reading, json);
    json_decref(json);
    if (err == -ENOMEM)
        snprintf(error, error_bytes, "%s: out of memory", path);
    if (err)
        measure_read_free(record);
    return err;
}

void measure_read_free(struct measure_record *record)
{
    free(record->figures);
    record->figures = NULL;
    record->nfigures = 0;
}
