/* devices/iommu: what may be attached and mapped, what it costs, who is told of faults. */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "devices/iommu/dma.h"
#include "devices/iommu/dma_segment.h"
#include "devices/iommu/iommu.h"
#include "tests/unit/suites.h"
#include "vmm/machine/memory.h"

#define PAGE     4096ull
#define MIB      (1ull << 20)
#define RAM      (16 * MIB)
#define RW       (IOMMU_READ | IOMMU_WRITE)
#define ENDPOINT 7
#define OTHER    8
#define DOMAIN   1
#define IOVA     0x10000ull
#define REG      0xd0000000ull /* no RAM: a device's registers, say */

static struct memory memory;
static struct iommu *iommu;
static struct dma handle, other;
static struct iommu_counts counts;

static void setup(const struct iommu_config *config)
{
    static const struct iommu_config none;

    ck_assert_int_eq(memory_create(&memory, -1, RAM, MEMORY_4K), 0);
    ck_assert_int_eq(iommu_create(&iommu, &memory, config ? config : &none), 0);
    ck_assert_int_eq(dma_create(&handle, &memory, iommu, ENDPOINT), 0);
    ck_assert_int_eq(dma_create(&other, &memory, iommu, OTHER), 0);
}

static void attached(const struct iommu_config *config)
{
    setup(config);
    ck_assert_int_eq(iommu_attach(iommu, ENDPOINT, DOMAIN, false), 0);
}

static void teardown(void)
{
    dma_destroy(&handle);
    dma_destroy(&other);
    iommu_destroy(iommu);
    memory_destroy(&memory);
}

static int map(uint64_t iova, uint64_t pages, uint64_t gpa, uint32_t prot)
{
    return iommu_map(iommu, DOMAIN, iova, iova + pages * PAGE - 1, gpa, prot);
}

static int unmap(uint64_t iova, uint64_t pages)
{
    return iommu_unmap(iommu, DOMAIN, iova, iova + pages * PAGE - 1);
}

/* One access of 8 bytes: 0 or -errno. */
static int access_by(struct dma *dma, uint64_t iova, enum dma_direction direction)
{
    uint64_t value = 0;
    int err;

    dma_lock(dma);
    err = direction == DMA_READ ? dma_read(dma, iova, &value, 8) : dma_write(dma, iova, &value, 8);
    dma_unlock(dma);
    return err;
}

static void expect_fault(enum iommu_fault_code code, uint32_t access, uint32_t endpoint,
                         uint64_t iova)
{
    struct iommu_fault fault;

    ck_assert(iommu_next_fault(iommu, &fault));
    ck_assert_uint_eq(fault.code, code);
    ck_assert_uint_eq(fault.access, access);
    ck_assert_uint_eq(fault.endpoint, endpoint);
    ck_assert_uint_eq(fault.iova, iova);
}

START_TEST(test_config)
{
    static const struct iommu_config bad[] = {
        { .page_size_mask = 1ull << 11 | 1ull << 12 },
        { .input = { 2, 1 } },
        { .input = { 1ull << 48, 0 } },
        { .domains = { 9, 8 } },
        { .domains = { 0, 1ull << 32 } },
    };
    const struct iommu_config *filled;

    setup(NULL);
    filled = iommu_config(iommu);
    ck_assert_uint_eq(filled->page_size_mask, PAGE | 2 * MIB | 1ull << 30);
    ck_assert_uint_eq(filled->input.last, (1ull << 48) - 1);
    ck_assert_uint_eq(filled->domains.last, UINT32_MAX);
    ck_assert_uint_gt(filled->mappings_of_domain_max, 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct iommu *unit;

        ck_assert_msg(iommu_create(&unit, &memory, &bad[i]) == -EINVAL, "case %zu", i);
    }
    teardown();
}
END_TEST

START_TEST(test_endpoints)
{
    static struct dma more[IOMMU_ENDPOINTS_MAX];
    struct dma one;

    setup(NULL);
    ck_assert_int_eq(dma_create(&one, &memory, iommu, ENDPOINT), -EEXIST);
    for (unsigned i = 2; i < IOMMU_ENDPOINTS_MAX; i++)
        ck_assert_int_eq(dma_create(&more[i], &memory, iommu, 100 + i), 0);
    ck_assert_int_eq(dma_create(&one, &memory, iommu, 99), -ENOSPC);
    /* One that goes makes room, and takes its domain along. */
    ck_assert_int_eq(iommu_attach(iommu, 102, 9, false), 0);
    dma_destroy(&more[2]);
    iommu_count(iommu, &counts);
    ck_assert_uint_eq(counts.domains, 0);
    ck_assert_uint_eq(counts.table_bytes, 0);
    ck_assert_int_eq(dma_create(&one, &memory, iommu, 99), 0);
    dma_destroy(&one);
    for (unsigned i = 3; i < IOMMU_ENDPOINTS_MAX; i++)
        dma_destroy(&more[i]);
    teardown();
}
END_TEST

