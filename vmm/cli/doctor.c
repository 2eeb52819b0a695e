#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cli/commands.h"
#include "vmm/cli/host_facts.h"
#include "vmm/cli/kvm_access.h"
#include "vmm/cli/options.h"
#include "vmm/machine/cpuid_quirks.h"
#include "vmm/report/json.h"

#define LABEL_COLUMN 18

enum { OPT_JSON };

static const struct option_entry option_entries[] = {
    [OPT_JSON] = { "json", "FILE", "also write it as JSON to FILE (- for standard output alone)" },
};

static const struct command_line doctor_line = {
    .command = "doctor",
    .summary = "Tells what this host offers for virtual machines, what it lacks, and what to do\n"
               "about it. The exit status is 0 where KVM can be used, else 3.",
    .options = option_entries,
    .noptions = sizeof(option_entries) / sizeof(option_entries[0]),
};

static const char *const answers[] = {
    [ANSWER_NO] = "no", [ANSWER_YES] = "yes", [ANSWER_UNKNOWN] = "unknown"
};

enum tone { TONE_PLAIN, TONE_GOOD, TONE_BAD, TONE_NOTE };

/* One row: a label, and text in a colour if standard output is a terminal. */
static void row(enum tone tone, const char *label, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void row(enum tone tone, const char *label, const char *format, ...)
{
    static const char *const colours[] = { [TONE_PLAIN] = "",
                                           [TONE_GOOD] = "\033[32m",
                                           [TONE_BAD] = "\033[31m",
                                           [TONE_NOTE] = "\033[33m" };
    bool coloured = tone != TONE_PLAIN && isatty(STDOUT_FILENO);
    va_list arguments;

    printf("%-*s %s", LABEL_COLUMN, label, coloured ? colours[tone] : "");
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("%s\n", coloured ? "\033[0m" : "");
}

static void print_machine(const struct host_facts *facts)
{
    row(TONE_PLAIN, "CPU", "%s", facts->cpu);
    row(TONE_PLAIN, "this machine", "%u CPUs, %" PRIu64 " MiB, Linux %s, %s%s", facts->cpus,
        facts->memory_bytes >> 20, facts->kernel,
        facts->is_vm ? "itself a VM under " : "no hypervisor to be seen",
        facts->is_vm ? facts->vm_vendor : "");
    if (!facts->device_present)
        row(TONE_BAD, "/dev/kvm", "missing");
    else
        row(facts->device_readable ? TONE_GOOD : TONE_BAD, "/dev/kvm", "mode %04o, %s",
            facts->device_mode, facts->device_readable ? "may be used" : "may not be used");
}

static void print_kvm(const struct host_facts *facts)
{
    row(TONE_GOOD, "KVM backend", "%s (%s)", kvm_backend_name(facts->kvm.backend), facts->kvm.how);
    row(TONE_PLAIN, "second stage", "%s%s", facts->second_stage,
        facts->tdp_mmu == 'Y'   ? "; tdp_mmu"
        : facts->tdp_mmu == 'N' ? "; tdp_mmu off"
                                : "");
    row(TONE_PLAIN, "API version", "%d", facts->api_version);
    if (facts->instruction_ns)
        row(TONE_PLAIN, "guest kernel code", "%s, about %" PRIu64 " ns an instruction",
            kvm_interprets_kernel_code(&facts->kvm) ? "interpreted" : "native",
            facts->instruction_ns);
}

static void print_pages(const struct host_facts *facts)
{
    row(TONE_PLAIN, "page sizes",
        "second stage: 4K yes, 2M %s, 1G %s; guest: 4K yes, 2M yes, 1G %s "
        "(%s)",
        answers[facts->second_stage_2m], answers[facts->second_stage_1g],
        answers[facts->guest_1g_pages], facts->guest_1g_how ? facts->guest_1g_how : "not probed");
}

static void print_host_pages(const struct host_facts *facts)
{
    bool thp = facts->thp[0] && strcmp(facts->thp, "never") != 0;

    row(thp ? TONE_PLAIN : TONE_NOTE, "transparent huge", "%s%s",
        facts->thp[0] ? facts->thp : "not in this kernel",
        thp ? "; --pages thp" : "; echo madvise >/sys/kernel/mm/transparent_hugepage/enabled");
    for (unsigned i = 0; i < facts->npools; i++) {
        const struct host_pool *pool = &facts->pools[i];
        bool needed = pool->page_bytes == 2u << 20 && !pool->free_pages;

        row(TONE_PLAIN, "hugetlb pool", "%" PRIu64 " MiB pages: %" PRIu64 " free of %" PRIu64 "%s",
            pool->page_bytes >> 20, pool->free_pages, pool->pages,
            needed ? "; for --pages hugetlb: sysctl vm.nr_hugepages=N" : "");
    }
    row(facts->frame_numbers ? TONE_PLAIN : TONE_NOTE, "frame numbers", "%s",
        facts->frame_numbers ? "visible (/proc/self/pagemap)"
                             : "hidden: run as root (CAP_SYS_ADMIN) to see host frames");
    row(facts->user_faults ? TONE_PLAIN : TONE_NOTE, "userfaultfd", "%s",
        facts->user_faults
            ? "may be used"
            : "may not be used: sysctl vm.unprivileged_userfaultfd=1, or run as root");
    row(facts->uring ? TONE_PLAIN : TONE_NOTE, "disks", "%s%s",
        facts->uring ? "io_uring" : "by system calls on a thread, which is slower; ",
        facts->uring ? "" : facts->uring_lack);
}

static void print_capabilities(const struct host_facts *facts)
{
    for (unsigned i = 0; i < facts->ncapabilities; i++) {
        const struct host_capability *capability = &facts->capabilities[i];
        const char *label = i ? "" : "capabilities";

        if (capability->is_number)
            row(TONE_PLAIN, label, "%-16s %-7d %s", capability->name, capability->value,
                capability->meaning);
        else if (capability->value)
            row(TONE_PLAIN, label, "%-16s yes     %s", capability->name, capability->meaning);
        else
            row(TONE_NOTE, label, "%-16s no      %s: %s", capability->name, capability->meaning,
                capability->lack);
    }
}

/* What a kernel's CPUID shows. */
static void print_template(const struct host_facts *facts)
{
    if (facts->kvm.backend == KVM_BACKEND_SOFTWARE)
        row(TONE_NOTE, "guest CPUID",
            "the host's, whatever is hidden: --cpuid is not available here");
    else if (facts->cpuid)
        row(TONE_NOTE, "guest CPUID", "%s for kernels, because %s", facts->cpuid->template,
            facts->cpuid->why);
    else
        row(TONE_GOOD, "guest CPUID",
            "all that KVM supports: no feature is known to break guests on this host");
}

static void print_quirks(const struct host_facts *facts)
{
    for (unsigned i = 0; i < facts->nquirks; i++) {
        const struct host_quirk *quirk = &facts->quirks[i];

        row(TONE_NOTE, i ? "" : "quirks", "%-20s %s (%s%s%s)", quirk->name, quirk->what,
            quirk->probed ? "probed" : "known", quirk->observed[0] ? ": " : "", quirk->observed);
        row(TONE_PLAIN, "", "%-20s -> %s", "", quirk->advice);
    }
    if (!facts->nquirks && facts->kvm.fd >= 0)
        row(TONE_GOOD, "quirks", "none known");
}

static void print_verdict(const struct host_facts *facts)
{
    if (!facts->error)
        row(TONE_GOOD, "verdict", "KVM can be used");
    else
        row(TONE_BAD, "verdict", "KVM cannot be used: %s: %s; %s", facts->failed,
            strerror(-facts->error), kvm_remedy(facts->error));
}

static void print_facts(const struct host_facts *facts)
{
    print_machine(facts);
    if (facts->kvm.fd >= 0) {
        print_kvm(facts);
        print_pages(facts);
    }
    print_host_pages(facts);
    if (facts->kvm.fd >= 0) {
        print_template(facts);
        print_capabilities(facts);
        print_quirks(facts);
    }
    print_verdict(facts);
}

static json_t *answer_json(enum answer answer)
{
    return answer == ANSWER_UNKNOWN ? json_null() : json_boolean(answer == ANSWER_YES);
}

static json_t *host_json(const struct host_facts *facts)
{
    return json_pack("{s:s, s:i, s:I, s:s, s:b, s:s}", "cpu", facts->cpu, "cpus", (int)facts->cpus,
                     "memory_bytes", (json_int_t)facts->memory_bytes, "kernel", facts->kernel,
                     "is_vm", facts->is_vm, "vm_vendor", facts->vm_vendor);
}

static json_t *kvm_json(const struct host_facts *facts)
{
    json_t *capabilities = json_object();

    for (unsigned i = 0; i < facts->ncapabilities; i++)
        json_object_set_new(capabilities, facts->capabilities[i].name,
                            json_integer(facts->capabilities[i].value));
    return json_pack("{s:s, s:s, s:s, s:s, s:i, s:I, s:b, s:o}", "backend",
                     kvm_backend_name(facts->kvm.backend), "module", facts->kvm.module,
                     "recognised_by", facts->kvm.how, "second_stage", facts->second_stage,
                     "api_version", facts->api_version, "kernel_instruction_ns",
                     (json_int_t)facts->instruction_ns, "interprets_kernel_code",
                     kvm_interprets_kernel_code(&facts->kvm), "capabilities", capabilities);
}

static json_t *pages_json(const struct host_facts *facts)
{
    json_t *pools = json_array();

    for (unsigned i = 0; i < facts->npools; i++)
        json_array_append_new(pools, json_pack("{s:I, s:I, s:I}", "page_bytes",
                                               (json_int_t)facts->pools[i].page_bytes, "pages",
                                               (json_int_t)facts->pools[i].pages, "free_pages",
                                               (json_int_t)facts->pools[i].free_pages));
    return json_pack("{s:{s:b, s:o, s:o}, s:{s:b, s:b, s:o}, s:s, s:o}", "second_stage", "4k", 1,
                     "2m", answer_json(facts->second_stage_2m), "1g",
                     answer_json(facts->second_stage_1g), "guest", "4k", 1, "2m", 1, "1g",
                     answer_json(facts->guest_1g_pages), "transparent_huge", facts->thp, "hugetlb",
                     pools);
}

static json_t *quirks_json(const struct host_facts *facts)
{
    json_t *quirks = json_array();

    for (unsigned i = 0; i < facts->nquirks; i++) {
        const struct host_quirk *quirk = &facts->quirks[i];

        json_array_append_new(quirks,
                              json_pack("{s:s, s:s, s:s, s:b, s:s}", "name", quirk->name, "what",
                                        quirk->what, "advice", quirk->advice, "probed",
                                        quirk->probed, "observed", quirk->observed));
    }
    return quirks;
}

static json_t *facts_json(const struct host_facts *facts)
{
    json_t *result = json_result("strata.doctor", 1);
    bool opened = facts->kvm.fd >= 0;

    json_object_set_new(result, "usable", json_boolean(!facts->error));
    json_object_set_new(result, "remedy",
                        facts->error ? json_string(kvm_remedy(facts->error)) : json_null());
    json_object_set_new(result, "host", host_json(facts));
    json_object_set_new(result, "kvm", opened ? kvm_json(facts) : json_null());
    json_object_set_new(result, "pages", pages_json(facts));
    json_object_set_new(result, "permissions",
                        json_pack("{s:b, s:b, s:b}", "kvm", facts->device_readable, "frame_numbers",
                                  facts->frame_numbers, "userfaultfd", facts->user_faults));
    json_object_set_new(result, "io_uring",
                        json_pack("{s:b, s:s?}", "usable", facts->uring, "lack",
                                  facts->uring ? NULL : facts->uring_lack));
    json_object_set_new(result, "cpuid_template",
                        facts->cpuid ? json_string(facts->cpuid->template) : json_null());
    json_object_set_new(result, "quirks", quirks_json(facts));
    return result;
}

int cmd_doctor(int argc, char **argv)
{
    const char *path = NULL, *value;
    struct output_file json;
    struct host_facts facts;
    json_t *result;
    int option, status, err;

    while ((option = options_next(&doctor_line, argc, argv, &value)) >= 0) {
        if (option == OPT_JSON)
            path = value;
    }
    err = output_file_open(&json, path);
    if (err)
        usage_error(&doctor_line, "--json %s: %s; give a file that can be written", path,
                    strerror(-err));
    host_facts_gather(&facts);
    if (json.fd != STDOUT_FILENO)
        print_facts(&facts);
    result = facts_json(&facts);
    status = facts.error ? STATUS_NO_KVM : STATUS_OK;
    err = json_write(&json, result);
    if (err) {
        fprintf(stderr, "strata doctor: --json %s: %s\n", path, strerror(-err));
        status = STATUS_FAILED;
    }
    json_decref(result);
    host_facts_release(&facts);
    return status;
}
