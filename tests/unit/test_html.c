/* vmm/report/html and plot: pages that stand by themselves, whatever text is put in them. */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/suites.h"
#include "vmm/report/html.h"
#include "vmm/report/plot.h"
#include "vmm/report/tour_plots.h"
#include "vmm/report/tour_report.h"

static char *text;
static size_t bytes;
static FILE *out;

static void setup(void)
{
    text = NULL;
    out = open_memstream(&text, &bytes);
    ck_assert_ptr_nonnull(out);
}

static void teardown(void)
{
    if (out)
        fclose(out);
    free(text);
}

static void told(void)
{
    ck_assert_int_eq(fclose(out), 0);
    out = NULL;
}

static unsigned count(const char *word)
{
    unsigned n = 0;

    for (const char *at = text; (at = strstr(at, word)); at++)
        n++;
    return n;
}

#define BAD "\xef\xbf\xbd"

static const struct {
    const char *from, *to;
} texts[] = {
    { "", "" },
    { "plain", "plain" },
    { "<img src=x onerror='a(\"b\")'>&",
      "&lt;img src=x onerror=&#39;a(&quot;b&quot;)&#39;&gt;&amp;" },
    { "a\tb\x7f\x1b[0m\r", "a" BAD "b" BAD BAD "[0m" BAD },
    { "two\nlines", "two\nlines" },
    { "\xc3\xa4 \xe2\x86\x92 \xf0\x9f\x99\x82", "\xc3\xa4 \xe2\x86\x92 \xf0\x9f\x99\x82" },
    { "\xff\xfe", BAD BAD },
    { "\xc3", BAD },                         /* ends too early */
    { "\xe2\x86", BAD BAD },                 /* ends too early */
    { "\xc0\xbc", BAD BAD },                 /* "<", one byte too long */
    { "\xe0\x80\xbc", BAD BAD BAD },         /* and two */
    { "\xed\xa0\x80", BAD BAD BAD },         /* a surrogate */
    { "\xf4\x90\x80\x80", BAD BAD BAD BAD }, /* beyond U+10FFFF */
    { "\xc2\x85", BAD BAD },                 /* a control character */
    { "\xe2<b>", BAD "&lt;b&gt;" },          /* what follows is not swallowed */
};

START_TEST(test_text)
{
    html_text(out, texts[_i].from);
    told();
    ck_assert_str_eq(text, texts[_i].to);
}
END_TEST

START_TEST(test_page)
{
    html_begin(out, "</title><script>alert(1)</script>", "strata <test>");
    html_section(out, "a", "<h>");
    html_end(out);
    told();
    ck_assert(!strncmp(text, "<!DOCTYPE html>\n", 16));
    ck_assert_ptr_nonnull(strstr(text, "</html>\n"));
    ck_assert_ptr_nonnull(strstr(text, "strata &lt;test&gt;"));
    ck_assert_ptr_nonnull(strstr(text, "<h2 id=\"a\">&lt;h&gt;</h2>"));
    ck_assert_uint_eq(count("<script"), 1);
    ck_assert_uint_eq(count("alert(1)</script>"), 0);
    ck_assert_uint_eq(count("http:"), 0);
    ck_assert_uint_eq(count("https:"), 0);
    ck_assert_uint_eq(count("url("), 0);
    ck_assert_uint_eq(count("src="), 0);
}
END_TEST

/* The password that lets a script run: as long as it should be, and new each time. */
START_TEST(test_nonce)
{
    char nonce[2][33];

    for (unsigned i = 0; i < 2; i++) {
        html_begin(out, "page", "test");
        told();
        ck_assert_int_eq(sscanf(strstr(text, "'nonce-"), "'nonce-%32[0-9a-f]'", nonce[i]), 1);
        ck_assert_uint_eq(strlen(nonce[i]), 32);
        ck_assert_int_eq(strncmp(strstr(text, "<script nonce=\"") + 15, nonce[i], 32), 0);
        teardown();
        setup();
    }
    ck_assert_str_ne(nonce[0], nonce[1]);
}
END_TEST

START_TEST(test_table)
{
    static const char *const heads[] = { "one", "<2>", NULL };

    html_table(out, heads);
    html_row(out);
    html_cell(out, "n", "%d", 5);
    html_cell(out, NULL, "%s", "<b>");
    html_table_end(out);
    told();
    ck_assert_ptr_nonnull(strstr(text, "<th scope=\"col\">&lt;2&gt;</th>"));
    ck_assert_ptr_nonnull(strstr(text, "<tr><td class=\"n\">5</td><td>&lt;b&gt;</td>"));
}
END_TEST

