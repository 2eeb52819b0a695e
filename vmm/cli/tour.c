#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/host_cpus.h"
#include "vmm/cli/commands.h"
#include "vmm/cli/kvm_access.h"
#include "vmm/cli/options.h"
#include "vmm/cli/results.h"
#include "vmm/control/inspect_request.h"
#include "vmm/control/inspector.h"
#include "vmm/report/tour_html.h"
#include "vmm/report/tour_json.h"
#include "vmm/report/tour_text.h"

#define MEMORY_BYTES (256ull << 20)
#define TIMEOUT_S    180

enum { OPT_BREAK, OPT_LIST, OPT_HTML, OPT_JSON };

static const struct option_entry option_entries[] = {
    [OPT_BREAK] = { "break", "NAME",
                    "break that exercise's mechanism on purpose and run only it:\n"
                    "its checks must fail, and with them this command" },
    [OPT_LIST] = { "list", NULL, "one exercise to a line, its name first" },
    [OPT_HTML] = { "html", "FILE",
                   "write a page with pictures of memory, plots and all checks to FILE\n"
                   "(- likewise)" },
    [OPT_JSON] = { "json", "FILE",
                   "write all checks and figures to FILE (- for standard output;\n"
                   "the rows then go to standard error)" },
};

static const struct command_line tour_line = {
    .command = "tour",
    .operands = "[NAME...]",
    .summary =
        "Runs exercises on the bundled guest, each in a machine of its own, and checks what\n"
        "they claim from the host, by walking the guest's page tables and reading its\n"
        "memory. Each is run again with its mechanism broken: that must fail.",
    .options = option_entries,
    .noptions = sizeof(option_entries) / sizeof(option_entries[0]),
};

static const struct tour_exercise *find_exercise(const char *name)
{
    for (size_t i = 0; i < tour_exercises_count; i++) {
        if (!strcmp(tour_exercises[i]->name, name))
            return tour_exercises[i];
    }
    usage_error(&tour_line, "no exercise \"%s\"; see strata tour --list", name);
}

static void list(void)
{
    for (size_t i = 0; i < tour_exercises_count; i++)
        printf("%-20s %s\n", tour_exercises[i]->name, tour_exercises[i]->shows);
}

static struct tour_host describe_host(const struct kvm_host *kvm)
{
    return (struct tour_host){
        .kvm = kvm,
        .cpus = host_cpus(),
        .interprets = kvm_interprets_kernel_code(kvm),
        .timeout_s = TIMEOUT_S,
        .memory_bytes = MEMORY_BYTES,
    };
}

/* The inspector's report of this moment, for the page. */
static void take_memory_map(void *owner, const struct tour_run *run)
{
    const struct inspect_request request = { .command = INSPECT_REPORT };
    static const atomic_bool never;
    struct inspector inspector;
    struct tour *tour = owner;

    for (size_t i = 0; i < tour->nentries; i++) {
        if (run != &tour->entries[i].run || tour->entries[i].memory_map)
            continue;
        inspector_init(&inspector, run->vm, run->board, true, &never);
        tour->entries[i].memory_map = inspector_look(&inspector, &request);
    }
}

static int run_one(const struct tour *tour, struct tour_run *run,
                   const struct tour_exercise *exercise, bool control)
{
    char error[320];
    int err = tour_run(run, exercise, &tour->host, control, error, sizeof(error));

    if (err)
        fprintf(stderr, "strata tour: %s: %s\n", exercise->name, error);
    return err;
}

/* All stops in order; true if each is as it should be. */
static bool run_all(struct tour *tour)
{
    bool ok = true;

    tour_text_print_heading(tour);
    for (size_t i = 0; i < tour->nentries; i++) {
        struct tour_entry *stop = &tour->entries[i];

        stop->has_run = !run_one(tour, &stop->run, stop->exercise, tour->broken);
        if (stop->has_run && !tour->broken)
            stop->has_control = !run_one(tour, &stop->control, stop->exercise, true);
        if (stop->has_run)
            tour_text_print_row(tour, stop);
        fflush(tour->out);
        ok = ok && stop->has_run && tour_entry_ok(tour, stop);
    }
    return ok;
}

/* The exercises named on the command line, or all; NULL entries end the list. */
static void choose(struct tour *tour, int argc, char **argv, const char *broken)
{
    tour->nentries = broken ? 1 : optind < argc ? (size_t)(argc - optind) : tour_exercises_count;
    if (broken && optind < argc)
        usage_error(&tour_line, "--break runs one exercise; leave \"%s\" out", argv[optind]);
    tour->entries = calloc(tour->nentries, sizeof(*tour->entries));
    if (!tour->entries)
        usage_error(&tour_line, "out of memory");
    for (size_t i = 0; i < tour->nentries; i++)
        tour->entries[i].exercise = broken          ? find_exercise(broken)
                                    : optind < argc ? find_exercise(argv[optind + (int)i])
                                                    : tour_exercises[i];
}

int cmd_tour(int argc, char **argv)
{
    const char *value, *broken = NULL;
    struct results results = { 0 };
    struct tour tour = { 0 };
    struct kvm_host kvm;
    int option;
    bool ok;

    while ((option = options_next(&tour_line, argc, argv, &value)) >= 0) {
        switch (option) {
        case OPT_BREAK: broken = value; break;
        case OPT_HTML: results.html_path = value; break;
        case OPT_JSON: results.json_path = value; break;
        case OPT_LIST: list(); return STATUS_OK;
        default: break;
        }
    }
    choose(&tour, argc, argv, broken);
    results_open(&results, &tour_line);
    kvm_open_or_exit(&kvm, true);
    tour.broken = broken != NULL;
    tour.host = describe_host(&kvm);
    if (results.html_path) {
        tour.host.memory_map = take_memory_map;
        tour.host.memory_map_owner = &tour;
    }
    tour.out = results.out;
    tour.colour = isatty(fileno(tour.out));
    ok = run_all(&tour);
    ok = results_write(&results, results.json_path ? tour_json(&tour) : NULL, tour_html_print,
                       &tour) &&
         ok;
    results_close(&results);
    kvm_close(&kvm);
    for (size_t i = 0; i < tour.nentries; i++)
        json_decref(tour.entries[i].memory_map);
    free(tour.entries);
    return ok ? STATUS_OK : STATUS_FAILED;
}
