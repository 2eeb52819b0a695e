/*
 * Conformance of virtio-iommu, the requests (virtio 1.2, 5.13.6.2 to 5.13.6.8): one test
 * for each MUST, SHOULD and MAY of the device, named for its rule. Where a rule is about
 * memory, an endpoint's own DMA shows whether it holds.
 */
#include <check.h>
#include <string.h>

#include "tests/unit/suites.h"
#include "tests/unit/viommu.h"

#define IOVA  0x40000000ull
#define MAGIC 0x1122334455667788ull

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

static void restart(uint64_t features)
{
    viommu_start(&viommu, features);
}

/* A page of domain 1 at IOVA, on DATA_GPA, for endpoint A. */
static void attach_and_map(uint32_t flags)
{
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, 0), OK);
    ck_assert_uint_eq(viommu_map(&viommu, 1, IOVA, IOVA + PAGE - 1, DATA_GPA, flags), OK);
}

static bool reaches(unsigned endpoint, uint64_t iova)
{
    return viommu_reads(&viommu, endpoint, iova, NULL);
}

static uint8_t map_pages(uint32_t domain, uint64_t iova, unsigned pages)
{
    return viommu_map(&viommu, domain, iova, iova + pages * PAGE - 1, DATA_GPA, READ | WRITE);
}

/* ---- All requests (5.13.6.2) ---- */

START_TEST(success_is_status_ok)
{
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, 0), OK);
    ck_assert_uint_eq(map_pages(1, IOVA, 1), OK);
    ck_assert_uint_eq(viommu_unmap(&viommu, 1, IOVA, IOVA + PAGE - 1), OK);
    ck_assert_uint_eq(viommu_detach(&viommu, 1, ENDPOINT_A), OK);
    ck_assert_uint_eq(viommu_probe(&viommu, ENDPOINT_A), OK);
}
END_TEST

static const uint8_t unknown_types[] = { 0, 6, 7, 0x80, 0xff };

START_TEST(unknown_type_is_not_written_and_used_length_is_0)
{
    uint8_t request[72] = { unknown_types[_i] };

    ck_assert_uint_eq(viommu_send(&viommu, request, sizeof(request), 64, 0), NO_STATUS);
    ck_assert_uint_eq(viommu.written, 0);
    ck_assert_uint_eq(viommu.ram[ANSWER_GPA], 0xee);
    ck_assert_uint_eq(ring_status(&viommu.device->device) & VIRTIO_NEEDS_RESET, 0);
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, 0), OK);
}
END_TEST

START_TEST(request_without_room_for_a_tail_is_not_written)
{
    uint8_t request[20] = { ATTACH, [4] = 1, [8] = ENDPOINT_A };

    ck_assert_uint_eq(viommu_send(&viommu, request, sizeof(request), (uint32_t)_i, 0), NO_STATUS);
    ck_assert_uint_eq(viommu.written, 0);
    /* Nor was it carried out. */
    ck_assert_uint_eq(map_pages(1, IOVA, 1), NOENT);
}
END_TEST

START_TEST(request_too_short_for_its_type_is_not_carried_out)
{
    uint8_t request[20] = { ATTACH, [4] = 1, [8] = ENDPOINT_A };

    /* Its head is whole or not; its tail can be found. */
    for (uint32_t len = 1; len < sizeof(request); len++)
        ck_assert_uint_ne(viommu_send(&viommu, request, len, 4, 0), OK);
    ck_assert_uint_eq(map_pages(1, IOVA, 1), NOENT);
}
END_TEST

START_TEST(head_reserved_is_ignored)
{
    uint8_t request[20] = { ATTACH, 0xff, 0x80, 0x01, [4] = 1, [8] = ENDPOINT_A };

    ck_assert_uint_eq(viommu_send(&viommu, request, sizeof(request), 4, 0), OK);
    ck_assert_uint_eq(map_pages(1, IOVA, 1), OK);
    ck_assert(reaches(0, IOVA));
}
END_TEST

START_TEST(tail_reserved_is_zero)
{
    static const uint8_t zero[3];

    viommu_attach(&viommu, 1, ENDPOINT_A, 0);
    ck_assert_uint_eq(viommu.written, 4);
    ck_assert_mem_eq(viommu.ram + ANSWER_GPA + 1, zero, 3);
    viommu_attach(&viommu, 1, NO_ENDPOINT, 0);
    ck_assert_uint_eq(viommu.written, 4);
    ck_assert_mem_eq(viommu.ram + ANSWER_GPA + 1, zero, 3);
}
END_TEST

/* 2.7.4.1: a device must not depend on how a request is laid over descriptors. */
START_TEST(framing_is_free)
{
    uint8_t request[20] = { ATTACH, [4] = 1, [8] = ENDPOINT_A };
    struct ring_segment segments[16];
    uint32_t used, written, at = 0;
    unsigned n = 0;

    memcpy(viommu.ram + REQUEST_GPA, request, sizeof(request));
    while (at < sizeof(request)) {
        uint32_t len = (uint32_t)_i < sizeof(request) - at ? (uint32_t)_i : 20 - at;

        segments[n++] = (struct ring_segment){ REQUEST_GPA + at, len, false };
        at += len;
    }
    for (unsigned i = 0; i < 4; i++)
        segments[n++] = (struct ring_segment){ ANSWER_GPA + 2 * i, 1, true };
    memset(viommu.ram + ANSWER_GPA, 0xee, 8);
    ring_add(&viommu.requests, segments, n);
    ring_kick(&viommu.requests);
    ck_assert(ring_take(&viommu.requests, &used, &written));
    ck_assert_uint_eq(written, 4);
    for (unsigned i = 0; i < 8; i++)
        ck_assert_uint_eq(viommu.ram[ANSWER_GPA + i], i % 2 ? 0xee : 0);
    ck_assert_uint_eq(map_pages(1, IOVA, 1), OK);
}
END_TEST

