/* What is each for itself allowed in a policy, and cannot be together. */
#ifndef STRATA_DMA_POLICY_CHECK_H
#define STRATA_DMA_POLICY_CHECK_H

#include "vmm/dma/policy/reader.h"

/* After all nodes have been read. 0; or -EINVAL with a complaint. */
int policy_check(const struct policy_reader *reader);

#endif
