#include "vmm/machine/paging.h"

#include <errno.h>
#include <stddef.h>

#include "guest/abi/checkpoint.h"

#define CR0_PG        (1ull << 31)
#define CR4_PAE       (1ull << 5)
#define CR4_LA57      (1ull << 12)
#define EFER_LMA      (1ull << 10)
#define EFER_NXE      (1ull << 11)
#define TABLE_ENTRIES 512
#define BITS(h, l)    (((2ull << (h)) - 1) & ~((1ull << (l)) - 1)) /* h < 63 */

/*
 * SDM vol. 3A, tables 4-14 to 4-20. A large page's frame starts at bit 21 or 30;
 * the bits from there down to 13 are reserved, and bit 12 is PAT, no address bit.
 * (AMD also reserves bit 8 in PML5E, PML4E and PDPE, which Intel ignores.)
 */
static const struct paging_level x86_levels[] = {
    { .name = "PML5", .shift = 48, .bits = 9, .table = PAGING_ADDR, .table_reserved = PAGING_PS },
    { .name = "PML4", .shift = 39, .bits = 9, .table = PAGING_ADDR, .table_reserved = PAGING_PS },
    { .name = "PDPT",
      .shift = 30,
      .bits = 9,
      .leaf_if = PAGING_PS,
      .frame = BITS(51, 30),
      .table = PAGING_ADDR,
      .leaf_reserved = BITS(29, 13) },
    { .name = "PD",
      .shift = 21,
      .bits = 9,
      .leaf_if = PAGING_PS,
      .frame = BITS(51, 21),
      .table = PAGING_ADDR,
      .leaf_reserved = BITS(20, 13) },
    { .name = "PT", .shift = 12, .bits = 9, .leaf_if = PAGING_P, .frame = PAGING_ADDR },
};

/* Bits 62:59 are protection keys if CR4.PKE is set, else software's like 58:52. */
#define X86_FORMAT(title, levels, width, nx_bit, rsvd)                                         \
    {                                                                                          \
        .name = (title), .nlevels = (levels),                                                  \
        .level = x86_levels + (PAGING_LEVELS_MAX - (levels)), .va_bits = (width),              \
        .sign_extended = true, .root = PAGING_ADDR, .present = PAGING_P, .writable = PAGING_W, \
        .user = PAGING_U, .nx = (nx_bit), .accessed = PAGING_A, .dirty = PAGING_D,             \
        .global = PAGING_G, .software = BITS(11, 9) | BITS(62, 52), .reserved = (rsvd),        \
    }

const struct paging_format paging_x86_4level = X86_FORMAT("x86-64 4-level", 4, 48, PAGING_NX, 0);
const struct paging_format paging_x86_5level = X86_FORMAT("x86-64 5-level", 5, 57, PAGING_NX, 0);
const struct paging_format paging_x86_4level_no_nx = X86_FORMAT("x86-64 4-level without NX", 4, 48,
                                                                0, PAGING_NX);
const struct paging_format paging_x86_5level_no_nx = X86_FORMAT("x86-64 5-level without NX", 5, 57,
                                                                0, PAGING_NX);

const struct paging_format *paging_format_of(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
    /* SDM 4.1.1: paging mode selection. */
    if (!(cr0 & CR0_PG) || !(cr4 & CR4_PAE) || !(efer & EFER_LMA))
        return NULL;
    if (cr4 & CR4_LA57)
        return efer & EFER_NXE ? &paging_x86_5level : &paging_x86_5level_no_nx;
    return efer & EFER_NXE ? &paging_x86_4level : &paging_x86_4level_no_nx;
}

const char *paging_status_name(enum paging_status status)
{
    switch (status) {
    case PAGING_MAPPED: return "mapped";
    case PAGING_NOT_PRESENT: return "not present";
    case PAGING_RESERVED: return "reserved bit set";
    case PAGING_NOT_CANONICAL: return "not canonical";
    case PAGING_OUTSIDE_MEMORY: return "table outside memory";
    }
    return "unknown";
}

/* The translated bits of an address; paging_each() counts in these. */
static uint64_t va_mask(const struct paging_format *f)
{
    return (1ull << f->va_bits) - 1;
}

static uint64_t to_canonical(const struct paging_format *f, uint64_t linear)
{
    if (f->sign_extended && linear >> (f->va_bits - 1) & 1)
        return linear | ~va_mask(f);
    return linear;
}

static bool is_leaf(const struct paging_level *level, uint64_t entry)
{
    return entry & level->leaf_if;
}

