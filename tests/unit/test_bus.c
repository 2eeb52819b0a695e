/* vmm/machine/bus: who answers where, and what happens where nobody does. */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "tests/unit/suites.h"
#include "vmm/machine/bus.h"

/* A device that remembers what it was asked. */
struct recorder {
    unsigned reads, writes, after_writes;
    uint64_t offset, value;
    unsigned size;
};

static uint64_t record_read(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size)
{
    struct recorder *recorder = owner;

    (void)vcpu;
    recorder->offset = offset;
    recorder->size = size;
    return 0x1122334455667700u + recorder->reads++;
}

static void record_write(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size,
                         uint64_t value)
{
    struct recorder *recorder = owner;

    (void)vcpu;
    recorder->writes++;
    recorder->offset = offset;
    recorder->size = size;
    recorder->value = value;
}

static void record_after_write(void *owner, struct vcpu *vcpu)
{
    struct recorder *recorder = owner;

    (void)vcpu;
    recorder->after_writes++;
}

static struct bus_region region_of(struct recorder *recorder, uint64_t base, uint64_t len)
{
    return (struct bus_region){ .base = base,
                                .len = len,
                                .owner = recorder,
                                .read = record_read,
                                .write = record_write,
                                .after_write = record_after_write };
}

/* Added to a bus of [0, 0xffff] that has [0x100, 0x10f] and [0x200, 0x200]. */
static const struct {
    uint64_t base, len;
    int result;
} additions[] = {
    { 0, 0x100, 0 },
    { 0x110, 0xf0, 0 },
    { 0x201, 1, 0 },
    { 0xffff, 1, 0 },
    { 0x100, 0x10, -EEXIST },
    { 0xff, 2, -EEXIST },
    { 0x10f, 1, -EEXIST },
    { 0x10f, 0x10, -EEXIST },
    { 0x105, 2, -EEXIST },
    { 0, 0x10000, -EEXIST },
    { 0x1f0, 0x20, -EEXIST },
    { 0x300, 0, -ERANGE },
    { 0xffff, 2, -ERANGE },
    { 0x10000, 1, -ERANGE },
    { 0x10, UINT64_MAX, -ERANGE },
    { UINT64_MAX, 2, -ERANGE },
};

START_TEST(test_add)
{
    struct recorder recorder = { 0 };
    struct bus_region first = region_of(&recorder, 0x200, 1);
    struct bus_region second = region_of(&recorder, 0x100, 0x10);
    struct bus_region added = region_of(&recorder, additions[_i].base, additions[_i].len);
    struct bus bus;

    bus_init(&bus, 0xffff);
    ck_assert_int_eq(bus_add(&bus, &first), 0);
    ck_assert_int_eq(bus_add(&bus, &second), 0);
    ck_assert_int_eq(bus_add(&bus, &added), additions[_i].result);
    ck_assert_ptr_eq(bus_find(&bus, 0x100, 1), &second);
    ck_assert_ptr_eq(bus_find(&bus, 0x200, 1), &first);
    if (!additions[_i].result)
        ck_assert_ptr_eq(bus_find(&bus, added.base, 1), &added);
}
END_TEST

START_TEST(test_find)
{
    struct recorder recorder = { 0 };
    struct bus_region regions[BUS_REGIONS_MAX], more = region_of(&recorder, 0xf000, 1);
    struct bus bus;

    bus_init(&bus, 0xffff);
    /* In an order that is not theirs: 0, 7, 14, … modulo the count. */
    for (unsigned i = 0; i < BUS_REGIONS_MAX; i++) {
        unsigned slot = i * 7 % BUS_REGIONS_MAX;

        regions[slot] = region_of(&recorder, slot * 32, 16);
        ck_assert_int_eq(bus_add(&bus, &regions[slot]), 0);
    }
    for (unsigned address = 0; address < BUS_REGIONS_MAX * 32; address++) {
        const struct bus_region *expected = address % 32 < 16 ? &regions[address / 32] : NULL;

        ck_assert_ptr_eq(bus_find(&bus, address, 1), expected);
    }
    /* An access that begins inside and ends outside belongs to nobody. */
    ck_assert_ptr_eq(bus_find(&bus, 12, 4), &regions[0]);
    ck_assert_ptr_null(bus_find(&bus, 13, 4));
    ck_assert_ptr_null(bus_find(&bus, 15, 2));
    ck_assert_ptr_null(bus_find(&bus, UINT64_MAX, 8));
    ck_assert_int_eq(bus_add(&bus, &more), -ENOSPC);
}
END_TEST

