/*
 * vmm/dma: what each attack should come to under a policy, from the policy alone; and the
 * engine that finds out what it came to, on memory and an IOMMU without a guest.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/suites.h"
#include "vmm/dma/engine.h"
#include "vmm/dma/setup.h"
#include "vmm/machine/memory.h"

enum { NIC, DONGLE, DISK, DEVICES };
enum { RX, TX, DATA, BLOCKS, KEYS, REGIONS };

/* The strong one: a domain each, strict, buffers on pages of their own, a checking driver. */
static void make_strong(struct policy *policy)
{
    static const char *const names[] = { "nic", "dongle", "disk" };
    static const char *const regions[] = { "rx", "tx", "data", "blocks", "keys" };
    struct abi_policy *guest = &policy->guest;

    *policy = (struct policy){ .name = "strong", .iommu = true };
    guest->ndevices = DEVICES;
    guest->nregions = REGIONS;
    for (unsigned i = 0; i < DEVICES; i++) {
        struct abi_policy_device *d = &guest->device[i];

        strcpy(d->name, names[i]);
        d->kind = i == DISK ? ABI_DEVICE_BLK : ABI_DEVICE_PROBE;
        d->endpoint = d->domain = i + 1;
        d->mode = ABI_DMA_STRICT;
        d->buffers = ABI_DMA_EXCLUSIVE;
        d->pool = ~0u;
        d->timeout_ms = 500;
    }
    for (unsigned i = 0; i < REGIONS; i++) {
        strcpy(guest->region[i].name, regions[i]);
        guest->region[i].bytes = 2 * ATTACK_PAGE_BYTES;
    }
    guest->device[NIC].nuses = 2;
    guest->device[NIC].use[0] = (struct abi_policy_use){ RX, RULES_WRITE };
    guest->device[NIC].use[1] = (struct abi_policy_use){ TX, RULES_READ };
    guest->device[DONGLE].nuses = 1;
    guest->device[DONGLE].use[0] = (struct abi_policy_use){ DATA, RULES_READ | RULES_WRITE };
    guest->device[DISK].nuses = 1;
    guest->device[DISK].use[0] = (struct abi_policy_use){ BLOCKS, RULES_READ | RULES_WRITE };
}

/* Cells that are expected to succeed; of one attack, or of all (ATTACK_COUNT). */
static unsigned successes(const struct policy *policy, unsigned only)
{
    struct attack_plan plan;
    unsigned count = 0;

    for (unsigned attack = 0; attack < ATTACK_COUNT; attack++) {
        for (unsigned device = 0; device < policy->guest.ndevices; device++) {
            for (unsigned n = 0; attack_table[attack]->expect(policy, device, n, &plan); n++) {
                ck_assert_uint_lt(n, 64);
                ck_assert_str_ne(plan.target, "");
                ck_assert_str_ne(plan.because, "");
                ck_assert(plan.effect.applies || !plan.effect.succeeds);
                if (!plan.effect.succeeds)
                    ck_assert(!plan.effect.read_bytes && !plan.effect.write_bytes);
                else if (only == ATTACK_COUNT || only == attack)
                    count++;
            }
        }
    }
    return count;
}

