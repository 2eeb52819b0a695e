/*
 * What the parts of the policy reader share. policy.c reads a file, by dtc where it is
 * source; tree.c walks the tree, nodes.c reads its nodes, check.c sees if they agree;
 * properties.c knows the vocabulary.
 *
 * The blob may be anything: fdt_check_full has passed, nothing else is believed.
 */
#ifndef STRATA_DMA_POLICY_READER_H
#define STRATA_DMA_POLICY_READER_H

#include <libfdt.h>

#include "vmm/dma/policy/policy.h"

#define POLICY_BLOB_BYTES_MAX (256u << 10)
#define POLICY_DEPTH_MAX      16
#define POLICY_NO_NODE        (-1)

/* What is wrong, before it is known on which line. */
struct policy_complaint {
    char node[192];    /* path; empty: the file as a whole */
    char property[64]; /* empty: the node as a whole */
    char text[320];    /* what is wrong; what to do */
};

struct policy_reader {
    const void *fdt;
    struct policy *policy;
    struct policy_complaint *complaint;
    int iommu;          /* node; POLICY_NO_NODE: there is none */
    int disabled_iommu; /* node of one that is switched off */
    int reserved;       /* /reserved-memory, or POLICY_NO_NODE */
    int device[ABI_POLICY_DEVICES_MAX];
    int region[ABI_POLICY_REGIONS_MAX];
    bool has_endpoint[ABI_POLICY_DEVICES_MAX], has_domain[ABI_POLICY_DEVICES_MAX];
};

#endif
