/*
 * vmm/inspect/paging: hand-made and random tables in fake memory, then real ones
 * in a VM, where KVM_TRANSLATE is the second opinion.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "guest/abi/checkpoint.h"
#include "tests/unit/suites.h"
#include "vmm/machine/paging.h"

#define PAGE 4096ull
#define KIB  1024ull
#define MIB  (1024 * KIB)
#define GIB  (1024 * MIB)

/* Memory from `base` on, that counts what is read from it. */
struct fake {
    uint64_t base;
    uint64_t npages;
    uint64_t used; /* pages handed out by new_table() */
    /* Set by map(): the tables that the last one used, by level. */
    uint64_t table[PAGING_LEVELS_MAX + 1];
    uint64_t *entry;   /* npages * 512 */
    uint64_t reads;    /* calls of read_fake() */
    uint32_t *read_at; /* the same for each entry */
};

static int read_fake(void *owner, uint64_t gpa, uint64_t *entry)
{
    struct fake *m = owner;
    uint64_t i = (gpa - m->base) / 8;

    ck_assert_uint_eq(gpa % 8, 0);
    m->reads++;
    if (gpa < m->base || i >= m->npages * 512)
        return -EFAULT;
    m->read_at[i]++;
    *entry = m->entry[i];
    return 0;
}

static struct fake fake_new(uint64_t base, uint64_t npages)
{
    struct fake m = { .base = base, .npages = npages };

    m.entry = calloc(npages * 512, sizeof(*m.entry));
    m.read_at = calloc(npages * 512, sizeof(*m.read_at));
    ck_assert(m.entry && m.read_at);
    return m;
}

static void fake_free(struct fake *m)
{
    free(m->entry);
    free(m->read_at);
}

static void forget_reads(struct fake *m)
{
    m->reads = 0;
    memset(m->read_at, 0, m->npages * 512 * sizeof(*m->read_at));
}

static uint64_t new_table(struct fake *m)
{
    ck_assert_uint_lt(m->used, m->npages);
    return m->base + PAGE * m->used++;
}

static uint64_t *entry_of(struct fake *m, uint64_t table, uint64_t va, unsigned level)
{
    return &m->entry[(table - m->base) / 8 + (va >> (12 + 9 * (level - 1)) & 511)];
}

#define RWX (PAGING_P | PAGING_W | PAGING_U)

/*
 * Map va by an entry at leaf_level that is `leaf` as it stands, making tables as
 * needed. m->table[level] are the GPAs of the tables used, root included.
 */
static void map(struct fake *m, uint64_t root, unsigned levels, uint64_t va, unsigned leaf_level,
                uint64_t leaf)
{
    uint64_t *table = m->table;

    table[levels] = root;
    for (unsigned level = levels; level > leaf_level; level--) {
        uint64_t *e = entry_of(m, table[level], va, level);

        if (!*e)
            *e = new_table(m) | RWX;
        table[level - 1] = *e & PAGING_ADDR;
    }
    *entry_of(m, table[leaf_level], va, leaf_level) = leaf;
}

static const struct {
    const struct paging_format *format;
    unsigned levels;
    bool nx;
} formats[] = {
    { &paging_x86_4level, 4, true },
    { &paging_x86_5level, 5, true },
    { &paging_x86_4level_no_nx, 4, false },
    { &paging_x86_5level_no_nx, 5, false },
};

static const uint64_t size_of[] = { 0, 4 * KIB, 2 * MIB, GIB }; /* by level of the leaf */

/*
 * Every combination of W, U and NX at every level, for every leaf size. One
 * iteration of the loop is (format, leaf level, leaf's bits); inside it goes
 * through all combinations of the levels above.
 */
