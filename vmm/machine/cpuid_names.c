#include "vmm/machine/cpuid_names.h"

#include <stddef.h>

/*
 * Missing are bits that KVM makes up itself as the guest goes along (osxsave, ospke), and
 * those of /proc/cpuinfo that stand for several bits or none.
 */
/* clang-format off */
const char *const cpuid_names[CPUID_WORDS][32] = {
    [CPUID_1_EDX] = {
        [0] = "fpu", [1] = "vme", [2] = "de", [3] = "pse", [4] = "tsc", [5] = "msr", [6] = "pae",
        [7] = "mce", [8] = "cx8", [9] = "apic", [11] = "sep", [12] = "mtrr", [13] = "pge",
        [14] = "mca", [15] = "cmov", [16] = "pat", [17] = "pse36", [18] = "pn", [19] = "clflush",
        [21] = "dts", [22] = "acpi", [23] = "mmx", [24] = "fxsr", [25] = "sse", [26] = "sse2",
        [27] = "ss", [28] = "ht", [29] = "tm", [31] = "pbe",
    },
    [CPUID_1_ECX] = {
        [0] = "pni", [1] = "pclmulqdq", [2] = "dtes64", [3] = "monitor", [4] = "ds_cpl",
        [5] = "vmx", [6] = "smx", [7] = "est", [8] = "tm2", [9] = "ssse3", [10] = "cid",
        [11] = "sdbg", [12] = "fma", [13] = "cx16", [14] = "xtpr", [15] = "pdcm", [17] = "pcid",
        [18] = "dca", [19] = "sse4_1", [20] = "sse4_2", [21] = "x2apic", [22] = "movbe",
        [23] = "popcnt", [24] = "tsc_deadline_timer", [25] = "aes", [26] = "xsave", [28] = "avx",
        [29] = "f16c", [30] = "rdrand", [31] = "hypervisor",
    },
    [CPUID_6_EAX] = {
        [0] = "dtherm", [1] = "ida", [2] = "arat", [4] = "pln", [6] = "pts", [7] = "hwp",
    },
    [CPUID_7_EBX] = {
        [0] = "fsgsbase", [1] = "tsc_adjust", [2] = "sgx", [3] = "bmi1", [4] = "hle",
        [5] = "avx2", [7] = "smep", [8] = "bmi2", [9] = "erms", [10] = "invpcid", [11] = "rtm",
        [12] = "cqm", [14] = "mpx", [15] = "rdt_a", [16] = "avx512f", [17] = "avx512dq",
        [18] = "rdseed", [19] = "adx", [20] = "smap", [21] = "avx512ifma", [23] = "clflushopt",
        [24] = "clwb", [25] = "intel_pt", [26] = "avx512pf", [27] = "avx512er",
        [28] = "avx512cd", [29] = "sha_ni", [30] = "avx512bw", [31] = "avx512vl",
    },
    [CPUID_7_ECX] = {
        [1] = "avx512vbmi", [2] = "umip", [3] = "pku", [5] = "waitpkg", [6] = "avx512_vbmi2",
        [8] = "gfni", [9] = "vaes", [10] = "vpclmulqdq", [11] = "avx512_vnni",
        [12] = "avx512_bitalg", [13] = "tme", [14] = "avx512_vpopcntdq", [16] = "la57",
        [22] = "rdpid", [24] = "bus_lock_detect", [25] = "cldemote", [27] = "movdiri",
        [28] = "movdir64b", [29] = "enqcmd", [30] = "sgx_lc",
    },
    [CPUID_7_EDX] = {
        [2] = "avx512_4vnniw", [3] = "avx512_4fmaps", [4] = "fsrm", [8] = "avx512_vp2intersect",
        [10] = "md_clear", [14] = "serialize", [16] = "tsxldtrk", [18] = "pconfig",
        [19] = "arch_lbr", [20] = "ibt", [22] = "amx_bf16", [23] = "avx512_fp16",
        [24] = "amx_tile", [25] = "amx_int8", [28] = "flush_l1d", [29] = "arch_capabilities",
    },
    [CPUID_7_1_EAX] = {
        [4] = "avx_vnni", [5] = "avx512_bf16",
    },
    [CPUID_D_1_EAX] = {
        [0] = "xsaveopt", [1] = "xsavec", [2] = "xgetbv1", [3] = "xsaves",
    },
    [CPUID_80000001_EDX] = {
        [11] = "syscall", [19] = "mp", [20] = "nx", [22] = "mmxext", [25] = "fxsr_opt",
        [26] = "pdpe1gb", [27] = "rdtscp", [29] = "lm", [30] = "3dnowext", [31] = "3dnow",
    },
    [CPUID_80000001_ECX] = {
        [0] = "lahf_lm", [1] = "cmp_legacy", [2] = "svm", [3] = "extapic", [4] = "cr8_legacy",
        [5] = "abm", [6] = "sse4a", [7] = "misalignsse", [8] = "3dnowprefetch", [9] = "osvw",
        [10] = "ibs", [11] = "xop", [12] = "skinit", [13] = "wdt", [15] = "lwp", [16] = "fma4",
        [17] = "tce", [19] = "nodeid_msr", [21] = "tbm", [22] = "topoext",
        [23] = "perfctr_core", [24] = "perfctr_nb", [26] = "bpext", [27] = "ptsc",
        [28] = "perfctr_llc", [29] = "mwaitx",
    },
    [CPUID_80000007_EDX] = {
        [8] = "constant_tsc",
    },
    [CPUID_80000008_EBX] = {
        [0] = "clzero", [1] = "irperf", [2] = "xsaveerptr", [4] = "rdpru", [9] = "wbnoinvd",
        [12] = "ibpb", [14] = "ibrs", [15] = "stibp", [23] = "amd_ppin", [24] = "ssbd",
        [25] = "virt_ssbd", [27] = "cppc",
    },
    [CPUID_8000000A_EDX] = {
        [0] = "npt", [1] = "lbrv", [2] = "svm_lock", [3] = "nrip_save", [4] = "tsc_scale",
        [5] = "vmcb_clean", [6] = "flushbyasid", [7] = "decodeassists", [10] = "pausefilter",
        [12] = "pfthreshold", [13] = "avic", [15] = "v_vmsave_vmload", [16] = "vgif",
    },
};
/* clang-format on */