/* One weakness for each attack: what to do to the strong policy. */
static void weaken(struct policy *policy, unsigned attack)
{
    struct abi_policy *guest = &policy->guest;
    struct abi_policy_device *nic = &guest->device[NIC], *disk = &guest->device[DISK];

    switch (attack) {
    case ATTACK_PROBE_SCAN: nic->mode = ABI_DMA_IDENTITY; break;
    case ATTACK_KERNEL_POINTER:
    case ATTACK_CO_LOCATION: nic->buffers = ABI_DMA_IN_PLACE; break;
    case ATTACK_ALIAS: nic->flags = ABI_DEVICE_ALIASES_STAY; break;
    case ATTACK_WITHHELD_COMPLETION: nic->timeout_ms = 0; break;
    case ATTACK_SHARED_MAP: nic->domain = guest->device[DONGLE].domain; break;
    case ATTACK_ATS: policy->iommu_config.disabled_checks = IOMMU_CHECK_TRANSLATED; break;
    case ATTACK_DEFERRED_INVALIDATION: nic->mode = ABI_DMA_LAZY; break;
    case ATTACK_STALE_POINTER: policy->iommu = false; break;
    case ATTACK_PRE_INIT: policy->iommu_config.boot_bypass = true; break;
    case ATTACK_IDENTITY_HOLE:
        guest->region[KEYS].kind = ABI_REGION_IDENTITY;
        guest->region[KEYS].gpa = 0x1000000;
        guest->region[KEYS].endpoints = 1u << NIC;
        break;
    case ATTACK_MSI_SPOOF: policy->iommu_config.disabled_checks = IOMMU_CHECK_MSI; break;
    case ATTACK_PEER: policy->iommu_config.disabled_checks = IOMMU_CHECK_PEER; break;
    case ATTACK_REQUESTER_SPOOF:
        policy->iommu_config.disabled_checks = IOMMU_CHECK_REQUESTER;
        break;
    case ATTACK_PERMISSION: policy->iommu_config.disabled_checks = IOMMU_CHECK_PERMISSION; break;
    case ATTACK_DESCRIPTOR_LOOP:
    case ATTACK_DESCRIPTOR_TOCTOU: nic->flags = ABI_DEVICE_NAIVE_QUEUE; break;
    case ATTACK_USED_RING: disk->flags = ABI_DEVICE_TRUSTING; break;
    case ATTACK_BOUNCE_METADATA:
        guest->region[KEYS].kind = ABI_REGION_POOL;
        nic->buffers = ABI_DMA_BOUNCE;
        nic->pool = KEYS;
        nic->flags = ABI_DEVICE_BOUNCE_META;
        break;
    case ATTACK_ARITHMETIC:
        nic->mode = ABI_DMA_IDENTITY;
        policy->iommu_config.disabled_checks = IOMMU_CHECK_WRAP;
        break;
    case ATTACK_EXHAUSTION: policy->iommu_config.disabled_checks = IOMMU_CHECK_QUOTA; break;
    case ATTACK_UNPINNED: nic->flags = ABI_DEVICE_NO_PIN; break;
    default: ck_abort();
    }
}

START_TEST(strong_policy_stops_all)
{
    struct policy policy;

    make_strong(&policy);
    ck_assert_uint_eq(successes(&policy, ATTACK_COUNT), 0);
}
END_TEST

START_TEST(weakness_lets_its_attack_succeed)
{
    struct policy policy;

    make_strong(&policy);
    weaken(&policy, (unsigned)_i);
    ck_assert_msg(successes(&policy, (unsigned)_i) > 0, "%s", attack_table[_i]->name);
}
END_TEST

/* Whether the n-th target of the device exists in both, and with another expectation. */
static bool differs(const struct policy *a, const struct policy *b, unsigned attack,
                    unsigned device, unsigned n)
{
    struct attack_plan x, y;

    ck_assert(attack_table[attack]->expect(a, device, n, &x));
    ck_assert(attack_table[attack]->expect(b, device, n, &y));
    return memcmp(&x.effect, &y.effect, sizeof(x.effect)) != 0;
}

/* A bit more in one permission: exactly the cells about that region change. */
START_TEST(one_permission_changes_its_cells)
{
    struct policy before, after;
    struct attack_plan plan;

    make_strong(&before);
    make_strong(&after);
    before.iommu_config.disabled_checks = after.iommu_config
                                              .disabled_checks = IOMMU_CHECK_PERMISSION;
    after.guest.device[NIC].use[0].rights = RULES_READ | RULES_WRITE;
    for (unsigned attack = 0; attack < ATTACK_COUNT; attack++) {
        for (unsigned device = 0; device < DEVICES; device++) {
            for (unsigned n = 0; attack_table[attack]->expect(&before, device, n, &plan); n++)
                ck_assert_int_eq(differs(&before, &after, attack, device, n),
                                 attack == ATTACK_PERMISSION && device == NIC && n == RX);
        }
    }
}
END_TEST