START_TEST(test_rights)
{
    unsigned leaf_bits = _i % 8, leaf_level = 1 + _i / 8 % 3, f = _i / 24;
    unsigned levels = formats[f].levels, above = levels - leaf_level;
    uint64_t va = 0x123456789abcull, bytes = size_of[leaf_level];
    uint64_t frame = 0x7c0000000ull;
    struct fake m = fake_new(0x40000, 8);
    struct paging_reader reader = { .read = read_fake, .owner = &m };
    static const uint64_t bit[3] = { PAGING_W, PAGING_U, PAGING_NX };

    map(&m, new_table(&m), levels, va, leaf_level, 0);

    for (unsigned combination = 0; combination < 1u << 3 * above; combination++) {
        bool all_w = true, all_u = true, any_nx = false;
        struct paging_walk walk;

        for (unsigned level = levels; level >= leaf_level; level--) {
            unsigned bits = level == leaf_level ? leaf_bits
                                                : combination >> 3 * (level - leaf_level - 1) & 7;
            uint64_t *e = entry_of(&m, m.table[level], va, level);

            *e = PAGING_P | (level == leaf_level ? frame : m.table[level - 1]);
            if (level == leaf_level && level > 1)
                *e |= PAGING_PS;
            for (unsigned b = 0; b < 3; b++)
                if (bits >> b & 1)
                    *e |= bit[b];
            all_w &= bits & 1;
            all_u &= bits >> 1 & 1;
            any_nx |= bits >> 2 & 1;
        }

        int ret = paging_walk(formats[f].format, &reader, m.table[levels], va, &walk);

        if (any_nx && !formats[f].nx) {
            ck_assert_int_eq(ret, -EFAULT);
            ck_assert_int_eq(walk.status, PAGING_RESERVED);
            continue;
        }
        ck_assert_int_eq(ret, 0);
        ck_assert_int_eq(walk.status, PAGING_MAPPED);
        ck_assert_uint_eq(walk.level, leaf_level);
        ck_assert_uint_eq(walk.nsteps, above + 1);
        ck_assert_uint_eq(walk.gpa, frame + va % bytes);
        ck_assert_uint_eq(walk.leaf.gpa, frame);
        ck_assert_uint_eq(walk.leaf.va, va - va % bytes);
        ck_assert_uint_eq(walk.leaf.page_bytes, bytes);
        ck_assert_uint_eq(walk.leaf.level, leaf_level);
        ck_assert_int_eq(walk.leaf.writable, all_w);
        ck_assert_int_eq(walk.leaf.user, all_u);
        ck_assert_int_eq(walk.leaf.nx, any_nx);
        for (unsigned i = 0; i < walk.nsteps; i++) {
            unsigned level = levels - i;

            ck_assert_uint_eq(walk.step[i].level, level);
            ck_assert_uint_eq(walk.step[i].table, m.table[level]);
            ck_assert_uint_eq(walk.step[i].index, va >> (12 + 9 * (level - 1)) & 511);
            ck_assert_uint_eq(walk.step[i].entry, *entry_of(&m, m.table[level], va, level));
        }
    }
    fake_free(&m);
}
END_TEST

/*
 * Every single bit of every kind of entry: what is reserved, what is address,
 * what means something. The masks are written out here from SDM tables 4-14 to
 * 4-20, not taken from the walker.
 */
static const struct {
    const char *name;
    unsigned level;
    bool leaf;
    uint64_t reserved; /* besides NX where it is off */
    uint64_t address;
} kinds[] = {
    { "PML5E", 5, false, 0x80, 0x000ffffffffff000 },
    { "PML4E", 4, false, 0x80, 0x000ffffffffff000 },
    { "PDPTE of a table", 3, false, 0, 0x000ffffffffff000 },
    { "PDPTE of a 1G page", 3, true, 0x3fffe000, 0x000fffffc0000000 },
    { "PDE of a table", 2, false, 0, 0x000ffffffffff000 },
    { "PDE of a 2M page", 2, true, 0x001fe000, 0x000fffffffe00000 },
    { "PTE", 1, true, 0, 0x000ffffffffff000 },
};

START_TEST(test_each_bit)
{
    unsigned k = _i % 7, f = _i / 7, levels = formats[f].levels, level = kinds[k].level;
    uint64_t va = 0xffffffffc0801000ull;
    unsigned leaf_level = kinds[k].leaf ? level : 1;

    if (level > levels)
        return;

    struct fake m = fake_new(0, 16);
    struct paging_reader reader = { .read = read_fake, .owner = &m };
    struct paging_walk walk;

    new_table(&m); /* so that 0 is no table */
    map(&m, new_table(&m), levels, va, leaf_level, RWX | (leaf_level > 1 ? PAGING_PS : 0));

    uint64_t *entry = entry_of(&m, m.table[level], va, level), good = *entry;

    for (unsigned bit = 1; bit < 64; bit++) {
        uint64_t reserved = kinds[k].reserved | (formats[f].nx ? 0 : PAGING_NX);

        /* Bit 7 would make another kind of entry of it. */
        if (bit == 7 && (level == 2 || level == 3))
            continue;
        *entry = good ^ 1ull << bit;
        int ret = paging_walk(formats[f].format, &reader, m.table[levels], va, &walk);

        if (reserved >> bit & 1) {
            ck_assert_msg(walk.status == PAGING_RESERVED && walk.level == level,
                          "%s bit %u: %s at level %u", kinds[k].name, bit,
                          paging_status_name(walk.status), walk.level);
        } else if (!kinds[k].leaf && kinds[k].address >> bit & 1) {
            /* Another table: outside memory, or a page of it without this entry. */
            ck_assert_int_eq(ret, -EFAULT);
            ck_assert_uint_eq(walk.step[levels - level + 1].table, *entry & kinds[k].address);
        } else {
            ck_assert_msg(ret == 0, "%s bit %u: %s at level %u", kinds[k].name, bit,
                          paging_status_name(walk.status), walk.level);
            if (!kinds[k].leaf)
                continue;
            ck_assert_uint_eq(walk.leaf.gpa, *entry & kinds[k].address);
            ck_assert_int_eq(walk.leaf.accessed, bit == 5);
            ck_assert_int_eq(walk.leaf.dirty, bit == 6);
            ck_assert_int_eq(walk.leaf.global, bit == 8);
            ck_assert_int_eq(walk.leaf.nx, bit == 63);
            ck_assert_uint_eq(walk.leaf.software, *entry & 0x7ff0000000000e00);
        }
    }

    *entry = good & ~PAGING_P;
    ck_assert_int_eq(paging_walk(formats[f].format, &reader, m.table[levels], va, &walk), -EFAULT);
    ck_assert_int_eq(walk.status, PAGING_NOT_PRESENT);
    ck_assert_uint_eq(walk.level, level);
    /* Nothing else counts in an entry that is not present. */
    *entry = ~PAGING_P;
    paging_walk(formats[f].format, &reader, m.table[levels], va, &walk);
    ck_assert_int_eq(walk.status, PAGING_NOT_PRESENT);
    fake_free(&m);
}
END_TEST

