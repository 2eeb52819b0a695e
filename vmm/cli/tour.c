#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cli/commands.h"
#include "vmm/cli/html.h"
#include "vmm/cli/inspect_request.h"
#include "vmm/cli/inspector.h"
#include "vmm/cli/kvm_access.h"
#include "vmm/cli/options.h"
#include "vmm/cli/tour_report.h"
#include "vmm/report/json.h"

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

/* The control failed, as it should. */
static bool control_failed(const struct stop *stop)
{
    return stop->has_control && tour_refuted(&stop->control);
}

bool tour_stop_ok(const struct tour *tour, const struct stop *stop)
{
    return tour_ok(&stop->run) && (tour->broken || control_failed(stop));
}

/* ---- For people ----------------------------------------------------------- */

static const char *paint(const struct tour *tour, const char *sequence)
{
    return tour->colour ? sequence : "";
}

static void print_failures(const struct tour *tour, const struct tour_run *run)
{
    for (size_t i = 0; i < run->nchecks; i++) {
        const struct tour_check *check = &run->checks[i];

        if (!check->ok)
            fprintf(tour->out, "        failed: %s: expected %s, observed %s\n", check->name,
                    check->expected, check->observed);
    }
    if (run->dropped)
        fprintf(tour->out, "        failed: %zu checks more than there is room for\n",
                run->dropped);
    if (run->console[0])
        fprintf(tour->out, "        the guest's last words: %s\n", run->console);
}

size_t tour_count_passed(const struct tour_run *run)
{
    size_t passed = 0;

    for (size_t i = 0; i < run->nchecks; i++)
        passed += run->checks[i].ok;
    return passed;
}

const char *tour_control_words(const struct tour *tour, const struct stop *stop)
{
    if (tour->broken)
        return "broken on purpose";
    return control_failed(stop) ? "control fails, as it should" : "CONTROL DID NOT FAIL";
}

static void print_row(const struct tour *tour, const struct stop *stop)
{
    const struct tour_run *run = &stop->run;
    bool ok = tour_stop_ok(tour, stop);

    fprintf(tour->out, "%s%-6s%s  %-20s  %3zu/%-3zu  %6.2f s  %-27s  %-55s  %s\n",
            paint(tour, ok ? "\033[32m" : "\033[31m"), ok ? "ok" : "FAILED", paint(tour, "\033[0m"),
            run->exercise->name, tour_count_passed(run), run->nchecks,
            (double)(run->elapsed_ns + (stop->has_control ? stop->control.elapsed_ns : 0)) / 1e9,
            tour_control_words(tour, stop), run->exercise->shows, run->key);
    if (!tour_ok(run))
        print_failures(tour, run);
}

static void print_heading(const struct tour *tour)
{
    const struct kvm_host *kvm = tour->host.kvm;

    fprintf(tour->out, "strata tour on KVM backend %s (%s), %u host CPU%s, guest of %d MiB%s\n",
            kvm_backend_name(kvm->backend), kvm->how, tour->host.cpus,
            tour->host.cpus == 1 ? "" : "s", (int)(tour->host.memory_bytes >> 20),
            tour->host.interprets ? "; kernel code is interpreted here, so sizes are smaller" : "");
    fprintf(tour->out, "%s%-6s  %-20s  %-7s  %-8s  %-27s  %-55s  %s%s\n", paint(tour, "\033[1m"),
            "result", "exercise", "checks", "time", "control", "shown", "key figures",
            paint(tour, "\033[0m"));
    fflush(tour->out);
}

/* ---- For programs --------------------------------------------------------- */

static json_t *describe_checks(const struct tour_run *run)
{
    json_t *checks = json_array();

    for (size_t i = 0; i < run->nchecks; i++) {
        const struct tour_check *check = &run->checks[i];

        json_array_append_new(checks, json_pack("{s:s, s:b, s:s, s:s}", "name", check->name, "ok",
                                                check->ok, "expected", check->expected, "observed",
                                                check->observed));
    }
    return checks;
}

static json_t *describe_figures(const struct tour_run *run)
{
    json_t *figures = json_object();

    for (size_t i = 0; i < run->nfigures; i++) {
        double value = run->figures[i].value;
        json_t *json = !isfinite(value)        ? json_null()
                       : value == floor(value) ? json_integer((json_int_t)value)
                                               : json_real(value);

        json_object_set_new(figures, run->figures[i].name, json);
    }
    return figures;
}

static json_t *describe_stop(const struct tour *tour, const struct stop *stop)
{
    json_t *json = json_pack("{s:s, s:b, s:s, s:s, s:o, s:o, s:I}", "name", stop->exercise->name,
                             "ok", tour_stop_ok(tour, stop), "shows", stop->exercise->shows,
                             "guest_command", stop->run.command, "checks",
                             describe_checks(&stop->run), "figures", describe_figures(&stop->run),
                             "elapsed_ns", (json_int_t)stop->run.elapsed_ns);

    json_object_set_new(json, "control_failed_as_it_should",
                        stop->has_control ? json_boolean(control_failed(stop)) : json_null());
    if (stop->has_control)
        json_object_set_new(json, "control",
                            json_pack("{s:s, s:o, s:I}", "breaks", stop->exercise->breaks, "checks",
                                      describe_checks(&stop->control), "elapsed_ns",
                                      (json_int_t)stop->control.elapsed_ns));
    return json;
}

