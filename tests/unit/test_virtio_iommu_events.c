/*
 * Conformance of virtio-iommu, all but the requests (virtio 1.2, 5.13.3 to 5.13.6 and
 * 5.13.6.9): features, configuration, reset, bypass and fault records, one test for each
 * rule; and what the device makes of a driver that breaks the rings.
 */
#include <check.h>
#include <pthread.h>
#include <string.h>

#include "tests/unit/suites.h"
#include "tests/unit/viommu.h"

#define IOVA           0x40000000ull
#define MAGIC          0x1122334455667788ull

#define PAGE_SIZE_MASK 0 /* offsets in configuration space */
#define INPUT_FIRST    8
#define INPUT_LAST     16
#define DOMAIN_FIRST   24
#define DOMAIN_LAST    28
#define PROBE_SIZE     32
#define BYPASS         36

#define FAULT_ADDRESS  0x100u
enum { R_UNKNOWN, R_DOMAIN, R_MAPPING };

static struct viommu viommu;

static void setup(void)
{
    viommu_create(&viommu, NULL);
    viommu_start(&viommu, VIOMMU_FEATURES);
}

static void teardown(void)
{
    viommu_destroy(&viommu);
}

static void remake(const struct iommu_config *config)
{
    teardown();
    viommu_create(&viommu, config);
    viommu_start(&viommu, VIOMMU_FEATURES);
}

static void attach_and_map(uint32_t flags)
{
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, 0), OK);
    ck_assert_uint_eq(viommu_map(&viommu, 1, IOVA, IOVA + PAGE - 1, DATA_GPA, flags), OK);
}

static bool reaches(unsigned endpoint, uint64_t iova)
{
    return viommu_reads(&viommu, endpoint, iova, NULL);
}

/* ---- Identity and features (5.13.1, 5.13.3) ---- */

START_TEST(device_id_is_23_and_there_are_two_queues)
{
    ck_assert_uint_eq(ring_register(&viommu.device->device, 0x008, 4), 23);
    for (unsigned queue = 0; queue < 3; queue++) {
        ring_set_register(&viommu.device->device, 0x030, queue);
        ck_assert((ring_register(&viommu.device->device, 0x034, 4) != 0) == (queue < 2));
    }
}
END_TEST

START_TEST(map_unmap_is_offered)
{
    ck_assert(ring_features(&viommu.device->device) & 1u << F_MAP_UNMAP);
}
END_TEST

START_TEST(bypass_is_not_offered_beside_bypass_config)
{
    uint64_t features = ring_features(&viommu.device->device);

    ck_assert(!(features & 1u << F_BYPASS));
    ck_assert(features & 1u << F_BYPASS_CONFIG);
    ck_assert(!ring_negotiate(&viommu.device->device, VIOMMU_FEATURES | 1u << F_BYPASS));
}
END_TEST

START_TEST(all_other_features_are_offered)
{
    ck_assert_uint_eq(ring_features(&viommu.device->device) & VIOMMU_FEATURES, VIOMMU_FEATURES);
}
END_TEST

/* ---- Configuration (5.13.4) ---- */

START_TEST(config_page_size_mask_has_a_bit)
{
    uint64_t mask = viommu_config(&viommu, PAGE_SIZE_MASK, 8);

    ck_assert_uint_ne(mask, 0);
    /* A granule that a guest with pages of 4K can use. */
    ck_assert_uint_le(mask & -mask, PAGE);
}
END_TEST

START_TEST(config_ranges_are_the_units)
{
    remake(&(struct iommu_config){ .input = { 0x10000, 0xffffffffff }, .domains = { 3, 6 } });
    ck_assert_uint_eq(viommu_config(&viommu, INPUT_FIRST, 8), 0x10000);
    ck_assert_uint_eq(viommu_config(&viommu, INPUT_LAST, 8), 0xffffffffff);
    ck_assert_uint_eq(viommu_config(&viommu, DOMAIN_FIRST, 4), 3);
    ck_assert_uint_eq(viommu_config(&viommu, DOMAIN_LAST, 4), 6);
}
END_TEST