/* What one entry is: PAGING_MAPPED means that the walk can go on through it. */
static enum paging_status judge(const struct paging_format *f, const struct paging_reader *r,
                                const struct paging_level *level, uint64_t entry)
{
    uint64_t reserved = f->reserved;

    if (!(entry & f->present))
        return PAGING_NOT_PRESENT;

    if (is_leaf(level, entry)) {
        reserved |= level->leaf_reserved;
        /* SDM 4.5.4: PS is reserved in a PDPTE if the CPU has no 1G pages. */
        if (r->leaf_bytes_max && 1ull << level->shift > r->leaf_bytes_max)
            return PAGING_RESERVED;
    } else {
        reserved |= level->table_reserved;
    }
    if (r->phys_bits && r->phys_bits < 52)
        reserved |= (level->frame | level->table) & ~((1ull << r->phys_bits) - 1);
    return entry & reserved ? PAGING_RESERVED : PAGING_MAPPED;
}

/* Rights on the way down: R, W and U must be set at every level, NX at any (SDM 4.6). One
 * word: a struct of three bools goes through memory, at each of a million pages. */
#define RIGHT_W    1u
#define RIGHT_U    2u
#define RIGHT_NX   4u
#define RIGHT_R    8u
#define ALL_RIGHTS (RIGHT_R | RIGHT_W | RIGHT_U)

static inline unsigned narrowed(const struct paging_format *f, unsigned above, uint64_t entry)
{
    unsigned here = ((entry & f->readable) == f->readable ? RIGHT_R : 0) |
                    ((entry & f->writable) == f->writable ? RIGHT_W : 0) |
                    ((entry & f->user) == f->user ? RIGHT_U : 0);

    return (above & (here | RIGHT_NX)) | (entry & f->nx ? RIGHT_NX : 0);
}

static inline void leaf_of(struct paging_leaf *leaf, const struct paging_format *f, unsigned i,
                           uint64_t va, uint64_t entry, unsigned rights)
{
    uint64_t bytes = 1ull << f->level[i].shift;

    *leaf = (struct paging_leaf){
        .va = va & ~(bytes - 1),
        .gpa = entry & f->level[i].frame,
        .page_bytes = bytes,
        .level = f->nlevels - i,
        .entry = entry,
        .readable = rights & RIGHT_R,
        .writable = rights & RIGHT_W,
        .user = rights & RIGHT_U,
        .nx = rights & RIGHT_NX,
        .accessed = entry & f->accessed,
        .dirty = entry & f->dirty,
        .global = entry & f->global,
        .software = entry & f->software,
    };
}

int paging_walk(const struct paging_format *f, const struct paging_reader *reader, uint64_t root,
                uint64_t va, struct paging_walk *out)
{
    unsigned rights = ALL_RIGHTS;
    uint64_t table = root & f->root;
    unsigned i;

    *out = (struct paging_walk){ .format = f, .va = va, .status = PAGING_NOT_CANONICAL };
    if (to_canonical(f, va & va_mask(f)) != va)
        return -EFAULT;

    for (i = 0; i < f->nlevels; i++) {
        const struct paging_level *level = &f->level[i];
        struct paging_step *step = &out->step[out->nsteps++];

        out->level = f->nlevels - i;
        *step = (struct paging_step){ .level = out->level,
                                      .table = table,
                                      .index = va >> level->shift & ((1u << level->bits) - 1) };
        if (reader->read(reader->owner, table + 8ull * step->index, &step->entry) < 0) {
            step->entry = 0;
            out->status = PAGING_OUTSIDE_MEMORY;
            return -EFAULT;
        }
        out->status = judge(f, reader, level, step->entry);
        if (out->status != PAGING_MAPPED)
            return -EFAULT;

        rights = narrowed(f, rights, step->entry);
        if (is_leaf(level, step->entry)) {
            leaf_of(&out->leaf, f, i, va, step->entry, rights);
            out->gpa = out->leaf.gpa | (va & (out->leaf.page_bytes - 1));
            return 0;
        }
        table = step->entry & level->table;
    }
    /* Every present entry of the last level is a leaf; a format that says otherwise is wrong. */
    out->status = PAGING_RESERVED;
    return -EFAULT;
}

/* Addresses here are linear: without the sign extension, so that they only ascend. */
struct each {
    const struct paging_format *format;
    const struct paging_reader *reader;
    const struct paging_visitor *visitor;
    uint64_t first, last;
    uint64_t budget;
};

static int report_broken(const struct each *e, uint64_t linear, unsigned level,
                         enum paging_status status)
{
    if (!e->visitor->broken)
        return 0;
    return e->visitor->broken(e->visitor->owner, to_canonical(e->format, linear), level, status);
}

/* Visit the table at `gpa`, which translates from `linear` on. Recursion is at most nlevels deep.
 */
