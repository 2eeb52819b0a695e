/* devices/legacy: the clock, the registers that end the machine, pvpanic, without a guest. */
#include <check.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "devices/legacy/acpi_pm.h"
#include "devices/legacy/pit.h"
#include "devices/legacy/pvpanic.h"
#include "devices/legacy/rtc.h"
#include "tests/unit/suites.h"
#include "vmm/machine/vm.h"

#define SECOND_NS 1000000000ll
#define B_SET     0x80
#define B_BINARY  0x04
#define B_24      0x02

static struct vm vm;
static struct rtc rtc;
static int64_t now;

static int64_t fake_now(void)
{
    return now;
}

static int64_t at(const char *text)
{
    struct tm tm = { 0 };

    ck_assert_ptr_nonnull(strptime(text, "%Y-%m-%d %H:%M:%S", &tm));
    return timegm(&tm) * SECOND_NS;
}

static void setup(void)
{
    vm = (struct vm){ .fd = -1, .end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
    bus_init(&vm.pio, 0xffff);
    pthread_mutex_init(&vm.lock, NULL);
    pthread_cond_init(&vm.changed, NULL);
    ck_assert_int_eq(rtc_create(&rtc, &vm), 0);
    rtc.now_ns = fake_now;
    now = at("2026-11-23 15:04:05");
}

static void teardown(void)
{
    close(vm.end_fd);
}

static uint8_t get(uint8_t index)
{
    uint8_t value;

    bus_write(&vm.pio, NULL, RTC_PORT, &index, 1, 1);
    bus_read(&vm.pio, NULL, RTC_PORT + 1, &value, 1, 1);
    return value;
}

static void set(uint8_t index, uint8_t value)
{
    bus_write(&vm.pio, NULL, RTC_PORT, &index, 1, 1);
    bus_write(&vm.pio, NULL, RTC_PORT + 1, &value, 1, 1);
}

/* Register by register: seconds, minutes, hours, weekday, day, month, year, century. */
static void expect(const uint8_t *bytes)
{
    static const uint8_t order[] = { 0, 2, 4, 6, 7, 8, 9, RTC_CENTURY };

    for (unsigned i = 0; i < sizeof(order); i++)
        ck_assert_msg(get(order[i]) == bytes[i], "register %u: 0x%x, not 0x%x", order[i],
                      get(order[i]), bytes[i]);
}

START_TEST(test_time)
{
    expect((uint8_t[]){ 0x05, 0x04, 0x15, 0x02, 0x23, 0x11, 0x26, 0x20 });
    set(11, B_24 | B_BINARY);
    expect((uint8_t[]){ 5, 4, 15, 2, 23, 11, 26, 20 });
    set(11, B_BINARY);
    ck_assert_uint_eq(get(4), 0x83); /* 3 in the afternoon */
    set(11, 0);
    ck_assert_uint_eq(get(4), 0x83);
    now = at("2026-11-23 00:04:05");
    ck_assert_uint_eq(get(4), 0x12);
    now = at("2026-11-23 12:04:05");
    ck_assert_uint_eq(get(4), 0x92);
    now = at("2099-12-31 23:59:59") + SECOND_NS;
    set(11, B_24);
    expect((uint8_t[]){ 0, 0, 0, 0x06, 0x01, 0x01, 0, 0x21 });
}
END_TEST

START_TEST(test_update_in_progress)
{
    ck_assert_uint_eq(get(10), 0x26);
    now += SECOND_NS - RTC_UPDATE_NS - 1;
    ck_assert_uint_eq(get(10), 0x26);
    now++;
    ck_assert_uint_eq(get(10), 0xa6);
    now += RTC_UPDATE_NS - 1;
    ck_assert_uint_eq(get(10), 0xa6);
    now++;
    ck_assert_uint_eq(get(10), 0x26);
    now--;
    set(11, B_SET | B_24); /* no updates while the time is set */
    ck_assert_uint_eq(get(10), 0x26);
}
END_TEST

/* As Linux sets it: stopped and its divider reset, all registers, and on it goes. */
START_TEST(test_setting)
{
    static const uint8_t registers[][2] = { { 0, 0x58 }, { 2, 0x59 }, { 4, 0x23 },
                                            { 7, 0x28 }, { 8, 0x02 }, { 9, 0x28 } };

    set(11, B_SET | B_24);
    set(10, 0x70);
    now += 5 * SECOND_NS;
    ck_assert_uint_eq(get(0), 0x05); /* it stands */
    for (unsigned i = 0; i < 6; i++)
        set(registers[i][0], registers[i][1]);
    ck_assert_uint_eq(get(0), 0x58);
    set(11, B_24);
    ck_assert_uint_eq(get(0), 0x58);
    set(10, 0x26);
    now += SECOND_NS;
    expect((uint8_t[]){ 0x59, 0x59, 0x23, 0x02, 0x28, 0x02, 0x28, 0x20 });
    now += SECOND_NS; /* a leap year */
    expect((uint8_t[]){ 0, 0, 0, 0x03, 0x29, 0x02, 0x28, 0x20 });
    /* One register of a clock that runs: the others stay. */
    set(4, 0x07);
    expect((uint8_t[]){ 0, 0, 0x07, 0x03, 0x29, 0x02, 0x28, 0x20 });
}
END_TEST

/* Whatever it is set to, it goes on, and shows a time that there is. */
START_TEST(test_nonsense)
{
    for (unsigned value = 0; value < 256; value++) {
        for (unsigned mode = 0; mode < 8; mode += 2) {
            set(11, (uint8_t)(B_SET | mode));
            for (unsigned i = 0; i < 10; i++)
                set((uint8_t)i, (uint8_t)value);
            set(RTC_CENTURY, (uint8_t)(value % 3 ? 0x20 : value));
            set(11, B_24 | B_BINARY);
            now += SECOND_NS;
            ck_assert_uint_le(get(0), 59);
            ck_assert_uint_le(get(2), 59);
            ck_assert_uint_le(get(4), 23);
            ck_assert(get(7) >= 1 && get(7) <= 31);
            ck_assert(get(8) >= 1 && get(8) <= 12);
            ck_assert_uint_le(get(9), 99);
        }
    }
}
END_TEST

START_TEST(test_memory)
{
    const uint16_t both = 0x5a0e; /* a word at the index port: index 14, then its data */
    uint32_t wide;

    for (unsigned i = 14; i < RTC_BYTES; i++)
        ck_assert(i == RTC_CENTURY || get((uint8_t)i) == 0);
    bus_write(&vm.pio, NULL, RTC_PORT, &both, 2, 1);
    ck_assert_uint_eq(get(14), 0x5a);
    ck_assert_uint_eq(get(0x80 | 14), 0x5a); /* NMIs masked */
    set(1, 0x12);                            /* an alarm */
    ck_assert_uint_eq(get(1), 0x12);
    ck_assert_uint_eq(get(12), 0);
    set(12, 0xff);
    ck_assert_uint_eq(get(12), 0);
    set(13, 0);
    ck_assert_uint_eq(get(13), 0x80);
    bus_read(&vm.pio, NULL, RTC_PORT, &wide, 2, 1);
    ck_assert_uint_eq(wide & 0xffff, 0xffff);
}
END_TEST

static void out(uint16_t port, unsigned size, uint32_t value)
{
    bus_write(&vm.pio, NULL, port, &value, size, 1);
}

/* What ends the machine, and how; and what is nearly that. */
START_TEST(test_ends)
{
    static const struct {
        uint16_t port;
        uint8_t size, value;
        enum vm_end_reason reason;
    } cases[] = {
        { 0x600, 1, 5 << 2 | 0x20, VM_END_GUEST_EXIT },
        { 0x600, 1, 5 << 2 | 0xe3, VM_END_GUEST_EXIT },
        { 0x600, 1, 5 << 2, VM_END_NONE },
        { 0x600, 1, 3 << 2 | 0x20, VM_END_NONE },
        { 0x600, 2, 5 << 2 | 0x20, VM_END_NONE },
        { 0x601, 1, 5 << 2 | 0x20, VM_END_NONE },
        { 0x602, 1, 0x52, VM_END_GUEST_RESET },
        { 0x602, 1, 0x53, VM_END_NONE },
        { 0x603, 1, 0x52, VM_END_NONE },
        { 0x505, 1, 1, VM_END_GUEST_PANIC },
        { 0x505, 1, 3, VM_END_GUEST_PANIC },
        { 0x505, 1, 2, VM_END_NONE },
    };
    struct acpi_pm pm;
    struct pvpanic pvpanic;
    uint8_t value = 0;

    ck_assert_int_eq(acpi_pm_create(&pm, &vm), 0);
    ck_assert_int_eq(pvpanic_create(&pvpanic, &vm), 0);
    bus_read(&vm.pio, NULL, 0x505, &value, 1, 1);
    ck_assert_uint_eq(value, 3);
    bus_read(&vm.pio, NULL, 0x601, &value, 1, 1);
    ck_assert_uint_eq(value, 0);
    out(cases[_i].port, cases[_i].size, cases[_i].value);
    ck_assert_int_eq(vm.end.reason, cases[_i].reason);
    ck_assert_int_eq(vm.end.status, cases[_i].reason == VM_END_GUEST_PANIC);
}
END_TEST

/* Where KVM makes no timer its ports are harmless. */
START_TEST(test_no_timer)
{
    struct pit pit;
    uint8_t value;

    ck_assert_int_eq(pit_create(&pit, &vm), 0);
    for (uint16_t port = 0x40; port < 0x44; port++) {
        out(port, 1, 0x34);
        bus_read(&vm.pio, NULL, port, &value, 1, 1);
        ck_assert_uint_eq(value, 0);
    }
    out(0x61, 1, 1);
    ck_assert(pit.tried);
}
END_TEST

Suite *legacy_suite(void)
{
    Suite *suite = suite_create("legacy");
    TCase *tc = tcase_create("legacy");

    tcase_set_timeout(tc, 10);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_time);
    tcase_add_test(tc, test_update_in_progress);
    tcase_add_test(tc, test_setting);
    tcase_add_test(tc, test_nonsense);
    tcase_add_test(tc, test_memory);
    tcase_add_loop_test(tc, test_ends, 0, 12);
    tcase_add_test(tc, test_no_timer);
    suite_add_tcase(suite, tc);
    return suite;
}