START_TEST(test_attach)
{
    static const struct iommu_config config = { .domains = { 1, 10 }, .domains_max = 2 };

    setup(&config);
    ck_assert_int_eq(iommu_attach(iommu, 99, 1, false), -ENOENT);
    ck_assert_int_eq(iommu_attach(iommu, ENDPOINT, 0, false), -ERANGE);
    ck_assert_int_eq(iommu_attach(iommu, ENDPOINT, 11, false), -ERANGE);
    ck_assert_int_eq(iommu_attach(iommu, ENDPOINT, 1, false), 0);
    ck_assert_int_eq(iommu_attach(iommu, ENDPOINT, 1, false), 0);
    ck_assert_int_eq(iommu_attach(iommu, OTHER, 1, true), -EINVAL);
    ck_assert_int_eq(iommu_attach(iommu, OTHER, 2, true), 0);
    ck_assert_int_eq(iommu_attach(iommu, OTHER, 3, false), -ENOMEM);
    ck_assert_int_eq(iommu_map(iommu, 2, 0, PAGE - 1, 0, RW), -EINVAL);
    ck_assert_int_eq(iommu_unmap(iommu, 2, 0, PAGE - 1), -EINVAL);
    ck_assert_int_eq(iommu_detach(iommu, 99, 1), -ENOENT);
    ck_assert_int_eq(iommu_detach(iommu, ENDPOINT, 2), -EINVAL);
    ck_assert_int_eq(iommu_detach(iommu, OTHER, 2), 0);
    ck_assert_int_eq(iommu_detach(iommu, OTHER, 2), -EINVAL);
    ck_assert_int_eq(iommu_unmap(iommu, 2, 0, PAGE - 1), -ENOENT);

    /* A domain goes with its last endpoint, not before. */
    ck_assert_int_eq(map(IOVA, 1, 0, RW), 0);
    ck_assert_int_eq(iommu_attach(iommu, OTHER, 1, false), 0);
    ck_assert_int_eq(iommu_detach(iommu, ENDPOINT, 1), 0);
    ck_assert_int_eq(access_by(&other, IOVA, DMA_READ), 0);
    ck_assert_int_eq(access_by(&handle, IOVA, DMA_READ), -EFAULT);
    expect_fault(IOMMU_FAULT_NO_DOMAIN, IOMMU_READ, ENDPOINT, IOVA);
    ck_assert_int_eq(iommu_attach(iommu, OTHER, 4, false), 0); /* moves */
    iommu_count(iommu, &counts);
    ck_assert_uint_eq(counts.domains, 1);
    ck_assert_uint_eq(counts.mappings, 0);
    ck_assert_uint_eq(counts.pinned_pages, 0);
    ck_assert_int_eq(access_by(&other, IOVA, DMA_READ), -EFAULT);
    expect_fault(IOMMU_FAULT_NOT_MAPPED, IOMMU_READ, OTHER, IOVA);
    teardown();
}
END_TEST

/* Whoever asks from another domain, or from none, gets nothing. */
START_TEST(test_isolation)
{
    attached(NULL);
    ck_assert_int_eq(iommu_attach(iommu, OTHER, 2, false), 0);
    ck_assert_int_eq(map(IOVA, 2, 0, RW), 0);
    ck_assert_int_eq(access_by(&handle, IOVA, DMA_WRITE), 0);
    ck_assert_int_eq(access_by(&other, IOVA, DMA_WRITE), -EFAULT);
    expect_fault(IOMMU_FAULT_NOT_MAPPED, IOMMU_WRITE, OTHER, IOVA);
    /* The last byte that may be reached, and the next. */
    ck_assert_int_eq(access_by(&handle, IOVA + 2 * PAGE - 8, DMA_WRITE), 0);
    ck_assert_int_eq(access_by(&handle, IOVA + 2 * PAGE - 7, DMA_WRITE), -EFAULT);
    expect_fault(IOMMU_FAULT_NOT_MAPPED, IOMMU_WRITE, ENDPOINT, IOVA + 2 * PAGE);
    ck_assert_int_eq(access_by(&handle, IOVA - 1, DMA_READ), -EFAULT);
    expect_fault(IOMMU_FAULT_NOT_MAPPED, IOMMU_READ, ENDPOINT, IOVA - 1);
    teardown();
}
END_TEST

