#include "vmm/machine/cpuid_quirks.h"

#include <cpuid.h>
#include <stddef.h>
#include <string.h>

#include "vmm/machine/cpuid_mask.h"

#define LEAF_1_ECX_HYPERVISOR  (1u << 31)
#define LEAF_80000001_ECX_SVM  (1u << 2)
#define LEAF_HYPERVISOR        0x40000000u
#define LEAF_EXTENDED_FEATURES 0x80000001u

/* strata doctor shows each by a probe of its own (vmm/doctor/host_quirks.c). */
static const struct cpuid_quirk quirks[] = {
    { .evidence = { .hypervisor = "TCGTCGTCGTCG", .svm = true },
      .template = "no-xsave",
      .why = "QEMU's TCG, which this host runs in, hides XSETBV from KVM: at the next exit "
             "XCR0 is back to 1, and AVX gone" },
};

void cpuid_gather(struct cpuid_evidence *evidence)
{
    unsigned eax, ebx, ecx, edx;

    *evidence = (struct cpuid_evidence){ .svm = false };
    __cpuid(1, eax, ebx, ecx, edx);
    if (!(ecx & LEAF_1_ECX_HYPERVISOR))
        return;
    __cpuid(LEAF_HYPERVISOR, eax, ebx, ecx, edx);
    memcpy(evidence->hypervisor, (unsigned[]){ ebx, ecx, edx }, 12);
    if (__get_cpuid(LEAF_EXTENDED_FEATURES, &eax, &ebx, &ecx, &edx))
        evidence->svm = ecx & LEAF_80000001_ECX_SVM;
}

const struct cpuid_quirk *cpuid_quirk_of(const struct cpuid_evidence *evidence)
{
    for (unsigned i = 0; i < sizeof(quirks) / sizeof(quirks[0]); i++) {
        if (!strcmp(quirks[i].evidence.hypervisor, evidence->hypervisor) &&
            quirks[i].evidence.svm == evidence->svm)
            return &quirks[i];
    }
    return NULL;
}

const struct cpuid_quirk *cpuid_quirk_add(struct cpuid_mask *mask)
{
    struct cpuid_mask needed = { .template = false };
    struct cpuid_evidence evidence;
    const struct cpuid_quirk *quirk;
    bool changed = false;

    if (mask->template)
        return NULL;
    cpuid_gather(&evidence);
    quirk = cpuid_quirk_of(&evidence);
    if (!quirk || !cpuid_mask_add(&needed, quirk->template))
        return NULL;
    for (unsigned i = 0; i < CPUID_WORDS; i++) {
        uint32_t more = needed.hide[i] & ~mask->want[i] & ~mask->hide[i];

        mask->hide[i] |= more;
        changed |= more != 0;
    }
    return changed ? quirk : NULL;
}