START_TEST(reach)
{
    struct policy policy;
    const char *because;

    make_strong(&policy);
    ck_assert_uint_eq(rules_reach(&policy, NIC, RX, &because), RULES_WRITE);
    ck_assert_uint_eq(rules_reach(&policy, NIC, DATA, &because), 0);
    policy.guest.device[NIC].domain = policy.guest.device[DONGLE].domain;
    ck_assert_uint_eq(rules_reach(&policy, NIC, DATA, &because), 3);
    ck_assert_uint_eq(rules_reach(&policy, DONGLE, TX, &because), RULES_READ);
    ck_assert_uint_eq(rules_reach(&policy, DONGLE, BLOCKS, &because), 0);
    /* Translated devices with the same number share; an untranslated one has no table. */
    policy.guest.device[NIC].mode = ABI_DMA_IDENTITY;
    ck_assert_uint_eq(rules_reach(&policy, NIC, BLOCKS, &because), 3);
    ck_assert_uint_eq(rules_reach(&policy, DONGLE, TX, &because), 0);
}
END_TEST

START_TEST(reach_through_a_pool)
{
    struct policy policy;
    const char *because;

    make_strong(&policy);
    policy.guest.region[KEYS].kind = ABI_REGION_POOL;
    for (unsigned device = NIC; device <= DONGLE; device++) {
        policy.guest.device[device].buffers = ABI_DMA_BOUNCE;
        policy.guest.device[device].pool = KEYS;
    }
    /* One pool for two: what either puts there, the other sees. */
    ck_assert_uint_eq(rules_reach(&policy, NIC, DATA, &because), 3);
    ck_assert_uint_eq(rules_reach(&policy, DONGLE, TX, &because), RULES_READ);
    ck_assert_uint_eq(rules_reach(&policy, DISK, DATA, &because), 0);
    ck_assert_uint_eq(rules_reach(&policy, DISK, KEYS, &because), 0);
    /* Also what the device only writes is copied in. */
    ck_assert_uint_eq(rules_reach(&policy, NIC, RX, &because), 3);
}
END_TEST

START_TEST(region_bytes_are_bounded)
{
    struct policy policy;

    make_strong(&policy);
    ck_assert_uint_eq(rules_region_bytes(&policy, RX), 2 * ATTACK_PAGE_BYTES);
    policy.guest.region[RX].bytes = 1;
    ck_assert_uint_eq(rules_region_bytes(&policy, RX), ATTACK_PAGE_BYTES);
    policy.guest.region[RX].bytes = 1ull << 40;
    ck_assert_uint_eq(rules_region_bytes(&policy, RX), RULES_REGION_PAGES * ATTACK_PAGE_BYTES);
}
END_TEST

START_TEST(forbidden_vector)
{
    struct attack_plan plan, other;
    struct policy policy;
    unsigned vector;

    make_strong(&policy);
    ck_assert(attack_msi_spoof.expect(&policy, NIC, 0, &plan));
    ck_assert_int_eq(sscanf(plan.target, "vector %x", &vector), 1);
    policy.device[NIC].vectors[vector / 64] |= 1ull << vector % 64;
    ck_assert(attack_msi_spoof.expect(&policy, NIC, 0, &other));
    ck_assert_str_ne(plan.target, other.target);
    memset(policy.device[NIC].vectors, 0xff, sizeof(policy.device[NIC].vectors));
    ck_assert(attack_msi_spoof.expect(&policy, NIC, 0, &plan));
    ck_assert_str_eq(plan.target, "vector 0x0");
}
END_TEST

START_TEST(attack_is_described)
{
    const struct attack *attack = attack_table[_i];

    ck_assert_ptr_nonnull(attack->name);
    ck_assert_ptr_nonnull(attack->mechanism);
    ck_assert_ptr_nonnull(attack->stopped_by);
    ck_assert_ptr_nonnull(attack->source);
    ck_assert_ptr_nonnull(attack->expect);
    ck_assert_ptr_nonnull(attack->run);
    for (int i = 0; i < _i; i++)
        ck_assert_str_ne(attack->name, attack_table[i]->name);
}
END_TEST

/* ---- The engine, with one device, one victim at VICTIM and no guest ------------------------- */

#define RAM_BYTES (1ull << 20)
#define VICTIM    0x8000ull
#define IOVA      0x100000ull

static struct memory memory;
static struct policy policy_of_harness;
static struct harness *harness;
static struct dma dma;
static uint8_t expected_bytes[ATTACK_PAGE_BYTES];
static struct harness_page victim_page;

static void note(void *owner, const struct iommu_fault *fault)
{
    struct harness *l = owner;

    l->faults[l->nfaults++ % HARNESS_FAULTS_MAX] = *fault;
}

