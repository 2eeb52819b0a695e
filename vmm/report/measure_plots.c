#include "vmm/report/measure_plots.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/report/plot.h"

#define POINTS_MAX 32
#define MANY       30.0 /* from this ratio of ends on, an axis is logarithmic */

/* ---- Patterns ------------------------------------------------------------- */

static bool measure_plots_read_number(const char *text, size_t bytes, double *x)
{
    char *end;

    *x = strtod(text, &end);
    if (end == text || !isfinite(*x))
        return false;
    switch (*end) {
    case 'K':
        *x *= 0x1p10;
        end++;
        break;
    case 'M':
        *x *= 0x1p20;
        end++;
        break;
    case 'G':
        *x *= 0x1p30;
        end++;
        break;
    default: break;
    }
    return end == text + bytes;
}

static bool measure_plots_match_word(const char *pattern, size_t pattern_bytes, const char *name,
                                     size_t name_bytes)
{
    return pattern_bytes == name_bytes && !memcmp(pattern, name, name_bytes);
}

/* What is before the number is in the pattern, too. */
static bool measure_plots_match_number(const char *pattern, size_t before, const char *name,
                                       size_t name_bytes, double *x)
{
    return name_bytes > before && measure_plots_match_word(pattern, before, name, before) &&
           measure_plots_read_number(name + before, name_bytes - before, x);
}

static bool measure_plots_add_part(char *series, size_t room, const char *part, size_t bytes)
{
    size_t used = strlen(series);

    if (used + bytes + 2 > room)
        return false;
    if (used)
        series[used++] = ' ';
    memcpy(series + used, part, bytes);
    series[used + bytes] = 0;
    return true;
}

/* Up to the end of the pattern, or a space. */
bool measure_plots_match(const char *pattern, const char *name, char *series, size_t series_bytes,
                         double *x)
{
    series[0] = 0;
    for (;;) {
        size_t of_pattern = strcspn(pattern, "/ "), of_name = strcspn(name, "/");
        bool all = of_pattern == 1 && *pattern == '*', named = *pattern == '=';
        bool number = of_pattern && pattern[of_pattern - 1] == '%';

        if (number ? !measure_plots_match_number(pattern, of_pattern - 1, name, of_name, x)
                   : !all && !measure_plots_match_word(pattern + named, of_pattern - named, name,
                                                       of_name))
            return false;
        if ((all || named) && !measure_plots_add_part(series, series_bytes, name, of_name))
            return false;
        pattern += of_pattern;
        name += of_name;
        if (*pattern != '/' || *name != '/')
            return *pattern != '/' && *name != '/';
        pattern++;
        name++;
    }
}

static bool measure_plots_match_any(const char *patterns, const char *name, char *series,
                                    size_t series_bytes, double *x)
{
    for (;;) {
        if (measure_plots_match(patterns, name, series, series_bytes, x))
            return true;
        patterns += strcspn(patterns, " ");
        if (!*patterns++)
            return false;
    }
}

/* ---- Plots ---------------------------------------------------------------- */

struct family {
    char name[MEASURE_NAME_BYTES];
    size_t n;
    double x[POINTS_MAX], y[POINTS_MAX];
};

struct memory_map {
    unsigned n;
    struct family family[PLOT_SERIES_MAX];
    size_t nbars;
    char bar_name[POINTS_MAX][MEASURE_NAME_BYTES];
    const char *bar[POINTS_MAX];
    double bar_y[POINTS_MAX];
};

static struct family *measure_plots_family_of(struct memory_map *memory_map, const char *name)
{
    for (unsigned i = 0; i < memory_map->n; i++) {
        if (!strcmp(memory_map->family[i].name, name))
            return &memory_map->family[i];
    }
    if (memory_map->n == PLOT_SERIES_MAX)
        return NULL;
    strcpy(memory_map->family[memory_map->n].name, name);
    return &memory_map->family[memory_map->n++];
}