static int visit_table(struct each *e, unsigned i, uint64_t gpa, uint64_t linear, unsigned above)
{
    const struct paging_format *f = e->format;
    const struct paging_level *level = &f->level[i];
    uint64_t entries = 1ull << level->bits;
    const uint64_t *whole = e->reader->table && entries == TABLE_ENTRIES
                                ? e->reader->table(e->reader->owner, gpa)
                                : NULL;
    uint64_t index = e->first > linear ? (e->first - linear) >> level->shift : 0;
    bool told = false;
    int err;

    for (; index < entries; index++) {
        uint64_t at = linear + (index << level->shift);
        enum paging_status status;
        uint64_t entry;

        if (at > e->last)
            break;
        if (!e->budget)
            return -E2BIG;
        e->budget--;

        /* A table lies in one page, so it is in memory as a whole or not at all. */
        if (whole)
            entry = __atomic_load_n(&whole[index], __ATOMIC_RELAXED);
        else if (e->reader->read(e->reader->owner, gpa + 8 * index, &entry) < 0)
            return report_broken(e, at, f->nlevels - i, PAGING_OUTSIDE_MEMORY);
        if (!told && e->visitor->table) {
            err = e->visitor->table(e->visitor->owner,
                                    &(struct paging_table){ .va = to_canonical(f, linear),
                                                            .gpa = gpa,
                                                            .level = f->nlevels - i });
            if (err)
                return err;
        }
        told = true;

        status = judge(f, e->reader, level, entry);
        if (status == PAGING_NOT_PRESENT)
            continue;
        if (status != PAGING_MAPPED) {
            err = report_broken(e, at, f->nlevels - i, status);
        } else if (!is_leaf(level, entry)) {
            if (i + 1 == f->nlevels)
                continue;
            err = visit_table(e, i + 1, entry & level->table, at, narrowed(f, above, entry));
        } else if (e->visitor->leaf) {
            struct paging_leaf leaf;

            leaf_of(&leaf, f, i, to_canonical(f, at), entry, narrowed(f, above, entry));
            err = e->visitor->leaf(e->visitor->owner, &leaf);
        } else {
            err = 0;
        }
        if (err)
            return err;
    }
    return 0;
}

int paging_each(const struct paging_format *f, const struct paging_reader *reader, uint64_t root,
                struct paging_range range, uint64_t budget, const struct paging_visitor *visitor)
{
    return paging_each_within(f, reader, root, range, &budget, visitor);
}

int paging_each_within(const struct paging_format *f, const struct paging_reader *reader,
                       uint64_t root, struct paging_range range, uint64_t *budget,
                       const struct paging_visitor *visitor)
{
    struct each e = { .format = f, .reader = reader, .visitor = visitor, .budget = *budget };
    uint64_t half = 1ull << (f->va_bits - 1), first = range.first, last = range.last;
    int err;

    if (first > last)
        return 0;
    /* Move ends that lie in the non-canonical hole to its edges. */
    if (f->sign_extended) {
        if (first >= half && first < ~(half - 1))
            first = ~(half - 1);
        if (last >= half && last < ~(half - 1))
            last = half - 1;
    } else if (last > va_mask(f)) {
        last = va_mask(f);
    }
    if (first > last)
        return 0;

    e.first = first & va_mask(f);
    e.last = last & va_mask(f);
    err = visit_table(&e, 0, root & f->root, 0, ALL_RIGHTS);
    *budget = e.budget;
    return err;
}

uint32_t paging_fault_code(const struct paging_walk *walk, enum paging_access access, bool user,
                           bool wp)
{
    uint32_t code = user ? ABI_PF_USER : 0;

    if (access == PAGING_WRITE)
        code |= ABI_PF_WRITE;
    /* SDM 4.7: the instruction bit exists only while NX (or SMEP) is on. */
    if (access == PAGING_FETCH && walk->format->nx)
        code |= ABI_PF_FETCH;

    switch (walk->status) {
    case PAGING_NOT_PRESENT: return code;
    case PAGING_RESERVED: return code | ABI_PF_PRESENT | ABI_PF_RSVD;
    case PAGING_NOT_CANONICAL:
    case PAGING_OUTSIDE_MEMORY: return PAGING_NO_CODE;
    case PAGING_MAPPED: break;
    }

    /* SDM 4.6.1: rights are checked on the whole walk, after it has come to a page. */
    if (user && !walk->leaf.user)
        return code | ABI_PF_PRESENT;
    if (access == PAGING_WRITE && !walk->leaf.writable && (user || wp))
        return code | ABI_PF_PRESENT;
    if (access == PAGING_FETCH && walk->leaf.nx)
        return code | ABI_PF_PRESENT;
    return PAGING_NO_FAULT;
}