START_TEST(domain_outside_its_range_is_refused)
{
    remake(&(struct iommu_config){ .domains = { 3, 6 } });
    ck_assert_uint_eq(viommu_attach(&viommu, 2, ENDPOINT_A, 0), RANGE);
    ck_assert_uint_eq(viommu_attach(&viommu, 7, ENDPOINT_A, 0), RANGE);
    ck_assert_uint_eq(viommu_attach(&viommu, 3, ENDPOINT_A, 0), OK);
    ck_assert_uint_eq(viommu_attach(&viommu, 6, ENDPOINT_B, 0), OK);
}
END_TEST

START_TEST(map_below_the_input_range_is_refused)
{
    remake(&(struct iommu_config){ .input = { 0x10000, 0xffffffffff } });
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, 0), OK);
    ck_assert_uint_eq(viommu_map(&viommu, 1, 0xf000, 0xffff, DATA_GPA, READ), RANGE);
    ck_assert_uint_eq(viommu_map(&viommu, 1, 0xf000, 0x10fff, DATA_GPA, READ), RANGE);
    ck_assert_uint_eq(viommu_map(&viommu, 1, 0x10000, 0x10fff, DATA_GPA, READ), OK);
}
END_TEST

START_TEST(quotas_end_in_nomem)
{
    remake(&(struct iommu_config){ .domains_max = 2, .mappings_max = 4 });
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, 0), OK);
    ck_assert_uint_eq(viommu_attach(&viommu, 2, ENDPOINT_B, 0), OK);
    ck_assert_uint_eq(viommu_attach(&viommu, 3, ENDPOINT_C, 0), NOMEM);
    for (unsigned i = 0; i < 4; i++) {
        uint64_t first = IOVA + i * PAGE;

        ck_assert_uint_eq(viommu_map(&viommu, 1 + i % 2, first, first + PAGE - 1, DATA_GPA, READ),
                          OK);
    }
    ck_assert_uint_eq(viommu_map(&viommu, 1, 0, PAGE - 1, DATA_GPA, READ), NOMEM);
}
END_TEST

/* One domain cannot take all that others need. */
START_TEST(quota_of_a_domain_ends_in_nomem)
{
    remake(&(struct iommu_config){ .mappings_max = 8, .mappings_of_domain_max = 3 });
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, 0), OK);
    ck_assert_uint_eq(viommu_attach(&viommu, 2, ENDPOINT_B, 0), OK);
    for (unsigned i = 0; i < 5; i++) {
        uint64_t first = IOVA + i * PAGE;

        ck_assert_uint_eq(viommu_map(&viommu, 1, first, first + PAGE - 1, DATA_GPA, READ),
                          i < 3 ? OK : NOMEM);
    }
    ck_assert_uint_eq(viommu_map(&viommu, 2, IOVA, IOVA + PAGE - 1, DATA_GPA, READ), OK);
    /* What is given back can be taken again. */
    ck_assert_uint_eq(viommu_unmap(&viommu, 1, IOVA, IOVA + PAGE - 1), OK);
    ck_assert_uint_eq(viommu_map(&viommu, 1, 0, PAGE - 1, DATA_GPA, READ), OK);
}
END_TEST

/* 2.5.3 and 4.2.2.2: any width reads the same bytes. */
START_TEST(config_reads_in_any_width)
{
    uint8_t bytes[40];

    for (uint32_t i = 0; i < 40; i++)
        bytes[i] = (uint8_t)viommu_config(&viommu, i, 1);
    for (unsigned size = 2; size <= 8; size *= 2) {
        for (uint32_t i = 0; i + size <= 40; i++) {
            uint64_t want = 0;

            memcpy(&want, bytes + i, size);
            ck_assert_uint_eq(viommu_config(&viommu, i, size), want);
        }
    }
    for (unsigned i = 37; i < 40; i++)
        ck_assert_uint_eq(bytes[i], 0);
}
END_TEST

START_TEST(config_bypass_is_the_only_field_to_write)
{
    uint8_t before[40], after[40];

    for (uint32_t i = 0; i < 40; i++)
        before[i] = (uint8_t)viommu_config(&viommu, i, 1);
    for (uint32_t i = 0; i < 40; i++) {
        if (i != BYPASS)
            viommu_set_config(&viommu, i, 1, 1);
    }
    for (uint32_t i = 0; i + 4 <= 36; i += 4)
        viommu_set_config(&viommu, i, 4, 0x01010101);
    for (uint32_t i = 0; i < 40; i++)
        after[i] = (uint8_t)viommu_config(&viommu, i, 1);
    ck_assert_mem_eq(before, after, 40);
    viommu_set_config(&viommu, BYPASS, 1, 1);
    ck_assert_uint_eq(viommu_config(&viommu, BYPASS, 1), 1);
}
END_TEST

