/*
 * A DMA policy: device tree source that says which devices there are, how the IOMMU
 * treats each and what each may reach (tests/policies, strata(1)). Compiled by dtc,
 * read with libfdt.
 */
#ifndef STRATA_DMA_POLICY_POLICY_H
#define STRATA_DMA_POLICY_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/iommu/iommu.h"
#include "guest/abi/policy.h"

/*
 * The machine a policy is for: its memory, where a `reg` of it may lie (the guest kernel
 * is below), and how much all regions may take.
 */
#define POLICY_MEMORY_BYTES      (256ull << 20)
#define POLICY_KERNEL_END        (32ull << 20)
#define POLICY_REGIONS_BYTES_MAX (64u << 20)

/*
 * Quotas of a unit whose policy has none, so small that attacks fill it in no long time. A
 * domain's is never more than its share of all mappings.
 */
#define POLICY_MAPPINGS_MAX           8192u
#define POLICY_MAPPINGS_OF_DOMAIN_MAX 2048u

/*
 * Device addresses that are no policy's: where attacks map and look for nothing, and where
 * the guest's drivers get theirs, so much for each domain.
 */
#define POLICY_ATTACKED_FIRST 0x10000000000ull
#define POLICY_ATTACKED_LAST  0x2ffffffffffull
#define POLICY_DRIVERS_FIRST  0x400000000000ull
#define POLICY_DRIVERS_BYTES  0x10000000000ull

/* What the policy says beyond what the guest is told (abi_policy). */
struct policy_device {
    uint64_t vectors[4]; /* MSI vectors the endpoint may signal */
    unsigned line;       /* of its node in the source; 0: not known */
};

struct policy {
    char name[64];         /* the root's `model`, or the file's name */
    char description[256]; /* the root's `strata,description` */
    struct abi_policy guest;
    bool iommu; /* there is one */
    struct iommu_config iommu_config;
    struct policy_device device[ABI_POLICY_DEVICES_MAX];
};

struct policy_error {
    char text[768]; /* file[:line]: node: property: what is wrong; what to do */
};

/*
 * Reads a .dts (through dtc) or a .dtb. 0; or -errno and one line that names file, node,
 * property and, where dtc or the source tells, the line.
 */
int policy_load(struct policy *policy, const char *path, struct policy_error *error);

/* The same from a blob of `bytes`, which may be anything; `name` stands for the file. */
int policy_parse(struct policy *policy, const void *blob, size_t bytes, const char *name,
                 struct policy_error *error);

#endif
