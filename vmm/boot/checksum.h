/*
 * The checksum of firmware tables, ACPI's and the MultiProcessor Specification's alike.
 */
#ifndef STRATA_BOOT_CHECKSUM_H
#define STRATA_BOOT_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* The byte that makes the sum of all of them, the checksum so far zero, a multiple of 256. */
static inline uint8_t checksum(const void *bytes, size_t count)
{
    unsigned sum = 0;

    for (size_t i = 0; i < count; i++)
        sum += ((const uint8_t *)bytes)[i];
    return (uint8_t)(0 - sum);
}

#endif
