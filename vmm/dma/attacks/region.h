/* Attacks on the memory of a policy's regions. */
#ifndef STRATA_DMA_ATTACKS_REGION_H
#define STRATA_DMA_ATTACKS_REGION_H

#include "vmm/dma/engine.h"

/*
 * Every page of a region, at all addresses that it has for some device. `wanted`:
 * RULES_READ, RULES_WRITE. claims: in the name of the device that has the address.
 */
void region_attack(struct harness *harness, struct matrix_cell *cell, unsigned region,
                   uint32_t wanted, bool claims);

/* A page of memory that is not the program's; the world must stand still. */
void region_attack_elsewhere(struct harness *harness, struct matrix_cell *cell, uint64_t gpa);

/* What the device may not do with the region by its own `memory-region`. */
uint32_t region_not_its_own(const struct harness *harness, unsigned device, unsigned region);

#endif