START_TEST(config_bypass_is_never_other_than_0_or_1)
{
    for (unsigned value = 2; value < 256; value++) {
        viommu_set_config(&viommu, BYPASS, 1, value);
        ck_assert_uint_eq(viommu_config(&viommu, BYPASS, 1), 0);
    }
    viommu_set_config(&viommu, BYPASS, 1, 1);
    for (unsigned value = 2; value < 256; value++) {
        viommu_set_config(&viommu, BYPASS, 1, value);
        ck_assert_uint_eq(viommu_config(&viommu, BYPASS, 1), 1);
    }
}
END_TEST

START_TEST(config_bypass_needs_its_feature)
{
    viommu_start(&viommu, VIOMMU_FEATURES & ~(1ull << F_BYPASS_CONFIG));
    viommu_set_config(&viommu, BYPASS, 1, 1);
    ck_assert_uint_eq(viommu_config(&viommu, BYPASS, 1), 0);
    ck_assert(!reaches(0, DATA_GPA));
}
END_TEST

START_TEST(config_bypass_is_kept_by_a_device_reset)
{
    viommu_set_config(&viommu, BYPASS, 1, 1);
    ring_set_register(&viommu.device->device, 0x070, 0);
    ck_assert_uint_eq(viommu_config(&viommu, BYPASS, 1), 1);
    ck_assert(reaches(0, DATA_GPA));
    viommu_start(&viommu, VIOMMU_FEATURES);
    viommu_set_config(&viommu, BYPASS, 1, 0);
    ring_set_register(&viommu.device->device, 0x070, 0);
    ck_assert_uint_eq(viommu_config(&viommu, BYPASS, 1), 0);
}
END_TEST

START_TEST(config_bypass_is_restored_by_a_system_reset)
{
    viommu_set_config(&viommu, BYPASS, 1, 1);
    iommu_reset(viommu.iommu, true);
    ck_assert_uint_eq(viommu_config(&viommu, BYPASS, 1), 0);
    ck_assert(!reaches(0, DATA_GPA));
    remake(&(struct iommu_config){ .boot_bypass = true });
    viommu_set_config(&viommu, BYPASS, 1, 0);
    iommu_reset(viommu.iommu, true);
    ck_assert_uint_eq(viommu_config(&viommu, BYPASS, 1), 1);
}
END_TEST

/* ---- Reset (5.13.5) ---- */

START_TEST(reset_detaches_all_endpoints)
{
    attach_and_map(READ);
    ck_assert_uint_eq(viommu_attach(&viommu, 2, ENDPOINT_B, ATTACH_BYPASS), OK);
    ck_assert(reaches(0, IOVA));
    ck_assert(reaches(1, DATA_GPA));
    ring_set_register(&viommu.device->device, 0x070, 0);
    ck_assert(!reaches(0, IOVA));
    ck_assert(!reaches(1, DATA_GPA));
    viommu_start(&viommu, VIOMMU_FEATURES);
    ck_assert_uint_eq(viommu_map(&viommu, 1, IOVA, IOVA + PAGE - 1, DATA_GPA, READ), NOENT);
    ck_assert_uint_eq(viommu_detach(&viommu, 2, ENDPOINT_B), INVAL);
}
END_TEST

/* ---- Who may pass (5.13.6) ---- */

START_TEST(unattached_endpoint_is_denied)
{
    viommu_set_ram(&viommu, DATA_GPA, MAGIC);
    for (unsigned i = 0; i < NENDPOINTS; i++) {
        ck_assert(!reaches(i, DATA_GPA));
        ck_assert(!viommu_writes(&viommu, i, DATA_GPA, 1));
    }
    ck_assert_uint_eq(viommu_ram(&viommu, DATA_GPA), MAGIC);
}
END_TEST

/* From the first instruction on, before there is a driver. */
START_TEST(endpoints_are_denied_at_boot)
{
    teardown();
    viommu_create(&viommu, NULL);
    ck_assert(!reaches(0, DATA_GPA));
    ck_assert(!viommu_writes(&viommu, 0, DATA_GPA, 1));
}
END_TEST

