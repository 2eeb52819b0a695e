/* What a measurement itself costs: two looks at the clock with nothing between them. */
#include "vmm/measure/clock.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

#include "vmm/base/monotonic.h"
#include "vmm/measure/experiments.h"
#include "vmm/measure/histogram.h"
#include "vmm/measure/measure.h"
#include "vmm/measure/native.h"

#define FLOOR_PAIRS 2000

static struct abi_command clock_pairs(uint64_t count)
{
    return (struct abi_command){ .kind = ABI_COMMAND_CLOCK, .count = count };
}

int clock_floor(struct session *session, double *ticks)
{
    const struct abi_command command = clock_pairs(FLOOR_PAIRS);
    struct abi_reply reply;
    int err = session_command(session, &command, &reply);

    *ticks = (double)reply.histogram.min;
    return err;
}

double clock_floor_native(void)
{
    const struct abi_command command = clock_pairs(FLOOR_PAIRS);
    struct abi_reply reply;

    native_command(&command, &reply);
    return (double)reply.histogram.min;
}

/* Turn by turn in the guest and here, so that what else the machine does meets both. */
static int clock_take_turns(struct measure_run *run, struct session *session, unsigned turns,
                            uint64_t each, struct abi_histogram both[2])
{
    const struct abi_command command = clock_pairs(each), nothing = clock_pairs(0);
    double trips[64], low, high, median;
    struct abi_reply reply;

    for (unsigned i = 0; i < turns; i++) {
        uint64_t start = monotonic_ns();
        int err = session_command(session, &nothing, &reply);

        trips[i] = (double)(monotonic_ns() - start);
        measure_progress(run, (double)i / turns, "empty pairs");
        err = err ? err : session_command(session, &command, &reply);
        if (err)
            return err;
        histogram_merge(&both[0], &reply.histogram);
        native_command(&command, &reply);
        histogram_merge(&both[1], &reply.histogram);
    }
    median = measure_median(trips, turns, &low, &high);
    measure_value(run, median, low, high, turns, "clock/vm/order-round-trip/ns");
    return 0;
}

static void clock_report(struct measure_run *run, double tsc_hz, const struct abi_histogram both[2])
{
    double ns_per_tick = 1e9 / tsc_hz;
    double vm = histogram_at(&both[0], 0.5), native = histogram_at(&both[1], 0.5);

    measure_distribution(run, &both[0], ns_per_tick, 0, "clock/vm/empty-pair/ns");
    measure_distribution(run, &both[1], ns_per_tick, 0, "clock/native/empty-pair/ns");
    measure_value(run, native > 0 ? vm / native : NAN, NAN, NAN, 1, "clock/vm-vs-native/ratio");
    measure_value(run, tsc_hz, NAN, NAN, 1, "clock/tsc/hz");
    measure_count(run, both[0].count, "clock/vm/pairs");
    measure_remark(
        run,
        "Measuring nothing takes %.0f ns in the guest and %.0f ns natively; the least of "
        "it is subtracted from every single measurement below.",
        vm * ns_per_tick, native * ns_per_tick);
    if (vm > 3 * native)
        measure_remark(run, "The guest pays much more: reading its clock leaves the guest here, or "
                            "is emulated. Figures of single events are less certain for it.");
    else
        measure_remark(run, "The two are alike: reading the clock does not leave the guest.");
}

static int clock_run(struct measure_run *run)
{
    const struct session_params params = { .memory_bytes = 32u << 20, .cpus = 1 };
    struct abi_histogram both[2] = { { 0 }, { 0 } };
    unsigned turns = run->quick ? 16 : 64;
    struct session session;
    int err = session_open(&session, run->host->kvm, &params, run->error, sizeof(run->error));

    if (err)
        return err;
    err = clock_take_turns(run, &session, turns, run->quick ? 250 : 5000, both);
    if (err)
        snprintf(run->error, sizeof(run->error), "%s", session.program.failure);
    else
        clock_report(run, (double)session.tsc_hz, both);
    session_close(&session);
    return err;
}

const struct measure_experiment measure_clock = {
    .name = "clock",
    .shows = "what a measurement itself costs",
    .method =
        "A pair of looks at the time stamp counter with nothing between them (lfence, rdtsc, "
        "lfence; then rdtscp, lfence), in ring 3 of the guest and, the same code, in this "
        "process, in batches by turns: 16 of 250 pairs when quick, else 64 of 5000. One batch of "
        "no pairs gives the round trip of a command: host, guest, and back with the world at rest.",
    .run = clock_run,
};