/* Strings in data cannot end the element they are in, and come back the same. */
START_TEST(test_data)
{
    json_t *value = json_pack("[s, s]", "</script><script>", "<!--\"");
    json_t *read;
    char *end;

    html_json(out, "data", value);
    told();
    ck_assert_uint_eq(count("<script"), 1);
    ck_assert_uint_eq(count("<!--"), 0);
    end = strstr(text, "</script>");
    ck_assert_ptr_nonnull(end);
    *end = 0;
    read = json_loads(strchr(text, '>') + 1, 0, NULL);
    ck_assert_int_eq(json_equal(read, value), 1);
    json_decref(read);
    json_decref(value);
}
END_TEST

/* ---- Plots ---------------------------------------------------------------- */

static const double edges[] = { 0, 10, 100, 1000 }, counts[] = { 3, 0, 7 };
static const struct plot_series histogram_series = {
    .name = "a", .n = 3, .x = edges, .to = edges + 1, .y = counts
};
static const struct plot histogram = { .kind = PLOT_HISTOGRAM,
                                       .title = "it's <b> `id` $x",
                                       .x_label = "latency `touch /x` 'quoted'\nexit",
                                       .log_x = true,
                                       .nseries = 1,
                                       .series = &histogram_series };

static const double line_x[] = { 0, 50, 100 }, line_y[] = { 1e3, NAN, 3e6 };
static const struct plot_series line_series[] = {
    { .name = "one", .n = 3, .x = line_x, .y = line_y },
    { .name = "two", .n = 3, .x = line_x, .y = line_x }
};
static const struct plot lines = {
    .kind = PLOT_LINES, .title = "lines", .log_y = true, .nseries = 2, .series = line_series
};

static const char *const bar_names[] = { "it's", "<two>", "three" };
static const struct plot_series bar_series[] = {
    { .name = "one", .n = 3, .y = counts, .bars = bar_names },
    { .name = "two", .n = 3, .y = counts, .bars = bar_names },
};
static const struct plot bars = {
    .kind = PLOT_BARS, .title = "bars", .nseries = 2, .series = bar_series
};

static const struct plot *const plots[] = { &histogram, &lines, &bars };

START_TEST(test_plot)
{
    char why[PLOT_ERROR_BYTES] = "";
    int err = plot_svg(out, plots[_i], why);

    told();
    ck_assert_msg(!err, "%s", why);
    ck_assert(!strncmp(text, "<svg role=\"img\"", 15));
    ck_assert_ptr_nonnull(strstr(text, "</svg>"));
    ck_assert_ptr_nonnull(strstr(text, "var(--plot-1)"));
    if (plots[_i]->nseries > 1)
        ck_assert_ptr_nonnull(strstr(text, "var(--plot-2)"));
    /* No colour is left that light and dark would not share, nor anything from elsewhere. */
    ck_assert_uint_eq(count("rgb("), 0);
    ck_assert_uint_eq(count("black"), 0);
    ck_assert_uint_eq(count("http:"), 0);
    ck_assert_uint_eq(count("<script"), 0);
    ck_assert_uint_eq(count("id='gp"), 0);
    ck_assert_uint_eq(count("<b>"), 0);
}
END_TEST

/* Bars as many as there are values above nothing. */
START_TEST(test_bars_drawn)
{
    char why[PLOT_ERROR_BYTES];

    ck_assert_int_eq(plot_svg(out, &histogram, why), 0);
    told();
    ck_assert_uint_ge(count("<polygon fill"), 2);
    ck_assert_ptr_nonnull(strstr(text, "quoted"));
}
END_TEST

START_TEST(test_figure)
{
    plot_figure(out, &histogram);
    told();
    ck_assert_ptr_nonnull(strstr(text, "<figcaption>it&#39;s &lt;b&gt; `id` $x</figcaption>"));
    ck_assert_ptr_nonnull(strstr(text, "</svg>"));
    ck_assert_ptr_nonnull(strstr(text, "<details><summary>"));
    ck_assert_ptr_nonnull(strstr(text, "100 to 1000"));
}
END_TEST