/* Also the negative control of the two before: an access that is let through is seen. */
START_TEST(unattached_endpoint_passes_while_config_bypass_is_1)
{
    viommu_set_config(&viommu, BYPASS, 1, 1);
    ck_assert(viommu_writes(&viommu, 0, DATA_GPA, MAGIC));
    ck_assert_uint_eq(viommu_ram(&viommu, DATA_GPA), MAGIC);
    viommu_set_config(&viommu, BYPASS, 1, 0);
    ck_assert(!viommu_writes(&viommu, 0, DATA_GPA, 1));
    ck_assert_uint_eq(viommu_ram(&viommu, DATA_GPA), MAGIC);
}
END_TEST

START_TEST(config_bypass_holds_for_a_driver_that_does_not_know_it)
{
    remake(&(struct iommu_config){ .boot_bypass = true });
    viommu_start(&viommu, VIOMMU_FEATURES & ~(1ull << F_BYPASS_CONFIG));
    ck_assert(reaches(0, DATA_GPA));
    /* Attached, it is translated; detached, it is let through again. */
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, 0), OK);
    ck_assert(!reaches(0, DATA_GPA));
    ck_assert_uint_eq(viommu_detach(&viommu, 1, ENDPOINT_A), OK);
    ck_assert(reaches(0, DATA_GPA));
}
END_TEST

START_TEST(attached_endpoint_is_translated_though_config_bypass_is_1)
{
    viommu_set_config(&viommu, BYPASS, 1, 1);
    attach_and_map(READ);
    ck_assert(reaches(0, IOVA));
    ck_assert(!reaches(0, DATA_GPA));
    ck_assert(reaches(1, DATA_GPA));
}
END_TEST

START_TEST(endpoint_of_a_bypass_domain_passes)
{
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, ATTACH_BYPASS), OK);
    ck_assert(viommu_writes(&viommu, 0, DATA_GPA, MAGIC));
    ck_assert_uint_eq(viommu_ram(&viommu, DATA_GPA), MAGIC);
    ck_assert(!reaches(1, DATA_GPA));
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_B, ATTACH_BYPASS), OK);
    ck_assert(reaches(1, DATA_GPA));
    ck_assert_uint_eq(viommu_detach(&viommu, 1, ENDPOINT_A), OK);
    ck_assert(!reaches(0, DATA_GPA));
    ck_assert(reaches(1, DATA_GPA));
}
END_TEST

/* ---- Fault records (5.13.6.9) ---- */

static void expect_event(uint8_t reason, uint32_t flags, uint32_t endpoint, uint64_t address)
{
    struct viommu_event event;
    uint32_t written;

    ck_assert(viommu_event(&viommu, &event, &written));
    ck_assert_uint_eq(written, 24);
    ck_assert_uint_eq(event.reason, reason);
    ck_assert_uint_eq(event.flags, flags);
    ck_assert_uint_eq(event.endpoint, endpoint);
    ck_assert_uint_eq(event.address, address);
    ck_assert_mem_eq(event.reserved, "\0\0", 3);
    ck_assert_uint_eq(event.reserved1, 0);
}

static void expect_no_event(void)
{
    struct viommu_event event;

    ck_assert(!viommu_event(&viommu, &event, NULL));
}

START_TEST(fault_of_an_unattached_endpoint_has_reason_domain)
{
    viommu_offer_events(&viommu, 4, 24);
    reaches(0, 0x123458);
    viommu_writes(&viommu, 2, 0xfffff8, 1);
    expect_event(R_DOMAIN, READ | FAULT_ADDRESS, ENDPOINT_A, 0x123458);
    expect_event(R_DOMAIN, WRITE | FAULT_ADDRESS, ENDPOINT_C, 0xfffff8);
    expect_no_event();
}
END_TEST

START_TEST(fault_without_a_mapping_has_reason_mapping)
{
    viommu_offer_events(&viommu, 4, 24);
    attach_and_map(READ | WRITE);
    reaches(0, IOVA + PAGE);
    viommu_writes(&viommu, 0, IOVA - 8, 1);
    expect_event(R_MAPPING, READ | FAULT_ADDRESS, ENDPOINT_A, IOVA + PAGE);
    expect_event(R_MAPPING, WRITE | FAULT_ADDRESS, ENDPOINT_A, IOVA - 8);
    expect_no_event();
}
END_TEST