static const struct {
    uint64_t first, last, gpa;
    uint32_t prot;
    int err;
} maps[] = {
    { IOVA, IOVA + PAGE - 1, 0, RW, 0 },
    { IOVA, IOVA + PAGE - 1, 0, 0, 0 },
    { IOVA, IOVA + PAGE - 1, RAM - PAGE, IOMMU_READ | IOMMU_MMIO, 0 },
    { 0, PAGE - 1, 0, RW, -ERANGE }, /* the input range starts at 4K */
    { IOVA + 1, IOVA + PAGE - 1, 0, RW, -ERANGE },
    { IOVA, IOVA + PAGE, 0, RW, -ERANGE },
    { IOVA, IOVA + PAGE - 2, 0, RW, -ERANGE },
    { IOVA, IOVA + PAGE - 1, 8, RW, -ERANGE },
    { (1ull << 48) - PAGE, (1ull << 48) - 1, 0, RW, 0 },
    { 1ull << 48, (1ull << 48) + PAGE - 1, 0, RW, -ERANGE },
    { (1ull << 48) - PAGE, (1ull << 48) + PAGE - 1, 0, RW, -ERANGE },
    { UINT64_MAX - PAGE + 1, UINT64_MAX, 0, RW, -ERANGE },
    { 0, UINT64_MAX, 0, RW, -ERANGE },
    { IOVA, IOVA - PAGE - 1, 0, RW, -EINVAL },
    { IOVA, IOVA + PAGE - 1, 0, 8, -EINVAL },
    { IOVA, IOVA + PAGE - 1, 0, RW | 1u << 31, -EINVAL },
    { IOVA, IOVA + PAGE - 1, RAM, RW, -EINVAL },
    { IOVA, IOVA + 2 * PAGE - 1, RAM - PAGE, RW, -EINVAL },
    { IOVA, IOVA + RAM + PAGE - 1, 0, RW, -EINVAL },
    { IOVA, IOVA + 2 * PAGE - 1, UINT64_MAX - PAGE + 1, RW, -EINVAL },
    { IOVA, IOVA + PAGE - 1, UINT64_MAX - PAGE + 1, RW, -EINVAL },
    { IOVA, IOVA + PAGE - 1, 1ull << 52, RW | IOMMU_MMIO, -EINVAL },
    { IOVA, IOVA + PAGE - 1, REG, RW | IOMMU_MMIO, -EINVAL },
    { 0x40000000, 0x40000000 + PAGE - 1, 0, RW, -EINVAL }, /* there is one */
    { 0x40000000 - PAGE, 0x40000000 + 4 * PAGE - 1, 0, RW, -EINVAL },
    { IOMMU_MSI_FIRST, IOMMU_MSI_LAST, 0, RW, -EINVAL },
    { IOMMU_MSI_LAST - PAGE + 1, IOMMU_MSI_LAST + PAGE, 0, RW, -EINVAL },
    { IOMMU_MSI_LAST + 1, IOMMU_MSI_LAST + PAGE, 0, RW, 0 },
    { 0x50000000, 0x50000000 + PAGE - 1, 0, RW, -EINVAL }, /* reserved */
    { 0x50000000 - PAGE, 0x50000000 - 1, 0, RW, 0 },
};

START_TEST(test_map)
{
    static const struct iommu_config config = { .input = { PAGE, (1ull << 48) - 1 } };
    static const struct iommu_reserved reserved = { .range = { 0x50000000, 0x5000ffff } };
    struct iommu_counts after;

    attached(&config);
    ck_assert_int_eq(iommu_add_reserved(iommu, ENDPOINT, &reserved), 0);
    ck_assert_int_eq(map(0x40000000, 1, 0, RW), 0);
    iommu_count(iommu, &counts);
    ck_assert_int_eq(
        iommu_map(iommu, DOMAIN, maps[_i].first, maps[_i].last, maps[_i].gpa, maps[_i].prot),
        maps[_i].err);
    if (maps[_i].err) {
        iommu_count(iommu, &after);
        ck_assert_mem_eq(&counts, &after, sizeof(counts));
    }
    ck_assert_int_eq(iommu_map(iommu, 9, IOVA, IOVA + PAGE - 1, 0, RW), -ENOENT);
    teardown();
}
END_TEST

