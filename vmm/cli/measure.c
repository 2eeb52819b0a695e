#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cli/commands.h"
#include "vmm/cli/kvm_access.h"
#include "vmm/cli/options.h"
#include "vmm/cli/results.h"
#include "vmm/measure/measure.h"
#include "vmm/report/measure_compare.h"
#include "vmm/report/measure_html.h"
#include "vmm/report/measure_json.h"
#include "vmm/report/measure_text.h"

enum { OPT_QUICK, OPT_LIST, OPT_SEED, OPT_COMPARE, OPT_JSON, OPT_HTML };

static const struct option_entry option_entries[] = {
    [OPT_QUICK] = { "quick", NULL, "smaller sizes and counts: all of it in half a minute" },
    [OPT_LIST] = { "list", NULL, "one experiment to a line, its name first" },
    [OPT_SEED] = { "seed", "N", "what chance begins with (default 1)" },
    [OPT_COMPARE] = { "compare", "A B",
                      "measure nothing: put two files of --json side by side, and say\n"
                      "what differs and what may be noise" },
    [OPT_JSON] = { "json", "FILE",
                   "write all figures to FILE (- for standard output; what is for\n"
                   "people then goes to standard error)" },
    [OPT_HTML] = { "html", "FILE", "write a page with plots to FILE (- as above)" },
};

static const struct command_line measure_line = {
    .command = "measure",
    .operands = "[EXPERIMENT...]",
    .summary =
        "Measures what nested paging costs on this host, layer by layer: the same code in ring 3\n"
        "of the bundled guest and, as the baseline, in this process. Without a name, all.",
    .options = option_entries,
    .noptions = sizeof(option_entries) / sizeof(option_entries[0]),
};

static void list(void)
{
    for (size_t i = 0; i < measure_experiments_count; i++)
        printf("%-10s %s\n", measure_experiments[i]->name, measure_experiments[i]->shows);
}

static const struct measure_experiment *find(const char *name)
{
    const struct measure_experiment *experiment = measure_find(name);

    if (!experiment)
        usage_error(&measure_line, "no experiment \"%s\"; strata measure --list names them", name);
    return experiment;
}

static uint64_t parse_seed(const char *text)
{
    char *end;
    long long seed;

    errno = 0;
    seed = strtoll(text, &end, 0);
    /* As far as JSON's integers go, in which it is told again. */
    if (errno || *end || end == text || seed < 1)
        usage_error(&measure_line, "--seed %s: give a number from 1 to 2^63 - 1", text);
    return (uint64_t)seed;
}

/* A figure's name is there once in a file. */
static void refuse_twins(char **names, int n)
{
    for (int i = 1; i < n; i++) {
        for (int j = 0; j < i; j++) {
            if (!strcmp(names[i], names[j]))
                usage_error(&measure_line, "%s is named twice; once is enough", names[i]);
        }
    }
}

/* A line that is written over again and again, on a terminal only. */
static void show_progress(void *owner, double share, const char *doing)
{
    struct measure_run *run = owner;

    fprintf(stderr, "\r\033[K%s: %3.0f %% %s", run->experiment->name, 100 * share, doing);
    fflush(stderr);
}

static void clear_progress(void)
{
    fputs("\r\033[K", stderr);
}

/*
 * Runs all n; true if each could be done. Where `out` is all that is wanted and nobody reads
 * it any more, the rest of them is not run.
 */
static bool run_all(struct measure_run *runs, size_t n, FILE *out, bool only_out)
{
    bool ok = true, terminal = isatty(STDERR_FILENO);

    for (size_t i = 0; i < n; i++) {
        struct measure_run *run = &runs[i];

        if (terminal) {
            run->progress = show_progress;
            run->progress_owner = run;
        }
        ok = !measure_run(run, run->experiment) && ok;
        if (terminal)
            clear_progress();
        measure_print(out, run);
        if (fflush(out) && only_out)
            return false;
    }
    return ok;
}

static int compare(const char *a, const char *b, struct results *results)
{
    struct measure_comparison comparison;
    char error[300];
    bool ok;

    if (measure_comparison_make(&comparison, a, b, error, sizeof(error)))
        usage_error(&measure_line, "--compare: %s", error);
    results_open(results, &measure_line);
    measure_comparison_print(results->out, &comparison);
    ok = results_write(results, measure_comparison_json(&comparison), measure_comparison_html,
                       &comparison);
    results_close(results);
    measure_comparison_free(&comparison);
    return ok ? STATUS_OK : STATUS_FAILED;
}

static int measure_them(struct measure_run *runs, size_t n, bool quick, struct results *results)
{
    struct measure_host host;
    struct kvm_host kvm;
    bool ok;

    results_open(results, &measure_line);
    kvm_open_or_exit(&kvm, true);
    measure_host_describe(&host, &kvm);
    for (size_t i = 0; i < n; i++)
        runs[i].host = &host;
    measure_print_heading(results->out, &host, quick);
    ok = run_all(runs, n, results->out, !results->json_path && !results->html_path);
    ok = results_write(results, measure_json(&host, runs, n, quick), measure_html,
                       &(struct measure_page){ &host, runs, n, quick }) &&
         ok;
    results_close(results);
    for (size_t i = 0; i < n; i++)
        measure_run_free(&runs[i]);
    kvm_close(&kvm);
    return ok ? STATUS_OK : STATUS_FAILED;
}

int cmd_measure(int argc, char **argv)
{
    const char *value, *compared = NULL;
    struct results results = { 0 };
    struct measure_run *runs;
    bool quick = false, seeded = false;
    uint64_t seed = 1;
    int option, status;
    size_t n;

    while ((option = options_next(&measure_line, argc, argv, &value)) >= 0) {
        switch (option) {
        case OPT_QUICK: quick = true; break;
        case OPT_LIST: list(); return STATUS_OK;
        case OPT_SEED:
            seed = parse_seed(value);
            seeded = true;
            break;
        case OPT_COMPARE: compared = value; break;
        case OPT_JSON: results.json_path = value; break;
        case OPT_HTML: results.html_path = value; break;
        default: break;
        }
    }
    if (compared && argc - optind != 1)
        usage_error(&measure_line, "--compare takes two files");
    if (compared && (quick || seeded))
        usage_error(&measure_line, "--compare measures nothing; it goes without %s",
                    quick ? "--quick" : "--seed");
    if (compared)
        return compare(compared, argv[optind], &results);
    refuse_twins(argv + optind, argc - optind);
    n = optind < argc ? (size_t)(argc - optind) : measure_experiments_count;
    runs = calloc(n, sizeof(*runs));
    if (!runs)
        usage_error(&measure_line, "out of memory");
    for (size_t i = 0; i < n; i++)
        runs[i] = (struct measure_run){ .experiment = optind < argc ? find(argv[optind + (int)i])
                                                                    : measure_experiments[i],
                                        .quick = quick,
                                        .seed = seed };
    status = measure_them(runs, n, quick, &results);
    free(runs);
    return status;
}