static json_t *describe_tour(const struct tour *tour)
{
    json_t *json = json_result("strata.tour", 1), *exercises = json_array();

    json_object_set_new(json, "host",
                        json_pack("{s:s, s:s, s:i, s:b}", "kvm",
                                  kvm_backend_name(tour->host.kvm->backend), "module",
                                  tour->host.kvm->module, "cpus", (int)tour->host.cpus,
                                  "interprets_kernel_code", tour->host.interprets));
    json_object_set_new(json, "broken", json_boolean(tour->broken));
    for (size_t i = 0; i < tour->nstops; i++) {
        if (tour->stops[i].has_run)
            json_array_append_new(exercises, describe_stop(tour, &tour->stops[i]));
    }
    json_object_set_new(json, "exercises", exercises);
    return json;
}

/* ---- The command ---------------------------------------------------------- */

static unsigned usable_cpus(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set))
        return 1;
    return (unsigned)CPU_COUNT(&set);
}

static struct tour_host describe_host(const struct kvm_host *kvm)
{
    return (struct tour_host){
        .kvm = kvm,
        .cpus = usable_cpus(),
        .interprets = kvm_interprets_kernel_code(kvm),
        .timeout_s = TIMEOUT_S,
        .memory_bytes = MEMORY_BYTES,
    };
}

/* The inspector's report of this moment, for the page. */
static void take_picture(void *owner, const struct tour_run *run)
{
    const struct inspect_request request = { .command = INSPECT_REPORT };
    static const atomic_bool never;
    struct inspector inspector;
    struct tour *tour = owner;

    for (size_t i = 0; i < tour->nstops; i++) {
        if (run != &tour->stops[i].run || tour->stops[i].picture)
            continue;
        inspector_init(&inspector, run->vm, run->board, true, &never);
        tour->stops[i].picture = inspector_look(&inspector, &request);
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

    print_heading(tour);
    for (size_t i = 0; i < tour->nstops; i++) {
        struct stop *stop = &tour->stops[i];

        stop->has_run = !run_one(tour, &stop->run, stop->exercise, tour->broken);
        if (stop->has_run && !tour->broken)
            stop->has_control = !run_one(tour, &stop->control, stop->exercise, true);
        if (stop->has_run)
            print_row(tour, stop);
        fflush(tour->out);
        ok = ok && stop->has_run && tour_stop_ok(tour, stop);
    }
    return ok;
}

/* The exercises named on the command line, or all; NULL entries end the list. */
static void choose(struct tour *tour, int argc, char **argv, const char *broken)
{
    tour->nstops = broken ? 1 : optind < argc ? (size_t)(argc - optind) : tour_exercises_count;
    if (broken && optind < argc)
        usage_error(&tour_line, "--break runs one exercise; leave \"%s\" out", argv[optind]);
    tour->stops = calloc(tour->nstops, sizeof(*tour->stops));
    if (!tour->stops)
        usage_error(&tour_line, "out of memory");
    for (size_t i = 0; i < tour->nstops; i++)
        tour->stops[i].exercise = broken          ? find_exercise(broken)
                                  : optind < argc ? find_exercise(argv[optind + (int)i])
                                                  : tour_exercises[i];
}

int cmd_tour(int argc, char **argv)
{
    const char *value, *broken = NULL, *json_path = NULL, *html_path = NULL;
    struct tour tour = { 0 };
    struct output_file json, html;
    struct kvm_host kvm;
    int option, err;
    bool ok;

    while ((option = options_next(&tour_line, argc, argv, &value)) >= 0) {
        switch (option) {
        case OPT_BREAK: broken = value; break;
        case OPT_HTML: html_path = value; break;
        case OPT_JSON: json_path = value; break;
        case OPT_LIST: list(); return STATUS_OK;
        default: break;
        }
    }
    choose(&tour, argc, argv, broken);
    if (output_file_same(json_path, html_path))
        usage_error(&tour_line, "--json and --html cannot both go to %s", json_path);
    err = output_file_open(&json, json_path);
    if (err)
        usage_error(&tour_line, "--json %s: %s; give a file that can be written", json_path,
                    strerror(-err));
    err = output_file_open(&html, html_path);
    if (err)
        usage_error(&tour_line, "--html %s: %s; give a file that can be written", html_path,
                    strerror(-err));
    kvm_open_or_exit(&kvm, true);
    tour.broken = broken != NULL;
    tour.host = describe_host(&kvm);
    if (html_path) {
        tour.host.picture = take_picture;
        tour.host.picture_owner = &tour;
    }
    tour.out = json.fd == STDOUT_FILENO || html.fd == STDOUT_FILENO ? stderr : stdout;
    tour.colour = isatty(fileno(tour.out));
    ok = run_all(&tour);
    if (json_path) {
        json_t *result = describe_tour(&tour);

        err = json_write(&json, result);
        json_decref(result);
        if (err)
            fprintf(stderr, "strata tour: --json %s: %s\n", json_path, strerror(-err));
        ok = ok && !err;
    }
    err = html_write(&html, tour_print_html, &tour);
    if (err)
        fprintf(stderr, "strata tour: --html %s: %s\n", html_path, strerror(-err));
    ok = ok && !err;
    output_file_close(&json);
    output_file_close(&html);
    kvm_close(&kvm);
    for (size_t i = 0; i < tour.nstops; i++)
        json_decref(tour.stops[i].picture);
    free(tour.stops);
    return ok ? STATUS_OK : STATUS_FAILED;
}