START_TEST(test_granule)
{
    static const struct iommu_config config = { .page_size_mask = 2 * MIB };

    attached(&config);
    ck_assert_int_eq(map(0, 1, 0, RW), -ERANGE);
    ck_assert_int_eq(map(2 * MIB, 512, PAGE, RW), -ERANGE);
    ck_assert_int_eq(map(2 * MIB, 512, 0, RW), 0);
    teardown();
}
END_TEST

START_TEST(test_unmap)
{
    attached(NULL);
    ck_assert_int_eq(map(IOVA, 4, 0, RW), 0);
    ck_assert_int_eq(map(IOVA + 8 * PAGE, 4, 0, RW), 0);
    ck_assert_int_eq(iommu_unmap(iommu, DOMAIN, IOVA, IOVA - 1), -EINVAL);
    /* Would split the second: the first stays too. */
    ck_assert_int_eq(unmap(IOVA, 9), -ERANGE);
    ck_assert_int_eq(unmap(IOVA + PAGE, 11), -ERANGE);
    ck_assert_int_eq(access_by(&handle, IOVA, DMA_READ), 0);
    ck_assert_int_eq(access_by(&handle, IOVA + 8 * PAGE, DMA_READ), 0);
    ck_assert_int_eq(iommu_unmap(iommu, DOMAIN, 1ull << 60, UINT64_MAX), 0);
    ck_assert_int_eq(unmap(IOVA + 4 * PAGE, 4), 0); /* a hole */
    ck_assert_int_eq(unmap(IOVA, 8), 0);
    ck_assert_int_eq(access_by(&handle, IOVA, DMA_READ), -EFAULT);
    ck_assert_int_eq(access_by(&handle, IOVA + 8 * PAGE, DMA_READ), 0);
    ck_assert_int_eq(iommu_unmap(iommu, DOMAIN, 0, UINT64_MAX), 0);
    ck_assert_int_eq(access_by(&handle, IOVA + 8 * PAGE, DMA_READ), -EFAULT);
    iommu_count(iommu, &counts);
    ck_assert_uint_eq(counts.mappings, 0);
    ck_assert_uint_eq(counts.table_bytes, PAGE);
    teardown();
}
END_TEST

/* Registers of devices may be mapped only where that protection is missing. */
START_TEST(test_peer)
{
    static const struct iommu_config config = { .disabled_checks = IOMMU_CHECK_PEER };
    struct iommu_fault fault;
    struct dma_segment span;

    attached(&config);
    ck_assert_int_eq(map(IOVA, 1, REG, RW), -EINVAL);
    ck_assert_int_eq(map(IOVA, 1, REG, RW | IOMMU_MMIO), 0);
    ck_assert_int_eq(map(IOVA + PAGE, 2, RAM - PAGE, RW | IOMMU_MMIO), -EINVAL); /* some of both */
    ck_assert_int_eq(access_by(&handle, IOVA, DMA_READ), -EFAULT); /* not for this road */
    expect_fault(IOMMU_FAULT_TARGET, IOMMU_READ, ENDPOINT, IOVA);
    dma_lock(&handle);
    ck_assert_int_eq(dma_resolve(&handle, IOVA + 8, DMA_WRITE, false, &span, &fault), 0);
    dma_unlock(&handle);
    ck_assert_uint_eq(span.gpa, REG + 8);
    ck_assert_uint_eq(span.len, PAGE - 8);
    ck_assert_ptr_null(span.host);
    iommu_count(iommu, &counts);
    ck_assert_uint_eq(counts.pinned_pages, 0);
    ck_assert_int_eq(unmap(IOVA, 1), 0);
    teardown();
}
END_TEST

