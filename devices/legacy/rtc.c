#include "devices/legacy/rtc.h"

#include <time.h>

#include "devices/core/device.h"
#include "vmm/machine/vm.h"

#define SECOND_NS 1000000000ll

/* Registers; the alarm's are memory like any other. */
enum {
    SECONDS = 0,
    MINUTES = 2,
    HOURS = 4,
    WEEKDAY = 6,
    DAY = 7,
    MONTH = 8,
    YEAR = 9,
    REGISTER_A = 10,
    REGISTER_B = 11,
    REGISTER_C = 12,
    REGISTER_D = 13,
};

#define A_UPDATING        0x80
#define A_DIVIDER         0x70
#define A_DIVIDER_RUNS    0x20 /* 32.768 kHz; the other settings hold or mistime the clock */
#define A_AS_AFTER_RESET  0x26
#define B_SET             0x80 /* no updates: the guest sets the time */
#define B_BINARY          0x04
#define B_24_HOURS        0x02
#define D_MEMORY_IS_VALID 0x80
#define HOURS_PM          0x80

static int64_t host_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * SECOND_NS + now.tv_nsec;
}

static bool stopped(const struct rtc_state *state)
{
    return state->bytes[REGISTER_B] & B_SET ||
           (state->bytes[REGISTER_A] & A_DIVIDER) != A_DIVIDER_RUNS;
}

static bool is_time(unsigned index)
{
    return (index <= YEAR && (index % 2 == 0 || index >= DAY)) || index == RTC_CENTURY;
}

static uint8_t encode(const struct rtc_state *state, int value)
{
    if (state->bytes[REGISTER_B] & B_BINARY)
        return (uint8_t)value;
    return (uint8_t)(value / 10 << 4 | value % 10);
}

/* Whatever the guest wrote gives a number. */
static int decode(const struct rtc_state *state, uint8_t value)
{
    if (state->bytes[REGISTER_B] & B_BINARY)
        return value;
    return (value >> 4) * 10 + (value & 0xf);
}

/* 12 hours: 12, 1, ... 11, and the top bit in the afternoon. */
static uint8_t encode_hours(const struct rtc_state *state, int hours)
{
    int twelve = hours % 12 ? hours % 12 : 12;

    if (state->bytes[REGISTER_B] & B_24_HOURS)
        return encode(state, hours);
    return (uint8_t)(encode(state, twelve) | (hours >= 12 ? HOURS_PM : 0));
}

static int decode_hours(const struct rtc_state *state, uint8_t value)
{
    if (state->bytes[REGISTER_B] & B_24_HOURS)
        return decode(state, value);
    return decode(state, value & (uint8_t)~HOURS_PM) % 12 + (value & HOURS_PM ? 12 : 0);
}

/* The clock's time as its registers have it. */
static void fill_time(const struct rtc *rtc, uint8_t *bytes)
{
    const struct rtc_state *state = &rtc->state;
    time_t seconds = (rtc->now_ns() + state->offset_ns) / SECOND_NS;
    struct tm tm;

    gmtime_r(&seconds, &tm);
    bytes[SECONDS] = encode(state, tm.tm_sec);
    bytes[MINUTES] = encode(state, tm.tm_min);
    bytes[HOURS] = encode_hours(state, tm.tm_hour);
    bytes[WEEKDAY] = encode(state, tm.tm_wday + 1);
    bytes[DAY] = encode(state, tm.tm_mday);
    bytes[MONTH] = encode(state, tm.tm_mon + 1);
    bytes[YEAR] = encode(state, tm.tm_year % 100);
    bytes[RTC_CENTURY] = encode(state, (tm.tm_year + 1900) / 100 % 100);
}