START_TEST(test_no_gnuplot)
{
    char why[PLOT_ERROR_BYTES];

    ck_assert_int_eq(setenv("PATH", "/nowhere", 1), 0);
    ck_assert_int_eq(plot_svg(out, &histogram, why), -ENOENT);
    ck_assert_ptr_nonnull(strstr(why, "gnuplot-nox"));
    plot_figure(out, &histogram);
    told();
    ck_assert_uint_eq(count("<svg"), 0);
    ck_assert_ptr_nonnull(strstr(text, "No plot here, because: gnuplot is not installed"));
    ck_assert_ptr_nonnull(strstr(text, "<details open>"));
    ck_assert_ptr_nonnull(strstr(text, "100 to 1000"));
}
END_TEST

/* Nothing to draw is an error of gnuplot's, told in its words. */
START_TEST(test_empty_plot)
{
    struct plot_series none = { .name = "none" };
    struct plot plot = { .kind = PLOT_LINES, .title = "empty", .nseries = 1, .series = &none };
    char why[PLOT_ERROR_BYTES] = "";

    ck_assert_int_eq(plot_svg(out, &plot, why), -EIO);
    ck_assert_msg(!strncmp(why, "gnuplot", 7), "%s", why);
}
END_TEST

/* ---- Figures of exercises ------------------------------------------------- */

static struct tour_run run;

static void figures(const char *const *names, size_t n)
{
    static const struct tour_exercise exercise = { .name = "made-up" };

    memset(&run, 0, sizeof(run));
    run.exercise = &exercise;
    run.nfigures = n;
    for (size_t i = 0; i < n; i++) {
        snprintf(run.figures[i].name, sizeof(run.figures[i].name), "%s", names[i]);
        run.figures[i].value = (double)(i + 1);
    }
    tour_plots_html(out, &run);
    told();
}

START_TEST(test_histogram_figures)
{
    static const char *const names[] = { "pages", "slow_touch_from_0_ns_count",
                                         "slow_touch_from_4096_ns_count",
                                         "quick_touch_from_1024_ns_count",
                                         "requests_from_here_count" };

    figures(names, 5);
    ck_assert_uint_eq(count("<svg"), 1);
    ck_assert_uint_eq(count("<tr><td>slow touch</td>"), 2);
    ck_assert_uint_eq(count("<tr><td>quick touch</td>"), 1);
    ck_assert_ptr_nonnull(strstr(text, "4.096 to 8.192</td><td class=\"n\">3</td>"));
    ck_assert_ptr_nonnull(strstr(text, "\302\265s"));
}
END_TEST

START_TEST(test_curve_figures)
{
    static const char *const names[] = { "writes_1", "cow_1_ns",   "eager_1_ns", "writes_2",
                                         "cow_2_ns", "eager_2_ns", "p99_ns",     "cow_7_ns" };

    figures(names, 8);
    ck_assert_uint_eq(count("<svg"), 1);
    ck_assert_uint_eq(count("<tr><td>cow</td>"), 2);
    ck_assert_ptr_nonnull(
        strstr(text, "<tr><td>eager</td><td class=\"n\">4</td><td class=\"n\">0.006</td>"));
}
END_TEST

/* Not everything with a number in its name is one of many. */
START_TEST(test_other_figures)
{
    static const char *const names[] = {
        "x_1", "touch_p50_ns", "touch_p99_ns", "ratio", "", "_1_"
    };

    figures(names, 6);
    ck_assert_uint_eq(bytes, 0);
}
END_TEST

Suite *html_suite(void)
{
    Suite *suite = suite_create("html");
    TCase *tc = tcase_create("html");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 30);
    tcase_add_loop_test(tc, test_text, 0, sizeof(texts) / sizeof(texts[0]));
    tcase_add_test(tc, test_page);
    tcase_add_test(tc, test_nonce);
    tcase_add_test(tc, test_table);
    tcase_add_test(tc, test_data);
    tcase_add_loop_test(tc, test_plot, 0, sizeof(plots) / sizeof(plots[0]));
    tcase_add_test(tc, test_bars_drawn);
    tcase_add_test(tc, test_figure);
    tcase_add_test(tc, test_no_gnuplot);
    tcase_add_test(tc, test_empty_plot);
    tcase_add_test(tc, test_histogram_figures);
    tcase_add_test(tc, test_curve_figures);
    tcase_add_test(tc, test_other_figures);
    suite_add_tcase(suite, tc);
    return suite;
}