START_TEST(test_permission)
{
    static const struct iommu_config config[] = { { 0 },
                                                  { .disabled_checks = IOMMU_CHECK_PERMISSION } };

    attached(&config[_i]);
    ck_assert_int_eq(map(IOVA, 1, 0, IOMMU_READ), 0);
    ck_assert_int_eq(map(IOVA + PAGE, 1, 0, IOMMU_WRITE), 0);
    ck_assert_int_eq(map(IOVA + 2 * PAGE, 1, 0, 0), 0);
    ck_assert_int_eq(access_by(&handle, IOVA, DMA_READ), 0);
    ck_assert_int_eq(access_by(&handle, IOVA + PAGE, DMA_WRITE), 0);
    /* In the IOTLB by now; that must not help either. */
    ck_assert_int_eq(access_by(&handle, IOVA, DMA_WRITE), _i ? 0 : -EFAULT);
    ck_assert_int_eq(access_by(&handle, IOVA + PAGE, DMA_READ), _i ? 0 : -EFAULT);
    ck_assert_int_eq(access_by(&handle, IOVA + 2 * PAGE, DMA_READ), _i ? 0 : -EFAULT);
    if (!_i) {
        expect_fault(IOMMU_FAULT_PERMISSION, IOMMU_WRITE, ENDPOINT, IOVA);
        expect_fault(IOMMU_FAULT_PERMISSION, IOMMU_READ, ENDPOINT, IOVA + PAGE);
    }
    teardown();
}
END_TEST

START_TEST(test_reserved)
{
    static const struct iommu_reserved own[] = {
        { .range = { 0xff000000, 0xffffffff } },
        { .range = { 0x1000, 0x1fff } },
        { .range = { 1ull << 50, UINT64_MAX } },
    };
    static const struct iommu_reserved wrong = { .range = { 2, 1 } };
    struct iommu_reserved list[IOMMU_RESERVED_MAX];

    attached(NULL);
    ck_assert_int_eq(iommu_reserved(iommu, 99, list), -ENOENT);
    ck_assert_int_eq(iommu_reserved(iommu, OTHER, list), 1);
    ck_assert_uint_eq(list[0].range.first, IOMMU_MSI_FIRST);
    ck_assert_uint_eq(list[0].range.last, IOMMU_MSI_LAST);
    ck_assert_int_eq(list[0].kind, IOMMU_RESERVED_MSI);

    ck_assert_int_eq(iommu_add_reserved(iommu, 99, &own[0]), -ENOENT);
    ck_assert_int_eq(iommu_add_reserved(iommu, OTHER, &wrong), -EINVAL);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(iommu_add_reserved(iommu, OTHER, &own[i]), 0);
    ck_assert_int_eq(iommu_reserved(iommu, OTHER, list), 4);
    for (int i = 1; i < 4; i++)
        ck_assert_uint_gt(list[i].range.first, list[i - 1].range.last);

    /* Another endpoint's region does not matter, until that wants to come in. */
    ck_assert_int_eq(map(0x1000, 1, 0, RW), 0);
    ck_assert_int_eq(iommu_attach(iommu, OTHER, DOMAIN, false), -EOPNOTSUPP);
    ck_assert_int_eq(unmap(0x1000, 1), 0);
    ck_assert_int_eq(iommu_attach(iommu, OTHER, DOMAIN, false), 0);
    ck_assert_int_eq(map(0x1000, 1, 0, RW), -EINVAL);

    for (int i = 4; i < IOMMU_RESERVED_MAX; i++)
        ck_assert_int_eq(iommu_add_reserved(iommu, OTHER, &own[0]), 0);
    ck_assert_int_eq(iommu_add_reserved(iommu, OTHER, &own[0]), -ENOSPC);
    teardown();
}
END_TEST

START_TEST(test_quotas)
{
    static const struct iommu_config config[] = {
        { .mappings_of_domain_max = 3, .mappings_max = 5 },
        { .mappings_of_domain_max = 3, .mappings_max = 5, .disabled_checks = IOMMU_CHECK_QUOTA },
    };
    unsigned mine = 0, theirs = 0;

    attached(&config[_i]);
    ck_assert_int_eq(iommu_attach(iommu, OTHER, 2, false), 0);
    while (map(IOVA + mine * PAGE, 1, 0, RW) == 0)
        ck_assert_uint_lt(++mine, 100);
    ck_assert_int_eq(map(IOVA + mine * PAGE, 1, 0, RW), -ENOMEM);
    while (iommu_map(iommu, 2, IOVA + theirs * PAGE, IOVA + theirs * PAGE + PAGE - 1, 0, RW) == 0)
        ck_assert_uint_lt(++theirs, 100);
    ck_assert_uint_eq(mine, _i ? 5 : 3);
    ck_assert_uint_eq(theirs, _i ? 0 : 2);
    /* What is given back can be had again. */
    ck_assert_int_eq(unmap(IOVA, 1), 0);
    ck_assert_int_eq(map(IOVA, 1, 0, RW), 0);
    teardown();
}
END_TEST