/* Strata's own promise (ABI_FDT_IOMMU_PROMPT): what a device's notification relies on is done. */
START_TEST(requests_are_carried_out_when_the_unit_settles)
{
    uint8_t request[20] = { ATTACH, [4] = 1, [8] = ENDPOINT_A };
    const struct ring_segment segments[] = { { REQUEST_GPA, sizeof(request), false },
                                             { ANSWER_GPA, 4, true } };
    uint32_t used, written;

    memcpy(viommu.ram + REQUEST_GPA, request, sizeof(request));
    viommu.ram[ANSWER_GPA] = 0xee;
    ring_add(&viommu.requests, segments, 2);
    ck_assert(!ring_take(&viommu.requests, &used, &written));
    iommu_settle(viommu.iommu, NULL);
    ck_assert(ring_take(&viommu.requests, &used, &written));
    ck_assert_uint_eq(viommu.ram[ANSWER_GPA], OK);
    /* Nothing to do, a device that does not work: nothing happens. */
    iommu_settle(viommu.iommu, NULL);
    ring_set_register(&viommu.device->device, VIRTIO_MMIO_STATUS, 0);
    ring_add(&viommu.requests, segments, 2);
    iommu_settle(viommu.iommu, NULL);
    ck_assert(!ring_take(&viommu.requests, &used, &written));
}
END_TEST

START_TEST(map_and_unmap_need_their_feature)
{
    restart(VIOMMU_FEATURES & ~(1ull << F_MAP_UNMAP));
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, 0), OK);
    ck_assert_uint_ne(map_pages(1, IOVA, 1), OK);
    ck_assert_uint_ne(viommu_unmap(&viommu, 1, IOVA, IOVA + PAGE - 1), OK);
    ck_assert(!reaches(0, IOVA));
}
END_TEST

/* ---- ATTACH (5.13.6.3) ---- */

START_TEST(attach_reserved_nonzero_is_inval)
{
    uint8_t request[20] = { ATTACH, [4] = 1, [8] = ENDPOINT_A };

    for (unsigned i = 16; i < 20; i++) {
        request[i] = 0x80;
        ck_assert_uint_eq(viommu_send(&viommu, request, sizeof(request), 4, 0), INVAL);
        request[i] = 0;
    }
    ck_assert_uint_eq(map_pages(1, IOVA, 1), NOENT);
}
END_TEST

START_TEST(attach_unknown_flag_is_inval)
{
    for (unsigned bit = 1; bit < 32; bit++)
        ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, 1u << bit), INVAL);
    ck_assert_uint_eq(map_pages(1, IOVA, 1), NOENT);
}
END_TEST

START_TEST(attach_bypass_flag_without_its_feature_is_inval)
{
    restart(VIOMMU_FEATURES & ~(1ull << F_BYPASS_CONFIG));
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, ATTACH_BYPASS), INVAL);
    ck_assert(!reaches(0, DATA_GPA));
}
END_TEST

START_TEST(attach_unknown_endpoint_is_noent)
{
    ck_assert_uint_eq(viommu_attach(&viommu, 1, NO_ENDPOINT, 0), NOENT);
    ck_assert_uint_eq(viommu_attach(&viommu, 1, 0xffffffff, ATTACH_BYPASS), NOENT);
    ck_assert_uint_eq(map_pages(1, IOVA, 1), NOENT);
}
END_TEST

/* The device MAY let endpoints share a domain, and this one does. */
START_TEST(attach_second_endpoint_shares_the_domain)
{
    attach_and_map(READ | WRITE);
    ck_assert(!reaches(1, IOVA));
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_B, 0), OK);
    ck_assert(viommu_writes(&viommu, 1, IOVA, MAGIC));
    ck_assert_uint_eq(viommu_ram(&viommu, DATA_GPA), MAGIC);
    ck_assert(reaches(0, IOVA));
}
END_TEST

START_TEST(attach_bypass_flag_on_a_translating_domain_is_inval)
{
    attach_and_map(READ);
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_B, ATTACH_BYPASS), INVAL);
    ck_assert(!reaches(1, DATA_GPA));
}
END_TEST

START_TEST(attach_no_bypass_flag_on_a_bypass_domain_is_inval)
{
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, ATTACH_BYPASS), OK);
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_B, 0), INVAL);
    ck_assert(reaches(0, DATA_GPA));
    ck_assert(!reaches(1, DATA_GPA));
}
END_TEST

/* As a DETACH from the old domain, then an ATTACH. */
START_TEST(attach_to_another_domain_detaches_first)
{
    attach_and_map(READ);
    ck_assert_uint_eq(viommu_attach(&viommu, 2, ENDPOINT_A, 0), OK);
    ck_assert(!reaches(0, IOVA));
    /* The old domain had no other endpoint and ceased to exist. */
    ck_assert_uint_eq(map_pages(1, IOVA + PAGE, 1), NOENT);
    ck_assert_uint_eq(map_pages(2, IOVA + PAGE, 1), OK);
    ck_assert(reaches(0, IOVA + PAGE));
}
END_TEST

START_TEST(attach_to_another_domain_leaves_the_others_in_it)
{
    attach_and_map(READ);
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_B, 0), OK);
    ck_assert_uint_eq(viommu_attach(&viommu, 2, ENDPOINT_A, 0), OK);
    ck_assert(!reaches(0, IOVA));
    ck_assert(reaches(1, IOVA));
}
END_TEST

START_TEST(attach_that_is_refused_leaves_all_as_it_was)
{
    attach_and_map(READ);
    ck_assert_uint_eq(viommu_attach(&viommu, 2, ENDPOINT_C, ATTACH_BYPASS), OK);
    ck_assert_uint_eq(viommu_attach(&viommu, 2, ENDPOINT_A, 0), INVAL);
    ck_assert(reaches(0, IOVA));
    ck_assert(!reaches(0, DATA_GPA));
}
END_TEST

START_TEST(attach_to_the_same_domain_again_keeps_its_mappings)
{
    attach_and_map(READ);
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, 0), OK);
    ck_assert(reaches(0, IOVA));
}
END_TEST