static void measure_plots_add_point(struct memory_map *memory_map, const char *name, double x,
                                    double y)
{
    struct family *family = measure_plots_family_of(memory_map, name);

    if (family && family->n < POINTS_MAX) {
        family->x[family->n] = x;
        family->y[family->n++] = y;
    }
}

static void measure_plots_add_bar(struct memory_map *memory_map, const char *name, double y)
{
    if (memory_map->nbars == POINTS_MAX)
        return;
    strcpy(memory_map->bar_name[memory_map->nbars], name);
    memory_map->bar[memory_map->nbars] = memory_map->bar_name[memory_map->nbars];
    memory_map->bar_y[memory_map->nbars++] = y;
}

static void measure_plots_collect(struct memory_map *memory_map, const struct measure_plot *wanted,
                                  const struct measure_run *run)
{
    for (size_t i = 0; i < run->nfigures; i++) {
        const struct measure_figure *figure = &run->figures[i];
        char series[MEASURE_NAME_BYTES];
        double x;

        if (figure->kind == MEASURE_UNAVAILABLE || !isfinite(figure->value) ||
            !measure_plots_match_any(wanted->patterns, figure->name, series, sizeof(series), &x))
            continue;
        if (wanted->x_label)
            measure_plots_add_point(memory_map, series, x, figure->value);
        else
            measure_plots_add_bar(memory_map, series, figure->value);
    }
}

/* Whether positive values, some far from others. */
static void measure_plots_widen(double value, double *least, double *most)
{
    *least = fmin(*least, value);
    *most = fmax(*most, value);
}

static bool measure_plots_spread(double least, double most)
{
    return least > 0 && most >= MANY * least;
}

static void measure_plots_draw_lines(FILE *out, const struct measure_plot *wanted,
                                     const struct memory_map *memory_map)
{
    double least_x = INFINITY, most_x = -INFINITY, least_y = INFINITY, most_y = -INFINITY;
    struct plot_series series[PLOT_SERIES_MAX];
    struct plot plot = { .kind = PLOT_LINES,
                         .title = wanted->title,
                         .x_label = wanted->x_label,
                         .nseries = memory_map->n,
                         .series = series };

    for (unsigned i = 0; i < memory_map->n; i++) {
        const struct family *family = &memory_map->family[i];

        series[i] = (struct plot_series){
            .name = family->name, .n = family->n, .x = family->x, .y = family->y
        };
        for (size_t j = 0; j < family->n; j++) {
            measure_plots_widen(family->x[j], &least_x, &most_x);
            measure_plots_widen(family->y[j], &least_y, &most_y);
        }
    }
    plot.log_x = measure_plots_spread(least_x, most_x);
    plot.log_y = measure_plots_spread(least_y, most_y);
    plot_figure(out, &plot);
}

static void measure_plots_draw_bars(FILE *out, const struct measure_plot *wanted,
                                    const struct memory_map *memory_map)
{
    double least = INFINITY, most = -INFINITY;
    const struct plot_series series = {
        .name = "", .n = memory_map->nbars, .y = memory_map->bar_y, .bars = memory_map->bar
    };
    struct plot plot = {
        .kind = PLOT_BARS, .title = wanted->title, .nseries = 1, .series = &series
    };

    for (size_t i = 0; i < memory_map->nbars; i++)
        measure_plots_widen(memory_map->bar_y[i], &least, &most);
    plot.log_y = measure_plots_spread(least, most);
    plot_figure(out, &plot);
}

void measure_plots_html(FILE *out, const struct measure_run *run)
{
    for (const struct measure_plot *plot = run->experiment->plots; plot && plot->title; plot++) {
        struct memory_map *memory_map = calloc(1, sizeof(*memory_map));

        if (!memory_map)
            return;
        measure_plots_collect(memory_map, plot, run);
        if (memory_map->n)
            measure_plots_draw_lines(out, plot, memory_map);
        if (memory_map->nbars)
            measure_plots_draw_bars(out, plot, memory_map);
        free(memory_map);
    }
}