/* Mappings far apart need many tables: those are bounded too. */
START_TEST(test_tables)
{
    static const struct iommu_config config = { .table_bytes_max = 10 * PAGE };
    uint64_t n = 0;

    attached(&config);
    while (map(n << 40, 1, 0, RW) == 0)
        ck_assert_uint_lt(++n, 100);
    ck_assert_int_eq(map(n << 40, 1, 0, RW), -ENOMEM);
    ck_assert_uint_eq(n, 3); /* a root, and three for each */
    iommu_count(iommu, &counts);
    ck_assert_uint_eq(counts.mappings, n);
    ck_assert_uint_eq(counts.pinned_pages, 1);
    ck_assert_uint_le(counts.table_bytes, 10 * PAGE);
    ck_assert_int_eq(access_by(&handle, n << 40, DMA_READ), -EFAULT);
    ck_assert_int_eq(iommu_unmap(iommu, DOMAIN, 0, UINT64_MAX), 0);
    iommu_count(iommu, &counts);
    ck_assert_uint_eq(counts.table_bytes, PAGE);
    teardown();
}
END_TEST

START_TEST(test_pins)
{
    static const struct iommu_config config[] = { { 0 }, { .disabled_checks = IOMMU_CHECK_PIN } };
    bool pins = _i == 0;

    attached(&config[_i]);
    ck_assert(!iommu_pinned(iommu, 0, RAM));
    ck_assert_int_eq(map(IOVA, 2, 4 * MIB, RW), 0);
    ck_assert_int_eq(map(IOVA + 2 * PAGE, 1, 4 * MIB, IOMMU_READ), 0); /* an alias */
    ck_assert_int_eq(map(8 * MIB, 512, 8 * MIB, RW), 0);
    iommu_count(iommu, &counts);
    ck_assert_uint_eq(counts.pinned_pages, pins ? 2 + 512 : 0);
    ck_assert(iommu_pinned(iommu, 4 * MIB + 5, 1) == pins);
    ck_assert(iommu_pinned(iommu, 4 * MIB - 5, 6) == pins);
    ck_assert(!iommu_pinned(iommu, 4 * MIB - 5, 5));
    ck_assert(!iommu_pinned(iommu, 4 * MIB + 2 * PAGE, 4 * MIB - 2 * PAGE));
    ck_assert(iommu_pinned(iommu, 9 * MIB, 1) == pins);
    ck_assert(iommu_pinned(iommu, 0, UINT64_MAX) == pins);
    ck_assert(!iommu_pinned(iommu, RAM, UINT64_MAX));
    ck_assert(!iommu_pinned(iommu, 9 * MIB, 0));

    ck_assert_int_eq(unmap(IOVA, 2), 0);
    ck_assert(iommu_pinned(iommu, 4 * MIB, PAGE) == pins); /* by the alias */
    ck_assert(!iommu_pinned(iommu, 4 * MIB + PAGE, PAGE));
    ck_assert_int_eq(iommu_detach(iommu, ENDPOINT, DOMAIN), 0);
    ck_assert(!iommu_pinned(iommu, 0, RAM));
    teardown();
}
END_TEST

START_TEST(test_bypass)
{
    static const struct iommu_config config[] = { { 0 }, { .boot_bypass = true } };
    bool boot = _i == 1;

    setup(&config[_i]);
    ck_assert(iommu_bypass(iommu) == boot);
    ck_assert_int_eq(access_by(&handle, 0, DMA_WRITE), boot ? 0 : -EFAULT);
    iommu_set_bypass(iommu, !boot);
    ck_assert_int_eq(access_by(&handle, 0, DMA_WRITE), boot ? -EFAULT : 0);
    /* RAM only, and it says so. */
    iommu_set_bypass(iommu, true);
    while (iommu_next_fault(iommu, &(struct iommu_fault){ 0 }))
        ;
    ck_assert_int_eq(access_by(&handle, RAM, DMA_READ), -EFAULT);
    expect_fault(IOMMU_FAULT_TARGET, IOMMU_READ, ENDPOINT, RAM);

    /* Attached it is translated whatever the switch says. */
    ck_assert_int_eq(iommu_attach(iommu, ENDPOINT, DOMAIN, false), 0);
    ck_assert_int_eq(access_by(&handle, 0, DMA_WRITE), -EFAULT);
    ck_assert_int_eq(access_by(&other, 0, DMA_WRITE), 0);
    iommu_set_bypass(iommu, false);
    ck_assert_int_eq(iommu_attach(iommu, OTHER, 2, true), 0);
    ck_assert_int_eq(access_by(&other, 0, DMA_WRITE), 0);

    iommu_set_bypass(iommu, !boot);
    iommu_reset(iommu, false);
    ck_assert(iommu_bypass(iommu) == !boot);
    iommu_reset(iommu, true);
    ck_assert(iommu_bypass(iommu) == boot);
    ck_assert_int_eq(access_by(&other, 0, DMA_WRITE), boot ? 0 : -EFAULT);
    ck_assert_int_eq(access_by(&handle, 0, DMA_WRITE), boot ? 0 : -EFAULT);
    teardown();
}
END_TEST