/* Endpoint B has a reserved region where the domain has a mapping. */
START_TEST(attach_with_incompatible_properties_is_unsupp)
{
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, 0), OK);
    ck_assert_uint_eq(map_pages(1, RESERVED_FIRST + PAGE, 1), OK);
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_B, 0), UNSUPP);
    ck_assert(!reaches(1, RESERVED_FIRST + PAGE));
    /* Compatible once it is gone. */
    ck_assert_uint_eq(
        viommu_unmap(&viommu, 1, RESERVED_FIRST + PAGE, RESERVED_FIRST + 2 * PAGE - 1), OK);
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_B, 0), OK);
}
END_TEST

START_TEST(attach_that_is_not_refused_attaches)
{
    for (unsigned i = 0; i < NENDPOINTS; i++) {
        uint32_t ids[] = { ENDPOINT_A, ENDPOINT_B, ENDPOINT_C };

        ck_assert_uint_eq(viommu_attach(&viommu, 10 + i, ids[i], 0), OK);
        ck_assert_uint_eq(map_pages(10 + i, IOVA + i * PAGE, 1), OK);
        ck_assert(reaches(i, IOVA + i * PAGE));
    }
}
END_TEST

START_TEST(endpoints_of_different_domains_are_isolated)
{
    attach_and_map(READ | WRITE);
    ck_assert_uint_eq(viommu_attach(&viommu, 2, ENDPOINT_B, 0), OK);
    ck_assert(!reaches(1, IOVA));
    ck_assert_uint_eq(viommu_map(&viommu, 2, IOVA, IOVA + PAGE - 1, DATA_GPA + PAGE, READ | WRITE),
                      OK);
    ck_assert(viommu_writes(&viommu, 0, IOVA, 1));
    ck_assert(viommu_writes(&viommu, 1, IOVA, 2));
    ck_assert_uint_eq(viommu_ram(&viommu, DATA_GPA), 1);
    ck_assert_uint_eq(viommu_ram(&viommu, DATA_GPA + PAGE), 2);
}
END_TEST

/* ---- DETACH (5.13.6.4) ---- */

START_TEST(detach_reserved_is_ignored)
{
    uint8_t request[20] = { DETACH, [4] = 1, [8] = ENDPOINT_A };

    attach_and_map(READ);
    memset(request + 12, 0xff, 8);
    ck_assert_uint_eq(viommu_send(&viommu, request, sizeof(request), 4, 0), OK);
    ck_assert(!reaches(0, IOVA));
}
END_TEST

START_TEST(detach_unknown_endpoint_is_noent)
{
    attach_and_map(READ);
    ck_assert_uint_eq(viommu_detach(&viommu, 1, NO_ENDPOINT), NOENT);
    ck_assert(reaches(0, IOVA));
}
END_TEST

START_TEST(detach_from_another_domain_is_inval)
{
    attach_and_map(READ);
    ck_assert_uint_eq(viommu_attach(&viommu, 2, ENDPOINT_B, 0), OK);
    ck_assert_uint_eq(viommu_detach(&viommu, 2, ENDPOINT_A), INVAL);
    ck_assert_uint_eq(viommu_detach(&viommu, 77, ENDPOINT_A), INVAL);
    ck_assert_uint_eq(viommu_detach(&viommu, 1, ENDPOINT_C), INVAL);
    ck_assert(reaches(0, IOVA));
}
END_TEST

START_TEST(detach_ends_access)
{
    uint64_t value;

    attach_and_map(READ | WRITE);
    viommu_set_ram(&viommu, DATA_GPA, MAGIC);
    /* Warm, so that a cached translation would show. */
    ck_assert(viommu_reads(&viommu, 0, IOVA, &value));
    ck_assert_uint_eq(value, MAGIC);
    ck_assert_uint_eq(viommu_detach(&viommu, 1, ENDPOINT_A), OK);
    ck_assert(!reaches(0, IOVA));
    ck_assert(!viommu_writes(&viommu, 0, IOVA, 1));
    ck_assert_uint_eq(viommu_ram(&viommu, DATA_GPA), MAGIC);
}
END_TEST

START_TEST(detach_of_the_last_endpoint_ends_the_domain)
{
    attach_and_map(READ);
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_B, 0), OK);
    ck_assert_uint_eq(viommu_detach(&viommu, 1, ENDPOINT_A), OK);
    ck_assert(reaches(1, IOVA));
    ck_assert_uint_eq(viommu_detach(&viommu, 1, ENDPOINT_B), OK);
    ck_assert_uint_eq(map_pages(1, IOVA + PAGE, 1), NOENT);
    /* The id names a new, empty domain, of either kind. */
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, 0), OK);
    ck_assert(!reaches(0, IOVA));
    ck_assert_uint_eq(viommu_detach(&viommu, 1, ENDPOINT_A), OK);
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, ATTACH_BYPASS), OK);
}
END_TEST

/* ---- MAP (5.13.6.5) ---- */

START_TEST(map_misaligned_is_range)
{
    static const struct {
        uint64_t first, last, gpa;
    } wrong[] = {
        { IOVA + 1, IOVA + PAGE - 1, DATA_GPA },
        { IOVA + 0x800, IOVA + PAGE - 1, DATA_GPA },
        { IOVA, IOVA + PAGE, DATA_GPA },
        { IOVA, IOVA + PAGE - 2, DATA_GPA },
        { IOVA, IOVA + 0x7ff, DATA_GPA },
        { IOVA, IOVA + PAGE - 1, DATA_GPA + 1 },
        { IOVA, IOVA + PAGE - 1, DATA_GPA + 0x800 },
        { IOVA, IOVA, DATA_GPA },
    };

    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, 0), OK);
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        ck_assert_uint_eq(
            viommu_map(&viommu, 1, wrong[i].first, wrong[i].last, wrong[i].gpa, READ | WRITE),
            RANGE);
        ck_assert(!reaches(0, IOVA + 0x800));
    }
}
END_TEST

