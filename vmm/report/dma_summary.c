#include "vmm/report/dma_summary.h"

static enum dma_verdict dma_summary_verdict_of(unsigned applying, unsigned open)
{
    if (!applying)
        return DMA_NONE;
    if (!open)
        return DMA_STOPPED;
    return open == applying ? DMA_OPEN : DMA_PARTLY;
}

void dma_matrix_cell(const struct harness_result *result, unsigned device, unsigned attack,
                     struct dma_matrix_cell *matrix_cell)
{
    unsigned expected = 0, observed = 0, expected_open = 0, observed_open = 0;
    bool explained = false;

    *matrix_cell = (struct dma_matrix_cell){ .ok = true, .because = "" };
    for (size_t i = 0; i < result->ncells; i++) {
        const struct matrix_cell *cell = &result->cells[i];

        if (cell->device != device || cell->attack != attack)
            continue;
        matrix_cell->cells++;
        matrix_cell->ok = matrix_cell->ok && cell->ok;
        expected += cell->expected.applies;
        observed += cell->observed.applies;
        expected_open += cell->expected.applies && cell->expected.succeeds;
        observed_open += cell->observed.applies && cell->observed.succeeds;
        if (cell->expected.applies || cell->observed.applies || !cell->ok)
            matrix_cell->applying++;
        matrix_cell->read_bytes += cell->observed.read_bytes;
        matrix_cell->write_bytes += cell->observed.write_bytes;
        if (matrix_cell->cells == 1 || (!explained && cell->observed.succeeds))
            matrix_cell->because = cell->because;
        explained = explained || cell->observed.succeeds;
    }
    matrix_cell->expected = dma_summary_verdict_of(expected, expected_open);
    matrix_cell->observed = dma_summary_verdict_of(observed, observed_open);
}

bool dma_untried(const struct matrix_cell *cell)
{
    return cell->expected.applies && !cell->observed.applies;
}

bool dma_matrix_cell_untried(const struct dma_matrix_cell *matrix_cell)
{
    return matrix_cell->expected != DMA_NONE && matrix_cell->observed == DMA_NONE;
}

bool dma_attack_wanted(const struct dma_report *report, unsigned attack)
{
    return !report->attacks || report->attacks >> attack & 1;
}

const char *dma_mode_name(uint32_t mode)
{
    switch (mode) {
    case ABI_DMA_OFF: return "off";
    case ABI_DMA_IDENTITY: return "identity";
    case ABI_DMA_STRICT: return "DMA";
    case ABI_DMA_LAZY: return "DMA-FQ";
    default: return "?";
    }
}

const char *dma_kind_name(uint32_t kind)
{
    return kind == ABI_DEVICE_PROBE ? "dma-probe" : kind == ABI_DEVICE_BLK ? "virtio-blk" : "?";
}

const char *dma_buffers_name(uint32_t buffers)
{
    switch (buffers) {
    case ABI_DMA_IN_PLACE: return "in-place";
    case ABI_DMA_EXCLUSIVE: return "exclusive";
    case ABI_DMA_BOUNCE: return "bounce";
    default: return "?";
    }
}

const char *dma_region_name(uint32_t kind)
{
    switch (kind) {
    case ABI_REGION_BUFFER: return "memory";
    case ABI_REGION_POOL: return "pool";
    case ABI_REGION_IDENTITY: return "permanent window";
    case ABI_REGION_RESERVED_IOVA: return "addresses left out";
    default: return "?";
    }
}