START_TEST(fault_against_protection_flags_has_reason_mapping)
{
    viommu_offer_events(&viommu, 4, 24);
    attach_and_map(READ);
    ck_assert(reaches(0, IOVA + 16));
    expect_no_event();
    viommu_writes(&viommu, 0, IOVA + 16, 1);
    expect_event(R_MAPPING, WRITE | FAULT_ADDRESS, ENDPOINT_A, IOVA + 16);
}
END_TEST

/* The address is that of the first byte which could not be reached. */
START_TEST(fault_in_the_middle_of_an_access_names_its_page)
{
    viommu_offer_events(&viommu, 4, 24);
    attach_and_map(READ);
    ck_assert(!reaches(0, IOVA + PAGE - 4));
    expect_event(R_MAPPING, READ | FAULT_ADDRESS, ENDPOINT_A, IOVA + PAGE);
    expect_no_event();
}
END_TEST

START_TEST(fault_raises_an_interrupt)
{
    viommu_offer_events(&viommu, 4, 24);
    ring_set_register(&viommu.device->device, 0x064, 3);
    ck_assert_uint_eq(ring_register(&viommu.device->device, 0x060, 4), 0);
    reaches(0, IOVA);
    ck_assert_uint_eq(ring_register(&viommu.device->device, 0x060, 4), 1);
}
END_TEST

START_TEST(fault_in_a_larger_buffer_is_one_record)
{
    viommu_offer_events(&viommu, 2, 32);
    reaches(0, IOVA);
    expect_event(R_DOMAIN, READ | FAULT_ADDRESS, ENDPOINT_A, IOVA);
    ck_assert_uint_eq(viommu.ram[EVENT_GPA + 24], 0xee);
}
END_TEST

/* Never over several buffers: those that are too short come back unwritten. */
START_TEST(fault_is_not_split_over_short_buffers)
{
    struct virtio_iommu_counts counts;
    struct viommu_event event;
    uint32_t written;

    viommu_offer_events(&viommu, 3, 23);
    viommu_offer_events(&viommu, 1, 24);
    reaches(0, IOVA);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert(viommu_event(&viommu, &event, &written));
        ck_assert_uint_eq(written, 0);
        ck_assert_uint_eq(event.reason, 0xee);
    }
    expect_event(R_DOMAIN, READ | FAULT_ADDRESS, ENDPOINT_A, IOVA);
    virtio_iommu_count(viommu.device, &counts);
    ck_assert_uint_eq(counts.short_buffers, 3);
    ck_assert_uint_eq(counts.events, 1);
}
END_TEST

START_TEST(faults_wait_for_buffers)
{
    for (unsigned i = 0; i < 3; i++)
        reaches(0, IOVA + i * PAGE);
    expect_no_event();
    viommu_offer_events(&viommu, 2, 24);
    expect_event(R_DOMAIN, READ | FAULT_ADDRESS, ENDPOINT_A, IOVA);
    expect_event(R_DOMAIN, READ | FAULT_ADDRESS, ENDPOINT_A, IOVA + PAGE);
    expect_no_event();
    viommu_offer_events(&viommu, 2, 24);
    expect_event(R_DOMAIN, READ | FAULT_ADDRESS, ENDPOINT_A, IOVA + 2 * PAGE);
    expect_no_event();
}
END_TEST

START_TEST(faults_beyond_the_bound_are_dropped_and_counted)
{
    struct virtio_iommu_counts told;
    struct iommu_counts counts;
    struct viommu_event event;
    unsigned got = 0;

    remake(&(struct iommu_config){ .faults_max = 5 });
    for (unsigned i = 0; i < 100; i++)
        reaches(0, IOVA + i * PAGE);
    for (unsigned i = 0; i < 4; i++) {
        viommu_offer_events(&viommu, 8, 24);
        /* The oldest were kept. */
        while (viommu_event(&viommu, &event, NULL))
            ck_assert_uint_eq(event.address, IOVA + got++ * PAGE);
    }
    iommu_count(viommu.iommu, &counts);
    virtio_iommu_count(viommu.device, &told);
    ck_assert_uint_ge(got, 5);
    ck_assert_uint_le(got, 6);
    ck_assert_uint_eq(counts.faults, 100);
    ck_assert_uint_eq(told.events, got);
    ck_assert_uint_eq(counts.faults_dropped, 100 - got);
    /* Nothing is dropped once there is room again. */
    viommu_offer_events(&viommu, 1, 24);
    reaches(0, 0x7000);
    expect_event(R_DOMAIN, READ | FAULT_ADDRESS, ENDPOINT_A, 0x7000);
}
END_TEST

