#include "vmm/doctor/doctor_text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/doctor/host_info.h"
#include "vmm/doctor/kvm_remedy.h"
#include "vmm/machine/cpu_template.h"

#define LABEL_COLUMN 18

static const char *const answers[] = {
    [ANSWER_NO] = "no", [ANSWER_YES] = "yes", [ANSWER_UNKNOWN] = "unknown"
};

enum tone { TONE_PLAIN, TONE_GOOD, TONE_BAD, TONE_NOTE };

/* One row: a label, and text in a colour if standard output is a terminal. */
static void doctor_text_row(enum tone tone, const char *label, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void doctor_text_row(enum tone tone, const char *label, const char *format, ...)
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

static void doctor_text_print_machine(const struct host_info *info)
{
    doctor_text_row(TONE_PLAIN, "CPU", "%s", info->cpu);
    doctor_text_row(TONE_PLAIN, "this machine", "%u CPUs, %" PRIu64 " MiB, Linux %s, %s%s",
                    info->cpus, info->memory_bytes >> 20, info->kernel,
                    info->is_vm ? "itself a VM under " : "no hypervisor to be seen",
                    info->is_vm ? info->vm_vendor : "");
    if (!info->device_present)
        doctor_text_row(TONE_BAD, "/dev/kvm", "missing");
    else
        doctor_text_row(info->device_readable ? TONE_GOOD : TONE_BAD, "/dev/kvm", "mode %04o, %s",
                        info->device_mode,
                        info->device_readable ? "may be used" : "may not be used");
}

static void doctor_text_print_kvm(const struct host_info *info)
{
    doctor_text_row(TONE_GOOD, "KVM backend", "%s (%s)", kvm_backend_name(info->kvm.backend),
                    info->kvm.how);
    doctor_text_row(TONE_PLAIN, "second stage", "%s%s", info->second_stage,
                    info->tdp_mmu == 'Y'   ? "; tdp_mmu"
                    : info->tdp_mmu == 'N' ? "; tdp_mmu off"
                                           : "");
    doctor_text_row(TONE_PLAIN, "API version", "%d", info->api_version);
    if (info->instruction_ns)
        doctor_text_row(TONE_PLAIN, "guest kernel code", "%s, about %" PRIu64 " ns an instruction",
                        kvm_interprets_kernel_code(&info->kvm) ? "interpreted" : "native",
                        info->instruction_ns);
}

static void doctor_text_print_pages(const struct host_info *info)
{
    doctor_text_row(TONE_PLAIN, "page sizes",
                    "second stage: 4K yes, 2M %s, 1G %s; guest: 4K yes, 2M yes, 1G %s "
                    "(%s)",
                    answers[info->second_stage_2m], answers[info->second_stage_1g],
                    answers[info->guest_1g_pages],
                    info->guest_1g_how ? info->guest_1g_how : "not probed");
}

static void doctor_text_print_host_pages(const struct host_info *info)
{
    bool thp = info->thp[0] && strcmp(info->thp, "never") != 0;

    doctor_text_row(thp ? TONE_PLAIN : TONE_NOTE, "transparent huge", "%s%s",
                    info->thp[0] ? info->thp : "not in this kernel",
                    thp ? "; --pages thp"
                        : "; echo madvise >/sys/kernel/mm/transparent_hugepage/enabled");
    for (unsigned i = 0; i < info->npools; i++) {
        const struct host_pool *pool = &info->pools[i];
        bool needed = pool->page_bytes == 2u << 20 && !pool->free_pages;

        doctor_text_row(TONE_PLAIN, "hugetlb pool",
                        "%" PRIu64 " MiB pages: %" PRIu64 " free of %" PRIu64 "%s",
                        pool->page_bytes >> 20, pool->free_pages, pool->pages,
                        needed ? "; for --pages hugetlb: sysctl vm.nr_hugepages=N" : "");
    }
    doctor_text_row(info->frame_numbers ? TONE_PLAIN : TONE_NOTE, "frame numbers", "%s",
                    info->frame_numbers ? "visible (/proc/self/pagemap)"
                                        : "hidden: run as root (CAP_SYS_ADMIN) to see host frames");
    doctor_text_row(info->user_faults ? TONE_PLAIN : TONE_NOTE, "userfaultfd", "%s",
                    info->user_faults
                        ? "may be used"
                        : "may not be used: sysctl vm.unprivileged_userfaultfd=1, or run as root");
    doctor_text_row(info->uring ? TONE_PLAIN : TONE_NOTE, "disks", "%s%s",
                    info->uring ? "io_uring" : "by system calls on a thread, which is slower; ",
                    info->uring ? "" : info->uring_lack);
}

static void doctor_text_print_capabilities(const struct host_info *info)
{
    for (unsigned i = 0; i < info->ncapabilities; i++) {
        const struct host_capability *capability = &info->capabilities[i];
        const char *label = i ? "" : "capabilities";

        if (capability->is_number)
            doctor_text_row(TONE_PLAIN, label, "%-16s %-7d %s", capability->name, capability->value,
                            capability->meaning);
        else if (capability->value)
            doctor_text_row(TONE_PLAIN, label, "%-16s yes     %s", capability->name,
                            capability->meaning);
        else
            doctor_text_row(TONE_NOTE, label, "%-16s no      %s: %s", capability->name,
                            capability->meaning, capability->lack);
    }
}

/* What a kernel's CPUID shows. */
static void doctor_text_print_template(const struct host_info *info)
{
    if (info->kvm.backend == KVM_BACKEND_SOFTWARE)
        doctor_text_row(TONE_NOTE, "guest CPUID",
                        "the host's, whatever is hidden: --cpuid is not available here");
    else if (info->cpuid)
        doctor_text_row(TONE_NOTE, "guest CPUID", "%s for kernels, because %s",
                        info->cpuid->template, info->cpuid->why);
    else
        doctor_text_row(TONE_GOOD, "guest CPUID",
                        "all that KVM supports: no feature is known to break guests on this host");
}

static void doctor_text_print_quirks(const struct host_info *info)
{
    for (unsigned i = 0; i < info->nquirks; i++) {
        const struct host_quirk *quirk = &info->quirks[i];

        doctor_text_row(TONE_NOTE, i ? "" : "quirks", "%-20s %s (%s%s%s)", quirk->name, quirk->what,
                        quirk->probed ? "probed" : "known", quirk->observed[0] ? ": " : "",
                        quirk->observed);
        doctor_text_row(TONE_PLAIN, "", "%-20s -> %s", "", quirk->advice);
    }
    if (!info->nquirks && info->kvm.fd >= 0)
        doctor_text_row(TONE_GOOD, "quirks", "none known");
}

static void doctor_text_print_verdict(const struct host_info *info)
{
    if (!info->error)
        doctor_text_row(TONE_GOOD, "verdict", "KVM can be used");
    else
        doctor_text_row(TONE_BAD, "verdict", "KVM cannot be used: %s: %s; %s", info->failed,
                        strerror(-info->error), kvm_remedy(info->error));
}

void doctor_text_print(const struct host_info *info)
{
    doctor_text_print_machine(info);
    if (info->kvm.fd >= 0) {
        doctor_text_print_kvm(info);
        doctor_text_print_pages(info);
    }
    doctor_text_print_host_pages(info);
    if (info->kvm.fd >= 0) {
        doctor_text_print_template(info);
        doctor_text_print_capabilities(info);
        doctor_text_print_quirks(info);
    }
    doctor_text_print_verdict(info);
}
