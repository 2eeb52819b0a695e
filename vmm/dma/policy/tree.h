/* From a compiled device tree to a policy: which nodes there are, and the policy as a whole. */
#ifndef STRATA_DMA_POLICY_TREE_H
#define STRATA_DMA_POLICY_TREE_H

#include <stddef.h>

#include "vmm/dma/policy/reader.h"

/* Paths of the devices' nodes. */
struct policy_nodes {
    char device[ABI_POLICY_DEVICES_MAX][192];
};

/* A compiled tree, which may be anything, and the name that stands for its file. */
struct policy_blob {
    const void *data;
    size_t bytes;
    const char *name;
};

/* policy_parse up to the point where the complaint is made into one line. */
int policy_read(struct policy *policy, const struct policy_blob *blob, struct policy_nodes *nodes,
                struct policy_complaint *complaint);

#endif