/* The other way round: the clock goes on from what the registers say. */
static void take_time(struct rtc *rtc)
{
    struct rtc_state *state = &rtc->state;
    const uint8_t *bytes = state->bytes;
    struct tm tm = { .tm_sec = decode(state, bytes[SECONDS]),
                     .tm_min = decode(state, bytes[MINUTES]),
                     .tm_hour = decode_hours(state, bytes[HOURS]),
                     .tm_mday = decode(state, bytes[DAY]),
                     .tm_mon = decode(state, bytes[MONTH]) - 1,
                     .tm_year = decode(state, bytes[RTC_CENTURY]) * 100 +
                                decode(state, bytes[YEAR]) - 1900 };
    /* Beyond these years nanoseconds would not fit: then the clock starts at 1970. */
    int64_t seconds = tm.tm_year >= 70 && tm.tm_year < 300 ? timegm(&tm) : 0;

    if (seconds < 0)
        seconds = 0;
    state->offset_ns = seconds * SECOND_NS - rtc->now_ns();
}

static uint8_t read_register(const struct rtc *rtc)
{
    const struct rtc_state *state = &rtc->state;
    int64_t into;
    uint8_t now[RTC_BYTES];

    if (is_time(state->index) && !stopped(state)) {
        fill_time(rtc, now);
        return now[state->index];
    }
    switch (state->index) {
    case REGISTER_A:
        into = (rtc->now_ns() + state->offset_ns) % SECOND_NS;
        return state->bytes[REGISTER_A] |
               (!stopped(state) && into >= SECOND_NS - RTC_UPDATE_NS ? A_UPDATING : 0);
    case REGISTER_C: return 0; /* no interrupts */
    case REGISTER_D: return D_MEMORY_IS_VALID;
    default: return state->bytes[state->index];
    }
}

static void write_register(struct rtc *rtc, uint8_t value)
{
    struct rtc_state *state = &rtc->state;
    bool ran = !stopped(state);

    if (state->index == REGISTER_C || state->index == REGISTER_D)
        return;
    /* Stopped, it stands where it was; and who sets one time register keeps the others. */
    if (ran)
        fill_time(rtc, state->bytes);
    state->bytes[state->index] = state->index == REGISTER_A ? value & (uint8_t)~A_UPDATING : value;
    if (ran ? is_time(state->index) : !stopped(state))
        take_time(rtc);
}

static uint64_t rtc_read(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size)
{
    struct rtc *rtc = owner;
    uint64_t value = ~0ull;

    (void)vcpu;
    /* The index cannot be read back. */
    if (offset == 1 && size == 1) {
        pthread_mutex_lock(&rtc->lock);
        value = read_register(rtc);
        pthread_mutex_unlock(&rtc->lock);
    }
    return value;
}

static void rtc_write(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size,
                      uint64_t value)
{
    struct rtc *rtc = owner;

    (void)vcpu;
    pthread_mutex_lock(&rtc->lock);
    /* A word at the index port is a byte for each of the two, as on the ISA bus. */
    for (unsigned i = 0; i < size; i++, value >>= 8) {
        if (offset + i == 0)
            rtc->state.index = value & (RTC_BYTES - 1); /* the top bit masks NMIs: there are none */
        else
            write_register(rtc, (uint8_t)value);
    }
    pthread_mutex_unlock(&rtc->lock);
}

int rtc_create(struct rtc *rtc, struct vm *vm)
{
    *rtc = (struct rtc){
        .state = { .bytes = { [REGISTER_A] = A_AS_AFTER_RESET, [REGISTER_B] = B_24_HOURS } },
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .now_ns = host_now_ns,
        .region = { .base = RTC_PORT,
                    .len = 2,
                    .owner = rtc,
                    .read = rtc_read,
                    .write = rtc_write },
    };
    return bus_add(&vm->pio, &rtc->region);
}

static bool rtc_describe(const void *model, struct device_node *node)
{
    const struct rtc *rtc = model;

    node->compatible = "motorola,mc146818";
    node->hid = "PNP0B00";
    node->port = rtc->region.base;
    node->bytes = rtc->region.len;
    return true;
}

const struct device_ops rtc_ops = { .name = "rtc", .describe = rtc_describe };