START_TEST(map_overlap_is_inval)
{
    attach_and_map(READ);
    ck_assert_uint_eq(viommu_map(&viommu, 1, IOVA, IOVA + PAGE - 1, DATA_GPA, READ), INVAL);
    ck_assert_uint_eq(viommu_map(&viommu, 1, IOVA - PAGE, IOVA + PAGE - 1, DATA_GPA, WRITE), INVAL);
    ck_assert_uint_eq(viommu_map(&viommu, 1, IOVA, IOVA + 3 * PAGE - 1, DATA_GPA, WRITE), INVAL);
    ck_assert_uint_eq(viommu_map(&viommu, 1, IOVA - PAGE, IOVA + 3 * PAGE - 1, DATA_GPA, WRITE),
                      INVAL);
    /* Nothing of the refused ones is there, and what was there still is, as it was. */
    ck_assert(!reaches(0, IOVA - PAGE));
    ck_assert(!reaches(0, IOVA + PAGE));
    ck_assert(reaches(0, IOVA));
    ck_assert(!viommu_writes(&viommu, 0, IOVA, 1));
}
END_TEST

START_TEST(map_unknown_flag_is_inval)
{
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, 0), OK);
    for (unsigned bit = 3; bit < 32; bit++)
        ck_assert_uint_eq(
            viommu_map(&viommu, 1, IOVA, IOVA + PAGE - 1, DATA_GPA, READ | WRITE | 1u << bit),
            INVAL);
    ck_assert(!reaches(0, IOVA));
}
END_TEST

START_TEST(map_mmio_flag_without_its_feature_is_inval)
{
    restart(VIOMMU_FEATURES & ~(1ull << F_MMIO));
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, 0), OK);
    ck_assert_uint_eq(viommu_map(&viommu, 1, IOVA, IOVA + PAGE - 1, DATA_GPA, READ | MMIO), INVAL);
    ck_assert(!reaches(0, IOVA));
}
END_TEST

START_TEST(map_without_a_domain_is_noent)
{
    ck_assert_uint_eq(map_pages(1, IOVA, 1), NOENT);
    attach_and_map(READ);
    ck_assert_uint_eq(map_pages(2, IOVA, 1), NOENT);
}
END_TEST

START_TEST(map_in_a_bypass_domain_is_inval)
{
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, ATTACH_BYPASS), OK);
    ck_assert_uint_eq(map_pages(1, IOVA, 1), INVAL);
    ck_assert(!reaches(0, IOVA));
}
END_TEST

START_TEST(map_without_write_denies_writes)
{
    attach_and_map(READ);
    viommu_set_ram(&viommu, DATA_GPA, MAGIC);
    ck_assert(reaches(0, IOVA));
    ck_assert(!viommu_writes(&viommu, 0, IOVA, 1));
    ck_assert_uint_eq(viommu_ram(&viommu, DATA_GPA), MAGIC);
}
END_TEST

/* A device MAY let reads through where only WRITE is set; this one need not. */
START_TEST(map_without_read_denies_reads)
{
    attach_and_map(WRITE);
    ck_assert(viommu_writes(&viommu, 0, IOVA, MAGIC));
    ck_assert_uint_eq(viommu_ram(&viommu, DATA_GPA), MAGIC);
    ck_assert(!reaches(0, IOVA));
}
END_TEST

/* Negative control of the two: with permissions switched off, both accesses get through. */
START_TEST(control_without_permissions_all_gets_through)
{
    teardown();
    viommu_create(&viommu, &(struct iommu_config){ .disabled_checks = IOMMU_CHECK_PERMISSION });
    viommu_start(&viommu, VIOMMU_FEATURES);
    attach_and_map(READ);
    ck_assert(viommu_writes(&viommu, 0, IOVA, MAGIC));
    ck_assert_uint_eq(viommu_ram(&viommu, DATA_GPA), MAGIC);
}
END_TEST

/* PA = VA - virt_start + phys_start, for every page and byte of it. */
START_TEST(map_translates)
{
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, 0), OK);
    ck_assert_uint_eq(
        viommu_map(&viommu, 1, IOVA + PAGE, IOVA + 6 * PAGE - 1, DATA_GPA + 8 * PAGE, READ | WRITE),
        OK);
    for (unsigned i = 0; i < 5; i++) {
        uint64_t value, offset = i * PAGE + i * 24;

        ck_assert(viommu_writes(&viommu, 0, IOVA + PAGE + offset, MAGIC + i));
        ck_assert_uint_eq(viommu_ram(&viommu, DATA_GPA + 8 * PAGE + offset), MAGIC + i);
        ck_assert(viommu_reads(&viommu, 0, IOVA + PAGE + offset, &value));
        ck_assert_uint_eq(value, MAGIC + i);
    }
    ck_assert(!reaches(0, IOVA + PAGE - 8));
    ck_assert(!reaches(0, IOVA + PAGE - 4));
    ck_assert(reaches(0, IOVA + 6 * PAGE - 8));
    ck_assert(!reaches(0, IOVA + 6 * PAGE - 4));
    ck_assert(!reaches(0, IOVA + 6 * PAGE));
}
END_TEST

START_TEST(map_reaches_all_endpoints_of_the_domain)
{
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, 0), OK);
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_B, 0), OK);
    ck_assert_uint_eq(map_pages(1, IOVA, 1), OK);
    ck_assert(reaches(0, IOVA));
    ck_assert(reaches(1, IOVA));
    ck_assert(!reaches(2, IOVA));
}
END_TEST

START_TEST(map_outside_the_input_range_fails)
{
    uint64_t last = viommu_config(&viommu, 16, 8);

    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, 0), OK);
    ck_assert_uint_eq(map_pages(1, last + 1, 1), RANGE);
    ck_assert_uint_eq(map_pages(1, last + 1 - PAGE, 2), RANGE);
    ck_assert_uint_eq(map_pages(1, last + 1 - PAGE, 1), OK);
    ck_assert(reaches(0, last + 1 - PAGE));
}
END_TEST

