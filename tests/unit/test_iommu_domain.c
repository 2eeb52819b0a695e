/*
 * devices/iommu/domain.h: a second implementation of domains, whose tables are the guest's, in
 * guest memory, in the format of VT-d's second level, read by the shared walker. It is what an
 * IOMMU front end other than virtio-iommu needs, and shows that domain.h suffices for it.
 */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "devices/iommu/dma.h"
#include "devices/iommu/domain.h"
#include "tests/unit/suites.h"
#include "vmm/machine/guest_memory.h"
#include "vmm/machine/memory.h"
#include "vmm/machine/paging.h"

#define PAGE     4096ull
#define MIB      (1ull << 20)
#define RAM      (16 * MIB)
#define ENDPOINT 7
#define OTHER    8
#define IOVA     (5ull << 39 | 3ull << 30 | 2ull << 21 | 8 * PAGE)
#define LARGE    (5ull << 39 | 3ull << 30 | 9ull << 21) /* 2 MiB in one entry */
#define WIDTH    (1ull << 48)

#define TABLES   MIB /* one of each level, the root first */
#define R        1ull
#define W        2ull
#define PS       (1ull << 7)
#define SNOOP    (1ull << 11) /* reserved */
#define ADDRESS  0x000ffffffffff000ull

static const struct paging_level levels[] = {
    { .name = "SL4", .shift = 39, .bits = 9, .table = ADDRESS, .table_reserved = PS },
    { .name = "SL3",
      .shift = 30,
      .bits = 9,
      .leaf_if = PS,
      .frame = ADDRESS & ~((1ull << 30) - 1),
      .table = ADDRESS,
      .leaf_reserved = (1ull << 30) - PAGE },
    { .name = "SL2",
      .shift = 21,
      .bits = 9,
      .leaf_if = PS,
      .frame = ADDRESS & ~((1ull << 21) - 1),
      .table = ADDRESS,
      .leaf_reserved = (1ull << 21) - PAGE },
    { .name = "SL1", .shift = 12, .bits = 9, .leaf_if = R | W, .frame = ADDRESS },
};

static const struct paging_format second_level = {
    .name = "VT-d second level",
    .nlevels = 4,
    .level = levels,
    .va_bits = 48,
    .root = ADDRESS,
    .present = R | W,
    .readable = R,
    .writable = W,
    .reserved = SNOOP,
};

/* The domain, as a front end keeps it. */
struct guest_domain {
    struct iommu_domain domain;
    struct paging_reader reader;
    uint64_t root;
    unsigned destroyed;
};

static struct memory memory;
static struct iommu *iommu;
static struct dma handle, other;
static struct guest_domain guest;

static uint32_t prot_of(const struct paging_leaf *leaf)
{
    return (leaf->readable ? IOMMU_READ : 0) | (leaf->writable ? IOMMU_WRITE : 0);
}

static enum iommu_fault_code guest_translate(const struct iommu_domain *domain, uint64_t iova,
                                             uint64_t last, struct iommu_translation *to)
{
    /* Codes, and the numbers that VT-d has for them. */
    static const struct {
        enum iommu_fault_code code;
        uint32_t detail;
    } faults[] = {
        [PAGING_NOT_PRESENT] = { IOMMU_FAULT_NOT_MAPPED, 0 },
        [PAGING_RESERVED] = { IOMMU_FAULT_RESERVED, 0xc },
        [PAGING_NOT_CANONICAL] = { IOMMU_FAULT_ADDRESS_WIDTH, 4 },
        [PAGING_OUTSIDE_MEMORY] = { IOMMU_FAULT_TABLE, 7 },
    };
    const struct guest_domain *own = (const struct guest_domain *)domain;
    struct paging_walk walk;

    (void)last;
    if (paging_walk(&second_level, &own->reader, own->root, iova, &walk) < 0) {
        to->detail = faults[walk.status].detail;
        return faults[walk.status].code;
    }
    to->first = walk.leaf.va;
    to->bytes = to->run = walk.leaf.page_bytes;
    to->gpa = walk.leaf.gpa;
    to->prot = prot_of(&walk.leaf);
    return IOMMU_FAULT_NONE;
}

