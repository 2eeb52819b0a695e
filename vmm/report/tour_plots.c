#include "vmm/report/tour_plots.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/report/plot.h"

#define POINTS_MAX 64

/* Figures that belong together, by the part of their names before the number. */
struct family {
    char name[64], unit[16];
    size_t n;
    double x[POINTS_MAX], to[POINTS_MAX], y[POINTS_MAX];
};

struct families {
    size_t n;
    struct family family[PLOT_SERIES_MAX + 1];
};

/* A family's name has spaces for what are underscores in those of figures. */
static bool tour_plots_same_name(const char *family, const char *name, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (family[i] != (name[i] == '_' ? ' ' : name[i]))
            return false;
    }
    return !family[bytes];
}

static struct family *tour_plots_family_of(struct families *all, const char *name, size_t bytes,
                                           const char *unit)
{
    struct family *family;

    for (size_t i = 0; i < all->n; i++) {
        family = &all->family[i];
        if (tour_plots_same_name(family->name, name, bytes) && !strcmp(family->unit, unit))
            return family;
    }
    if (all->n == PLOT_SERIES_MAX + 1 || bytes >= sizeof(family->name) ||
        strlen(unit) >= sizeof(family->unit))
        return NULL;
    family = &all->family[all->n++];
    for (size_t i = 0; i < bytes; i++)
        family->name[i] = name[i] == '_' ? ' ' : name[i];
    strcpy(family->unit, unit);
    return family;
}

/* The number after the last `before` in a name; NULL if there is none. *rest is behind it. */
static const char *tour_plots_number_in(const char *name, const char *before, double *number,
                                        const char **rest)
{
    const char *at = NULL, *digits;
    char *end;

    for (const char *next = name; (next = strstr(next, before)); next++)
        at = isdigit((unsigned char)next[strlen(before)]) ? next : at;
    if (!at)
        return NULL;
    digits = at + strlen(before);
    *number = (double)strtoull(digits, &end, 10);
    *rest = end;
    return at;
}

/* Nanoseconds are drawn as microseconds, which people read more easily. */
static double tour_plots_scale_of(const char *unit)
{
    return strcmp(unit, "ns") ? 1 : 1e-3;
}

static const char *tour_plots_unit_text(const char *unit)
{
    return strcmp(unit, "ns") ? unit : "\302\265s"; /* a micro sign, in UTF-8 */
}

/* ---- Histograms ----------------------------------------------------------- */

static void tour_plots_add_bucket(struct families *all, const struct tour_figure *figure)
{
    const char *rest, *count, *at;
    struct family *family;
    char unit[16];
    double low;

    at = tour_plots_number_in(figure->name, "_from_", &low, &rest);
    count = at ? strstr(rest, "_count") : NULL;
    if (!count || count[6] || *rest != '_' || count - rest - 1 >= (ptrdiff_t)sizeof(unit))
        return;
    snprintf(unit, sizeof(unit), "%.*s", (int)(count - rest - 1), rest + 1);
    family = tour_plots_family_of(all, figure->name, (size_t)(at - figure->name), unit);
    if (!family || family->n == POINTS_MAX)
        return;
    family->x[family->n] = low * tour_plots_scale_of(unit);
    family->to[family->n] = (low > 0 ? 2 * low : 2) * tour_plots_scale_of(unit);
    family->y[family->n++] = figure->value;
}

static void tour_plots_histograms(FILE *out, const struct tour_run *run, struct families *all)
{
    struct plot_series series[PLOT_SERIES_MAX];
    char title[96], label[32];
    struct plot plot = { .kind = PLOT_HISTOGRAM,
                         .title = title,
                         .x_label = label,
                         .y_label = "count",
                         .log_x = true,
                         .log_y = true,
                         .series = series };

    for (size_t i = 0; i < run->nfigures; i++)
        tour_plots_add_bucket(all, &run->figures[i]);
    for (size_t i = 0; i < all->n && i < PLOT_SERIES_MAX; i++) {
        const struct family *family = &all->family[i];

        /* One unit to a plot. */
        if (strcmp(family->unit, all->family[0].unit))
            continue;
        series[plot.nseries++] = (struct plot_series){
            .name = family->name, .n = family->n, .x = family->x, .to = family->to, .y = family->y
        };
    }
    if (!plot.nseries)
        return;
    snprintf(title, sizeof(title), "%s: how often which value, both axes logarithmic",
             run->exercise->name);
    snprintf(label, sizeof(label), "%s", tour_plots_unit_text(all->family[0].unit));
    plot_figure(out, &plot);
}

/* ---- Curves --------------------------------------------------------------- */

static void tour_plots_add_point(struct families *all, const struct tour_figure *figure)
{
    struct family *family;
    const char *rest, *at;
    double number;

    at = tour_plots_number_in(figure->name, "_", &number, &rest);
    if (!at || (*rest && *rest != '_') || strchr(rest + !!*rest, '_') ||
        strstr(figure->name, "_from_") || number < 1 || number > POINTS_MAX)
        return;
    family = tour_plots_family_of(all, figure->name, (size_t)(at - figure->name), rest + !!*rest);
    if (!family || family->n + 1 != (size_t)number)
        return;
    family->y[family->n++] = figure->value;
}

static void tour_plots_curves(FILE *out, const struct tour_run *run, struct families *all)
{
    struct plot_series series[PLOT_SERIES_MAX];
    char title[96], y_label[32] = "";
    struct plot plot = { .kind = PLOT_LINES, .title = title, .y_label = y_label, .series = series };
    const struct family *x = NULL;

    for (size_t i = 0; i < run->nfigures; i++)
        tour_plots_add_point(all, &run->figures[i]);
    for (size_t i = 0; i < all->n; i++)
        x = !*all->family[i].unit && all->family[i].n > 1 ? &all->family[i] : x;
    for (size_t i = 0; x && i < all->n && plot.nseries < PLOT_SERIES_MAX; i++) {
        struct family *family = &all->family[i];
        bool finite = false;

        for (size_t n = 0; n < family->n; n++)
            finite |= isfinite(family->y[n]);
        if (!*family->unit || family->n != x->n || !finite)
            continue;
        if (plot.nseries && strcmp(tour_plots_unit_text(family->unit), y_label))
            continue;
        for (size_t n = 0; n < family->n; n++)
            family->y[n] *= tour_plots_scale_of(family->unit);
        snprintf(y_label, sizeof(y_label), "%s", tour_plots_unit_text(family->unit));
        series[plot.nseries++] = (struct plot_series){
            .name = family->name, .n = x->n, .x = x->y, .y = family->y
        };
    }
    if (!plot.nseries)
        return;
    snprintf(title, sizeof(title), "%s, over %s", run->exercise->name, x->name);
    plot.x_label = x->name;
    plot_figure(out, &plot);
}

void tour_plots_html(FILE *out, const struct tour_run *run)
{
    struct families *all = calloc(1, sizeof(*all));

    if (!all)
        return;
    tour_plots_histograms(out, run, all);
    memset(all, 0, sizeof(*all));
    tour_plots_curves(out, run, all);
    free(all);
}