/* Where a 2M or 1G page ends, and PAT (bit 12) beside the lowest address bits. */
START_TEST(test_offsets)
{
    unsigned leaf_level = 1 + _i % 3;
    uint64_t bytes = size_of[leaf_level];
    struct fake m = fake_new(8 * GIB, 16);
    struct paging_reader reader = { .read = read_fake, .owner = &m };
    uint64_t root = new_table(&m), pat = leaf_level > 1 ? 1ull << 12 : PAGING_PS;
    uint64_t frame = 0x000fffffc0000000ull - bytes;

    map(&m, root, 4, 4 * GIB, leaf_level, frame | pat | RWX | (leaf_level > 1 ? PAGING_PS : 0));
    for (uint64_t offset = 0; offset < bytes; offset += bytes / 4 - 1) {
        struct paging_walk walk;

        ck_assert_int_eq(paging_walk(&paging_x86_4level, &reader, root, 4 * GIB + offset, &walk),
                         0);
        ck_assert_uint_eq(walk.gpa, frame + offset);
        ck_assert_int_eq(
            paging_walk(&paging_x86_4level, &reader, root, 4 * GIB - 1 - offset, &walk), -EFAULT);
        ck_assert_int_eq(
            paging_walk(&paging_x86_4level, &reader, root, 4 * GIB + bytes + offset, &walk),
            -EFAULT);
    }
    fake_free(&m);
}
END_TEST

START_TEST(test_canonical)
{
    static const struct {
        uint64_t va;
        bool canonical4, canonical5;
    } rows[] = {
        { 0, true, true },
        { 0x00007fffffffffff, true, true },
        { 0x0000800000000000, false, true },
        { 0x00ffffffffffffff, false, true },
        { 0x0100000000000000, false, false },
        { 0x8000000000000000, false, false },
        { 0xfeffffffffffffff, false, false },
        { 0xff00000000000000, false, true },
        { 0xffff7fffffffffff, false, true },
        { 0xffff800000000000, true, true },
        { 0xffffffffffffffff, true, true },
    };
    struct fake m = fake_new(0, 1);
    struct paging_reader reader = { .read = read_fake, .owner = &m };
    struct paging_walk walk;

    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (unsigned f = 0; f < 2; f++) {
            bool canonical = f ? rows[i].canonical5 : rows[i].canonical4;

            m.reads = 0;
            ck_assert_int_eq(paging_walk(formats[f].format, &reader, 0, rows[i].va, &walk),
                             -EFAULT);
            ck_assert_int_eq(walk.status, canonical ? PAGING_NOT_PRESENT : PAGING_NOT_CANONICAL);
            ck_assert_uint_eq(m.reads, canonical);
        }
    }
    fake_free(&m);
}
END_TEST

/* What the CPU lacks: address bits, 1G pages. */
START_TEST(test_cpu_limits)
{
    uint64_t va = 0x12340000000ull;
    struct fake m = fake_new(0x1000, 8);
    struct paging_reader reader = { .read = read_fake, .owner = &m };
    struct paging_walk walk;
    uint64_t root = new_table(&m);

    map(&m, root, 4, va, 1, RWX | 1ull << 40);
    for (reader.phys_bits = 36; reader.phys_bits <= 52; reader.phys_bits++) {
        paging_walk(&paging_x86_4level, &reader, root, va, &walk);
        ck_assert_int_eq(walk.status, reader.phys_bits > 40 ? PAGING_MAPPED : PAGING_RESERVED);
        ck_assert_uint_eq(walk.level, 1);
    }
    reader.phys_bits = 40;
    *entry_of(&m, m.table[3], va, 3) |= 1ull << 45;
    paging_walk(&paging_x86_4level, &reader, root, va, &walk);
    ck_assert_int_eq(walk.status, PAGING_RESERVED);
    ck_assert_uint_eq(walk.level, 3);

    *entry_of(&m, m.table[4], va, 4) |= 1ull << 51;
    paging_walk(&paging_x86_4level, &reader, root, va, &walk);
    ck_assert_int_eq(walk.status, PAGING_RESERVED);
    ck_assert_uint_eq(walk.level, 4);
    *entry_of(&m, m.table[4], va, 4) &= ~(1ull << 51);

    reader.phys_bits = 0;
    *entry_of(&m, m.table[3], va, 3) = RWX | PAGING_PS;
    ck_assert_int_eq(paging_walk(&paging_x86_4level, &reader, root, va, &walk), 0);
    reader.leaf_bytes_max = 2 * MIB;
    ck_assert_int_eq(paging_walk(&paging_x86_4level, &reader, root, va, &walk), -EFAULT);
    ck_assert_int_eq(walk.status, PAGING_RESERVED);
    ck_assert_uint_eq(walk.level, 3);
    fake_free(&m);
}
END_TEST