struct visit {
    void (*visit)(void *owner, const struct iommu_mapping *mapping);
    void *owner;
};

static int guest_leaf(void *owner, const struct paging_leaf *leaf)
{
    const struct visit *visit = owner;

    visit->visit(visit->owner,
                 &(struct iommu_mapping){
                     { leaf->va, leaf->va + (leaf->page_bytes - 1) }, leaf->gpa, prot_of(leaf) });
    return 0;
}

static void guest_each(const struct iommu_domain *domain,
                       void (*visit)(void *owner, const struct iommu_mapping *mapping), void *owner)
{
    const struct guest_domain *own = (const struct guest_domain *)domain;
    struct visit each = { visit, owner };
    const struct paging_visitor visitor = { .owner = &each, .leaf = guest_leaf };

    ck_assert_int_eq(paging_each(&second_level, &own->reader, own->root,
                                 (struct paging_range){ 0, UINT64_MAX }, 1u << 20, &visitor),
                     0);
}

static void guest_destroy(struct iommu_domain *domain)
{
    ((struct guest_domain *)domain)->destroyed++;
}

static const struct iommu_domain_ops guest_ops = {
    .name = "guest",
    .entry_bytes_max = 1ull << 30,
    .translate = guest_translate,
    .each = guest_each,
    .destroy = guest_destroy,
};

/* The entry of a level (4: the root's) on the way to iova, in guest memory. */
static uint64_t *entry(unsigned level, uint64_t iova)
{
    uint64_t *table = memory_at(&memory, TABLES + (4 - level) * PAGE, PAGE);

    return &table[iova >> (12 + 9 * (level - 1)) & 511];
}

/* Each page of RAM has its address in it. */
static void setup(void)
{
    ck_assert_int_eq(memory_create(&memory, -1, RAM, MEMORY_4K), 0);
    for (uint64_t gpa = 2 * MIB; gpa < RAM; gpa += PAGE)
        memcpy(memory_at(&memory, gpa, sizeof(gpa)), &gpa, sizeof(gpa));
    for (unsigned level = 4; level > 1; level--)
        *entry(level, IOVA) = (TABLES + (5 - level) * PAGE) | R | W;
    *entry(2, LARGE) = 4 * MIB | PS | R | W;
    ck_assert_int_eq(iommu_create(&iommu, &memory, &(struct iommu_config){ 0 }), 0);
    ck_assert_int_eq(dma_create(&handle, &memory, iommu, ENDPOINT), 0);
    ck_assert_int_eq(dma_create(&other, &memory, iommu, OTHER), 0);
    guest = (struct guest_domain){
        .domain = { .iommu = iommu, .ops = &guest_ops, .mode = IOMMU_TRANSLATED },
        .reader = guest_memory_reader(&memory),
        .root = TABLES,
    };
    guest.reader.phys_bits = 46;
    ck_assert_int_eq(iommu_attach_domain(iommu, ENDPOINT, &guest.domain), 0);
}

static void teardown(void)
{
    dma_destroy(&handle);
    dma_destroy(&other);
    iommu_destroy(iommu);
    memory_destroy(&memory);
}

/* The page of RAM that is there; 0: a fault. */
static uint64_t page_at(struct dma *dma, uint64_t iova)
{
    uint64_t gpa = 0;

    dma_lock(dma);
    if (dma_read(dma, iova, &gpa, sizeof(gpa)) < 0)
        gpa = 0;
    dma_unlock(dma);
    return gpa;
}

