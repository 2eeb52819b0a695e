/*
 * The test harness: sets a policy up on the bundled guest, attacks it from every device in every
 * way there is, and compares what happened in memory with what the policy promises.
 */
#ifndef STRATA_DMA_HARNESS_H
#define STRATA_DMA_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/dma/attacks/attacks.h"
#include "vmm/dma/policy/policy.h"
#include "vmm/machine/kvm.h"

#define HARNESS_REASON_BYTES 200

/* What an attack got, or is expected to get. */
struct harness_effect {
    bool applies;         /* false: this device cannot be used for it, or there is no target */
    bool succeeds;        /* the attack reached its goal */
    uint64_t read_bytes;  /* bytes the device should not know and does */
    uint64_t write_bytes; /* bytes it should not have changed and did */
};

/* One device, one attack, one region (or the machine as a whole). */
struct matrix_cell {
    unsigned device, attack;
    char region[ABI_POLICY_NAME_BYTES]; /* what was attacked */
    struct harness_effect expected, observed;
    bool ok;                            /* they agree, and every check passed */
    unsigned checks, failed;            /* in memory, of fault records, of what the device saw */
    char because[HARNESS_REASON_BYTES]; /* the rule of the policy that the expectation follows from
                                         */
    char failure[HARNESS_REASON_BYTES]; /* the first check that failed: expected, observed */
};

/* What a device can reach with everything set up, against what its `memory-region` needs. */
struct harness_exposure {
    uint64_t read_bytes, write_bytes;
    uint64_t needed_read_bytes, needed_write_bytes;
};

/* From the driver's unmap (its return) to the first access that failed. */
struct harness_window {
    bool measured;
    unsigned samples;
    uint64_t accesses_median, accesses_max; /* device accesses that still got through */
    double ns_median, ns_p99, ns_max;
};

struct harness_result {
    const struct policy *policy;
    uint64_t seed;
    size_t ncells;
    struct matrix_cell *cells; /* owned: harness_result_free */
    struct harness_exposure exposure[ABI_POLICY_DEVICES_MAX];
    struct harness_window window[ABI_POLICY_DEVICES_MAX];
    unsigned differing; /* cells that are not ok */
    uint64_t random_steps, random_failures;
    char random_failure[HARNESS_REASON_BYTES];
    bool guest_lives;
    char guest_failure[HARNESS_REASON_BYTES]; /* where it does not */
    uint64_t elapsed_ns;
};

struct harness_options {
    const struct kvm_host *kvm;
    uint64_t seed;
    uint32_t attacks;        /* bit n: attack n; 0: all */
    unsigned random_seconds; /* > 0: random accesses for so long after the matrix */
    unsigned timeout_s;
    void (*progress)(void *owner, unsigned done, unsigned total); /* NULL: none */
    void *owner;
};

/* 0 when it could be carried out, whatever came of it; or -errno and one line. */
int harness_run(struct harness_result *result, const struct policy *policy,
                const struct harness_options *options, char *error, size_t error_bytes);
void harness_result_free(struct harness_result *result);

/* Everything is as the policy promises. */
bool harness_ok(const struct harness_result *result);

#endif