/* The low bits of CR3 (PCID, PWT, PCD) and bit 63 are no address. */
START_TEST(test_root_bits)
{
    struct fake m = fake_new(0x1000, 8);
    struct paging_reader reader = { .read = read_fake, .owner = &m };
    uint64_t root = new_table(&m);
    struct paging_walk walk;

    map(&m, root, 4, 0x5000, 1, RWX | 0x7000);
    ck_assert_int_eq(
        paging_walk(&paging_x86_4level, &reader, root | 0xfff | 1ull << 63, 0x5123, &walk), 0);
    ck_assert_uint_eq(walk.gpa, 0x7123);
    fake_free(&m);
}
END_TEST

START_TEST(test_outside_memory)
{
    /* Below, above, at the very end of the address space. */
    static const uint64_t where[] = { 0x3f000, 0x42000, 0x000ffffffffff000 };
    struct fake m = fake_new(0x40000, 2);
    struct paging_reader reader = { .read = read_fake, .owner = &m };
    struct paging_walk walk;

    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(paging_walk(&paging_x86_4level, &reader, where[i], 0, &walk), -EFAULT);
        ck_assert_int_eq(walk.status, PAGING_OUTSIDE_MEMORY);
        ck_assert_uint_eq(walk.level, 4);
        ck_assert_uint_eq(walk.step[0].entry, 0);

        m.entry[0] = where[i] | RWX;
        ck_assert_int_eq(paging_walk(&paging_x86_4level, &reader, 0x40000, 0, &walk), -EFAULT);
        ck_assert_int_eq(walk.status, PAGING_OUTSIDE_MEMORY);
        ck_assert_uint_eq(walk.level, 3);
        ck_assert_uint_eq(walk.step[1].table, where[i]);
    }
    fake_free(&m);
}
END_TEST

static int count_leaf(void *owner, const struct paging_leaf *leaf)
{
    (void)leaf;
    ++*(uint64_t *)owner;
    return 0;
}

/* A root that points at itself in every entry: 2^36 pages, or 2^45. */
START_TEST(test_self_reference)
{
    struct fake m = fake_new(0x40000, 1);
    struct paging_reader reader = { .read = read_fake, .owner = &m };
    uint64_t leaves = 0;
    struct paging_visitor visitor = { .owner = &leaves, .leaf = count_leaf };
    struct paging_walk walk;
    const struct paging_format *format = formats[_i].format;

    for (unsigned i = 0; i < 512; i++)
        m.entry[i] = 0x40000 | RWX;
    ck_assert_int_eq(paging_walk(format, &reader, 0x40000, 0xfffffffffffff123, &walk), 0);
    ck_assert_uint_eq(walk.gpa, 0x40123);
    ck_assert_uint_eq(walk.nsteps, formats[_i].levels);

    m.reads = 0;
    ck_assert_int_eq(paging_each(format, &reader, 0x40000, (struct paging_range){ 0, UINT64_MAX },
                                 100000, &visitor),
                     -E2BIG);
    ck_assert_uint_eq(m.reads, 100000);
    ck_assert_uint_gt(leaves, 90000);
    ck_assert_int_eq(
        paging_each(format, &reader, 0x40000, (struct paging_range){ 0, UINT64_MAX }, 0, &visitor),
        -E2BIG);
    fake_free(&m);
}
END_TEST

/* A table can change between two reads, so nothing may be read twice. */
START_TEST(test_reads_once)
{
    struct fake m = fake_new(0x40000, 16);
    struct paging_reader reader = { .read = read_fake, .owner = &m };
    uint64_t root = new_table(&m), leaves = 0;
    struct paging_visitor visitor = { .owner = &leaves, .leaf = count_leaf };
    struct paging_walk walk;

    map(&m, root, 4, 0, 1, RWX);
    map(&m, root, 4, 2 * MIB, 2, RWX | PAGING_PS);
    map(&m, root, 4, 0xffffffff80000000, 1, RWX);

    ck_assert_int_eq(paging_walk(&paging_x86_4level, &reader, root, 0x10, &walk), 0);
    ck_assert_uint_eq(m.reads, 4);
    forget_reads(&m);
    ck_assert_int_eq(paging_each(&paging_x86_4level, &reader, root,
                                 (struct paging_range){ 0, UINT64_MAX }, UINT64_MAX, &visitor),
                     0);
    ck_assert_uint_eq(leaves, 3);
    ck_assert_uint_eq(m.reads, m.used * 512);
    for (unsigned i = 0; i < m.used * 512; i++)
        ck_assert_uint_eq(m.read_at[i], 1);
    fake_free(&m);
}
END_TEST