/* Each fits the tables of setup() but for one entry. */
static const struct {
    unsigned level;
    uint64_t entry;
    enum iommu_fault_code read, write;
    uint32_t detail;
} walks[] = {
    { 1, 3 * MIB | R | W, IOMMU_FAULT_NONE, IOMMU_FAULT_NONE, 0 },
    { 1, 3 * MIB | R, IOMMU_FAULT_NONE, IOMMU_FAULT_PERMISSION, 0 },
    { 1, 3 * MIB | W, IOMMU_FAULT_PERMISSION, IOMMU_FAULT_NONE, 0 },
    { 1, 3 * MIB, IOMMU_FAULT_NOT_MAPPED, IOMMU_FAULT_NOT_MAPPED, 0 },
    { 1, SNOOP, IOMMU_FAULT_NOT_MAPPED, IOMMU_FAULT_NOT_MAPPED, 0 },
    { 1, 3 * MIB | R | W | SNOOP, IOMMU_FAULT_RESERVED, IOMMU_FAULT_RESERVED, 0xc },
    { 1, 1ull << 46 | R | W, IOMMU_FAULT_RESERVED, IOMMU_FAULT_RESERVED, 0xc },
    { 1, 2 * RAM | R | W, IOMMU_FAULT_TARGET, IOMMU_FAULT_TARGET, 0 },
    { 2, (TABLES + 3 * PAGE) | R, IOMMU_FAULT_NONE, IOMMU_FAULT_PERMISSION, 0 },
    { 3, (TABLES + 2 * PAGE) | W, IOMMU_FAULT_PERMISSION, IOMMU_FAULT_NONE, 0 },
    { 3, 2 * RAM | R | W, IOMMU_FAULT_TABLE, IOMMU_FAULT_TABLE, 7 },
    { 4, (TABLES + PAGE) | PS | R | W, IOMMU_FAULT_RESERVED, IOMMU_FAULT_RESERVED, 0xc },
};

static void expect_access(enum dma_direction direction, enum iommu_fault_code code, uint32_t detail)
{
    struct iommu_fault fault;
    uint64_t value = 0;
    int err;

    dma_lock(&handle);
    err = direction == DMA_READ ? dma_read(&handle, IOVA, &value, 8)
                                : dma_write(&handle, IOVA, &value, 8);
    dma_unlock(&handle);
    ck_assert_int_eq(err, code ? -EFAULT : 0);
    ck_assert(iommu_next_fault(iommu, &fault) == (code != IOMMU_FAULT_NONE));
    if (!code)
        return;
    ck_assert_int_eq(fault.code, code);
    ck_assert_uint_eq(fault.detail, detail);
    ck_assert_uint_eq(fault.access, direction);
    ck_assert_uint_eq(fault.endpoint, ENDPOINT);
    ck_assert_uint_eq(fault.iova, IOVA);
}

START_TEST(test_walk)
{
    *entry(1, IOVA) = 3 * MIB | R | W;
    *entry(walks[_i].level, IOVA) = walks[_i].entry;
    expect_access(DMA_READ, walks[_i].read, walks[_i].detail);
    expect_access(DMA_WRITE, walks[_i].write, walks[_i].detail);
}
END_TEST

START_TEST(test_width)
{
    struct iommu_fault fault;

    ck_assert_uint_eq(page_at(&handle, WIDTH + IOVA), 0);
    ck_assert(iommu_next_fault(iommu, &fault));
    ck_assert_int_eq(fault.code, IOMMU_FAULT_ADDRESS_WIDTH);
    ck_assert_uint_eq(fault.detail, 4);
}
END_TEST

/* What was found is kept until the guest asks for its invalidation; what was not is not. */
START_TEST(test_invalidate)
{
    ck_assert_uint_eq(page_at(&handle, IOVA), 0);
    *entry(1, IOVA) = 3 * MIB | R | W;
    ck_assert_uint_eq(page_at(&handle, IOVA), 3 * MIB);
    *entry(1, IOVA) = 5 * MIB | R | W;
    ck_assert_uint_eq(page_at(&handle, IOVA), 3 * MIB); /* the control: it was cached */
    iommu_domain_invalidate(&guest.domain, IOVA, IOVA + PAGE - 1);
    ck_assert_uint_eq(page_at(&handle, IOVA), 5 * MIB);
}
END_TEST

