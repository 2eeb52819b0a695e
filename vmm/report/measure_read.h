/*
 * What an earlier `strata measure --json` wrote, read again. The file may be anything.
 */
#ifndef STRATA_REPORT_MEASURE_READ_H
#define STRATA_REPORT_MEASURE_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/measure/measure.h"

struct measure_record {
    const char *path;
    char kvm[32], paging[96], cpu[64], kernel[64];
    bool quick;
    uint64_t seed;
    char failed[128]; /* experiments that could not be measured, with commas; "": none */
    size_t nfigures;
    struct measure_figure *figures; /* of all experiments; no name twice; without histograms */
};

/* 0; or -errno and one line that names the file and the field, with nothing to free. */
int measure_read(struct measure_record *record, const char *path, char *error, size_t error_bytes);
void measure_read_free(struct measure_record *record);

#endif
