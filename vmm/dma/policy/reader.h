/*
 * What the parts of the policy reader share. source.c reads a file, by dtc where it is
 * source; tree.c walks the tree, nodes.c reads its nodes, check.c sees if they agree;
 * properties.c knows the vocabulary.
 *
 * The blob may be anything: fdt_check_full has passed, nothing else is believed.
 */
#ifndef STRATA_DMA_POLICY_READER_H
#define STRATA_DMA_POLICY_READER_H

#include <libfdt.h>

#include "vmm/dma/policy/policy.h"

#define POLICY_BLOB_BYTES_MAX (256u << 10)
#define POLICY_DEPTH_MAX      16
#define POLICY_NO_NODE        (-1)

/* What is wrong, before it is known on which line. */
struct policy_complaint {
    char node[192];    /* path; empty: the file as a whole */
    char property[64]; /* empty: the node as a whole */
    char text[320];    /* what is wrong; what to do */
};

/* Paths of the devices' nodes. */
struct policy_nodes {
    char device[ABI_POLICY_DEVICES_MAX][192];
};

struct policy_reader {
    const void *fdt;
    struct policy *policy;
    struct policy_complaint *complaint;
    int iommu;          /* node; POLICY_NO_NODE: there is none */
    int disabled_iommu; /* node of one that is switched off */
    int reserved;       /* /reserved-memory, or POLICY_NO_NODE */
    int device[ABI_POLICY_DEVICES_MAX];
    int region[ABI_POLICY_REGIONS_MAX];
    bool has_endpoint[ABI_POLICY_DEVICES_MAX], has_domain[ABI_POLICY_DEVICES_MAX];
};

/* A compiled tree, which may be anything, and the name that stands for its file. */
struct policy_blob {
    const void *data;
    size_t bytes;
    const char *name;
};

/* policy_parse up to the point where the complaint is made into one line. */
int policy_read(struct policy *policy, const struct policy_blob *blob, struct policy_nodes *nodes,
                struct policy_complaint *complaint);

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

/* The at-th name, which must be one of `words`: 0 and its index, or -EINVAL. */
int policy_word_at(const struct policy_reader *reader, int node, const char *property, int at,
                   const struct policy_words *words, uint32_t *index);

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

/* ---- Parts ------------------------------------------------------------------- */

int policy_read_iommu(struct policy_reader *reader);

/* Children of /reserved-memory; after the devices' nodes are known. */
int policy_read_regions(struct policy_reader *reader);

/* Device n of the list; after the IOMMU and the regions. */
int policy_read_device(struct policy_reader *reader, unsigned n);

/* A region's index by the phandle of its node, or -1. */
int policy_region_of(const struct policy_reader *reader, uint32_t phandle);

/* What is each for itself allowed, and cannot be together. */
int policy_check(const struct policy_reader *reader);

#endif
