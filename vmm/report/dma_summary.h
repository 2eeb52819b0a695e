/*
 * What `strata dma test` found, summed up for the reports on it (dma_text.h, dma_json.h,
 * dma_html.h). Each writes what a struct harness_result holds and adds nothing to it.
 */
#ifndef STRATA_REPORT_DMA_SUMMARY_H
#define STRATA_REPORT_DMA_SUMMARY_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/dma/harness.h"

struct dma_report {
    const struct harness_result *result;
    const char *path;    /* of the policy, as given */
    const char *backend; /* kvm_backend_name */
    uint32_t attacks;    /* as harness_options */
};

/* All cells of one device and one attack. */
enum dma_verdict {
    DMA_NONE,    /* no cell applies; observed where one is expected to: none was tried */
    DMA_STOPPED, /* in no region does it succeed */
    DMA_PARTLY,
    DMA_OPEN, /* in every region it can be tried on */
};

struct dma_matrix_cell {
    unsigned cells, applying; /* cells that are not ok count as applying */
    enum dma_verdict expected, observed;
    bool ok;
    uint64_t read_bytes, write_bytes; /* observed */
    const char *because;              /* of the first cell that succeeds, else the first */
};

void dma_matrix_cell(const struct harness_result *result, unsigned device, unsigned attack,
                     struct dma_matrix_cell *matrix_cell);

/* The attack was to be made, and the test ended before it; the same for a device's whole cell. */
bool dma_untried(const struct matrix_cell *cell);
bool dma_matrix_cell_untried(const struct dma_matrix_cell *matrix_cell);

bool dma_attack_wanted(const struct dma_report *report, unsigned attack);

/* Words of a policy. */
const char *dma_mode_name(uint32_t mode);
const char *dma_kind_name(uint32_t kind);
const char *dma_buffers_name(uint32_t buffers);
const char *dma_region_name(uint32_t kind);

#endif
