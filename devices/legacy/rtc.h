/*
 * The PC's real-time clock (Motorola MC146818A data sheet; the century at 0x32, as ACPI's
 * FADT says): the host's time plus what the guest has set, in BCD or binary, 12 or 24
 * hours. It raises no interrupts: alarm registers keep what they are given, periodic and
 * update interrupts never come. The 114 bytes of memory behind the clock keep what is
 * written for as long as the machine runs.
 */
#ifndef STRATA_LEGACY_RTC_H
#define STRATA_LEGACY_RTC_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/machine/bus.h"

#define RTC_PORT      0x70 /* index, written only; data at the next port */
#define RTC_BYTES     128
#define RTC_CENTURY   0x32
#define RTC_UPDATE_NS 2228000 /* update-in-progress ahead of each second: 244 + 1984 us */

struct device_ops;
struct vm;

/* All that the guest can see. */
struct rtc_state {
    uint8_t index;
    uint8_t bytes[RTC_BYTES]; /* time registers: only while the clock is stopped */
    int64_t offset_ns;        /* the guest's time less the host's */
};

struct rtc {
    struct rtc_state state; /* under lock */
    pthread_mutex_t lock;
    int64_t (*now_ns)(void); /* the host's time since 1970, UTC */
    struct bus_region region;
};

/* Puts index and data port on the VM's port bus. 0 or -errno. */
int rtc_create(struct rtc *rtc, struct vm *vm);

/* How it is described. */
extern const struct device_ops rtc_ops;

#endif
