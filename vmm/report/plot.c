#include "vmm/report/plot.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/subprocess.h"
#include "vmm/report/html.h"

#define GNUPLOT_TIMEOUT_MS 20000
#define NAMES_LETTERS      80 /* about as many fit below a plot */
#define SVG_BYTES_MAX      (4u << 20)

/* ---- The commands --------------------------------------------------------- */

/*
 * Between single quotes gnuplot takes all but the quote itself as it is (gnuplot help,
 * "quotes"); control characters would end the line.
 */
static void plot_quote(FILE *to, const char *text)
{
    fputc('\'', to);
    for (; *text; text++) {
        if (*text == '\'')
            fputs("''", to);
        else
            fputc((unsigned char)*text < 0x20 || *text == 0x7f ? ' ' : *text, to);
    }
    fputc('\'', to);
}

static bool plot_drawable(const struct plot *plot, const struct plot_series *series, size_t i)
{
    if (!isfinite(series->y[i]) || (plot->kind != PLOT_BARS && !isfinite(series->x[i])))
        return false;
    if (plot->kind == PLOT_HISTOGRAM && !(series->to[i] > series->x[i]))
        return false;
    return !(plot->log_x && plot->kind == PLOT_LINES && series->x[i] <= 0);
}

/* Where a histogram's bar begins: a logarithmic axis has no 0. */
static double plot_bar_from(const struct plot *plot, const struct plot_series *series, size_t i)
{
    return plot->log_x && series->x[i] <= 0 ? series->to[i] / 2 : series->x[i];
}

static void plot_write_data(FILE *to, const struct plot *plot, unsigned index)
{
    const struct plot_series *series = &plot->series[index];

    fprintf(to, "$s%u << END\n", index);
    for (size_t i = 0; i < series->n; i++) {
        if (!plot_drawable(plot, series, i))
            continue;
        switch (plot->kind) {
        case PLOT_LINES: fprintf(to, "%.17g %.17g\n", series->x[i], series->y[i]); break;
        case PLOT_BARS: fprintf(to, "%zu %.17g\n", i, series->y[i]); break;
        case PLOT_HISTOGRAM:
            fprintf(to, "%.17g %.17g %.17g\n", plot_bar_from(plot, series, i), series->to[i],
                    series->y[i]);
            break;
        }
    }
    fputs("END\n", to);
}

static void plot_write_series(FILE *to, const struct plot *plot, unsigned index)
{
    /* Bars of one name stand side by side. */
    double width = 0.8 / plot->nseries;
    double shift = width * (index - (plot->nseries - 1) / 2.0);

    fprintf(to, "%s $s%u using ", index ? "," : "plot", index);
    switch (plot->kind) {
    case PLOT_LINES: fputs("1:2 with linespoints pt 7 ps 0.6 lw 2", to); break;
    case PLOT_BARS:
        fprintf(to, "($1+(%.4f)):2:(%.4f) with boxes fs solid 1", shift, width * 0.9);
        break;
    case PLOT_HISTOGRAM:
        fprintf(to, "(sqrt($1*$2)):3:1:2:(%s):3 with boxxyerror fs solid %s lw 1.5",
                plot->log_y ? "0.5" : "0", plot->nseries > 1 ? "0.35 border" : "0.8");
        break;
    }
    /* Colours that stand for those of page.css, see plot_recolour(); dashes as well as those. */
    fprintf(to, " lc rgb '#0101%02x' dt %u %s", index + 1, plot->kind == PLOT_LINES ? index + 1 : 1,
            plot->nseries > 1 ? "title " : "notitle");
    if (plot->nseries > 1)
        plot_quote(to, plot->series[index].name);
}

static double plot_largest(const struct plot *plot, bool of_x)
{
    double most = 0;

    for (unsigned s = 0; s < plot->nseries; s++) {
        const struct plot_series *series = &plot->series[s];
        const double *values = !of_x                          ? series->y
                               : plot->kind == PLOT_HISTOGRAM ? series->to
                                                              : series->x;

        for (size_t i = 0; i < series->n; i++) {
            if (isfinite(values[i]) && values[i] > most)
                most = values[i];
        }
    }
    return most;
}

/* Plain numbers, or with k, M, … where they are long. */
static const char *plot_tic_format(double most)
{
    return most < 10000 ? "%g" : "%.0s%c";
}

/* Whether the names of bars would run into each other if they were written side by side. */
static bool plot_crowded(const struct plot *plot)
{
    size_t letters = 0, longest = 0;

    if (plot->kind != PLOT_BARS)
        return false;
    for (size_t i = 0; i < plot->series[0].n; i++) {
        letters = strlen(plot->series[0].bars[i]);
        longest = letters > longest ? letters : longest;
    }
    return (longest + 1) * plot->series[0].n > NAMES_LETTERS;
}

