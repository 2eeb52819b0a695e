/*
 * What the DMA probe does once it has been told: its DMA engine, its attack functions, its
 * interrupt. For probe.c, which has the registers.
 */
#ifndef STRATA_HOSTILE_PROBE_COMMAND_H
#define STRATA_HOSTILE_PROBE_COMMAND_H

#include "devices/hostile/probe.h"

/* With the dma handle's lock: puts the interrupt line where the status says; adds to the status. */
void probe_set_line(struct probe *probe);
void probe_raise(struct probe *probe, uint32_t bits);

/* Takes the probe for one command: false if it is busy with another. */
bool probe_begin(struct probe *probe);

/*
 * After probe_begin, without the dma handle's lock: carries out what DMA_COMMAND says, or an
 * attack function, and gives the probe free.
 */
void probe_run_dma(struct probe *probe);
void probe_run_attack(struct probe *probe, uint64_t attack);

#endif
