/* devices/iommu/iommu_state.h: a unit that loads a state gives what the first one gave. */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "devices/iommu/dma.h"
#include "devices/iommu/iommu_state.h"
#include "tests/unit/suites.h"
#include "vmm/machine/memory.h"

#define PAGE      4096ull
#define MIB       (1ull << 20)
#define RAM       (16 * MIB)
#define ENDPOINTS 4 /* with ids from FIRST on: own domain, shared one, bypass, unattached */
#define FIRST     20
#define IOVA      0x40000000ull
#define PAGES     (4 * 512u) /* that are looked at, from IOVA on */
#define FAULTS    5

static struct memory memory;

struct machine {
    struct iommu *iommu;
    struct dma dma[ENDPOINTS];
};

static struct machine before, after;

static void machine_create(struct machine *machine, uint64_t page_sizes, unsigned endpoints)
{
    const struct iommu_config config = { .page_size_mask = page_sizes, .faults_max = FAULTS };

    ck_assert_int_eq(iommu_create(&machine->iommu, &memory, &config), 0);
    for (unsigned i = 0; i < endpoints; i++)
        ck_assert_int_eq(dma_create(&machine->dma[i], &memory, machine->iommu, FIRST + i), 0);
}

static void machine_destroy(struct machine *machine, unsigned endpoints)
{
    for (unsigned i = 0; i < endpoints; i++)
        dma_destroy(&machine->dma[i]);
    iommu_destroy(machine->iommu);
}

static void map(uint32_t domain, uint64_t page, uint64_t pages, uint64_t gpa, uint32_t prot)
{
    ck_assert_int_eq(iommu_map(before.iommu, domain, IOVA + page * PAGE,
                               IOVA + (page + pages) * PAGE - 1, gpa, prot),
                     0);
}

/* Where an access leads, NULL for a fault. */
static void *host_of(struct dma *dma, uint64_t iova, enum dma_direction direction)
{
    struct iovec piece;
    int n;

    dma_lock(dma);
    n = dma_translate(dma, iova, 8, direction, &piece, 1);
    dma_unlock(dma);
    return n == 1 ? piece.iov_base : NULL;
}

/* In use: mappings large and small, neighbours, one unmapped; some faults, one of them taken. */
static void setup(void)
{
    struct iommu_fault fault;

    ck_assert_int_eq(memory_create(&memory, -1, RAM, MEMORY_4K), 0);
    machine_create(&before, 0, ENDPOINTS);
    machine_create(&after, 0, ENDPOINTS);
    iommu_set_bypass(before.iommu, false);
    ck_assert_int_eq(iommu_attach(before.iommu, FIRST, 1, false), 0);
    ck_assert_int_eq(iommu_attach(before.iommu, FIRST + 1, 9, false), 0);
    ck_assert_int_eq(iommu_attach(before.iommu, FIRST + 2, 5, true), 0);
    map(1, 0, 3, PAGE, IOMMU_READ);
    map(1, 3, 1, 4 * PAGE, IOMMU_READ | IOMMU_WRITE);
    map(1, 10, 2, 9 * PAGE, IOMMU_WRITE);
    map(1, 511, 513 + 512, 4 * MIB - PAGE, IOMMU_READ | IOMMU_WRITE);
    map(9, 3, 2, 8 * MIB, IOMMU_READ);
    map(9, 1024, 512, 10 * MIB, IOMMU_WRITE);
    ck_assert_int_eq(iommu_unmap(before.iommu, 1, IOVA + 10 * PAGE, IOVA + 12 * PAGE - 1), 0);
    for (unsigned i = 0; i < FAULTS; i++)
        ck_assert_ptr_null(host_of(&before.dma[3 * (i % 2)], IOVA + (20 + i) * PAGE, DMA_WRITE));
    ck_assert(iommu_next_fault(before.iommu, &fault));
    ck_assert_ptr_null(host_of(&before.dma[0], IOVA, DMA_WRITE));
}