/* An invalidation of one page ends what a larger entry gave, wherever in it that is. */
START_TEST(test_invalidate_large)
{
    for (uint64_t at = 0; at < 2 * MIB; at += 64 * PAGE)
        ck_assert_uint_eq(page_at(&handle, LARGE + at), 4 * MIB + at);
    *entry(2, LARGE) = 0;
    ck_assert_uint_eq(page_at(&handle, LARGE + MIB), 5 * MIB); /* the control */
    iommu_domain_invalidate(&guest.domain, LARGE + 3 * PAGE, LARGE + 4 * PAGE - 1);
    for (uint64_t at = 0; at < 2 * MIB; at += 64 * PAGE)
        ck_assert_uint_eq(page_at(&handle, LARGE + at), 0);
}
END_TEST

/* Endpoints on domains of both kinds do not see each other's mappings, and may change sides. */
START_TEST(test_both_kinds)
{
    *entry(1, IOVA) = 3 * MIB | R | W;
    ck_assert_int_eq(iommu_attach(iommu, OTHER, 0, false), 0);
    ck_assert_int_eq(iommu_map(iommu, 0, IOVA, IOVA + PAGE - 1, 6 * MIB, IOMMU_READ), 0);
    ck_assert_uint_eq(page_at(&handle, IOVA), 3 * MIB);
    ck_assert_uint_eq(page_at(&other, IOVA), 6 * MIB);

    ck_assert_int_eq(iommu_attach(iommu, ENDPOINT, 0, false), 0);
    ck_assert_uint_eq(guest.destroyed, 1);
    ck_assert_uint_eq(page_at(&handle, IOVA), 6 * MIB);
    ck_assert_int_eq(iommu_attach_domain(iommu, ENDPOINT, &guest.domain), 0);
    ck_assert_int_eq(iommu_attach_domain(iommu, OTHER, &guest.domain), 0);
    ck_assert_uint_eq(page_at(&other, IOVA), 3 * MIB);
    ck_assert_int_eq(iommu_attach_domain(iommu, OTHER, NULL), 0);
    ck_assert_uint_eq(page_at(&other, IOVA), 0);
    ck_assert_uint_eq(page_at(&handle, IOVA), 3 * MIB);
    ck_assert_uint_eq(guest.destroyed, 1);
    ck_assert_int_eq(iommu_attach_domain(iommu, 99, &guest.domain), -ENOENT);
    ck_assert_int_eq(iommu_attach_domain(iommu, ENDPOINT, NULL), 0);
    ck_assert_uint_eq(guest.destroyed, 2);
}
END_TEST

static void note(void *owner, const struct iommu_mapping *mapping)
{
    struct iommu_mapping **next = owner;

    *(*next)++ = *mapping;
}

START_TEST(test_each)
{
    struct iommu_mapping found[4], *next = found;
    bool bypass = true;

    *entry(1, IOVA) = 3 * MIB | W;
    ck_assert_int_eq(iommu_each_mapping(iommu, ENDPOINT, &bypass, note, &next), 0);
    ck_assert(!bypass);
    ck_assert_int_eq(next - found, 2);
    ck_assert_uint_eq(found[0].iova.first, IOVA);
    ck_assert_uint_eq(found[0].iova.last, IOVA + PAGE - 1);
    ck_assert_uint_eq(found[0].gpa, 3 * MIB);
    ck_assert_uint_eq(found[0].prot, IOMMU_WRITE);
    ck_assert_uint_eq(found[1].iova.first, LARGE);
    ck_assert_uint_eq(found[1].iova.last, LARGE + 2 * MIB - 1);
    ck_assert_uint_eq(found[1].prot, IOMMU_READ | IOMMU_WRITE);
}
END_TEST

Suite *iommu_domain_suite(void)
{
    Suite *suite = suite_create("iommu_domain");
    TCase *tcase = tcase_create("guest");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, test_walk, 0, sizeof(walks) / sizeof(walks[0]));
    tcase_add_test(tcase, test_width);
    tcase_add_test(tcase, test_invalidate);
    tcase_add_test(tcase, test_invalidate_large);
    tcase_add_test(tcase, test_both_kinds);
    tcase_add_test(tcase, test_each);
    suite_add_tcase(suite, tcase);
    return suite;
}