START_TEST(map_that_ends_before_it_begins_fails)
{
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, 0), OK);
    ck_assert_uint_ne(viommu_map(&viommu, 1, IOVA, IOVA - 1, DATA_GPA, READ), OK);
    ck_assert_uint_ne(viommu_map(&viommu, 1, IOVA, PAGE - 1, DATA_GPA, READ), OK);
    ck_assert_uint_ne(viommu_map(&viommu, 1, 0, ~0ull, 0, READ), OK);
    ck_assert(!reaches(0, IOVA));
}
END_TEST

/* Guest-physical limits: RAM only, not what is beyond it, nor around 2^64. */
START_TEST(map_to_what_is_not_ram_fails)
{
    static const uint64_t gpas[] = { RAM_BYTES, RAM_BYTES - PAGE, ABI_MMIO_GPA, ABI_LAPIC_GPA,
                                     0ull - PAGE };

    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, 0), OK);
    for (unsigned i = 0; i < sizeof(gpas) / sizeof(gpas[0]); i++) {
        ck_assert_uint_ne(viommu_map(&viommu, 1, IOVA, IOVA + 2 * PAGE - 1, gpas[i], READ | WRITE),
                          OK);
        ck_assert(!reaches(0, IOVA));
    }
}
END_TEST

START_TEST(map_over_a_reserved_region_is_refused)
{
    /* The MSI window is everybody's, B's own region only where B is. */
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, 0), OK);
    ck_assert_uint_ne(map_pages(1, 0xfee00000, 1), OK);
    ck_assert_uint_ne(map_pages(1, 0xfeeff000, 1), OK);
    ck_assert_uint_ne(map_pages(1, 0xfedff000, 2), OK);
    ck_assert_uint_eq(map_pages(1, 0xfedff000, 1), OK);
    ck_assert_uint_eq(map_pages(1, 0xfef00000, 1), OK);
    ck_assert_uint_eq(map_pages(1, RESERVED_FIRST, 1), OK);
    ck_assert_uint_eq(viommu_attach(&viommu, 2, ENDPOINT_B, 0), OK);
    ck_assert_uint_ne(map_pages(2, RESERVED_FIRST, 1), OK);
    ck_assert_uint_ne(map_pages(2, RESERVED_LAST + 1 - PAGE, 2), OK);
    ck_assert_uint_ne(map_pages(2, RESERVED_FIRST - PAGE, 6), OK);
    ck_assert_uint_eq(map_pages(2, RESERVED_LAST + 1, 1), OK);
    ck_assert(!reaches(1, RESERVED_FIRST));
}
END_TEST

/* ---- UNMAP (5.13.6.6) ---- */

static void map_a_page_each(uint64_t first, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        ck_assert_uint_eq(map_pages(1, first + i * PAGE, 1), OK);
}

START_TEST(unmap_ends_access)
{
    attach_and_map(READ | WRITE);
    viommu_set_ram(&viommu, DATA_GPA, MAGIC);
    ck_assert(reaches(0, IOVA));
    ck_assert_uint_eq(viommu_unmap(&viommu, 1, IOVA, IOVA + PAGE - 1), OK);
    ck_assert(!reaches(0, IOVA));
    ck_assert(!viommu_writes(&viommu, 0, IOVA, 1));
    ck_assert_uint_eq(viommu_ram(&viommu, DATA_GPA), MAGIC);
}
END_TEST

START_TEST(unmap_without_a_domain_is_noent)
{
    ck_assert_uint_eq(viommu_unmap(&viommu, 1, IOVA, IOVA + PAGE - 1), NOENT);
}
END_TEST

START_TEST(unmap_in_a_bypass_domain_is_inval)
{
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, ATTACH_BYPASS), OK);
    ck_assert_uint_eq(viommu_unmap(&viommu, 1, DATA_GPA, DATA_GPA + PAGE - 1), INVAL);
    ck_assert(reaches(0, DATA_GPA));
}
END_TEST

/* The device MAY refuse it; then it removes nothing. */
START_TEST(unmap_reserved_nonzero_is_inval)
{
    uint8_t request[28] = { UNMAP, [4] = 1, [24] = 1 };
    uint64_t first = IOVA, last = IOVA + PAGE - 1;

    attach_and_map(READ);
    memcpy(request + 8, &first, 8);
    memcpy(request + 16, &last, 8);
    ck_assert_uint_eq(viommu_send(&viommu, request, sizeof(request), 4, 0), INVAL);
    ck_assert(reaches(0, IOVA));
    request[24] = 0;
    ck_assert_uint_eq(viommu_send(&viommu, request, sizeof(request), 4, 0), OK);
    ck_assert(!reaches(0, IOVA));
}
END_TEST

/* The specification's example 1. */
START_TEST(unmap_of_nothing_is_ok)
{
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, 0), OK);
    ck_assert_uint_eq(viommu_unmap(&viommu, 1, 0, 5 * PAGE - 1), OK);
}
END_TEST