START_TEST(test_access)
{
    struct recorder recorder = { 0 };
    struct bus_region region = region_of(&recorder, 0x100, 16);
    uint8_t data[32];
    struct bus bus;

    bus_init(&bus, UINT64_MAX);
    ck_assert_int_eq(bus_add(&bus, &region), 0);
    bus_read(&bus, NULL, 0x104, data, 4, 1);
    ck_assert_uint_eq(recorder.offset, 4);
    ck_assert_uint_eq(recorder.size, 4);
    ck_assert_int_eq(memcmp(data, "\x00\x77\x66\x55", 4), 0);

    memcpy(data, "\x01\x02\x03\x04\x05\x06\x07\x08", 8);
    bus_write(&bus, NULL, 0x108, data, 8, 1);
    ck_assert_uint_eq(recorder.offset, 8);
    ck_assert_uint_eq(recorder.value, 0x0807060504030201u);
    ck_assert_uint_eq(recorder.after_writes, 1);
    /* Odd sizes come from accesses that cross a page. */
    bus_write(&bus, NULL, 0x100, data, 3, 1);
    ck_assert_uint_eq(recorder.value, 0x030201u);

    /* A string instruction: many elements at one address, settled once. */
    recorder = (struct recorder){ 0 };
    bus_write(&bus, NULL, 0x101, data, 2, 4);
    ck_assert_uint_eq(recorder.writes, 4);
    ck_assert_uint_eq(recorder.value, 0x0807);
    ck_assert_uint_eq(recorder.after_writes, 1);
    bus_read(&bus, NULL, 0x101, data, 1, 3);
    ck_assert_int_eq(memcmp(data, "\x00\x01\x02", 3), 0);
}
END_TEST

START_TEST(test_nobody)
{
    struct recorder recorder = { 0 };
    struct bus_region region = region_of(&recorder, 0x100, 16);
    uint8_t data[8] = { 0 };
    struct bus bus;

    bus_init(&bus, 0xffff);
    region.read = NULL;
    ck_assert_int_eq(bus_add(&bus, &region), 0);
    bus_read(&bus, NULL, 0x300, data, 2, 3);
    ck_assert_int_eq(memcmp(data, "\xff\xff\xff\xff\xff\xff\x00\x00", 8), 0);
    bus_read(&bus, NULL, 0x100, data, 8, 1);
    ck_assert_int_eq(memcmp(data, "\xff\xff\xff\xff\xff\xff\xff\xff", 8), 0);
    bus_read(&bus, NULL, 0x10e, data, 4, 1);
    ck_assert_uint_eq(bus.unclaimed_reads, 5);
    bus_write(&bus, NULL, 0x300, data, 1, 2);
    bus_write(&bus, NULL, 0x10e, data, 4, 1);
    ck_assert_uint_eq(bus.unclaimed_writes, 3);
    ck_assert_uint_eq(recorder.writes + recorder.reads + recorder.after_writes, 0);
}
END_TEST

Suite *bus_suite(void)
{
    Suite *suite = suite_create("bus");
    TCase *tc = tcase_create("bus");

    tcase_set_timeout(tc, 10);
    tcase_add_loop_test(tc, test_add, 0, sizeof(additions) / sizeof(additions[0]));
    tcase_add_test(tc, test_find);
    tcase_add_test(tc, test_access);
    tcase_add_test(tc, test_nobody);
    suite_add_tcase(suite, tc);
    return suite;
}