static void setup(void)
{
    const struct iommu_config config = { 0 };

    make_strong(&policy_of_harness);
    policy_of_harness.guest.ndevices = 1;
    harness = calloc(1, sizeof(*harness));
    ck_assert_ptr_nonnull(harness);
    ck_assert_int_eq(memory_create(&memory, -1, RAM_BYTES, MEMORY_4K), 0);
    ck_assert_int_eq(iommu_create(&harness->iommu, &memory, &config), 0);
    ck_assert_int_eq(dma_create(&dma, &memory, harness->iommu, 1), 0);
    harness->policy = &policy_of_harness;
    harness->memory = &memory;
    harness->dma[0] = &dma;
    pthread_mutex_init(&harness->faults_lock, NULL);
    iommu_watch_faults(harness->iommu, note, harness);
    harness_random_fill(harness, expected_bytes, sizeof(expected_bytes));
    victim_page = (struct harness_page){ .gpa = VICTIM,
                                         .host = memory_at(&memory, VICTIM, ATTACK_PAGE_BYTES),
                                         .expected_bytes = expected_bytes };
    harness_restore(&victim_page);
    ck_assert_int_eq(iommu_attach(harness->iommu, 1, 1, false), 0);
}

static void teardown(void)
{
    dma_destroy(&dma);
    iommu_destroy(harness->iommu);
    memory_destroy(&memory);
    pthread_mutex_destroy(&harness->faults_lock);
    free(harness);
}

static void map(uint32_t rights)
{
    ck_assert_int_eq(
        iommu_map(harness->iommu, 1, IOVA, IOVA + ATTACK_PAGE_BYTES - 1, VICTIM, rights), 0);
    harness->iova[0][0][0] = IOVA;
}

static struct matrix_cell attack(enum harness_expect expected_gate)
{
    const struct harness_request request = { .expect = expected_gate };
    struct matrix_cell cell = { 0 };
    struct harness_victim victim;

    harness_victim_page(&victim, &victim_page);
    victim.naddresses = 0;
    harness_victim_add(&victim, IOVA, HARNESS_NOBODY);
    harness_attack(harness, &cell, &request, &victim, RULES_READ | RULES_WRITE);
    /* Whatever came of it, the victim is whole again. */
    ck_assert_mem_eq(victim_page.host, expected_bytes, sizeof(expected_bytes));
    return cell;
}

START_TEST(blocked)
{
    struct matrix_cell cell = attack(HARNESS_EXPECT_DENY);

    ck_assert_msg(cell.failed == 0, "%s", cell.failure);
    ck_assert_uint_eq(cell.checks, 4);
    ck_assert(!cell.observed.succeeds);
    ck_assert_uint_eq(cell.observed.read_bytes + cell.observed.write_bytes, 0);
}
END_TEST

START_TEST(open)
{
    struct matrix_cell cell;

    map(IOMMU_READ | IOMMU_WRITE);
    cell = attack(HARNESS_EXPECT_ALLOW);
    ck_assert_msg(cell.failed == 0, "%s", cell.failure);
    ck_assert(cell.observed.succeeds);
    ck_assert_uint_eq(cell.observed.read_bytes, ATTACK_PAGE_BYTES);
    ck_assert_uint_eq(cell.observed.write_bytes, ATTACK_PAGE_BYTES);
}
END_TEST

START_TEST(one_way)
{
    struct matrix_cell cell;

    map(IOMMU_READ);
    cell = attack(HARNESS_EXPECT_ANY);
    ck_assert_uint_eq(cell.failed, 0);
    ck_assert_uint_eq(cell.observed.read_bytes, ATTACK_PAGE_BYTES);
    ck_assert_uint_eq(cell.observed.write_bytes, 0);
}
END_TEST

/* What should be shut and is open fails checks, and the other way round. */
START_TEST(judges)
{
    struct matrix_cell cell = attack(HARNESS_EXPECT_ALLOW);

    ck_assert_uint_gt(cell.failed, 0);
    map(IOMMU_READ | IOMMU_WRITE);
    /* The guest did not tell of that one. */
    harness->iova[0][0][0] = 0;
    cell = attack(HARNESS_EXPECT_DENY);
    ck_assert_uint_gt(cell.failed, 0);
    ck_assert(cell.observed.succeeds);
}
END_TEST