/* Examples 2, 3, 5, 6 and 7. */
START_TEST(unmap_removes_all_mappings_that_it_covers)
{
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, 0), OK);

    ck_assert_uint_eq(map_pages(1, 0, 10), OK);
    ck_assert_uint_eq(viommu_unmap(&viommu, 1, 0, 10 * PAGE - 1), OK);
    ck_assert(!reaches(0, 0) && !reaches(0, 9 * PAGE));

    ck_assert_uint_eq(map_pages(1, 0, 5), OK);
    ck_assert_uint_eq(map_pages(1, 5 * PAGE, 5), OK);
    ck_assert_uint_eq(viommu_unmap(&viommu, 1, 0, 10 * PAGE - 1), OK);
    ck_assert(!reaches(0, 0) && !reaches(0, 5 * PAGE));

    ck_assert_uint_eq(map_pages(1, 0, 5), OK);
    ck_assert_uint_eq(map_pages(1, 5 * PAGE, 5), OK);
    ck_assert_uint_eq(viommu_unmap(&viommu, 1, 0, 5 * PAGE - 1), OK);
    ck_assert(!reaches(0, 4 * PAGE) && reaches(0, 5 * PAGE));
    ck_assert_uint_eq(viommu_unmap(&viommu, 1, 0, 10 * PAGE - 1), OK);

    ck_assert_uint_eq(map_pages(1, 0, 5), OK);
    ck_assert_uint_eq(viommu_unmap(&viommu, 1, 0, 10 * PAGE - 1), OK);
    ck_assert(!reaches(0, 0));

    ck_assert_uint_eq(map_pages(1, 0, 5), OK);
    ck_assert_uint_eq(map_pages(1, 10 * PAGE, 5), OK);
    ck_assert_uint_eq(viommu_unmap(&viommu, 1, 0, 15 * PAGE - 1), OK);
    ck_assert(!reaches(0, 0) && !reaches(0, 10 * PAGE));
}
END_TEST

START_TEST(unmap_over_holes_is_ok)
{
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, 0), OK);
    map_a_page_each(IOVA + 2 * PAGE, 2);
    map_a_page_each(IOVA + 7 * PAGE, 1);
    ck_assert_uint_eq(viommu_unmap(&viommu, 1, IOVA, IOVA + 16 * PAGE - 1), OK);
    for (unsigned i = 0; i < 16; i++)
        ck_assert(!reaches(0, IOVA + i * PAGE));
    /* All of the address space at once. */
    map_a_page_each(IOVA, 3);
    ck_assert_uint_eq(viommu_unmap(&viommu, 1, 0, ~0ull), OK);
    ck_assert(!reaches(0, IOVA));
}
END_TEST

/* Example 4, from either end and from the middle; also when whole mappings come first. */
START_TEST(unmap_that_splits_is_range_and_removes_nothing)
{
    static const struct {
        unsigned first, pages;
    } cuts[] = { { 10, 5 }, { 15, 5 }, { 12, 3 }, { 0, 15 }, { 15, 30 }, { 0, 19 }, { 11, 30 } };

    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, 0), OK);
    map_a_page_each(IOVA, 8);
    ck_assert_uint_eq(map_pages(1, IOVA + 10 * PAGE, 10), OK);
    map_a_page_each(IOVA + 24 * PAGE, 4);
    for (unsigned i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
        uint64_t first = IOVA + cuts[i].first * PAGE;

        ck_assert_uint_eq(viommu_unmap(&viommu, 1, first, first + cuts[i].pages * PAGE - 1), RANGE);
        for (unsigned page = 0; page < 28; page++)
            ck_assert(reaches(0, IOVA + page * PAGE) ==
                      (page < 8 || (page >= 10 && page < 20) || page >= 24));
    }
    ck_assert_uint_eq(viommu_unmap(&viommu, 1, IOVA, IOVA + 64 * PAGE - 1), OK);
    ck_assert(!reaches(0, IOVA + 10 * PAGE));
}
END_TEST

/* A large mapping is stored in large leaves; it is one mapping all the same. */
START_TEST(unmap_that_splits_a_large_mapping_is_range)
{
    const uint64_t huge = 2ull << 20;

    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, 0), OK);
    ck_assert_uint_eq(viommu_map(&viommu, 1, IOVA, IOVA + 2 * huge - 1, huge, READ), OK);
    ck_assert_uint_eq(viommu_unmap(&viommu, 1, IOVA, IOVA + PAGE - 1), RANGE);
    ck_assert_uint_eq(viommu_unmap(&viommu, 1, IOVA, IOVA + huge - 1), RANGE);
    ck_assert_uint_eq(viommu_unmap(&viommu, 1, IOVA + huge, IOVA + 4 * huge - 1), RANGE);
    ck_assert(reaches(0, IOVA));
    ck_assert(reaches(0, IOVA + huge));
    ck_assert_uint_eq(viommu_unmap(&viommu, 1, IOVA, IOVA + 2 * huge - 1), OK);
    ck_assert(!reaches(0, IOVA + huge));
}
END_TEST

/* Neighbours that could be one leaf or one range were two requests, and stay two. */
START_TEST(unmap_of_one_of_two_neighbours_is_no_split)
{
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_A, 0), OK);
    ck_assert_uint_eq(viommu_map(&viommu, 1, IOVA, IOVA + PAGE - 1, DATA_GPA, READ), OK);
    ck_assert_uint_eq(
        viommu_map(&viommu, 1, IOVA + PAGE, IOVA + 2 * PAGE - 1, DATA_GPA + PAGE, READ), OK);
    ck_assert_uint_eq(viommu_unmap(&viommu, 1, IOVA + PAGE, IOVA + 2 * PAGE - 1), OK);
    ck_assert(reaches(0, IOVA));
    ck_assert(!reaches(0, IOVA + PAGE));
}
END_TEST

/* ---- PROBE (5.13.6.7, 5.13.6.8) ---- */

struct property {
    uint16_t type, length;
    uint8_t subtype, reserved[3];
    uint64_t start, end;
};

/* Walks the list at ANSWER_GPA: the number of properties, and where it ends. */
static unsigned properties(struct property *list, unsigned max, uint32_t *end)
{
    uint32_t bytes = (uint32_t)viommu_config(&viommu, 32, 4), at = 0;
    unsigned n = 0;

    while (at + 4 <= bytes) {
        struct property property = { 0 };

        memcpy(&property, viommu.ram + ANSWER_GPA + at, 4);
        if (!(property.type & 0xfff))
            break;
        ck_assert_uint_le(at + 4 + property.length, bytes);
        ck_assert_uint_lt(n, max);
        memcpy(&property, viommu.ram + ANSWER_GPA + at, sizeof(property));
        list[n++] = property;
        at += 4u + property.length;
    }
    *end = at;
    return n;
}