/* xorshift64*: the same tables from the same seed everywhere. */
static uint64_t rng;

static uint64_t rnd(void)
{
    rng ^= rng >> 12;
    rng ^= rng << 25;
    rng ^= rng >> 27;
    return rng * 2685821657736338717ull;
}

static void seed(int i)
{
    const char *given = getenv("STRATA_SEED");

    if (given) {
        rng = strtoull(given, NULL, 0);
    } else {
        rng = (uint64_t)time(NULL) << 20 ^ (uint64_t)getpid() << 4;
        rng = (rng + (unsigned)i) * 0x9e3779b97f4a7c15ull | 1;
    }
    printf("# random tables: STRATA_SEED=%#llx\n", (unsigned long long)rng);
    fflush(stdout);
}

/*
 * Fill n tables with entries that lead to one another at random: pages of all
 * sizes, absent subtrees, reserved bits, tables outside memory, loops.
 */
static void scramble(uint64_t *entry, uint64_t base, unsigned n)
{
    for (unsigned i = 0; i < n * 512; i++) {
        uint64_t e = base + PAGE * (rnd() % n);
        unsigned kind = rnd() % 64;

        if (kind < 24) {
            entry[i] = kind < 12 ? 0 : rnd() & ~PAGING_P;
            continue;
        }
        if (kind < 34)
            e = (rnd() & 0xff0000000ull & ~(GIB - 1)) | PAGING_PS | (rnd() & 1) << 12;
        else if (kind == 34)
            e = rnd() & PAGING_ADDR;
        else if (kind == 35)
            e |= rnd() & 0x3fffffff;
        entry[i] = e | PAGING_P | (rnd() & (PAGING_W | PAGING_U | PAGING_NX | PAGING_A | PAGING_D));
    }
}

struct list {
    struct paging_leaf leaf[4096];
    unsigned n;
    uint64_t tables, broken;
};

static int append_leaf(void *owner, const struct paging_leaf *leaf)
{
    struct list *list = owner;

    if (list->n == 4096)
        return 7;
    list->leaf[list->n++] = *leaf;
    return 0;
}

static int append_table(void *owner, const struct paging_table *table)
{
    struct list *list = owner;

    (void)table;
    list->tables++;
    return 0;
}

static int append_broken(void *owner, uint64_t va, unsigned level, enum paging_status status)
{
    struct list *list = owner;

    (void)va;
    ck_assert_uint_ge(level, 1);
    ck_assert(status == PAGING_RESERVED || status == PAGING_OUTSIDE_MEMORY);
    list->broken++;
    return 0;
}

static bool same_leaf(const struct paging_leaf *a, const struct paging_leaf *b)
{
    return a->va == b->va && a->gpa == b->gpa && a->page_bytes == b->page_bytes &&
           a->level == b->level && a->entry == b->entry && a->writable == b->writable &&
           a->user == b->user && a->nx == b->nx && a->accessed == b->accessed &&
           a->dirty == b->dirty && a->global == b->global && a->software == b->software;
}

/* paging_each() must find what a walk to each single page finds. */
START_TEST(test_each_against_walks)
{
    const struct paging_format *format = formats[_i % 4].format;
    struct fake m = fake_new(0x100000, 24);
    struct paging_reader reader = { .read = read_fake, .owner = &m };
    struct list *list = malloc(sizeof(*list));
    struct paging_visitor visitor = {
        .owner = list, .leaf = append_leaf, .table = append_table, .broken = append_broken
    };

    ck_assert(list);
    seed(_i);
    scramble(m.entry, m.base, m.npages);

    for (unsigned round = 0; round < 40; round++) {
        /* Windows that start and end inside pages, and some at the edges of halves. */
        uint64_t half = 1ull << (format->va_bits - 1);
        uint64_t bytes = rnd() % (4 * MIB), from = rnd() & (half - 1), n = 0, va;

        if (round % 4 == 1)
            from = half - 1 - bytes / 2;
        if (round % 4 == 2)
            from = ~(half - 1) - bytes / 2;
        if (round % 4 == 3)
            from = rnd() | ~(half - 1);
        if (from + bytes < from)
            bytes = ~from;

        list->n = 0;
        ck_assert_int_eq(paging_each(format, &reader, m.base,
                                     (struct paging_range){ from, from + bytes }, 1000000,
                                     &visitor),
                         0);

        for (va = from;;) {
            struct paging_walk walk;
            uint64_t next = (va | (PAGE - 1)) + 1;

            if (paging_walk(format, &reader, m.base, va, &walk) == 0) {
                ck_assert_uint_lt(n, list->n);
                ck_assert_msg(same_leaf(&list->leaf[n], &walk.leaf),
                              "leaf %llu of [%#llx, %#llx] is %#llx, the walk says %#llx",
                              (unsigned long long)n, (unsigned long long)from,
                              (unsigned long long)(from + bytes),
                              (unsigned long long)list->leaf[n].va,
                              (unsigned long long)walk.leaf.va);
                n++;
                next = walk.leaf.va + walk.leaf.page_bytes;
            }
            if (next == 0 || next > from + bytes)
                break;
            va = next;
        }
        ck_assert_uint_eq(n, list->n);
    }
    free(list);
    fake_free(&m);
}
END_TEST

