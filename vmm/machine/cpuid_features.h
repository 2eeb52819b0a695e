/*
 * The features that cpuid_mask.c knows, as numbers: so that what depends on what is known
 * when strata is compiled, and no name is looked up while a guest waits to start.
 */
#ifndef STRATA_MACHINE_CPUID_FEATURES_H
#define STRATA_MACHINE_CPUID_FEATURES_H

#include "vmm/machine/cpuid_mask.h"

/*
 * F(word, bit, name) for each. Missing are bits that KVM makes up itself as the guest goes
 * along (osxsave, ospke), and those of /proc/cpuinfo that stand for several bits or none.
 */
/* clang-format off */
#define CPUID_FEATURES(F) \
    F(1_EDX, 0, fpu) F(1_EDX, 1, vme) F(1_EDX, 2, de) F(1_EDX, 3, pse) F(1_EDX, 4, tsc) \
    F(1_EDX, 5, msr) F(1_EDX, 6, pae) F(1_EDX, 7, mce) F(1_EDX, 8, cx8) F(1_EDX, 9, apic) \
    F(1_EDX, 11, sep) F(1_EDX, 12, mtrr) F(1_EDX, 13, pge) F(1_EDX, 14, mca) F(1_EDX, 15, cmov) \
    F(1_EDX, 16, pat) F(1_EDX, 17, pse36) F(1_EDX, 18, pn) F(1_EDX, 19, clflush) \
    F(1_EDX, 21, dts) F(1_EDX, 22, acpi) F(1_EDX, 23, mmx) F(1_EDX, 24, fxsr) F(1_EDX, 25, sse) \
    F(1_EDX, 26, sse2) F(1_EDX, 27, ss) F(1_EDX, 28, ht) F(1_EDX, 29, tm) F(1_EDX, 31, pbe) \
    F(1_ECX, 0, pni) F(1_ECX, 1, pclmulqdq) F(1_ECX, 2, dtes64) F(1_ECX, 3, monitor) \
    F(1_ECX, 4, ds_cpl) F(1_ECX, 5, vmx) F(1_ECX, 6, smx) F(1_ECX, 7, est) F(1_ECX, 8, tm2) \
    F(1_ECX, 9, ssse3) F(1_ECX, 10, cid) F(1_ECX, 11, sdbg) F(1_ECX, 12, fma) F(1_ECX, 13, cx16) \
    F(1_ECX, 14, xtpr) F(1_ECX, 15, pdcm) F(1_ECX, 17, pcid) F(1_ECX, 18, dca) \
    F(1_ECX, 19, sse4_1) F(1_ECX, 20, sse4_2) F(1_ECX, 21, x2apic) F(1_ECX, 22, movbe) \
    F(1_ECX, 23, popcnt) F(1_ECX, 24, tsc_deadline_timer) F(1_ECX, 25, aes) F(1_ECX, 26, xsave) \
    F(1_ECX, 28, avx) F(1_ECX, 29, f16c) F(1_ECX, 30, rdrand) F(1_ECX, 31, hypervisor) \
    F(6_EAX, 0, dtherm) F(6_EAX, 1, ida) F(6_EAX, 2, arat) F(6_EAX, 4, pln) F(6_EAX, 6, pts) \
    F(6_EAX, 7, hwp) \
    F(7_EBX, 0, fsgsbase) F(7_EBX, 1, tsc_adjust) F(7_EBX, 2, sgx) F(7_EBX, 3, bmi1) \
    F(7_EBX, 4, hle) F(7_EBX, 5, avx2) F(7_EBX, 7, smep) F(7_EBX, 8, bmi2) F(7_EBX, 9, erms) \
    F(7_EBX, 10, invpcid) F(7_EBX, 11, rtm) F(7_EBX, 12, cqm) F(7_EBX, 14, mpx) \
    F(7_EBX, 15, rdt_a) F(7_EBX, 16, avx512f) F(7_EBX, 17, avx512dq) F(7_EBX, 18, rdseed) \
    F(7_EBX, 19, adx) F(7_EBX, 20, smap) F(7_EBX, 21, avx512ifma) F(7_EBX, 23, clflushopt) \
    F(7_EBX, 24, clwb) F(7_EBX, 25, intel_pt) F(7_EBX, 26, avx512pf) F(7_EBX, 27, avx512er) \
    F(7_EBX, 28, avx512cd) F(7_EBX, 29, sha_ni) F(7_EBX, 30, avx512bw) F(7_EBX, 31, avx512vl) \
    F(7_ECX, 1, avx512vbmi) F(7_ECX, 2, umip) F(7_ECX, 3, pku) F(7_ECX, 5, waitpkg) \
    F(7_ECX, 6, avx512_vbmi2) F(7_ECX, 8, gfni) F(7_ECX, 9, vaes) F(7_ECX, 10, vpclmulqdq) \
    F(7_ECX, 11, avx512_vnni) F(7_ECX, 12, avx512_bitalg) F(7_ECX, 13, tme) \
    F(7_ECX, 14, avx512_vpopcntdq) F(7_ECX, 16, la57) F(7_ECX, 22, rdpid) \
    F(7_ECX, 24, bus_lock_detect) F(7_ECX, 25, cldemote) F(7_ECX, 27, movdiri) \
    F(7_ECX, 28, movdir64b) F(7_ECX, 29, enqcmd) F(7_ECX, 30, sgx_lc) \
    F(7_EDX, 2, avx512_4vnniw) F(7_EDX, 3, avx512_4fmaps) F(7_EDX, 4, fsrm) \
    F(7_EDX, 8, avx512_vp2intersect) F(7_EDX, 10, md_clear) F(7_EDX, 14, serialize) \
    F(7_EDX, 16, tsxldtrk) F(7_EDX, 18, pconfig) F(7_EDX, 19, arch_lbr) F(7_EDX, 20, ibt) \
    F(7_EDX, 22, amx_bf16) F(7_EDX, 23, avx512_fp16) F(7_EDX, 24, amx_tile) \
    F(7_EDX, 25, amx_int8) F(7_EDX, 28, flush_l1d) F(7_EDX, 29, arch_capabilities) \
    F(7_1_EAX, 4, avx_vnni) F(7_1_EAX, 5, avx512_bf16) \
    F(D_1_EAX, 0, xsaveopt) F(D_1_EAX, 1, xsavec) F(D_1_EAX, 2, xgetbv1) F(D_1_EAX, 3, xsaves) \
    F(80000001_EDX, 11, syscall) F(80000001_EDX, 19, mp) F(80000001_EDX, 20, nx) \
    F(80000001_EDX, 22, mmxext) F(80000001_EDX, 25, fxsr_opt) F(80000001_EDX, 26, pdpe1gb) \
    F(80000001_EDX, 27, rdtscp) F(80000001_EDX, 29, lm) F(80000001_EDX, 30, 3dnowext) \
    F(80000001_EDX, 31, 3dnow) \
    F(80000001_ECX, 0, lahf_lm) F(80000001_ECX, 1, cmp_legacy) F(80000001_ECX, 2, svm) \
    F(80000001_ECX, 3, extapic) F(80000001_ECX, 4, cr8_legacy) F(80000001_ECX, 5, abm) \
    F(80000001_ECX, 6, sse4a) F(80000001_ECX, 7, misalignsse) F(80000001_ECX, 8, 3dnowprefetch) \
    F(80000001_ECX, 9, osvw) F(80000001_ECX, 10, ibs) F(80000001_ECX, 11, xop) \
    F(80000001_ECX, 12, skinit) F(80000001_ECX, 13, wdt) F(80000001_ECX, 15, lwp) \
    F(80000001_ECX, 16, fma4) F(80000001_ECX, 17, tce) F(80000001_ECX, 19, nodeid_msr) \
    F(80000001_ECX, 21, tbm) F(80000001_ECX, 22, topoext) F(80000001_ECX, 23, perfctr_core) \
    F(80000001_ECX, 24, perfctr_nb) F(80000001_ECX, 26, bpext) F(80000001_ECX, 27, ptsc) \
    F(80000001_ECX, 28, perfctr_llc) F(80000001_ECX, 29, mwaitx) \
    F(80000007_EDX, 8, constant_tsc) \
    F(80000008_EBX, 0, clzero) F(80000008_EBX, 1, irperf) F(80000008_EBX, 2, xsaveerptr) \
    F(80000008_EBX, 4, rdpru) F(80000008_EBX, 9, wbnoinvd) F(80000008_EBX, 12, ibpb) \
    F(80000008_EBX, 14, ibrs) F(80000008_EBX, 15, stibp) F(80000008_EBX, 23, amd_ppin) \
    F(80000008_EBX, 24, ssbd) F(80000008_EBX, 25, virt_ssbd) F(80000008_EBX, 27, cppc) \
    F(8000000A_EDX, 0, npt) F(8000000A_EDX, 1, lbrv) F(8000000A_EDX, 2, svm_lock) \
    F(8000000A_EDX, 3, nrip_save) F(8000000A_EDX, 4, tsc_scale) F(8000000A_EDX, 5, vmcb_clean) \
    F(8000000A_EDX, 6, flushbyasid) F(8000000A_EDX, 7, decodeassists) \
    F(8000000A_EDX, 10, pausefilter) F(8000000A_EDX, 12, pfthreshold) F(8000000A_EDX, 13, avic) \
    F(8000000A_EDX, 15, v_vmsave_vmload) F(8000000A_EDX, 16, vgif)
/* clang-format on */

enum cpuid_feature {
#define CPUID_NUMBER(word, bit, name) CPUID_HAS_##name = CPUID_##word * 32 + (bit),
    CPUID_FEATURES(CPUID_NUMBER)
#undef CPUID_NUMBER
        CPUID_NO_FEATURE = CPUID_WORDS * 32 /* ends a list */
};

#endif
