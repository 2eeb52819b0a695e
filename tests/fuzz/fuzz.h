/*
 * What fuzzers of virtio devices have in common: a check that stops them, and rings anywhere
 * in RAM.
 */
#ifndef STRATA_TESTS_FUZZ_H
#define STRATA_TESTS_FUZZ_H

#include "tests/unit/ring.h"

/* libFuzzer keeps the input that a trap comes from. */
#define CHECK(condition)      \
    do {                      \
        if (!(condition))     \
            __builtin_trap(); \
    } while (0)

/*
 * Sets the first `queues` of a device up where an input has them, base[i] in units of 256
 * bytes, 1 << size_log2[i] entries with less than `sizes` for the exponent; then DRIVER_OK.
 */
static inline void fuzz_rings(struct virtio_device *device, uint8_t *ram, unsigned queues,
                              const uint8_t *base, const uint8_t *size_log2, unsigned sizes)
{
    for (unsigned i = 0; i < queues; i++) {
        struct ring ring;

        ring_setup(&ring, device, i, ram, base[i] * 256ull, (uint16_t)(1u << size_log2[i] % sizes));
    }
    ring_driver_ok(device);
}

#endif
