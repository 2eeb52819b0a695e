/*
 * The guest's program put to use: calls of it, its pages found and filled, the policy's uses
 * mapped. The world is stopped, as for engine.h.
 */
#ifndef STRATA_DMA_SETUP_H
#define STRATA_DMA_SETUP_H

#include <stdint.h>

#include "vmm/dma/engine.h"

/* ---- The guest -------------------------------------------------------------- */

/* One system call of the program's: its result, or -ESHUTDOWN where it cannot be called. */
int64_t harness_dma(struct harness *harness, unsigned device, enum abi_dma_op op,
                    struct abi_dma *dma);

/* Several commands in one call: 0, or -errno (the guest is lost). */
int harness_call(struct harness *harness, struct abi_harness_command *commands, unsigned n);

/* A command for harness_call: SYS_DMA(op) for the device. */
struct abi_harness_command harness_command(unsigned device, enum abi_dma_op op);

/* The command that maps [page's va + offset, + bytes). */
struct abi_harness_command harness_map_command(const struct harness *harness, unsigned device,
                                               unsigned page, uint32_t rights);

struct harness_page *harness_page(struct harness *harness, enum harness_page_use use);

/* ---- Setting up -------------------------------------------------------------- */

/* After the program's first checkpoint: finds its pages, plants canaries. */
int harness_fill_canaries(struct harness *harness);

/* Every device attached, every use of its policy mapped; what is there stays. */
int harness_set_up(struct harness *harness);
/* This device anew, after something took its mappings away. */
int harness_set_up_device(struct harness *harness, unsigned device);
/*
 * The guest has its time to act upon faults; then whatever that, or an attack, took away
 * is mapped again.
 */
int harness_settle(struct harness *harness);

/* Fresh canaries on one page of the test pages. */
void harness_renew(struct harness *harness, struct harness_page *page);
/* Puts back what the page must hold. */
void harness_restore(struct harness_page *page);
/* Pages of the test pages that do not hold what they must; they do afterwards. */
unsigned harness_verify(struct harness *harness);

#endif
