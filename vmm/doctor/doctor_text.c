#include "vmm/doctor/doctor_text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/doctor/host_facts.h"
#include "vmm/doctor/kvm_remedy.h"
#include "vmm/machine/cpuid_quirks.h"

#define LABEL_COLUMN 18

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

void doctor_text_print(const struct host_facts *facts)
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