START_TEST(faults_before_the_driver_are_told_when_it_starts)
{
    teardown();
    viommu_create(&viommu, NULL);
    reaches(0, IOVA);
    /* A reset forgets; so the driver's own, at its start, must not be the first thing. */
    ck_assert(ring_negotiate(&viommu.device->device, VIOMMU_FEATURES));
    reaches(1, IOVA);
    ring_setup(&viommu.events, &viommu.device->device, 1, viommu.ram, 0x3000, 16);
    viommu_offer_events(&viommu, 4, 24);
    expect_no_event();
    ring_driver_ok(&viommu.device->device);
    expect_event(R_DOMAIN, READ | FAULT_ADDRESS, ENDPOINT_B, IOVA);
    expect_no_event();
}
END_TEST

START_TEST(faults_are_forgotten_by_a_reset)
{
    reaches(0, IOVA);
    reaches(0, IOVA);
    viommu_start(&viommu, VIOMMU_FEATURES);
    viommu_offer_events(&viommu, 4, 24);
    expect_no_event();
}
END_TEST

/* A fault while a request holds the device's lock is told as soon as it is given up. */
static void *fault_from_another_thread(void *arg)
{
    (void)arg;
    reaches(0, IOVA);
    return NULL;
}

START_TEST(fault_while_the_device_is_busy_is_told_after)
{
    pthread_t thread;

    viommu_offer_events(&viommu, 4, 24);
    dma_lock(&viommu.dma);
    /* It comes back although the lock is taken: a fault waits for nobody. */
    ck_assert_int_eq(pthread_create(&thread, NULL, fault_from_another_thread, NULL), 0);
    pthread_join(thread, NULL);
    expect_no_event();
    dma_unlock(&viommu.dma);
    expect_event(R_DOMAIN, READ | FAULT_ADDRESS, ENDPOINT_A, IOVA);
}
END_TEST

/* No record is lost and no thread waits for ever while both sides are busy. */
#define STORM 2000

static void *storm(void *arg)
{
    for (unsigned i = 0; i < STORM; i++)
        reaches(*(unsigned *)arg, IOVA);
    return NULL;
}

START_TEST(fault_storm_beside_requests)
{
    unsigned who[2] = { 1, 2 }, told = 0;
    struct iommu_counts counts;
    struct viommu_event event;
    pthread_t threads[2];

    for (unsigned i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, storm, &who[i]), 0);
    for (unsigned i = 0; i < 200; i++) {
        attach_and_map(READ | WRITE);
        ck_assert_uint_eq(viommu_unmap(&viommu, 1, IOVA, IOVA + PAGE - 1), OK);
        ck_assert_uint_eq(viommu_detach(&viommu, 1, ENDPOINT_A), OK);
        viommu_offer_events(&viommu, 1, 24);
        while (viommu_event(&viommu, &event, NULL))
            told++;
    }
    for (unsigned i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    for (;;) {
        unsigned before = told;

        viommu_offer_events(&viommu, 1, 24);
        while (viommu_event(&viommu, &event, NULL))
            told++;
        if (told == before)
            break;
    }
    iommu_count(viommu.iommu, &counts);
    ck_assert_uint_eq(counts.faults, 2 * STORM);
    ck_assert_uint_eq(told + counts.faults_dropped, 2 * STORM);
}
END_TEST

/* ---- Broken drivers ---- */

static bool needs_reset(void)
{
    return ring_status(&viommu.device->device) & VIRTIO_NEEDS_RESET;
}

/* The device comes back by a reset, whatever was broken. */
static void comes_back(void)
{
    viommu_start(&viommu, VIOMMU_FEATURES);
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, 0), OK);
}

START_TEST(request_outside_of_memory_needs_a_reset)
{
    static const struct ring_segment segments[][2] = {
        { { RAM_BYTES, 20, false }, { ANSWER_GPA, 4, true } },
        { { REQUEST_GPA, 20, false }, { RAM_BYTES - 2, 4, true } },
        { { ~0ull - 24, 20, false }, { ANSWER_GPA, 4, true } },
    };
    uint8_t request[20] = { ATTACH, [4] = 1, [8] = ENDPOINT_A };

    memcpy(viommu.ram + REQUEST_GPA, request, sizeof(request));
    ring_add(&viommu.requests, segments[_i], 2);
    ring_kick(&viommu.requests);
    ck_assert(needs_reset());
    comes_back();
}
END_TEST