static void teardown(void)
{
    machine_destroy(&before, ENDPOINTS);
    machine_destroy(&after, ENDPOINTS);
    memory_destroy(&memory);
}

/* How many of all accesses to the pages lead elsewhere after than before. */
static unsigned differences(void)
{
    static const enum dma_direction directions[] = { DMA_READ, DMA_WRITE };
    unsigned n = 0;

    for (unsigned i = 0; i < ENDPOINTS; i++) {
        for (unsigned page = 0; page < PAGES; page++) {
            for (unsigned d = 0; d < 2; d++)
                n += host_of(&before.dma[i], IOVA + page * PAGE, directions[d]) !=
                     host_of(&after.dma[i], IOVA + page * PAGE, directions[d]);
        }
        n += host_of(&before.dma[i], PAGE, DMA_READ) != host_of(&after.dma[i], PAGE, DMA_READ);
    }
    return n;
}

START_TEST(test_same)
{
    struct iommu_fault old, new;
    struct iommu_saved saved;
    unsigned nfaults = 0;

    ck_assert_int_eq(iommu_save(before.iommu, &saved), 0);
    ck_assert_uint_eq(saved.state.nmappings, 5);
    ck_assert_uint_eq(saved.state.ndomains, 3);
    ck_assert_uint_gt(differences(), 1000); /* the control */
    ck_assert_int_eq(iommu_load(after.iommu, &saved), 0);
    while (iommu_next_fault(after.iommu, &new) && nfaults < FAULTS) {
        ck_assert_uint_eq(new.code, saved.faults[nfaults].code);
        ck_assert_uint_eq(new.endpoint, saved.faults[nfaults].endpoint);
        ck_assert_uint_eq(new.access, DMA_WRITE);
        nfaults++;
    }
    ck_assert_uint_eq(nfaults, FAULTS);
    while (iommu_next_fault(before.iommu, &old))
        ;
    ck_assert_uint_eq(old.iova, new.iova);
    ck_assert_uint_eq(old.code, IOMMU_FAULT_PERMISSION);
    ck_assert_uint_eq(old.code, new.code);
    ck_assert_uint_eq(differences(), 0);
    iommu_saved_free(&saved);
}
END_TEST

/* It is the same unit for the guest's next requests, too; and saves the same again. */
START_TEST(test_goes_on)
{
    struct iommu_saved saved, again;
    struct iommu_counts counts;

    ck_assert_int_eq(iommu_save(before.iommu, &saved), 0);
    ck_assert_int_eq(iommu_load(after.iommu, &saved), 0);
    ck_assert_int_eq(iommu_save(after.iommu, &again), 0);
    ck_assert_mem_eq(&saved.state, &again.state, sizeof(saved.state));
    ck_assert_mem_eq(saved.endpoints, again.endpoints, ENDPOINTS * sizeof(*saved.endpoints));
    ck_assert_mem_eq(saved.faults, again.faults, FAULTS * sizeof(*saved.faults));
    /* Neighbours are still two mappings, which an unmap does not split. */
    ck_assert_int_eq(iommu_unmap(after.iommu, 1, IOVA + 3 * PAGE, IOVA + 4 * PAGE - 1), 0);
    ck_assert_int_eq(iommu_unmap(after.iommu, 1, IOVA + PAGE, IOVA + 3 * PAGE - 1), -ERANGE);
    ck_assert_int_eq(iommu_detach(after.iommu, FIRST, 1), 0);
    ck_assert_int_eq(iommu_detach(after.iommu, FIRST + 1, 9), 0);
    iommu_count(after.iommu, &counts);
    ck_assert_uint_eq(counts.pinned_pages, 0);
    ck_assert_uint_eq(counts.table_bytes, 0);
    iommu_saved_free(&saved);
    iommu_saved_free(&again);
}
END_TEST

