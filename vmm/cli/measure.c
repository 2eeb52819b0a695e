#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cli/commands.h"
#include "vmm/cli/json.h"
#include "vmm/cli/kvm_access.h"
#include "vmm/cli/measure_json.h"
#include "vmm/cli/measure_text.h"
#include "vmm/cli/options.h"
#include "vmm/measure/measure.h"

enum { OPT_QUICK, OPT_LIST, OPT_SEED, OPT_JSON };

static const struct option_entry option_entries[] = {
    [OPT_QUICK] = { "quick", NULL, "smaller sizes and counts: all of it in half a minute" },
    [OPT_LIST] = { "list", NULL, "one experiment to a line, its name first" },
    [OPT_SEED] = { "seed", "N", "what chance begins with (default 1)" },
    [OPT_JSON] = { "json", "FILE",
                   "write all figures to FILE (- for standard output; what is for\n"
                   "people then goes to standard error)" },
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
    uint64_t seed;

    errno = 0;
    seed = strtoull(text, &end, 0);
    if (errno || *end || end == text || *text == '-' || !seed)
        usage_error(&measure_line, "--seed %s: give a number from 1 to 2^64 - 1", text);
    return seed;
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

/* Runs those named in argv, or all; true if each could be done. */
static bool run_all(struct measure_run *runs, size_t n, FILE *out)
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
        fflush(out);
    }
    return ok;
}

static int write_json(struct json_output *output, const struct measure_host *host,
                      const struct measure_run *runs, size_t n, bool quick)
{
    json_t *json = measure_json(host, runs, n, quick);
    int err = json ? json_output_write(output, json) : -ENOMEM;

    json_decref(json);
    if (err)
        fprintf(stderr, "strata measure: --json: %s\n", strerror(-err));
    return err;
}

int cmd_measure(int argc, char **argv)
{
    const char *value, *json_path = NULL;
    struct measure_host host;
    struct measure_run *runs;
    struct json_output json;
    struct kvm_host kvm;
    bool quick = false, ok;
    uint64_t seed = 1;
    size_t n;
    FILE *out;
    int option, err;

    while ((option = options_next(&measure_line, argc, argv, &value)) >= 0) {
        switch (option) {
        case OPT_QUICK: quick = true; break;
        case OPT_LIST: list(); return STATUS_OK;
        case OPT_SEED: seed = parse_seed(value); break;
        case OPT_JSON: json_path = value; break;
        default: break;
        }
    }
    n = optind < argc ? (size_t)(argc - optind) : measure_experiments_count;
    runs = calloc(n, sizeof(*runs));
    if (!runs)
        usage_error(&measure_line, "out of memory");
    for (size_t i = 0; i < n; i++)
        runs[i] = (struct measure_run){ .experiment = optind < argc ? find(argv[optind + (int)i])
                                                                    : measure_experiments[i],
                                        .host = &host,
                                        .quick = quick,
                                        .seed = seed };
    err = json_output_open(&json, json_path);
    if (err)
        usage_error(&measure_line, "--json %s: %s; give a file that can be written", json_path,
                    strerror(-err));
    kvm_open_or_exit(&kvm, true);
    measure_host_describe(&host, &kvm);
    out = json.fd == STDOUT_FILENO ? stderr : stdout;
    measure_print_heading(out, &host, quick);
    ok = run_all(runs, n, out);
    if (json_path)
        ok = !write_json(&json, &host, runs, n, quick) && ok;
    json_output_close(&json);
    for (size_t i = 0; i < n; i++)
        measure_run_free(&runs[i]);
    kvm_close(&kvm);
    free(runs);
    return ok ? STATUS_OK : STATUS_FAILED;
}