START_TEST(event_buffer_outside_of_memory_needs_a_reset)
{
    struct ring_segment segment = { RAM_BYTES, 24, true };

    ring_add(&viommu.events, &segment, 1);
    ring_kick(&viommu.events);
    reaches(0, IOVA);
    ck_assert(needs_reset());
    comes_back();
}
END_TEST

START_TEST(loop_of_descriptors_needs_a_reset)
{
    struct ring_segment segments[2] = { { REQUEST_GPA, 20, false }, { REQUEST_GPA, 4, false } };
    uint16_t head = ring_add(&viommu.requests, segments, 2);

    ring_descriptor(&viommu.requests, (uint16_t)(head + 1))->flags = VRING_DESC_F_NEXT;
    ring_descriptor(&viommu.requests, (uint16_t)(head + 1))->next = head;
    ring_kick(&viommu.requests);
    ck_assert(needs_reset());
    comes_back();
}
END_TEST

/* More than one batch of requests is served by one kick. */
START_TEST(one_kick_serves_all_requests)
{
    uint8_t request[20] = { ATTACH, [4] = 1, [8] = ENDPOINT_A };
    uint32_t head, written;
    struct ring ring;
    unsigned n = 0;

    ck_assert(ring_negotiate(&viommu.device->device, VIOMMU_FEATURES));
    ring_setup(&ring, &viommu.device->device, 0, viommu.ram, 0x20000, 256);
    ring_driver_ok(&viommu.device->device);
    memcpy(viommu.ram + REQUEST_GPA, request, sizeof(request));
    for (unsigned i = 0; i < 128; i++) {
        struct ring_segment segments[] = { { REQUEST_GPA, 20, false },
                                           { ANSWER_GPA + 4 * i, 4, true } };

        ring_add(&ring, segments, 2);
    }
    ring_kick(&ring);
    while (ring_take(&ring, &head, &written)) {
        ck_assert_uint_eq(written, 4);
        n++;
    }
    ck_assert_uint_eq(n, 128);
}
END_TEST

/* A driver need not kick before it notifies a device behind the IOMMU. */
START_TEST(requests_are_served_before_a_device_behind_is_notified)
{
    const struct ring_segment segments[] = { { REQUEST_GPA, 20, false }, { ANSWER_GPA, 4, true } };
    uint8_t request[20] = { ATTACH, [4] = 1, [8] = ENDPOINT_A };
    uint32_t head, written;

    memcpy(viommu.ram + REQUEST_GPA, request, sizeof(request));
    ring_add(&viommu.requests, segments, 2);
    ck_assert(!ring_take(&viommu.requests, &head, &written));
    iommu_settle(viommu.iommu, NULL);
    ck_assert(ring_take(&viommu.requests, &head, &written));
    ck_assert_uint_eq(written, 4);
    /* Not of a device that does not work. */
    ring_add(&viommu.requests, segments, 2);
    ring_set_register(&viommu.device->device, 0x070, 0);
    iommu_settle(viommu.iommu, NULL);
    ck_assert(!ring_take(&viommu.requests, &head, &written));
}
END_TEST

/* What a driver is told is counted: one that makes no mistake has answered[OK] only. */
START_TEST(answers_are_counted_by_status)
{
    struct virtio_iommu_counts counts;
    uint8_t unknown[4] = { 99 }, detach[20] = { DETACH, [4] = 1, [8] = ENDPOINT_A, [19] = 1 };
    uint8_t probe[72] = { PROBE, [4] = ENDPOINT_A, [71] = 1 };

    attach_and_map(READ);
    virtio_iommu_count(viommu.device, &counts);
    ck_assert_uint_eq(counts.careless, 0);
    ck_assert_uint_eq(viommu_send(&viommu, detach, sizeof(detach), 4, 0), OK);
    ck_assert_uint_eq(viommu_send(&viommu, probe, sizeof(probe), 388, 384), OK);
    probe[71] = 0;
    ck_assert_uint_eq(viommu_send(&viommu, probe, sizeof(probe), 388, 384), OK);
    viommu_attach(&viommu, 1, NO_ENDPOINT, 0);
    viommu_attach(&viommu, 1, ENDPOINT_A, 0);
    viommu_map(&viommu, 1, IOVA + 1, IOVA + 2, DATA_GPA, READ);
    viommu_send(&viommu, unknown, 4, 4, 0);
    virtio_iommu_count(viommu.device, &counts);
    ck_assert_uint_eq(counts.answered[OK], 6);
    ck_assert_uint_eq(counts.careless, 2);
    ck_assert_uint_eq(counts.answered[NOENT], 1);
    ck_assert_uint_eq(counts.answered[RANGE], 1);
    ck_assert_uint_eq(counts.unanswered, 1);
}
END_TEST