static void plot_write_commands(FILE *to, const struct plot *plot)
{
    bool slanted = plot_crowded(plot);

    fputs("set encoding utf8\nset termoption noenhanced\n"
          "set border 3 lc rgb '#010201'\nset tics nomirror textcolor rgb '#010202'\n"
          "set grid ytics lc rgb '#010203' dt 1 lw 0.7\n"
          "set key above left Left reverse samplen 2 textcolor rgb '#010202'\n"
          "set yrange [*<0:*]\nset lmargin 9\n",
          to);
    fprintf(to, "set terminal svg size 640,%d dynamic noenhanced font 'sans-serif,12'\n",
            slanted ? 400 : 300);
    fprintf(to, "set format y '%s'\n", plot_tic_format(plot_largest(plot, false)));
    if (plot->kind != PLOT_BARS)
        fprintf(to, "set format x '%s'\n", plot_tic_format(plot_largest(plot, true)));
    if (plot->log_x)
        fputs("set logscale x 10\n", to);
    if (plot->log_y)
        fprintf(to, "set logscale y 10\nset yrange [%s:*]\n",
                plot->kind == PLOT_HISTOGRAM ? "0.5" : "*");
    if (plot->x_label) {
        fputs("set xlabel textcolor rgb '#010202'\nset xlabel ", to);
        plot_quote(to, plot->x_label);
        fputc('\n', to);
    }
    if (plot->y_label) {
        fputs("set ylabel textcolor rgb '#010202'\nset ylabel ", to);
        plot_quote(to, plot->y_label);
        fputc('\n', to);
    }
    if (plot->kind == PLOT_BARS) {
        fprintf(to, "set xtics %s(", slanted ? "rotate by 35 right " : "");
        for (size_t i = 0; i < plot->series[0].n; i++) {
            fputs(i ? "," : "", to);
            plot_quote(to, plot->series[0].bars[i]);
            fprintf(to, " %zu", i);
        }
        fprintf(to, ")\nset xrange [-0.6:%zu.6]\n", plot->series[0].n ? plot->series[0].n - 1 : 0);
    }
    for (unsigned i = 0; i < plot->nseries; i++)
        plot_write_data(to, plot, i);
    for (unsigned i = 0; i < plot->nseries; i++)
        plot_write_series(to, plot, i);
    fputc('\n', to);
}

/* ---- gnuplot -------------------------------------------------------------- */

/* A file of this process's alone, open only for the program that is given it. */
static int plot_command_file(const struct plot *plot)
{
    int fd = memfd_create("plot-commands", MFD_CLOEXEC);
    FILE *to = fd < 0 ? NULL : fdopen(dup(fd), "w");
    bool failed;

    if (!to) {
        if (fd >= 0)
            close(fd);
        return -ENOMEM;
    }
    plot_write_commands(to, plot);
    failed = ferror(to);
    failed |= fclose(to) != 0;
    if (failed || lseek(fd, 0, SEEK_SET) < 0) {
        close(fd);
        return -ENOSPC;
    }
    return fd;
}

/* Standard input, output and errors of the program are files: no side waits for a pipe. */
static int plot_run_gnuplot(int in, int out, int errors)
{
    /* -d: no settings of the user's, who may have any. */
    static const char *const argv[] = { "gnuplot", "-d", "-", NULL };
    static const char *const envp[] = { "PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C.UTF-8",
                                        NULL };
    int status = 0;
    pid_t pid;
    int err = subprocess_start(&pid, argv, envp, (const int[]){ in, out, errors });

    if (!err)
        err = subprocess_wait(pid, GNUPLOT_TIMEOUT_MS, &status);
    if (err)
        return err;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

/* All of a file as a string, for the caller to free; NULL if it is empty or too long. */
static char *plot_read_all(int fd)
{
    off_t bytes = lseek(fd, 0, SEEK_END);
    char *text;

    if (bytes <= 0 || bytes > (off_t)SVG_BYTES_MAX)
        return NULL;
    text = malloc((size_t)bytes + 1);
    if (!text)
        return NULL;
    bytes = pread(fd, text, (size_t)bytes, 0);
    text[bytes > 0 ? bytes : 0] = 0;
    return text;
}

/* ---- From gnuplot's file to an element of a page -------------------------- */

/*
 * Writes gnuplot's SVG from its root element on, with our colours for those that stand
 * for them and with ids of its own, since a page may have several plots.
 */
static void plot_recolour(FILE *out, const char *svg, const char *title)
{
    static const struct {
        const char *from, *to;
    } words[] = {
        { "rgb(  1,   1,   1)", "var(--plot-1)" },
        { "rgb(  1,   1,   2)", "var(--plot-2)" },
        { "rgb(  1,   1,   3)", "var(--plot-3)" },
        { "rgb(  1,   1,   4)", "var(--plot-4)" },
        { "rgb(  1,   1,   5)", "var(--plot-5)" },
        { "rgb(  1,   1,   6)", "var(--plot-6)" },
        { "rgb(  1,   2,   1)", "var(--plot-axis)" },
        { "rgb(1,2,2)", "currentColor" }, /* as text has it */
        { "rgb(  1,   2,   3)", "var(--plot-grid)" },
        { "\"black\"", "\"currentColor\"" },
        { "'black'", "'currentColor'" },
        { "<title>Gnuplot</title>", "" },
        { " xmlns=\"http://www.w3.org/2000/svg\"", "" },
        { " xmlns:xlink=\"http://www.w3.org/1999/xlink\"", "" },
    };
    static _Thread_local unsigned count;
    unsigned number = ++count;

    fputs("<svg role=\"img\" aria-label=\"", out);
    html_text(out, title);
    fputs("\"", out);
    svg += strlen("<svg");
    while (*svg) {
        size_t i, n;

        for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
            n = strlen(words[i].from);
            if (!strncmp(svg, words[i].from, n))
                break;
        }
        if (i < sizeof(words) / sizeof(words[0])) {
            fputs(words[i].to, out);
            svg += n;
        } else if (!strncmp(svg, "gnuplot_", 8) || !strncmp(svg, "id='", 4) ||
                   !strncmp(svg, "href='#", 7)) {
            n = *svg == 'g' ? 0 : *svg == 'i' ? 4 : 7;
            fprintf(out, "%.*splot%u-", (int)n, svg, number);
            fputc(svg[n], out);
            svg += n + 1;
        } else {
            fputc(*svg++, out);
        }
    }
}