START_TEST(test_bypass)
{
    struct iommu_saved saved;

    iommu_set_bypass(before.iommu, true);
    ck_assert_int_eq(iommu_save(before.iommu, &saved), 0);
    ck_assert_ptr_null(host_of(&after.dma[3], PAGE, DMA_READ)); /* the control */
    ck_assert_int_eq(iommu_load(after.iommu, &saved), 0);
    ck_assert_ptr_nonnull(host_of(&after.dma[3], PAGE, DMA_READ));
    ck_assert_uint_eq(differences(), 0);
    iommu_saved_free(&saved);
}
END_TEST

/* What a file may say: the word of 4 bytes at `offset` of one of the parts. */
enum part { STATE, ENDPOINT, DOMAIN, MAPPING, FAULT };
static const struct {
    enum part part;
    size_t offset;
    uint32_t value;
} wrong[] = {
    { STATE, offsetof(struct iommu_state, version), IOMMU_STATE_VERSION + 1 },
    { STATE, offsetof(struct iommu_state, bypass), 2 },
    { STATE, offsetof(struct iommu_state, page_size_mask), 0x2000 },
    { STATE, offsetof(struct iommu_state, input.last), 5 },
    { STATE, offsetof(struct iommu_state, domains.first), 1 },
    { STATE, offsetof(struct iommu_state, nendpoints), ENDPOINTS - 1 },
    { STATE, offsetof(struct iommu_state, ndomains), 2 },
    { STATE, offsetof(struct iommu_state, nfaults), FAULTS + 1 },
    { ENDPOINT, offsetof(struct iommu_state_endpoint, id), 99 },
    { ENDPOINT, offsetof(struct iommu_state_endpoint, attached), 2 },
    { ENDPOINT, offsetof(struct iommu_state_endpoint, attached), 0 },
    { ENDPOINT, offsetof(struct iommu_state_endpoint, domain), 77 },
    { DOMAIN, offsetof(struct iommu_state_domain, id), 77 },
    { MAPPING, offsetof(struct iommu_state_mapping, first), 1 },
    { MAPPING, offsetof(struct iommu_state_mapping, gpa), 0xfee00000 },
    { MAPPING, offsetof(struct iommu_state_mapping, domain), 77 },
    { MAPPING, offsetof(struct iommu_state_mapping, prot), 0x100 },
    { FAULT, offsetof(struct iommu_state_fault, code), IOMMU_FAULT_NONE },
    { FAULT, offsetof(struct iommu_state_fault, code), IOMMU_FAULT_CODES },
};

START_TEST(test_wrong)
{
    struct iommu_counts counts;
    struct iommu_saved saved;
    struct iommu_fault fault;
    char *parts[5];

    ck_assert_int_eq(iommu_save(before.iommu, &saved), 0);
    parts[STATE] = (char *)&saved.state;
    parts[ENDPOINT] = (char *)saved.endpoints;
    parts[DOMAIN] = (char *)saved.domains;
    parts[MAPPING] = (char *)saved.mappings;
    parts[FAULT] = (char *)saved.faults;
    memcpy(parts[wrong[_i].part] + wrong[_i].offset, &wrong[_i].value, sizeof(uint32_t));
    ck_assert_int_eq(iommu_load(after.iommu, &saved), -EINVAL);
    iommu_count(after.iommu, &counts);
    ck_assert_uint_eq(counts.domains, 0);
    ck_assert_uint_eq(counts.mappings, 0);
    ck_assert(!iommu_next_fault(after.iommu, &fault));
    iommu_saved_free(&saved);
}
END_TEST

Suite *iommu_state_suite(void)
{
    Suite *suite = suite_create("iommu_state");
    TCase *tcase = tcase_create("saved");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, test_same);
    tcase_add_test(tcase, test_goes_on);
    tcase_add_test(tcase, test_bypass);
    tcase_add_loop_test(tcase, test_wrong, 0, sizeof(wrong) / sizeof(wrong[0]));
    suite_add_tcase(suite, tcase);
    return suite;
}
