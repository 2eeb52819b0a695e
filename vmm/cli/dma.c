#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "vmm/cli/commands.h"
#include "vmm/cli/kvm_access.h"
#include "vmm/cli/options.h"
#include "vmm/cli/results.h"
#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/harness.h"
#include "vmm/report/dma_html.h"
#include "vmm/report/dma_json.h"
#include "vmm/report/dma_text.h"

#define TIMEOUT_S          900
#define SEED               1
#define RANDOM_SECONDS_MAX (24 * 3600)

enum { OPT_ATTACK, OPT_LIST, OPT_SEED, OPT_RANDOM, OPT_CHECK_ONLY, OPT_JSON, OPT_HTML, OPT_TAP };

static const struct option_entry option_entries[] = {
    [OPT_ATTACK] = { "attack", "NAME", "only this class of attack; may be given more than once" },
    [OPT_LIST] = { "list", NULL, "one class of attack to a line, its name first" },
    [OPT_SEED] = { "seed", "N",
                   "of all choices made at random; 1 by default, and with --random a\n"
                   "new one each time" },
    [OPT_RANDOM] = { "random", "MINUTES",
                     "random accesses for so long after the matrix; 90s and 2h are\n"
                     "understood too" },
    [OPT_CHECK_ONLY] = { "check-only", NULL, "read the policy, tell what it says, and stop" },
    [OPT_JSON] = { "json", "FILE",
                   "write every cell to FILE (- for standard output; what is for\n"
                   "people then goes to standard error); with --check-only the policy" },
    [OPT_HTML] = { "html", "FILE", "write a page with the matrix to FILE (- likewise)" },
    [OPT_TAP] = { "tap", NULL, "one line of TAP for each cell instead of the matrix" },
};

static const struct command_line test_line = {
    .command = "dma test",
    .operands = "POLICY.dts",
    .summary =
        "Sets a DMA policy up on the bundled guest, attacks it from every device in every way\n"
        "there is, and compares what happened in memory with what the policy promises.\n"
        "Policies to start from are in tests/policies; strata(1) explains the language.",
    .options = option_entries,
    .noptions = sizeof(option_entries) / sizeof(option_entries[0]),
};

struct request {
    const char *path;
    struct results results;
    uint32_t attacks;
    uint64_t seed;
    unsigned random_seconds;
    bool has_seed, check_only, tap;
};

static void list(void)
{
    for (unsigned i = 0; i < ATTACK_COUNT; i++)
        printf("%-20s %s; stopped by: %s\n", attack_table[i]->name, attack_table[i]->mechanism,
               attack_table[i]->stopped_by);
}

static uint32_t attack_bit(const char *name)
{
    for (unsigned i = 0; i < ATTACK_COUNT; i++) {
        if (!strcmp(attack_table[i]->name, name))
            return 1u << i;
    }
    usage_error(&test_line, "no attack \"%s\"; strata dma test --list names them", name);
}

static uint64_t parse_seed(const char *text)
{
    char *end;
    unsigned long long seed;

    errno = 0;
    seed = strtoull(text, &end, 0);
    /* JSON's reader has it as a signed number. */
    if (!isdigit((unsigned char)*text) || *end || errno || seed >> 63)
        usage_error(&test_line, "--seed %s: give a number below 2^63", text);
    return seed;
}

/* "5" minutes, or "90s", "5m", "2h". */
static unsigned parse_duration(const char *text)
{
    unsigned long number = 0, unit = 60;
    char *end = NULL;

    if (isdigit((unsigned char)*text)) {
        errno = 0;
        number = strtoul(text, &end, 10);
        unit = *end == 's' ? 1 : *end == 'h' ? 3600 : 60;
        end += *end == 's' || *end == 'm' || *end == 'h';
    }
    if (!end || *end || errno || !number || number > RANDOM_SECONDS_MAX / unit)
        usage_error(&test_line, "--random %s: give minutes, or a time like 90s, up to 24h", text);
    return (unsigned)(number * unit);
}

static void show_progress(void *owner, unsigned done, unsigned total)
{
    (void)owner;
    fprintf(stderr, "\r%u of %u", done, total);
    /* Gone when the last one is told. */
    if (done >= total)
        fprintf(stderr, "\r\033[K");
    fflush(stderr);
}

static void print_page(FILE *out, const void *report)
{
    dma_html_print(out, report);
}