START_TEST(probe_size_holds_all_properties)
{
    /* 16 regions of 24 bytes. */
    ck_assert_uint_ge(viommu_config(&viommu, 32, 4), 24 * IOMMU_RESERVED_MAX);
}
END_TEST

START_TEST(probe_reserved_is_ignored)
{
    uint32_t bytes = (uint32_t)viommu_config(&viommu, 32, 4);
    uint8_t request[72] = { PROBE, [4] = ENDPOINT_A };

    memset(request + 8, 0xff, 64);
    ck_assert_uint_eq(viommu_send(&viommu, request, sizeof(request), bytes + 4, bytes), OK);
    ck_assert_uint_eq(viommu.written, bytes + 4);
}
END_TEST

START_TEST(probe_unknown_endpoint_is_noent)
{
    ck_assert_uint_eq(viommu_probe(&viommu, NO_ENDPOINT), NOENT);
}
END_TEST

START_TEST(probe_too_short_is_inval_and_writes_no_property)
{
    uint32_t bytes = (uint32_t)viommu_config(&viommu, 32, 4);
    uint8_t request[72] = { PROBE, [4] = ENDPOINT_A };
    static const uint32_t room[] = { 0, 1, 24, 100 };

    for (unsigned i = 0; i <= 4; i++) {
        uint32_t less = i < 4 ? room[i] : bytes - 1;

        ck_assert_uint_eq(viommu_send(&viommu, request, sizeof(request), less + 4, less), INVAL);
        for (uint32_t at = 0; at < less; at++)
            ck_assert_uint_eq(viommu.ram[ANSWER_GPA + at], 0);
    }
}
END_TEST

START_TEST(probe_fills_the_rest_with_zeroes)
{
    struct property list[IOMMU_RESERVED_MAX];
    uint32_t bytes = (uint32_t)viommu_config(&viommu, 32, 4), at;

    ck_assert_uint_eq(viommu_probe(&viommu, ENDPOINT_A), OK);
    ck_assert_uint_eq(viommu.written, bytes + 4);
    properties(list, IOMMU_RESERVED_MAX, &at);
    ck_assert_uint_lt(at, bytes);
    for (; at < bytes; at++)
        ck_assert_uint_eq(viommu.ram[ANSWER_GPA + at], 0);
}
END_TEST

/* `length` does not count the header, and the next property comes right after. */
START_TEST(probe_length_is_without_the_header)
{
    struct property list[IOMMU_RESERVED_MAX];
    uint32_t end;

    ck_assert_uint_eq(viommu_probe(&viommu, ENDPOINT_B), OK);
    ck_assert_uint_eq(properties(list, IOMMU_RESERVED_MAX, &end), 2);
    ck_assert_uint_eq(list[0].length, 20);
    ck_assert_uint_eq(list[1].length, 20);
    ck_assert_uint_eq(end, 48);
}
END_TEST

START_TEST(probe_reserved_of_a_property_is_zero)
{
    struct property list[IOMMU_RESERVED_MAX];
    uint32_t end;

    ck_assert_uint_eq(viommu_probe(&viommu, ENDPOINT_B), OK);
    for (unsigned i = properties(list, IOMMU_RESERVED_MAX, &end); i--;) {
        ck_assert_uint_eq(list[i].type >> 12, 0);
        ck_assert_mem_eq(list[i].reserved, "\0\0", 3);
    }
}
END_TEST

START_TEST(probe_reports_the_msi_window_once)
{
    static const uint32_t ids[] = { ENDPOINT_A, ENDPOINT_B, ENDPOINT_C };
    struct property list[IOMMU_RESERVED_MAX];
    unsigned windows = 0;
    uint32_t end;

    ck_assert_uint_eq(viommu_probe(&viommu, ids[_i]), OK);
    for (unsigned i = properties(list, IOMMU_RESERVED_MAX, &end); i--;) {
        ck_assert_uint_eq(list[i].type, 1);
        if (list[i].subtype != 1)
            continue;
        windows++;
        ck_assert_uint_eq(list[i].start, 0xfee00000);
        ck_assert_uint_eq(list[i].end, 0xfeefffff);
    }
    ck_assert_uint_eq(windows, 1);
}
END_TEST

START_TEST(probe_reports_reserved_regions_of_the_endpoint_alone)
{
    struct property list[IOMMU_RESERVED_MAX];
    uint32_t end;

    ck_assert_uint_eq(viommu_probe(&viommu, ENDPOINT_A), OK);
    ck_assert_uint_eq(properties(list, IOMMU_RESERVED_MAX, &end), 1);
    ck_assert_uint_eq(viommu_probe(&viommu, ENDPOINT_B), OK);
    ck_assert_uint_eq(properties(list, IOMMU_RESERVED_MAX, &end), 2);
    ck_assert_uint_eq(list[0].subtype, 0);
    ck_assert_uint_eq(list[0].start, RESERVED_FIRST);
    ck_assert_uint_eq(list[0].end, RESERVED_LAST);
}
END_TEST

START_TEST(probe_regions_do_not_overlap)
{
    struct property list[IOMMU_RESERVED_MAX];
    uint32_t end;

    ck_assert_uint_eq(viommu_probe(&viommu, ENDPOINT_B), OK);
    for (unsigned i = properties(list, IOMMU_RESERVED_MAX, &end); i-- > 1;)
        ck_assert_uint_lt(list[i - 1].end, list[i].start);
}
END_TEST

/* Neither RAM at the same address nor another endpoint sees an access to such a region. */
START_TEST(access_to_a_reserved_region_affects_nobody)
{
    ck_assert_uint_eq(viommu_attach(&viommu, 1, ENDPOINT_B, 0), OK);
    ck_assert(!viommu_writes(&viommu, 1, RESERVED_FIRST, 1));
    ck_assert(!viommu_writes(&viommu, 1, 0xfee00000, 0x31));
    ck_assert(!reaches(1, 0xfee00000));
}
END_TEST