Suite *virtio_iommu_events_suite(void)
{
    Suite *suite = suite_create("virtio_iommu_events");
    TCase *config = tcase_create("config"), *bypass = tcase_create("bypass"),
          *faults = tcase_create("faults"), *broken = tcase_create("broken");
    TCase *cases[] = { config, bypass, faults, broken };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        tcase_add_checked_fixture(cases[i], setup, teardown);
        suite_add_tcase(suite, cases[i]);
    }
    tcase_set_timeout(faults, 30);
    tcase_add_test(config, device_id_is_23_and_there_are_two_queues);
    tcase_add_test(config, map_unmap_is_offered);
    tcase_add_test(config, bypass_is_not_offered_beside_bypass_config);
    tcase_add_test(config, all_other_features_are_offered);
    tcase_add_test(config, config_page_size_mask_has_a_bit);
    tcase_add_test(config, config_ranges_are_the_units);
    tcase_add_test(config, domain_outside_its_range_is_refused);
    tcase_add_test(config, map_below_the_input_range_is_refused);
    tcase_add_test(config, quotas_end_in_nomem);
    tcase_add_test(config, quota_of_a_domain_ends_in_nomem);
    tcase_add_test(config, config_reads_in_any_width);
    tcase_add_test(config, config_bypass_is_the_only_field_to_write);
    tcase_add_test(config, config_bypass_is_never_other_than_0_or_1);
    tcase_add_test(config, config_bypass_needs_its_feature);
    tcase_add_test(config, config_bypass_is_kept_by_a_device_reset);
    tcase_add_test(config, config_bypass_is_restored_by_a_system_reset);

    tcase_add_test(bypass, reset_detaches_all_endpoints);
    tcase_add_test(bypass, unattached_endpoint_is_denied);
    tcase_add_test(bypass, endpoints_are_denied_at_boot);
    tcase_add_test(bypass, unattached_endpoint_passes_while_config_bypass_is_1);
    tcase_add_test(bypass, config_bypass_holds_for_a_driver_that_does_not_know_it);
    tcase_add_test(bypass, attached_endpoint_is_translated_though_config_bypass_is_1);
    tcase_add_test(bypass, endpoint_of_a_bypass_domain_passes);

    tcase_add_test(faults, fault_of_an_unattached_endpoint_has_reason_domain);
    tcase_add_test(faults, fault_without_a_mapping_has_reason_mapping);
    tcase_add_test(faults, fault_against_protection_flags_has_reason_mapping);
    tcase_add_test(faults, fault_in_the_middle_of_an_access_names_its_page);
    tcase_add_test(faults, fault_raises_an_interrupt);
    tcase_add_test(faults, fault_in_a_larger_buffer_is_one_record);
    tcase_add_test(faults, fault_is_not_split_over_short_buffers);
    tcase_add_test(faults, faults_wait_for_buffers);
    tcase_add_test(faults, faults_beyond_the_bound_are_dropped_and_counted);
    tcase_add_test(faults, faults_before_the_driver_are_told_when_it_starts);
    tcase_add_test(faults, faults_are_forgotten_by_a_reset);
    tcase_add_test(faults, fault_while_the_device_is_busy_is_told_after);
    tcase_add_test(faults, fault_storm_beside_requests);

    tcase_add_loop_test(broken, request_outside_of_memory_needs_a_reset, 0, 3);
    tcase_add_test(broken, event_buffer_outside_of_memory_needs_a_reset);
    tcase_add_test(broken, loop_of_descriptors_needs_a_reset);
    tcase_add_test(broken, one_kick_serves_all_requests);
    tcase_add_test(broken, requests_are_served_before_a_device_behind_is_notified);
    tcase_add_test(broken, answers_are_counted_by_status);
    return suite;
}