const struct cpuid_dependency cpuid_dependencies[] = {
    { "sse", "fxsr" },
    { "sse2", "sse" },
    { "pni", "sse2" },
    { "ssse3", "pni" },
    { "sse4_1", "ssse3" },
    { "sse4_2", "sse4_1" },
    { "sse4a", "pni" },
    { "aes", "sse2" },
    { "pclmulqdq", "sse2" },
    { "sha_ni", "sse2" },
    { "gfni", "sse2" },
    { "xsaveopt", "xsave" },
    { "xsavec", "xsave" },
    { "xgetbv1", "xsave" },
    { "xsaves", "xsavec" },
    { "pku", "xsave" },
    { "mpx", "xsave" },
    { "avx", "xsave" },
    { "f16c", "avx" },
    { "fma", "avx" },
    { "fma4", "avx" },
    { "xop", "avx" },
    { "avx2", "avx" },
    { "vaes", "avx" },
    { "vpclmulqdq", "avx" },
    { "avx_vnni", "avx2" },
    { "avx512f", "avx2" },
    { "avx512dq", "avx512f" },
    { "avx512ifma", "avx512f" },
    { "avx512pf", "avx512f" },
    { "avx512er", "avx512f" },
    { "avx512cd", "avx512f" },
    { "avx512bw", "avx512f" },
    { "avx512vl", "avx512f" },
    { "avx512vbmi", "avx512bw" },
    { "avx512_vbmi2", "avx512bw" },
    { "avx512_bitalg", "avx512bw" },
    { "avx512_fp16", "avx512bw" },
    { "avx512_bf16", "avx512vl" },
    { "avx512_vnni", "avx512f" },
    { "avx512_vpopcntdq", "avx512f" },
    { "avx512_4vnniw", "avx512f" },
    { "avx512_4fmaps", "avx512f" },
    { "avx512_vp2intersect", "avx512f" },
    { "amx_tile", "xsave" },
    { "amx_int8", "amx_tile" },
    { "amx_bf16", "amx_tile" },
    { "invpcid", "pcid" },
    { "npt", "svm" },
    { NULL, NULL },
};
_Static_assert(sizeof(cpuid_dependencies) / sizeof(cpuid_dependencies[0]) - 1 <=
                   CPUID_DEPENDENCIES_MAX,
               "room for all of them");

/* The levels of the x86-64 psABI, and what a VM needs in any case. */
#define MACHINE                                                                                   \
    "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush ht syscall " \
    "nx lm x2apic tsc_deadline_timer hypervisor arat tsc_adjust constant_tsc rdtscp smep smap "   \
    "umip erms fsgsbase "
#define LEVEL_1 "mmx fxsr sse sse2 "
#define LEVEL_2 LEVEL_1 "pni ssse3 sse4_1 sse4_2 cx16 popcnt lahf_lm "
#define LEVEL_3                                                                                  \
    LEVEL_2 "xsave xsaveopt xsavec xgetbv1 avx avx2 bmi1 bmi2 f16c fma abm movbe aes pclmulqdq " \
            "rdrand rdseed adx clflushopt pdpe1gb "

const struct cpuid_template cpuid_templates[] = {
    { "host", true, "" },
    { "no-xsave", true, "xsave" },
    { "x86-64-v1", false, MACHINE LEVEL_1 },
    { "x86-64-v2", false, MACHINE LEVEL_2 },
    { "x86-64-v3", false, MACHINE LEVEL_3 },
    { NULL, false, NULL },
};
