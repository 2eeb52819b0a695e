/*
 * The page walker: the only one in strata. It reads page tables the way the
 * MMU does, from the host, and changes nothing: no accessed bit, no dirty bit.
 *
 * What a table looks like is given to it (struct paging_format: one entry for
 * each level), and so is where tables are read from (struct paging_reader), so
 * the same loop walks the tables of a running guest, of an image in a file, and
 * hand-made ones in a test. Tables are hostile input: the walker reads every
 * entry once, follows at most PAGING_LEVELS_MAX of them for an address, and
 * never touches memory but through the reader.
 *
 * Intel SDM vol. 3A, 4.5 (4-level and 5-level paging), 4.6 (access rights), 4.7
 * (page-fault exceptions); AMD APM vol. 2, 5.3-5.6.
 *
 * Levels have the architecture's numbers: 1 is the table of 4K pages (PT), the
 * root is 4 (PML4) or 5 (PML5).
 */
#ifndef STRATA_MACHINE_PAGING_H
#define STRATA_MACHINE_PAGING_H

#include <stdbool.h>
#include <stdint.h>

#define PAGING_LEVELS_MAX 5

/* Bits of an x86-64 entry. */
#define PAGING_P    (1ull << 0)
#define PAGING_W    (1ull << 1)
#define PAGING_U    (1ull << 2)
#define PAGING_A    (1ull << 5)
#define PAGING_D    (1ull << 6)
#define PAGING_PS   (1ull << 7) /* large page at level 2 and 3; PAT at level 1 */
#define PAGING_G    (1ull << 8)
#define PAGING_NX   (1ull << 63)
#define PAGING_ADDR 0x000ffffffffff000ull /* bits 51:12 */

/* One level of a format. A mask of 0 means that the level has no such thing. */
struct paging_level {
    const char *name;        /* of the table, e.g. "PML4" */
    unsigned shift;          /* lowest VA bit of the index: an entry spans 1 << shift bytes */
    unsigned bits;           /* width of the index */
    uint64_t leaf_if;        /* a present entry with any of these bits maps a page */
    uint64_t frame;          /* address bits of an entry that maps a page */
    uint64_t table;          /* address bits of an entry that leads to a table */
    uint64_t leaf_reserved;  /* bits that must be 0 in the one */
    uint64_t table_reserved; /* and in the other */
};

struct paging_format {
    const char *name;
    unsigned nlevels;
    const struct paging_level *level; /* nlevels of them, root first */
    unsigned va_bits;                 /* addresses above are not canonical */
    bool sign_extended;               /* canonical: bit va_bits - 1 is repeated above */
    uint64_t root;                    /* address bits of the root register (CR3) */
    uint64_t present;                 /* present if any of these bits is set */
    uint64_t readable;                /* these count only if set at every level; 0: always */
    uint64_t writable;
    uint64_t user;
    uint64_t nx; /* counts if set at any level */
    uint64_t accessed;
    uint64_t dirty;
    uint64_t global;
    uint64_t software; /* bits left to the operating system */
    uint64_t reserved; /* bits that must be 0 in every present entry */
};

/* With EFER.NXE set; and clear, where bit 63 is reserved (SDM 4.5.4, table 4-15 note). */
extern const struct paging_format paging_x86_4level, paging_x86_4level_no_nx;
extern const struct paging_format paging_x86_5level, paging_x86_5level_no_nx;

/*
 * The format that a vCPU with these registers uses, or NULL: paging is off
 * (CR0.PG clear), or a 32-bit form is on, which strata does not walk.
 */
const struct paging_format *paging_format_of(uint64_t cr0, uint64_t cr4, uint64_t efer);

/*
 * Where entries come from. `read` stores the 8 bytes at gpa (8-aligned), read by
 * one load, and returns 0, or -errno where there is no memory. `table` may be NULL, or
 * returns all 4096 bytes of the table at gpa (4K-aligned), NULL where there is no
 * memory; iterations then read entries there, one load each, without a call for each.
 * The other fields say what this CPU reserves beyond the format; all 0 is a CPU that
 * has it all.
 */
struct paging_reader {
    int (*read)(void *owner, uint64_t gpa, uint64_t *entry);
    const uint64_t *(*table)(void *owner, uint64_t gpa);
    void *owner;
    unsigned phys_bits;      /* MAXPHYADDR: address bits above are reserved; 0 means 52 */
    uint64_t leaf_bytes_max; /* largest page, e.g. 2 MiB on a CPU without 1G pages; 0: any */
};

