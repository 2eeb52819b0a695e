/*
 * Random requests while the guest maps and unmaps at random, each held against a naive
 * model: which page of which device leads where, as the guest has said and the policy
 * allows. Nothing of the model comes from the IOMMU.
 */
#ifndef STRATA_DMA_RANDOM_REQUESTS_H
#define STRATA_DMA_RANDOM_REQUESTS_H

struct harness;

/* For options->random_seconds; the result is harness_result.random_*. */
void random_requests_run(struct harness *harness);

#endif
