/* The properties of a policy's nodes: their values read, and which of them may stand where. */
#ifndef STRATA_DMA_POLICY_PROPERTIES_H
#define STRATA_DMA_POLICY_PROPERTIES_H

#include <libfdt.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/dma/policy/reader.h"

/* Notes what is wrong and returns -EINVAL. property NULL: the node as a whole. */
int policy_complain(const struct policy_reader *reader, int node, const char *property,
                    const char *format, ...) __attribute__((format(printf, 4, 5)));

/* ---- Properties. Each gives 1 if there is one, 0 if not, or -EINVAL with a complaint. ---- */

/* Cells: *cells points at *count big-endian ones, at least one. */
int policy_cells(const struct policy_reader *reader, int node, const char *property,
                 const fdt32_t **cells, int *count);

struct policy_range {
    uint32_t min, max;
};

/* Exactly one cell of the range. */
int policy_u32(const struct policy_reader *reader, int node, const char *property,
               struct policy_range range, uint32_t *value);

/* Strings: *count of them, at least one. */
int policy_strings(const struct policy_reader *reader, int node, const char *property, int *count);

/* What a property may say. */
struct policy_words {
    const char *const *text;
    const uint32_t *bits; /* of each, for policy_flags */
    uint32_t n;
};

#define POLICY_WORDS(words)                                      \
    {                                                            \
        .text = (words), .n = sizeof(words) / sizeof((words)[0]) \
    }
#define POLICY_FLAGS(words, flags)                                                \
    {                                                                             \
        .text = (words), .bits = (flags), .n = sizeof(words) / sizeof((words)[0]) \
    }

/* A name that is one of `words`: its index in *value. */
int policy_word(const struct policy_reader *reader, int node, const char *property,
                const struct policy_words *words, uint32_t *value);

/* The at-th name, which must be one of `words`: its index, or -EINVAL. */
int policy_word_at(const struct policy_reader *reader, int node, const char *property, int at,
                   const struct policy_words *words);

/* Names that are each one of `words`: the bits of each, or-ed. */
int policy_flags(const struct policy_reader *reader, int node, const char *property,
                 const struct policy_words *words, uint32_t *flags);

/* Reads a number of 1 or 2 cells. */
uint64_t policy_number(const fdt32_t *cells, int count);

/* A node's name as the policy keeps it: 0 or -EINVAL. */
int policy_node_name(const struct policy_reader *reader, int node,
                     char name[ABI_POLICY_NAME_BYTES]);

bool policy_disabled(const void *fdt, int node);
bool policy_compatible(const void *fdt, int node, const struct policy_words *words);

/* ---- Vocabulary -------------------------------------------------------------- */

/* Where a property of ours may stand. */
enum policy_place {
    POLICY_ROOT = 1,
    POLICY_DEVICE = 2,
    POLICY_IOMMU = 4,
    POLICY_ELSEWHERE = 8, /* none may */
};

/* Looks at all "strata," properties of a node. 0 or -EINVAL. */
int policy_check_words(const struct policy_reader *reader, int node, enum policy_place place);

#endif