static unsigned woken, watched;

static void wake(void *owner)
{
    /* The faulting device's lock is free again. */
    ck_assert(dma_trylock(owner));
    pthread_mutex_unlock(&((struct dma *)owner)->lock);
    woken++;
}

static void watch(void *owner, const struct iommu_fault *fault)
{
    ck_assert_ptr_eq(owner, &watched);
    ck_assert_uint_eq(fault->iova, IOVA + watched);
    watched++;
}

START_TEST(test_faults)
{
    static const struct iommu_config config = { .faults_max = 3 };

    attached(&config);
    iommu_on_fault(iommu, wake, &handle);
    iommu_watch_faults(iommu, watch, &watched);
    woken = watched = 0;
    for (unsigned i = 0; i < 5; i++)
        ck_assert_int_eq(access_by(&handle, IOVA + i, DMA_READ), -EFAULT);
    ck_assert_uint_eq(woken, 3); /* the dropped ones are nothing to fetch */
    ck_assert_uint_eq(watched, 5);
    iommu_count(iommu, &counts);
    ck_assert_uint_eq(counts.faults, 5);
    ck_assert_uint_eq(counts.faults_dropped, 2);
    expect_fault(IOMMU_FAULT_NOT_MAPPED, IOMMU_READ, ENDPOINT, IOVA);
    ck_assert_int_eq(access_by(&handle, IOVA + 5, DMA_READ), -EFAULT);
    expect_fault(IOMMU_FAULT_NOT_MAPPED, IOMMU_READ, ENDPOINT, IOVA + 1);
    expect_fault(IOMMU_FAULT_NOT_MAPPED, IOMMU_READ, ENDPOINT, IOVA + 2);
    expect_fault(IOMMU_FAULT_NOT_MAPPED, IOMMU_READ, ENDPOINT, IOVA + 5);
    ck_assert(!iommu_next_fault(iommu, &(struct iommu_fault){ 0 }));

    /* One fault, one record, wherever in the range; and a reset forgets. */
    iommu_watch_faults(iommu, NULL, NULL);
    ck_assert_int_eq(map(IOVA, 1, 0, RW), 0);
    ck_assert_int_eq(access_by(&handle, IOVA + PAGE - 4, DMA_READ), -EFAULT);
    iommu_count(iommu, &counts);
    ck_assert_uint_eq(counts.faults, 7);
    iommu_reset(iommu, false);
    ck_assert(!iommu_next_fault(iommu, &(struct iommu_fault){ 0 }));
    teardown();
}
END_TEST

/* What dma_request.c asks; each protection and its lack. */
START_TEST(test_protections)
{
    static const uint64_t vectors[4] = { [1] = 1ull << 3 };
    static const struct iommu_config config[] = {
        { 0 },
        { .disabled_checks = IOMMU_CHECK_MSI | IOMMU_CHECK_TRANSLATED | IOMMU_CHECK_REQUESTER |
                             IOMMU_CHECK_WRAP },
    };
    bool weak = _i == 1;
    struct iommu_fault fault;
    struct dma_segment span;

    attached(&config[_i]);
    ck_assert_int_eq(iommu_allow_vectors(iommu, ENDPOINT, vectors), 0);
    ck_assert_int_eq(iommu_allow_vectors(iommu, 99, vectors), -ENOENT);
    dma_lock(&handle);
    ck_assert(dma_may_signal(&handle, 67));
    ck_assert(dma_may_signal(&handle, 66) == weak);
    ck_assert(dma_may_signal(&other, 67) == weak);
    ck_assert_int_eq(dma_resolve(&handle, PAGE, DMA_READ, true, &span, &fault), weak ? 0 : -EFAULT);
    if (weak) {
        ck_assert_uint_eq(span.gpa, PAGE);
        ck_assert(!span.translated);
    } else {
        ck_assert_int_eq(fault.code, IOMMU_FAULT_CLAIM);
    }
    /* The window: for writes of who is attached. */
    ck_assert_int_eq(dma_resolve(&handle, IOMMU_MSI_FIRST, DMA_WRITE, false, &span, &fault), 0);
    ck_assert(span.message && span.translated);
    ck_assert_int_eq(dma_resolve(&handle, IOMMU_MSI_FIRST, DMA_READ, false, &span, &fault),
                     -EFAULT);
    ck_assert_int_eq(fault.code, IOMMU_FAULT_NOT_MAPPED);
    ck_assert_int_eq(dma_resolve(&other, IOMMU_MSI_FIRST, DMA_WRITE, false, &span, &fault),
                     -EFAULT);
    ck_assert_int_eq(fault.code, IOMMU_FAULT_NO_DOMAIN);
    dma_unlock(&handle);
    ck_assert_ptr_eq(dma_of_requester(&handle, OTHER), weak ? &other : &handle);
    ck_assert_ptr_eq(dma_of_requester(&handle, 99), weak ? NULL : &handle);
    ck_assert(!dma_checks(&handle, IOMMU_CHECK_WRAP) == weak);
    teardown();
}
END_TEST