/* Counting table frames, stopping early, ranges. */
START_TEST(test_each_visits)
{
    struct fake m = fake_new(0x100000, 32);
    struct paging_reader reader = { .read = read_fake, .owner = &m };
    uint64_t root = new_table(&m);
    struct list *list = calloc(1, sizeof(*list));
    struct paging_visitor visitor = {
        .owner = list, .leaf = append_leaf, .table = append_table, .broken = append_broken
    };

    ck_assert(list);
    map(&m, root, 4, 0x1000, 1, RWX | 0x1000);
    map(&m, root, 4, 0x3000, 1, RWX | 0x2000);
    map(&m, root, 4, 4 * MIB, 2, RWX | PAGING_PS);
    map(&m, root, 4, 0xffff800000000000, 3, RWX | PAGING_PS | GIB);
    map(&m, root, 4, 0xffffffffffffe000, 1, RWX | 0x4000);
    map(&m, root, 4, 0xfffffffffffff000, 1, RWX | 1ull << 51);
    reader.phys_bits = 46;

    ck_assert_int_eq(paging_each(&paging_x86_4level, &reader, root,
                                 (struct paging_range){ 0, UINT64_MAX }, 100000, &visitor),
                     0);
    ck_assert_uint_eq(list->n, 5);
    ck_assert_uint_eq(list->tables, m.used);
    ck_assert_uint_eq(list->broken, 1);
    ck_assert_uint_eq(list->leaf[3].va, 0xffff800000000000);
    ck_assert_uint_eq(list->leaf[3].page_bytes, GIB);
    ck_assert_uint_eq(list->leaf[4].va, 0xffffffffffffe000);

    /* The last byte of a page counts, the one after it does not. */
    list->n = 0;
    paging_each(&paging_x86_4level, &reader, root, (struct paging_range){ 0x1fff, 0x3000 }, 100000,
                &visitor);
    ck_assert_uint_eq(list->n, 2);
    list->n = 0;
    paging_each(&paging_x86_4level, &reader, root, (struct paging_range){ 0x2000, 0x2fff }, 100000,
                &visitor);
    ck_assert_uint_eq(list->n, 0);
    /* Nothing in the hole, nothing backwards. */
    paging_each(&paging_x86_4level, &reader, root,
                (struct paging_range){ 0x800000000000, 0xffff7fffffffffff }, 100000, &visitor);
    paging_each(&paging_x86_4level, &reader, root, (struct paging_range){ 0x3000, 0x1000 }, 100000,
                &visitor);
    ck_assert_uint_eq(list->n, 0);
    /* An end in the hole: the upper half begins at its own first byte, not before. */
    paging_each(&paging_x86_4level, &reader, root, (struct paging_range){ 0x10000, 0x800000000000 },
                100000, &visitor);
    ck_assert_uint_eq(list->n, 1);
    paging_each(&paging_x86_4level, &reader, root,
                (struct paging_range){ 0x900000000000, 0xffff800000000000 }, 100000, &visitor);
    ck_assert_uint_eq(list->n, 2);
    ck_assert_uint_eq(list->leaf[1].va, 0xffff800000000000);

    /* A callback's value comes back. */
    list->n = 4095;
    ck_assert_int_eq(paging_each(&paging_x86_4level, &reader, root,
                                 (struct paging_range){ 0, UINT64_MAX }, 100000, &visitor),
                     7);
    free(list);
    fake_free(&m);
}
END_TEST

#define NONE PAGING_NO_FAULT

/* Rows of SDM 4.6.1 and 4.7: by the leaf's flags, who accesses and how. */
static const struct {
    uint64_t flags;
    /* supervisor: read, write with WP, write without, fetch; user: read, write, fetch */
    uint32_t code[7];
} fault_rows[] = {
    { 0, { 0x00, 0x02, 0x02, 0x10, 0x04, 0x06, 0x14 } },
    { PAGING_W | PAGING_U, { 0x00, 0x02, 0x02, 0x10, 0x04, 0x06, 0x14 } },
    { PAGING_P, { NONE, 0x03, NONE, NONE, 0x05, 0x07, 0x15 } },
    { PAGING_P | PAGING_W, { NONE, NONE, NONE, NONE, 0x05, 0x07, 0x15 } },
    { PAGING_P | PAGING_U, { NONE, 0x03, NONE, NONE, NONE, 0x07, NONE } },
    { PAGING_P | PAGING_W | PAGING_U, { NONE, NONE, NONE, NONE, NONE, NONE, NONE } },
    { PAGING_P | PAGING_NX, { NONE, 0x03, NONE, 0x11, 0x05, 0x07, 0x15 } },
    { PAGING_P | PAGING_U | PAGING_NX, { NONE, 0x03, NONE, 0x11, NONE, 0x07, 0x15 } },
    { PAGING_P | PAGING_W | PAGING_U | PAGING_NX, { NONE, NONE, NONE, 0x11, NONE, NONE, 0x15 } },
    { PAGING_P | PAGING_W | PAGING_U | 1ull << 51, { 0x09, 0x0b, 0x0b, 0x19, 0x0d, 0x0f, 0x1d } },
};