/* Prints and writes; false if something could not be written. */
static bool tell(const struct request *request, const struct dma_report *report,
                 struct results *results)
{
    if (request->tap)
        dma_text_print_tap(results->out, report);
    else
        dma_text_print(results->out, report, isatty(fileno(results->out)));
    return results_write(results, results->json_path ? dma_json(report) : NULL, print_page, report);
}

/* What a valid policy says, and nothing is attacked. */
static int show_policy(struct request *request, const struct policy *policy)
{
    struct results *results = &request->results;
    json_t *json = NULL;
    bool ok;

    results_open(results, &test_line);
    dma_text_print_policy(results->out, policy);
    if (results->json_path)
        json = dma_json_policy(policy, request->path);
    ok = results_write(results, json, NULL, NULL);
    results_close(results);
    return ok ? STATUS_OK : STATUS_FAILED;
}

static int run(struct request *request, const struct policy *policy)
{
    struct harness_options options = {
        .seed = request->seed,
        .attacks = request->attacks,
        .random_seconds = request->random_seconds,
        .timeout_s = TIMEOUT_S + request->random_seconds,
        .progress = isatty(STDERR_FILENO) ? show_progress : NULL,
    };
    struct harness_result result = { 0 };
    struct kvm_host kvm;
    char error[320];
    bool ok;

    results_open(&request->results, &test_line);
    kvm_open_or_exit(&kvm, true);
    options.kvm = &kvm;
    if (harness_run(&result, policy, &options, error, sizeof(error))) {
        fprintf(stderr, "strata dma test: %s: %s\n", request->path, error);
        ok = false;
    } else {
        struct dma_report report = {
            .result = &result,
            .path = request->path,
            .backend = kvm_backend_name(kvm.backend),
            .attacks = request->attacks,
        };

        ok = tell(request, &report, &request->results) && harness_ok(&result);
        harness_result_free(&result);
    }
    results_close(&request->results);
    kvm_close(&kvm);
    return ok ? STATUS_OK : STATUS_FAILED;
}

static int cmd_test(int argc, char **argv)
{
    struct request request = { .seed = SEED };
    struct policy_error error;
    struct policy policy;
    const char *value;
    int option;

    while ((option = options_next(&test_line, argc, argv, &value)) >= 0) {
        switch (option) {
        case OPT_ATTACK: request.attacks |= attack_bit(value); break;
        case OPT_LIST: list(); return STATUS_OK;
        case OPT_SEED:
            request.seed = parse_seed(value);
            request.has_seed = true;
            break;
        case OPT_RANDOM: request.random_seconds = parse_duration(value); break;
        case OPT_CHECK_ONLY: request.check_only = true; break;
        case OPT_JSON: request.results.json_path = value; break;
        case OPT_HTML: request.results.html_path = value; break;
        case OPT_TAP: request.tap = true; break;
        default: break;
        }
    }
    if (optind + 1 != argc)
        usage_error(&test_line, optind < argc ? "give one policy" : "give a policy, a .dts file");
    if (request.check_only && (request.results.html_path || request.tap))
        usage_error(&test_line, "--%s shows what attacks came to: leave it out, or --check-only",
                    request.tap ? "tap" : "html");
    if (request.check_only && (request.attacks || request.random_seconds))
        usage_error(&test_line, "--%s asks for attacks: leave it out, or --check-only",
                    request.attacks ? "attack" : "random");
    if (request.random_seconds && !request.has_seed &&
        getrandom(&request.seed, sizeof(request.seed) / 2, 0) < 0)
        request.seed = SEED;
    request.path = argv[optind];
    if (policy_load(&policy, request.path, &error)) {
        fprintf(stderr, "strata dma test: %s\n", error.text);
        return STATUS_USAGE;
    }
    if (request.check_only)
        return show_policy(&request, &policy);
    return run(&request, &policy);
}

int cmd_dma(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "test"))
        return cmd_test(argc - 1, argv + 1);
    if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
        printf(
            "Usage: strata dma test [OPTIONS] POLICY.dts\n\n"
            "  test     attack a DMA policy from every device, and prove each verdict in memory\n\n"
            "strata dma test --help tells more, strata dma test --list names the attacks.\n");
        return STATUS_OK;
    }
    if (argc > 1)
        fprintf(stderr, "strata dma: unknown \"%s\"; there is strata dma test POLICY.dts\n",
                argv[1]);
    else
        fprintf(stderr, "strata dma: say what to do: strata dma test POLICY.dts; see strata dma "
                        "--help\n");
    return STATUS_USAGE;
}
