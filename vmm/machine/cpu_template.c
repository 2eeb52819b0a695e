#include "vmm/machine/cpu_template.h"

#include <cpuid.h>
#include <stddef.h>
#include <string.h>

#include "vmm/machine/cpuid_mask.h"

#define LEAF_1_ECX_HYPERVISOR  (1u << 31)
#define LEAF_80000001_ECX_SVM  (1u << 2)
#define LEAF_HYPERVISOR        0x40000000u
#define LEAF_EXTENDED_FEATURES 0x80000001u

/* strata doctor shows each by a probe of its own. */
static const struct cpu_template templates[] = {
    { .input = { .hypervisor = "TCGTCGTCGTCG", .svm = true },
      .template = "no-xsave",
      .why = "QEMU's TCG, which this host runs in, hides XSETBV from KVM: at the next exit "
             "XCR0 is back to 1, and AVX gone" },
};

void cpuid_gather(struct cpu_detection *input)
{
    unsigned eax, ebx, ecx, edx;

    *input = (struct cpu_detection){ .svm = false };
    __cpuid(1, eax, ebx, ecx, edx);
    if (!(ecx & LEAF_1_ECX_HYPERVISOR))
        return;
    __cpuid(LEAF_HYPERVISOR, eax, ebx, ecx, edx);
    memcpy(input->hypervisor, (unsigned[]){ ebx, ecx, edx }, 12);
    if (__get_cpuid(LEAF_EXTENDED_FEATURES, &eax, &ebx, &ecx, &edx))
        input->svm = ecx & LEAF_80000001_ECX_SVM;
}

const struct cpu_template *cpu_template_find(const struct cpu_detection *input)
{
    for (unsigned i = 0; i < sizeof(templates) / sizeof(templates[0]); i++) {
        if (!strcmp(templates[i].input.hypervisor, input->hypervisor) &&
            templates[i].input.svm == input->svm)
            return &templates[i];
    }
    return NULL;
}

const struct cpu_template *cpu_template_apply(struct cpuid_mask *mask)
{
    struct cpuid_mask needed = { .template = false };
    struct cpu_detection input;
    const struct cpu_template *template;
    bool changed = false;

    if (mask->template)
        return NULL;
    cpuid_gather(&input);
    template = cpu_template_find(&input);
    if (!template || !cpuid_mask_add(&needed, template->template))
        return NULL;
    for (unsigned i = 0; i < CPUID_WORDS; i++) {
        uint32_t more = needed.hide[i] & ~mask->want[i] & ~mask->hide[i];

        mask->hide[i] |= more;
        changed |= more != 0;
    }
    return changed ? template : NULL;
}