/* The last line that gnuplot said, without what surrounds it. */
static void plot_final_report(int errors, char why[PLOT_ERROR_BYTES])
{
    char *text = plot_read_all(errors), *end, *line;

    if (text) {
        end = text + strlen(text);
        while (end > text && (end[-1] == '\n' || end[-1] == ' '))
            *--end = 0;
        line = strrchr(text, '\n');
        snprintf(why, PLOT_ERROR_BYTES, "gnuplot: %.140s", line ? line + 1 : text);
    } else {
        snprintf(why, PLOT_ERROR_BYTES, "gnuplot failed");
    }
    free(text);
}

int plot_svg(FILE *out, const struct plot *plot, char why[PLOT_ERROR_BYTES])
{
    int in = plot_command_file(plot), err = in;
    int image = memfd_create("plot", MFD_CLOEXEC),
        errors = memfd_create("plot-errors", MFD_CLOEXEC);
    const char *root;
    char *svg = NULL;

    if (in >= 0)
        err = image < 0 || errors < 0 ? -ENOMEM : plot_run_gnuplot(in, image, errors);
    if (!err) {
        svg = plot_read_all(image);
        root = svg ? strstr(svg, "<svg") : NULL;
        if (root && strstr(root, "</svg>"))
            plot_recolour(out, root, plot->title);
        else
            err = -EIO;
    }
    if (err == -ENOENT)
        snprintf(why, PLOT_ERROR_BYTES, "gnuplot is not installed (Debian: gnuplot-nox)");
    else if (err == -ETIMEDOUT)
        snprintf(why, PLOT_ERROR_BYTES, "gnuplot did not end within %d s",
                 GNUPLOT_TIMEOUT_MS / 1000);
    else if (err == -EIO)
        plot_final_report(errors, why);
    else if (err)
        snprintf(why, PLOT_ERROR_BYTES, "gnuplot: %s", strerror(-err));
    free(svg);
    if (in >= 0)
        close(in);
    if (image >= 0)
        close(image);
    if (errors >= 0)
        close(errors);
    return err;
}

/* ---- With its values ------------------------------------------------------ */

static void plot_print_values(FILE *out, const struct plot *plot)
{
    const char *const heads[] = { plot->nseries > 1 ? "series" : "",
                                  plot->x_label ? plot->x_label : "",
                                  plot->y_label ? plot->y_label : "", NULL };

    html_table(out, plot->nseries > 1 ? heads : heads + 1);
    for (unsigned s = 0; s < plot->nseries; s++) {
        const struct plot_series *series = &plot->series[s];

        for (size_t i = 0; i < series->n; i++) {
            html_row(out);
            if (plot->nseries > 1)
                html_cell(out, NULL, "%s", series->name);
            switch (plot->kind) {
            case PLOT_LINES: html_cell(out, "n", "%.10g", series->x[i]); break;
            case PLOT_BARS: html_cell(out, NULL, "%s", plot->series[0].bars[i]); break;
            case PLOT_HISTOGRAM:
                html_cell(out, "n", "%.10g to %.10g", series->x[i], series->to[i]);
                break;
            }
            html_cell(out, "n", "%.10g", series->y[i]);
        }
    }
    html_table_end(out);
}

void plot_figure(FILE *out, const struct plot *plot)
{
    char why[PLOT_ERROR_BYTES];
    int err;

    fputs("<figure class=\"plot\"><figcaption>", out);
    html_text(out, plot->title);
    fputs("</figcaption>\n", out);
    err = plot_svg(out, plot, why);
    if (err) {
        fputs("<p class=\"none\">", out);
        html_printf(out, "No plot here, because: %s.", why);
        fputs("</p>", out);
    }
    fprintf(out, "<details%s><summary>values</summary>", err ? " open" : "");
    plot_print_values(out, plot);
    fputs("</details></figure>\n", out);
}