START_TEST(probe_needs_its_feature)
{
    restart(VIOMMU_FEATURES & ~(1ull << F_PROBE));
    ck_assert_uint_ne(viommu_probe(&viommu, ENDPOINT_A), OK);
}
END_TEST

static TCase *add_case(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, setup, teardown);
    suite_add_tcase(suite, tcase);
    return tcase;
}

static void add_domains(Suite *suite)
{
    TCase *attach = add_case(suite, "attach"), *detach = add_case(suite, "detach");

    tcase_add_test(attach, attach_reserved_nonzero_is_inval);
    tcase_add_test(attach, attach_unknown_flag_is_inval);
    tcase_add_test(attach, attach_bypass_flag_without_its_feature_is_inval);
    tcase_add_test(attach, attach_unknown_endpoint_is_noent);
    tcase_add_test(attach, attach_second_endpoint_shares_the_domain);
    tcase_add_test(attach, attach_bypass_flag_on_a_translating_domain_is_inval);
    tcase_add_test(attach, attach_no_bypass_flag_on_a_bypass_domain_is_inval);
    tcase_add_test(attach, attach_to_another_domain_detaches_first);
    tcase_add_test(attach, attach_to_another_domain_leaves_the_others_in_it);
    tcase_add_test(attach, attach_that_is_refused_leaves_all_as_it_was);
    tcase_add_test(attach, attach_to_the_same_domain_again_keeps_its_mappings);
    tcase_add_test(attach, attach_with_incompatible_properties_is_unsupp);
    tcase_add_test(attach, attach_that_is_not_refused_attaches);
    tcase_add_test(attach, endpoints_of_different_domains_are_isolated);

    tcase_add_test(detach, detach_reserved_is_ignored);
    tcase_add_test(detach, detach_unknown_endpoint_is_noent);
    tcase_add_test(detach, detach_from_another_domain_is_inval);
    tcase_add_test(detach, detach_ends_access);
    tcase_add_test(detach, detach_of_the_last_endpoint_ends_the_domain);
}

static void add_mappings(Suite *suite)
{
    TCase *map = add_case(suite, "map"), *unmap = add_case(suite, "unmap");

    tcase_add_test(map, map_misaligned_is_range);
    tcase_add_test(map, map_overlap_is_inval);
    tcase_add_test(map, map_unknown_flag_is_inval);
    tcase_add_test(map, map_mmio_flag_without_its_feature_is_inval);
    tcase_add_test(map, map_without_a_domain_is_noent);
    tcase_add_test(map, map_in_a_bypass_domain_is_inval);
    tcase_add_test(map, map_without_write_denies_writes);
    tcase_add_test(map, map_without_read_denies_reads);
    tcase_add_test(map, control_without_permissions_all_gets_through);
    tcase_add_test(map, map_translates);
    tcase_add_test(map, map_reaches_all_endpoints_of_the_domain);
    tcase_add_test(map, map_outside_the_input_range_fails);
    tcase_add_test(map, map_that_ends_before_it_begins_fails);
    tcase_add_test(map, map_to_what_is_not_ram_fails);
    tcase_add_test(map, map_over_a_reserved_region_is_refused);

    tcase_add_test(unmap, unmap_ends_access);
    tcase_add_test(unmap, unmap_without_a_domain_is_noent);
    tcase_add_test(unmap, unmap_in_a_bypass_domain_is_inval);
    tcase_add_test(unmap, unmap_reserved_nonzero_is_inval);
    tcase_add_test(unmap, unmap_of_nothing_is_ok);
    tcase_add_test(unmap, unmap_removes_all_mappings_that_it_covers);
    tcase_add_test(unmap, unmap_over_holes_is_ok);
    tcase_add_test(unmap, unmap_that_splits_is_range_and_removes_nothing);
    tcase_add_test(unmap, unmap_that_splits_a_large_mapping_is_range);
    tcase_add_test(unmap, unmap_of_one_of_two_neighbours_is_no_split);
}

static void add_probe(Suite *suite)
{
    TCase *probe = add_case(suite, "probe");

    tcase_add_test(probe, probe_size_holds_all_properties);
    tcase_add_test(probe, probe_reserved_is_ignored);
    tcase_add_test(probe, probe_unknown_endpoint_is_noent);
    tcase_add_test(probe, probe_too_short_is_inval_and_writes_no_property);
    tcase_add_test(probe, probe_fills_the_rest_with_zeroes);
    tcase_add_test(probe, probe_length_is_without_the_header);
    tcase_add_test(probe, probe_reserved_of_a_property_is_zero);
    tcase_add_loop_test(probe, probe_reports_the_msi_window_once, 0, NENDPOINTS);
    tcase_add_test(probe, probe_reports_reserved_regions_of_the_endpoint_alone);
    tcase_add_test(probe, probe_regions_do_not_overlap);
    tcase_add_test(probe, access_to_a_reserved_region_affects_nobody);
    tcase_add_test(probe, probe_needs_its_feature);
}

Suite *virtio_iommu_requests_suite(void)
{
    Suite *suite = suite_create("virtio_iommu_requests");
    TCase *all = add_case(suite, "all");

    tcase_add_test(all, success_is_status_ok);
    tcase_add_loop_test(all, unknown_type_is_not_written_and_used_length_is_0, 0,
                        sizeof(unknown_types));
    tcase_add_loop_test(all, request_without_room_for_a_tail_is_not_written, 0, 4);
    tcase_add_test(all, request_too_short_for_its_type_is_not_carried_out);
    tcase_add_test(all, head_reserved_is_ignored);
    tcase_add_test(all, tail_reserved_is_zero);
    tcase_add_loop_test(all, framing_is_free, 2, 21);
    tcase_add_test(all, requests_are_carried_out_when_the_unit_settles);
    tcase_add_test(all, map_and_unmap_need_their_feature);
    add_domains(suite);
    add_mappings(suite);
    add_probe(suite);
    return suite;
}