static const struct {
    enum paging_access access;
    bool user, wp;
} accesses[7] = {
    { PAGING_READ, false, true },  { PAGING_WRITE, false, true }, { PAGING_WRITE, false, false },
    { PAGING_FETCH, false, true }, { PAGING_READ, true, true },   { PAGING_WRITE, true, true },
    { PAGING_FETCH, true, true },
};

START_TEST(test_fault_codes)
{
    struct fake m = fake_new(0x100000, 8);
    struct paging_reader reader = { .read = read_fake, .owner = &m, .phys_bits = 46 };
    uint64_t root = new_table(&m);
    struct paging_walk walk;

    for (unsigned i = 0; i < sizeof(fault_rows) / sizeof(fault_rows[0]); i++) {
        map(&m, root, 4, 0x1000, 1, fault_rows[i].flags | 0x5000);
        for (unsigned a = 0; a < 7; a++) {
            paging_walk(&paging_x86_4level, &reader, root, 0x1000, &walk);
            uint32_t code = paging_fault_code(&walk, accesses[a].access, accesses[a].user,
                                              accesses[a].wp);

            ck_assert_msg(code == fault_rows[i].code[a], "row %u, access %u: %#x, should be %#x", i,
                          a, code, fault_rows[i].code[a]);
        }
    }
    /* User mode cannot switch write protection off. */
    map(&m, root, 4, 0x1000, 1, PAGING_P | PAGING_U);
    paging_walk(&paging_x86_4level, &reader, root, 0x1000, &walk);
    ck_assert_uint_eq(paging_fault_code(&walk, PAGING_WRITE, true, false), 0x07);
    /* Without NX there is no instruction bit. */
    map(&m, root, 4, 0x1000, 1, PAGING_P);
    paging_walk(&paging_x86_4level_no_nx, &reader, root, 0x1000, &walk);
    ck_assert_uint_eq(paging_fault_code(&walk, PAGING_FETCH, true, true), 0x05);
    /* Not page faults. */
    paging_walk(&paging_x86_4level, &reader, root, 1ull << 60, &walk);
    ck_assert_uint_eq(paging_fault_code(&walk, PAGING_READ, true, true), PAGING_NO_CODE);
    paging_walk(&paging_x86_4level, &reader, 0, 0, &walk);
    ck_assert_uint_eq(paging_fault_code(&walk, PAGING_READ, true, true), PAGING_NO_CODE);
    fake_free(&m);
}
END_TEST

START_TEST(test_format_of)
{
    uint64_t pg = 1ull << 31 | 1, pae = 1 << 5, la57 = 1 << 12, lma = 1 << 10, nxe = 1 << 11;

    ck_assert_ptr_null(paging_format_of(1, pae, lma | nxe));
    ck_assert_ptr_null(paging_format_of(pg, 0, 0));
    ck_assert_ptr_null(paging_format_of(pg, pae, nxe));
    ck_assert_ptr_eq(paging_format_of(pg, pae, lma | nxe), &paging_x86_4level);
    ck_assert_ptr_eq(paging_format_of(pg, pae, lma), &paging_x86_4level_no_nx);
    ck_assert_ptr_eq(paging_format_of(pg, pae | la57, lma | nxe), &paging_x86_5level);
    ck_assert_ptr_eq(paging_format_of(pg, pae | la57, lma), &paging_x86_5level_no_nx);
}
END_TEST

/* A vCPU that is never run: it only answers KVM_TRANSLATE. */
struct translator {
    int kvm, vm, vcpu;
    uint64_t *ram;
    uint64_t bytes;
    unsigned phys_bits;
    bool has_1g;
};