/* A record of another address is no record of this fault. */
START_TEST(judges_the_record)
{
    struct matrix_cell cell;

    iommu_watch_faults(harness->iommu, NULL, NULL);
    cell = attack(HARNESS_EXPECT_DENY);
    ck_assert_uint_eq(cell.failed, 2);
    ck_assert_ptr_nonnull(strstr(cell.failure, "fault record"));
}
END_TEST

START_TEST(expected_gate)
{
    ck_assert_int_eq(harness_expected(harness, 0, IOVA), HARNESS_EXPECT_DENY);
    map(IOMMU_READ);
    ck_assert_int_eq(harness_expected(harness, 0, IOVA), HARNESS_EXPECT_ANY);
    ck_assert_int_eq(harness_expected(harness, 0, IOVA + ATTACK_PAGE_BYTES), HARNESS_EXPECT_DENY);
    policy_of_harness.guest.device[0].mode = ABI_DMA_IDENTITY;
    ck_assert_int_eq(harness_expected(harness, 0, IOVA + ATTACK_PAGE_BYTES), HARNESS_EXPECT_ANY);
}
END_TEST

START_TEST(both_ways_through_the_tables)
{
    uint64_t iova = 0;

    ck_assert_ptr_null(harness_host(harness, 0, IOVA, 1));
    ck_assert(!harness_iova_of(harness, 0, VICTIM, &iova));
    map(IOMMU_READ);
    ck_assert_ptr_eq(harness_host(harness, 0, IOVA + 8, 8), victim_page.host + 8);
    ck_assert_ptr_null(harness_host(harness, 0, IOVA + 8, ATTACK_PAGE_BYTES));
    ck_assert(harness_iova_of(harness, 0, VICTIM + 16, &iova));
    ck_assert_uint_eq(iova, IOVA + 16);
    ck_assert(harness_mapped(harness, 0, IOVA) && !harness_mapped(harness, 0, IOVA - 1));
}
END_TEST

START_TEST(same_seed_same_canaries)
{
    struct harness *other = calloc(1, sizeof(*other));
    uint8_t bytes[ATTACK_PAGE_BYTES];

    ck_assert_ptr_nonnull(other);
    harness_random_fill(other, bytes, sizeof(bytes));
    ck_assert_mem_eq(bytes, expected_bytes, sizeof(bytes));
    harness_random_fill(other, bytes, sizeof(bytes));
    ck_assert_mem_ne(bytes, expected_bytes, sizeof(bytes));
    free(other);
}
END_TEST

START_TEST(first_failure_is_kept)
{
    struct matrix_cell cell = { 0 };

    ck_assert(harness_check(&cell, true, "fine"));
    ck_assert(!harness_check(&cell, false, "expected %d", 1));
    ck_assert(!harness_check(&cell, false, "expected %d", 2));
    ck_assert_uint_eq(cell.checks, 3);
    ck_assert_uint_eq(cell.failed, 2);
    ck_assert_str_eq(cell.failure, "expected 1");
}
END_TEST

Suite *harness_suite(void)
{
    Suite *suite = suite_create("harness");
    TCase *expect = tcase_create("expect"), *engine = tcase_create("engine");

    tcase_add_test(expect, strong_policy_stops_all);
    tcase_add_loop_test(expect, weakness_lets_its_attack_succeed, 0, ATTACK_COUNT);
    tcase_add_test(expect, one_permission_changes_its_cells);
    tcase_add_test(expect, reach);
    tcase_add_test(expect, reach_through_a_pool);
    tcase_add_test(expect, region_bytes_are_bounded);
    tcase_add_test(expect, forbidden_vector);
    tcase_add_loop_test(expect, attack_is_described, 0, ATTACK_COUNT);
    suite_add_tcase(suite, expect);
    tcase_add_checked_fixture(engine, setup, teardown);
    tcase_add_test(engine, blocked);
    tcase_add_test(engine, open);
    tcase_add_test(engine, one_way);
    tcase_add_test(engine, judges);
    tcase_add_test(engine, judges_the_record);
    tcase_add_test(engine, expected_gate);
    tcase_add_test(engine, both_ways_through_the_tables);
    tcase_add_test(engine, same_seed_same_canaries);
    tcase_add_test(engine, first_failure_is_kept);
    suite_add_tcase(suite, engine);
    return suite;
}
