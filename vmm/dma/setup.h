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
int64_t lab_dma(struct lab *lab, unsigned device, enum abi_dma_op op, struct abi_dma *dma);

/* Several commands in one call: 0, or -errno (the guest is lost). */
int lab_call(struct lab *lab, struct abi_lab_command *commands, unsigned n);

/* A command for lab_call: SYS_DMA(op) for the device. */
struct abi_lab_command lab_command(unsigned device, enum abi_dma_op op);

/* The command that maps [page's va + offset, + bytes). */
struct abi_lab_command lab_map_command(const struct lab *lab, unsigned device, unsigned page,
                                       uint32_t rights);

struct lab_page *lab_page(struct lab *lab, enum lab_page_use use);

/* ---- Setting up -------------------------------------------------------------- */

/* After the program's first checkpoint: finds its pages, plants canaries. */
int lab_plant(struct lab *lab);

/* Every device attached, every use of its policy mapped; what is there stays. */
int lab_set_up(struct lab *lab);
/* This device anew, after something took its mappings away. */
int lab_set_up_device(struct lab *lab, unsigned device);
/*
 * The guest has its time to act upon faults; then whatever that, or an attack, took away
 * is mapped again.
 */
int lab_settle(struct lab *lab);

/* Fresh canaries on one page of the arena. */
void lab_renew(struct lab *lab, struct lab_page *page);
/* Puts back what the page must hold. */
void lab_restore(struct lab_page *page);
/* Pages of the arena that do not hold what they must; they do afterwards. */
unsigned lab_verify(struct lab *lab);

#endif
