#include "vmm/doctor/host_quirks.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/doctor/host_info.h"
#include "vmm/machine/cpu_template.h"
#include "vmm/machine/cpuid_mask.h"
#include "vmm/machine/probe.h"

/* Above this, an instruction is not run but interpreted. */
#define INTERPRETED_NS 200

/* Known of the software backend and too costly, or too dangerous, to try each time. */
static const struct host_quirk software_quirks[] = {
    { "syscall", "syscall from CPL 3 jumps to the kernel's entry but stays at CPL 3",
      "enter the kernel through ud2; the bundled guest chooses its gate by itself", false, "" },
    { "int_n", "int n from CPL 3 raises #UD", "use ud2 or int3 as a gate", false, "" },
    { "vmcall", "vmcall and vmmcall at CPL 0 hang inside KVM_RUN",
      "talk to the host through ports or MMIO", false, "" },
    { "kernel_instructions",
      "at CPL 0 SSE, AVX, xsave, cmpxchg16b, int3, int n, rdtscp and others end the run",
      "build kernels with -mgeneral-regs-only -march=x86-64 -fcf-protection=none", false, "" },
    { "linux", "Linux does not boot as a guest", "use scripts/emuhost npt or ept for that", false,
      "" },
    { "live_ptes", "page table entries written by the host stay stale in a running guest",
      "change page tables from the guest's CPL 0 only", false, "" },
    { "paging_features", "PCID, LA57 and SMAP fault; user pages in the upper half fault",
      "leave them off; keep user space in the lower half", false, "" },
    { "cpuid", "features hidden in CPUID show all the same, and CPL 3 sees the host's CPUID",
      "do not rely on masks here", false, "" },
    { "tsc", "TSC offset, scaling and writes are ignored: the guest's TSC is the host's",
      "read it, do not set it", false, "" },
    { "debug", "single steps and breakpoints at CPL 3 never reach the host",
      "step with the guest's own trap flag", false, "" },
    { "fpu_ts", "CR0.TS has no effect at CPL 3", "switch the FPU state eagerly", false, "" },
    { "iopl", "IOPL is lost by iretq", "use the TSS's I/O bitmap", false, "" },
};

static struct host_quirk *host_quirks_add(struct host_info *info, struct host_quirk quirk)
{
    if (info->nquirks == HOST_QUIRKS_MAX)
        return NULL;
    info->quirks[info->nquirks] = quirk;
    return &info->quirks[info->nquirks++];
}

/* The first probe also says whether a VM can be made and run at all. */
static void host_quirks_probe_speed(struct host_info *info)
{
    enum { LOOPS = 5000 };
    /* Timed inside the guest: how long a VM takes to start says nothing here. */
    static const uint8_t code[] = {
        0x0f, 0x31,                           /* rdtsc */
        0x89, 0xc6,                           /* mov %eax, %esi */
        0xb9, LOOPS & 0xff, LOOPS >> 8, 0, 0, /* mov $LOOPS, %ecx */
        0x49,                                 /* 1: dec %ecx */
        0x75, 0xfd,                           /* jnz 1b */
        0x0f, 0x31,                           /* rdtsc */
        0x29, 0xf0,                           /* sub %esi, %eax */
        0xe7, PROBE_PORT,                     /* out %eax, $PROBE_PORT */
    };
    struct probe_code probe = { .mode = PROBE_32BIT, .code = code, .bytes = sizeof(code) };
    struct probe_outcome outcome;
    struct host_quirk *quirk;
    int err = probe_run(&info->kvm, &probe, &outcome);

    if (!err && outcome.end != VM_END_GUEST_EXIT)
        err = -EIO;
    if (err) {
        info->error = err;
        info->failed = "running a few instructions on a throw-away VM";
        return;
    }
    if (outcome.tsc_hz)
        info->instruction_ns = outcome.value * 1000000000ull / outcome.tsc_hz / (2 * LOOPS) + 1;
    if (info->instruction_ns < INTERPRETED_NS || !kvm_interprets_kernel_code(&info->kvm))
        return;
    quirk = host_quirks_add(
        info, (struct host_quirk){
                  .name = "interpreted_kernel",
                  .what = "guest code at CPL 0 is interpreted by KVM; CPL 3 runs natively",
                  .advice = "keep kernel paths short, touch no page twice, use 2M pages "
                            "for the direct map",
                  .probed = true });
    if (quirk)
        snprintf(quirk->observed, sizeof(quirk->observed), "about %" PRIu64 " ns an instruction",
                 info->instruction_ns);
}

static void host_quirks_probe_1g_page(struct host_info *info)
{
    static const uint8_t code[] = { 0xe7, PROBE_PORT };
    struct probe_code probe = { .mode = PROBE_64BIT_1GIB, .code = code, .bytes = sizeof(code) };
    struct probe_outcome outcome;

    info->guest_1g_pages = ANSWER_UNKNOWN;
    info->guest_1g_how = "not probed";
    if (probe_run(&info->kvm, &probe, &outcome))
        return;
    info->guest_1g_pages = outcome.end == VM_END_GUEST_EXIT ? ANSWER_YES : ANSWER_NO;
    info->guest_1g_how = "probed";
    if (info->guest_1g_pages == ANSWER_NO)
        host_quirks_add(info, (struct host_quirk){ .name = "no_1g_pages",
                                                   .what = "a 1G page in the guest's tables faults",
                                                   .advice = "use 2M pages",
                                                   .probed = true });
}

