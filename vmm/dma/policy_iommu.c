#include <errno.h>

#include "vmm/dma/policy_reader.h"

#define NWORDS(a)    (sizeof(a) / sizeof((a)[0]))
#define DOMAINS_MAX  (1u << 16)
#define MAPPINGS_MAX (1u << 24)
#define FAULTS_MAX   2048 /* fewer than a flood has, which must overflow them */

static const char *const lacks_words[] = {
    "requester-check", "translated-check", "wrap-check",  "quota",
    "pinning",         "msi-filter",       "peer-filter", "permission",
};

static const uint32_t lacks_bits[NWORDS(lacks_words)] = {
    IOMMU_WITHOUT_REQUESTER, IOMMU_WITHOUT_TRANSLATED, IOMMU_WITHOUT_WRAP, IOMMU_WITHOUT_QUOTA,
    IOMMU_WITHOUT_PIN,       IOMMU_WITHOUT_MSI,        IOMMU_WITHOUT_PEER, IOMMU_WITHOUT_PERMISSION,
};

static int read_quotas(struct policy_reader *reader, int node, struct iommu_config *config)
{
    uint32_t total = 0, of_domain = 0;

    if (policy_u32(reader, node, "strata,max-domains", 1, DOMAINS_MAX, &config->domains_max) < 0 ||
        policy_u32(reader, node, "strata,max-mappings", 1, MAPPINGS_MAX, &total) < 0 ||
        policy_u32(reader, node, "strata,max-mappings-per-domain", 1, MAPPINGS_MAX, &of_domain) <
            0 ||
        policy_u32(reader, node, "strata,fault-records", 1, FAULTS_MAX, &config->faults_max) < 0)
        return -EINVAL;
    config->mappings_max = total;
    config->mappings_of_domain_max = of_domain;
    if (of_domain && config->without & IOMMU_WITHOUT_QUOTA)
        return policy_complain(
            reader, node, "strata,max-mappings-per-domain",
            "is a quota, and strata,lacks says \"quota\"; leave one of them out");
    return 0;
}

int policy_read_iommu(struct policy_reader *reader)
{
    static const char *const kinds[] = { "virtio,device17", "virtio,mmio", "virtio,iommu",
                                         "virtio,pci-iommu" };
    bool on = reader->iommu != POLICY_NO_NODE;
    int node = on ? reader->iommu : reader->disabled_iommu;
    struct iommu_config config = { 0 };
    uint32_t cells;
    int bytes;

    if (node == POLICY_NO_NODE)
        return 0;
    if (!policy_compatible(reader->fdt, node, kinds, NWORDS(kinds)))
        return policy_complain(reader, node, "compatible",
                               "is not that of an IOMMU of strata; write \"virtio,device17\"");
    if (policy_u32(reader, node, "#iommu-cells", 1, 1, &cells) < 0 ||
        policy_flags(reader, node, "strata,lacks", lacks_words, lacks_bits, NWORDS(lacks_words),
                     &config.without) < 0 ||
        read_quotas(reader, node, &config))
        return -EINVAL;
    if (fdt_getprop(reader->fdt, node, "strata,boot-bypass", &bytes)) {
        if (bytes)
            return policy_complain(reader, node, "strata,boot-bypass",
                                   "takes no value; it is there or it is not");
        config.boot_bypass = true;
    }
    reader->policy->iommu = on;
    if (on)
        reader->policy->iommu_config = config;
    return 0;
}