enum paging_status {
    PAGING_MAPPED,
    PAGING_NOT_PRESENT,    /* the entry at `level` is not present */
    PAGING_RESERVED,       /* the entry at `level` has a reserved bit set */
    PAGING_NOT_CANONICAL,  /* nothing was read */
    PAGING_OUTSIDE_MEMORY, /* the reader could not read the table at `level` */
};

/* "mapped", "not present", …; never NULL. */
const char *paging_status_name(enum paging_status status);

/* One page, with the rights that all levels on the way to it leave (SDM 4.6). */
struct paging_leaf {
    uint64_t va; /* of the page's first byte, canonical */
    uint64_t gpa;
    uint64_t page_bytes;
    unsigned level;
    uint64_t entry; /* as read */
    bool readable;
    bool writable;
    bool user;
    bool nx; /* false with EFER.NXE clear */
    bool accessed;
    bool dirty;
    bool global;
    uint64_t software; /* the operating system's bits of the entry, in place */
};

struct paging_step {
    unsigned level;
    uint64_t table; /* GPA of the table */
    unsigned index;
    uint64_t entry; /* as read; 0 if the table is outside memory */
};

/* A walk, decided at `level` (0 if not canonical). */
struct paging_walk {
    const struct paging_format *format;
    uint64_t va;
    enum paging_status status;
    unsigned level;
    unsigned nsteps;
    struct paging_step step[PAGING_LEVELS_MAX]; /* root first; the last one decided */
    uint64_t gpa;                               /* of the byte at va; only if mapped, */
    struct paging_leaf leaf;                    /* and so is this */
};

/*
 * Walk to `va` from `root`, which may be a whole CR3. Returns 0 if va is mapped,
 * -EFAULT if not; *out tells the way and the reason either way.
 */
int paging_walk(const struct paging_format *format, const struct paging_reader *reader,
                uint64_t root, uint64_t va, struct paging_walk *out);

/* A table that could be read; the same GPA comes again if it is linked again. */
struct paging_table {
    uint64_t va; /* first address that it translates */
    uint64_t gpa;
    unsigned level;
};

/*
 * What to call; any may be NULL. A callback that returns non-zero ends the
 * iteration, and paging_each() returns what it returned.
 */
struct paging_visitor {
    void *owner;
    int (*table)(void *owner, const struct paging_table *table); /* before what is below it */
    int (*leaf)(void *owner, const struct paging_leaf *leaf);
    int (*broken)(void *owner, uint64_t va, unsigned level, enum paging_status status);
};

/* Virtual addresses, both ends included: [0, UINT64_MAX] is all of them. */
struct paging_range {
    uint64_t first, last;
};

/*
 * Visit, in ascending order, every page with a byte in the range and every table on the way; the
 * non-canonical hole is skipped. What is not present costs one read for a whole subtree. Broken
 * entries are reported and passed over.
 *
 * `budget` bounds the number of entries read: a table that points at itself
 * would otherwise make 2^36 pages. Returns 0, -E2BIG when the budget ran out, or
 * the callback's value.
 */
int paging_each(const struct paging_format *format, const struct paging_reader *reader,
                uint64_t root, struct paging_range range, uint64_t budget,
                const struct paging_visitor *visitor);

/* The same with a budget that several iterations share: what is left of it is in *budget. */
int paging_each_within(const struct paging_format *format, const struct paging_reader *reader,
                       uint64_t root, struct paging_range range, uint64_t *budget,
                       const struct paging_visitor *visitor);

enum paging_access {
    PAGING_READ,
    PAGING_WRITE,
    PAGING_FETCH,
};

#define PAGING_NO_FAULT (~0u)      /* the access is allowed */
#define PAGING_NO_CODE  (~0u - 1u) /* it fails, but not by a page fault: #GP, #SS, bus error */

/*
 * The error code a CPU must push for this access to walk->va (SDM 4.7; APM vol.
 * 2, 8.4.2; bits ABI_PF_*), or one of the two above. `user` is CPL 3, `wp` is
 * CR0.WP. Protection keys, shadow stacks, SMEP and SMAP are taken to be off.
 */
uint32_t paging_fault_code(const struct paging_walk *walk, enum paging_access access, bool user,
                           bool wp);

#endif
