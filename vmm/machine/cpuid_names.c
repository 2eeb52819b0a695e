#include "vmm/machine/cpuid_names.h"

#include <stddef.h>

#define NAME(word, bit, name) [CPUID_##word][bit] = #name,
const char *const cpuid_names[CPUID_WORDS][32] = { CPUID_FEATURES(NAME) };

#define HAS(name) CPUID_HAS_##name

const struct cpuid_dependency cpuid_dependencies[] = {
    { HAS(sse), HAS(fxsr) },
    { HAS(sse2), HAS(sse) },
    { HAS(pni), HAS(sse2) },
    { HAS(ssse3), HAS(pni) },
    { HAS(sse4_1), HAS(ssse3) },
    { HAS(sse4_2), HAS(sse4_1) },
    { HAS(sse4a), HAS(pni) },
    { HAS(aes), HAS(sse2) },
    { HAS(pclmulqdq), HAS(sse2) },
    { HAS(sha_ni), HAS(sse2) },
    { HAS(gfni), HAS(sse2) },
    { HAS(xsaveopt), HAS(xsave) },
    { HAS(xsavec), HAS(xsave) },
    { HAS(xgetbv1), HAS(xsave) },
    { HAS(xsaves), HAS(xsavec) },
    { HAS(pku), HAS(xsave) },
    { HAS(mpx), HAS(xsave) },
    { HAS(avx), HAS(xsave) },
    { HAS(f16c), HAS(avx) },
    { HAS(fma), HAS(avx) },
    { HAS(fma4), HAS(avx) },
    { HAS(xop), HAS(avx) },
    { HAS(avx2), HAS(avx) },
    { HAS(vaes), HAS(avx) },
    { HAS(vpclmulqdq), HAS(avx) },
    { HAS(avx_vnni), HAS(avx2) },
    { HAS(avx512f), HAS(avx2) },
    { HAS(avx512dq), HAS(avx512f) },
    { HAS(avx512ifma), HAS(avx512f) },
    { HAS(avx512pf), HAS(avx512f) },
    { HAS(avx512er), HAS(avx512f) },
    { HAS(avx512cd), HAS(avx512f) },
    { HAS(avx512bw), HAS(avx512f) },
    { HAS(avx512vl), HAS(avx512f) },
    { HAS(avx512vbmi), HAS(avx512bw) },
    { HAS(avx512_vbmi2), HAS(avx512bw) },
    { HAS(avx512_bitalg), HAS(avx512bw) },
    { HAS(avx512_fp16), HAS(avx512bw) },
    { HAS(avx512_bf16), HAS(avx512vl) },
    { HAS(avx512_vnni), HAS(avx512f) },
    { HAS(avx512_vpopcntdq), HAS(avx512f) },
    { HAS(avx512_4vnniw), HAS(avx512f) },
    { HAS(avx512_4fmaps), HAS(avx512f) },
    { HAS(avx512_vp2intersect), HAS(avx512f) },
    { HAS(amx_tile), HAS(xsave) },
    { HAS(amx_int8), HAS(amx_tile) },
    { HAS(amx_bf16), HAS(amx_tile) },
    { HAS(invpcid), HAS(pcid) },
    { HAS(npt), HAS(svm) },
    { CPUID_NO_FEATURE, CPUID_NO_FEATURE },
};
_Static_assert(sizeof(cpuid_dependencies) / sizeof(cpuid_dependencies[0]) - 1 <=
                   CPUID_DEPENDENCIES_MAX,
               "room for all of them");

/* The levels of the x86-64 psABI, and what a VM needs in any case. */
/* clang-format off */
#define MACHINE \
    HAS(fpu), HAS(vme), HAS(de), HAS(pse), HAS(tsc), HAS(msr), HAS(pae), HAS(mce), HAS(cx8), \
    HAS(apic), HAS(sep), HAS(mtrr), HAS(pge), HAS(mca), HAS(cmov), HAS(pat), HAS(pse36), \
    HAS(clflush), HAS(ht), HAS(syscall), HAS(nx), HAS(lm), HAS(x2apic), \
    HAS(tsc_deadline_timer), HAS(hypervisor), HAS(arat), HAS(tsc_adjust), HAS(constant_tsc), \
    HAS(rdtscp), HAS(smep), HAS(smap), HAS(umip), HAS(erms), HAS(fsgsbase)
#define LEVEL_1 \
    HAS(mmx), HAS(fxsr), HAS(sse), HAS(sse2)
#define LEVEL_2 \
    LEVEL_1, HAS(pni), HAS(ssse3), HAS(sse4_1), HAS(sse4_2), HAS(cx16), HAS(popcnt), \
    HAS(lahf_lm)
#define LEVEL_3 \
    LEVEL_2, HAS(xsave), HAS(xsaveopt), HAS(xsavec), HAS(xgetbv1), HAS(avx), HAS(avx2), \
    HAS(bmi1), HAS(bmi2), HAS(f16c), HAS(fma), HAS(abm), HAS(movbe), HAS(aes), \
    HAS(pclmulqdq), HAS(rdrand), HAS(rdseed), HAS(adx), HAS(clflushopt), HAS(pdpe1gb)
/* clang-format on */

#define LIST(...)                     \
    (const uint16_t[])                \
    {                                 \
        __VA_ARGS__, CPUID_NO_FEATURE \
    }

const struct cpuid_template cpuid_templates[] = {
    { "host", true, (const uint16_t[]){ CPUID_NO_FEATURE } },
    { "no-xsave", true, LIST(HAS(xsave)) },
    { "x86-64-v1", false, LIST(MACHINE, LEVEL_1) },
    { "x86-64-v2", false, LIST(MACHINE, LEVEL_2) },
    { "x86-64-v3", false, LIST(MACHINE, LEVEL_3) },
    { NULL, false, NULL },
};