static unsigned visited;

static void visit(void *owner, const struct iommu_mapping *mapping)
{
    static const struct {
        uint64_t first, last, gpa;
        uint32_t prot;
    } expected[] = {
        { IOVA, IOVA + 3 * PAGE - 1, PAGE, RW },
        { IOVA + 3 * PAGE, IOVA + 4 * PAGE - 1, 4 * PAGE, RW },
        { 4 * MIB - PAGE, 6 * MIB + PAGE - 1, 2 * MIB - PAGE, IOMMU_READ },
    };

    ck_assert_ptr_eq(owner, &visited);
    ck_assert_uint_lt(visited, 3);
    ck_assert_uint_eq(mapping->iova.first, expected[visited].first);
    ck_assert_uint_eq(mapping->iova.last, expected[visited].last);
    ck_assert_uint_eq(mapping->gpa, expected[visited].gpa);
    ck_assert_uint_eq(mapping->prot, expected[visited].prot);
    visited++;
}

START_TEST(test_each_mapping)
{
    bool bypass;

    attached(NULL);
    /* The first two touch in both spaces, and stay two. */
    ck_assert_int_eq(map(IOVA, 3, PAGE, RW), 0);
    ck_assert_int_eq(map(IOVA + 3 * PAGE, 1, 4 * PAGE, RW), 0);
    ck_assert_int_eq(map(4 * MIB - PAGE, 514, 2 * MIB - PAGE, IOMMU_READ), 0);
    visited = 0;
    ck_assert_int_eq(iommu_each_mapping(iommu, ENDPOINT, &bypass, visit, &visited), 0);
    ck_assert_uint_eq(visited, 3);
    ck_assert(!bypass);
    ck_assert_int_eq(iommu_each_mapping(iommu, OTHER, &bypass, visit, &visited), 0);
    ck_assert_uint_eq(visited, 3);
    ck_assert_int_eq(iommu_each_mapping(iommu, 99, &bypass, visit, &visited), -ENOENT);
    teardown();
}
END_TEST

Suite *iommu_suite(void)
{
    Suite *suite = suite_create("iommu");
    TCase *tc = tcase_create("iommu");

    tcase_set_timeout(tc, 20);
    tcase_add_test(tc, test_config);
    tcase_add_test(tc, test_endpoints);
    tcase_add_test(tc, test_attach);
    tcase_add_test(tc, test_isolation);
    tcase_add_loop_test(tc, test_map, 0, sizeof(maps) / sizeof(maps[0]));
    tcase_add_test(tc, test_granule);
    tcase_add_test(tc, test_unmap);
    tcase_add_test(tc, test_peer);
    tcase_add_loop_test(tc, test_permission, 0, 2);
    tcase_add_test(tc, test_reserved);
    tcase_add_loop_test(tc, test_quotas, 0, 2);
    tcase_add_test(tc, test_tables);
    tcase_add_loop_test(tc, test_pins, 0, 2);
    tcase_add_loop_test(tc, test_bypass, 0, 2);
    tcase_add_test(tc, test_faults);
    tcase_add_loop_test(tc, test_protections, 0, 2);
    tcase_add_test(tc, test_each_mapping);
    suite_add_tcase(suite, tc);
    return suite;
}