static int translator_open(struct translator *t, bool nxe)
{
    struct {
        struct kvm_cpuid2 head;
        struct kvm_cpuid_entry2 entry[256];
    } cpuid = { .head.nent = 256 };
    struct kvm_sregs sregs;

    *t = (struct translator){ .bytes = 2 * MIB, .phys_bits = 36 };
    t->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (t->kvm < 0)
        return -errno;
    t->ram = mmap(NULL, t->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(t->ram != MAP_FAILED);
    do
        t->vm = ioctl(t->kvm, KVM_CREATE_VM, 0);
    while (t->vm < 0 && errno == EINTR);
    if (t->vm < 0)
        return -errno;

    struct kvm_userspace_memory_region slot = { .memory_size = t->bytes,
                                                .userspace_addr = (uintptr_t)t->ram };

    if (ioctl(t->vm, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
        return -errno;
    t->vcpu = ioctl(t->vm, KVM_CREATE_VCPU, 0);
    if (t->vcpu < 0 || ioctl(t->kvm, KVM_GET_SUPPORTED_CPUID, &cpuid) < 0 ||
        ioctl(t->vcpu, KVM_SET_CPUID2, &cpuid) < 0)
        return -errno;
    for (unsigned i = 0; i < cpuid.head.nent; i++) {
        if (cpuid.entry[i].function == 0x80000001)
            t->has_1g = cpuid.entry[i].edx >> 26 & 1;
        if (cpuid.entry[i].function == 0x80000008)
            t->phys_bits = cpuid.entry[i].eax & 0xff;
    }

    if (ioctl(t->vcpu, KVM_GET_SREGS, &sregs) < 0)
        return -errno;
    sregs.cr0 = 0x80000001;
    sregs.cr4 = 1 << 5;
    sregs.efer = 1 << 8 | 1 << 10 | (nxe ? 1 << 11 : 0);
    sregs.cr3 = 0;
    sregs.cs.l = 1;
    sregs.cs.db = 0;
    if (ioctl(t->vcpu, KVM_SET_SREGS, &sregs) < 0)
        return -errno;
    return 0;
}

static int read_ram(void *owner, uint64_t gpa, uint64_t *entry)
{
    const struct translator *t = owner;

    if (gpa > t->bytes - 8)
        return -EFAULT;
    *entry = t->ram[gpa / 8];
    return 0;
}

START_TEST(test_kvm_translate)
{
    struct translator t;
    bool nxe = !_i;
    const struct paging_format *format = nxe ? &paging_x86_4level : &paging_x86_4level_no_nx;
    unsigned mapped = 0, broken = 0;
    int err = translator_open(&t, nxe);

    ck_assert_msg(err == 0, "no vCPU that translates: %s", strerror(-err));
    struct paging_reader reader = { .read = read_ram,
                                    .owner = &t,
                                    .phys_bits = t.phys_bits,
                                    .leaf_bytes_max = t.has_1g ? 0 : 2 * MIB };

    seed(_i);
    scramble(t.ram, 0, 32);
    /*
     * Bit 8 is not set in the entries, so Intel and AMD agree on them. With NX
     * off, most entries would be broken by bit 63; leave it in one of 64.
     */
    for (unsigned i = 0; i < 32 * 512; i++)
        if (!nxe && rnd() % 64)
            t.ram[i] &= ~PAGING_NX;

    for (unsigned i = 0; i < 2500; i++) {
        struct kvm_translation tr = { .linear_address = (uint64_t)((int64_t)rnd() >> 16) };
        struct paging_walk walk;

        paging_walk(format, &reader, 0, tr.linear_address, &walk);
        ck_assert_int_eq(ioctl(t.vcpu, KVM_TRANSLATE, &tr), 0);
        ck_assert_msg(tr.valid == (walk.status == PAGING_MAPPED),
                      "va %#llx: KVM says %s, the walk %s at level %u, entry %#llx",
                      (unsigned long long)walk.va, tr.valid ? "mapped" : "not mapped",
                      paging_status_name(walk.status), walk.level,
                      (unsigned long long)walk.step[walk.nsteps - 1].entry);
        if (tr.valid)
            ck_assert_uint_eq(tr.physical_address, walk.gpa);
        mapped += walk.status == PAGING_MAPPED;
        broken += walk.status == PAGING_RESERVED || walk.status == PAGING_OUTSIDE_MEMORY;
    }
    /* The comparison means something only if both kinds were there. */
    ck_assert_uint_gt(mapped, 50);
    ck_assert_uint_gt(broken, 10);
    close(t.vcpu);
    close(t.vm);
    close(t.kvm);
    munmap(t.ram, t.bytes);
}
END_TEST

Suite *paging_suite(void)
{
    Suite *suite = suite_create("paging");
    TCase *tc = tcase_create("walk");

    tcase_set_timeout(tc, 10);
    tcase_add_loop_test(tc, test_rights, 0, 4 * 3 * 8);
    tcase_add_loop_test(tc, test_each_bit, 0, 4 * 7);
    tcase_add_loop_test(tc, test_offsets, 0, 3);
    tcase_add_test(tc, test_canonical);
    tcase_add_test(tc, test_cpu_limits);
    tcase_add_test(tc, test_root_bits);
    tcase_add_test(tc, test_outside_memory);
    tcase_add_test(tc, test_format_of);
    suite_add_tcase(suite, tc);

    tc = tcase_create("each");
    tcase_set_timeout(tc, 20);
    tcase_add_loop_test(tc, test_self_reference, 0, 4);
    tcase_add_test(tc, test_reads_once);
    tcase_add_test(tc, test_each_visits);
    tcase_add_loop_test(tc, test_each_against_walks, 0, 8);
    suite_add_tcase(suite, tc);

    tc = tcase_create("fault codes");
    tcase_set_timeout(tc, 10);
    tcase_add_test(tc, test_fault_codes);
    suite_add_tcase(suite, tc);

    tc = tcase_create("KVM_TRANSLATE");
    tcase_set_tags(tc, NEEDS_KVM);
    tcase_set_timeout(tc, 30);
    tcase_add_loop_test(tc, test_kvm_translate, 0, 2);
    suite_add_tcase(suite, tc);
    return suite;
}