/* Instructions that any CPU of the last fifteen years has; both set EAX. */
static void host_quirks_probe_instructions(struct host_info *info)
{
    static const uint8_t popcnt[] = { 0xb8, 0xff,      0,    0,    0, /* mov $255, %eax */
                                      0xf3, 0x0f,      0xb8, 0xc0,    /* popcnt %eax, %eax */
                                      0xe7, PROBE_PORT };
    static const uint8_t lzcnt[] = { 0xb8, 0xff,      0,    0,    0, /* mov $255, %eax */
                                     0xf3, 0x0f,      0xbd, 0xc0,    /* lzcnt %eax, %eax */
                                     0xe7, PROBE_PORT };
    struct probe_code probe = { .mode = PROBE_32BIT, .code = popcnt, .bytes = sizeof(popcnt) };
    struct probe_outcome outcome;

    if (probe_run(&info->kvm, &probe, &outcome) == 0 && outcome.end == VM_END_INTERNAL_ERROR)
        host_quirks_add(
            info, (struct host_quirk){ .name = "popcnt",
                                       .what = "popcnt at CPL 0 ends the run with an internal "
                                               "error, as do other newer instructions",
                                       .advice = "build kernels with -march=x86-64",
                                       .probed = true });
    probe.code = lzcnt;
    probe.bytes = sizeof(lzcnt);
    if (probe_run(&info->kvm, &probe, &outcome) == 0 && outcome.end == VM_END_GUEST_EXIT &&
        outcome.value == 7)
        host_quirks_add(
            info, (struct host_quirk){ .name = "lzcnt",
                                       .what = "lzcnt and tzcnt at CPL 0 silently run as bsr and "
                                               "bsf, with other results",
                                       .advice = "build kernels with -march=x86-64",
                                       .probed = true });
}

/*
 * Sets XCR0 to x87 and SSE, has CPUID exit, and looks again. Where the processor does not
 * tell KVM of XSETBV, KVM puts back what XCR0 was.
 */
static void host_quirks_probe_xsave(struct host_info *info)
{
    enum { X87_SSE = 3 };
    static const uint8_t code[] = {
        0x0f, 0x20,       0xe0,             /* mov %cr4, %rax */
        0x0d, 0,          0,    0x04, 0,    /* or $OSXSAVE, %eax */
        0x0f, 0x22,       0xe0,             /* mov %rax, %cr4 */
        0x31, 0xc9,       0x31, 0xd2,       /* xor %ecx, %ecx; xor %edx, %edx */
        0xb8, 3,          0,    0,    0,    /* mov $X87_SSE, %eax */
        0x0f, 0x01,       0xd1,             /* xsetbv */
        0x31, 0xc0,       0x0f, 0xa2,       /* xor %eax, %eax; cpuid */
        0x31, 0xc9,       0x0f, 0x01, 0xd0, /* xor %ecx, %ecx; xgetbv */
        0xe7, PROBE_PORT,
    };
    struct probe_code probe = { .mode = PROBE_64BIT, .code = code, .bytes = sizeof(code) };
    struct cpuid_table *table = calloc(1, sizeof(*table));
    struct probe_outcome outcome;
    bool claimed = table && !cpuid_fetch(info->kvm.fd, table) && cpuid_has(table, "xsave");
    struct host_quirk *quirk;

    free(table);
    if (!claimed || probe_run(&info->kvm, &probe, &outcome) ||
        (outcome.end == VM_END_GUEST_EXIT && outcome.value == X87_SSE))
        return;
    quirk = host_quirks_add(
        info, (struct host_quirk){
                  .name = "xsave",
                  .what = "a guest that sets XCR0, as for AVX, loses it at the next exit",
                  .advice = "--cpuid no-xsave hides it; run chooses that for kernels "
                            "where it knows the host",
                  .probed = true });
    if (quirk && outcome.end == VM_END_GUEST_EXIT)
        snprintf(quirk->observed, sizeof(quirk->observed), "set to %d, then %" PRIu32, X87_SSE,
                 outcome.value);
}

/* What run hides from kernels on this host without being asked. */
static void host_quirks_choose_template(struct host_info *info)
{
    struct cpu_detection input;

    cpuid_gather(&input);
    info->cpuid = cpu_template_find(&input);
}

void host_quirks_gather(struct host_info *info)
{
    host_quirks_probe_speed(info);
    if (info->error)
        return;
    host_quirks_probe_1g_page(info);
    host_quirks_probe_instructions(info);
    if (info->kvm.backend != KVM_BACKEND_SOFTWARE)
        host_quirks_probe_xsave(info);
    host_quirks_choose_template(info);
    if (info->kvm.backend == KVM_BACKEND_SOFTWARE) {
        for (unsigned i = 0; i < sizeof(software_quirks) / sizeof(software_quirks[0]); i++)
            host_quirks_add(info, software_quirks[i]);
    }
    if (info->kvm.backend == KVM_BACKEND_SHADOW)
        host_quirks_add(
            info, (struct host_quirk){
                      .name = "shadow",
                      .what = "nested paging is switched off in the KVM module",
                      .advice = "load it with ept=1 or npt=1 to measure two-dimensional walks" });
}
