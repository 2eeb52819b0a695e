#include "vmm/measure/fault_kinds.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/measure/histogram.h"
#include "vmm/measure/native.h"

#define PAGE_BYTES 4096ull

/* What is made of a test region before it is touched. */
static const struct kind {
    const char *name;
    bool guest; /* its pages are given back to the guest's kernel */
    bool kvm;   /* KVM's entries are gone */
    bool host;  /* and so are the host's pages */
} kinds[] = {
    { "none", .guest = false },
    { "guest", .guest = true },
    { "kvm", .kvm = true },
    { "kvm+host", .kvm = true, .host = true },
    { "guest+kvm", .guest = true, .kvm = true },
    { "guest+kvm+host", .guest = true, .kvm = true, .host = true },
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

const char *fault_kinds_page_name(bool huge)
{
    return huge ? "2m" : "4k";
}

int fault_kinds_touch(struct test_region *region, uint64_t stride, uint32_t flags,
                      struct fault_case *result)
{
    uint64_t before[TEST_REGION_COUNTS], after[TEST_REGION_COUNTS];
    struct abi_reply reply;
    int err = test_region_counts(region->session, before);

    if (!err)
        err = test_region_touch(region, stride, flags | ABI_TOUCH_TIMED, &reply);
    if (!err)
        err = test_region_counts(region->session, after);
    if (err)
        return err;
    histogram_merge(&result->histogram, &reply.histogram);
    for (unsigned i = 0; i < TEST_REGION_COUNTS; i++) {
        bool known = after[i] != UINT64_MAX && result->counts[i] != UINT64_MAX;

        result->counts[i] = known ? result->counts[i] + after[i] - before[i] : UINT64_MAX;
    }
    return 0;
}

void fault_kinds_report(const struct faults *faults, const struct fault_case *result,
                        const char *format, ...)
{
    struct measure_run *run = faults->run;
    char prefix[MEASURE_NAME_BYTES - 16];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(prefix, sizeof(prefix), format, arguments);
    va_end(arguments);
    measure_distribution(run, &result->histogram, faults->ns_per_tick, faults->floor, "%s/ns",
                         prefix);
    measure_count(run, result->counts[TEST_REGION_GUEST_FAULTS], "%s/guest-faults", prefix);
    if (result->counts[TEST_REGION_KVM_FIXED] == UINT64_MAX)
        measure_unavailable(run, "this KVM has no statistic pf_fixed (Linux 5.19 has)",
                            "%s/kvm-faults", prefix);
    else
        measure_count(run, result->counts[TEST_REGION_KVM_FIXED], "%s/kvm-faults", prefix);
}

/* As far apart as touches must be for each to fault anew. */
static uint64_t fault_kinds_stride_of(const struct faults *faults, const struct test_region *region,
                                      const struct kind *kind)
{
    uint64_t guest = region->guest == ABI_PAGE_2M ? TEST_REGION_BLOCK_BYTES : PAGE_BYTES;
    uint64_t host = region->huge_host ? TEST_REGION_BLOCK_BYTES : PAGE_BYTES;

    if (!kind->kvm)
        return kind->guest ? guest : PAGE_BYTES;
    if (kind->guest)
        return guest > host ? guest : host;
    /* Shadow paging has an entry as small as the smaller page, and fills in seven around it. */
    if (faults->shadow && !kind->host && guest + host < 2 * TEST_REGION_BLOCK_BYTES)
        return 8 * PAGE_BYTES;
    return host;
}

static int fault_kinds_one_batch(const struct faults *faults, struct test_region *region,
                                 const struct kind *kind, struct fault_case *result)
{
    struct abi_reply reply;
    int err = test_region_touch(region, PAGE_BYTES, ABI_TOUCH_WRITE, &reply);

    if (!err && kind->guest)
        err = test_region_drop(region);
    if (!err && kind->kvm)
        err = kind->host ? test_region_discard(region) : test_region_zap(region);
    if (err)
        return err;
    return fault_kinds_touch(region, fault_kinds_stride_of(faults, region, kind), ABI_TOUCH_WRITE,
                             result);
}

/* Whether the counters say that exactly those sides faulted that were to. */
static bool fault_kinds_separated(const struct faults *faults, const struct kind *kind,
                                  const struct fault_case *result)
{
    uint64_t touches = result->histogram.count, guest = result->counts[TEST_REGION_GUEST_FAULTS];
    uint64_t kvm = result->counts[TEST_REGION_KVM_FIXED];

    if (guest != (kind->guest ? touches : 0))
        return false;
    /* Where the guest's tables are shadowed, its fault is KVM's business, too. */
    if (kvm == UINT64_MAX || (faults->shadow && kind->guest))
        return true;
    return kvm == (kind->kvm ? touches : 0);
}

/* All pages of the test region in order, as a program goes through memory: how often KVM is needed.
 */
static int fault_kinds_sweep(struct faults *faults, struct test_region *region, const char *prefix)
{
    struct fault_case result = { 0 };
    struct abi_reply reply;
    int err = test_region_touch(region, PAGE_BYTES, ABI_TOUCH_WRITE, &reply);

    if (!err)
        err = test_region_discard(region);
    if (!err)
        err = fault_kinds_touch(region, PAGE_BYTES, ABI_TOUCH_WRITE, &result);
    if (err)
        return err;
    measure_count(faults->run, result.histogram.count, "%s/sweep/pages", prefix);
    if (result.counts[TEST_REGION_KVM_FIXED] != UINT64_MAX)
        measure_count(faults->run, result.counts[TEST_REGION_KVM_FIXED], "%s/sweep/kvm-faults",
                      prefix);
    measure_value(faults->run,
                  (double)result.histogram.sum / (double)result.histogram.count *
                      faults->ns_per_tick,
                  NAN, NAN, result.histogram.count, "%s/sweep/page/ns", prefix);
    return 0;
}

static int fault_kinds_one_field(struct faults *faults, struct test_region *region, bool huge_host,
                                 unsigned *mixed)
{
    static struct fault_case results[KINDS];
    char prefix[MEASURE_NAME_BYTES / 2];
    uint64_t found;
    int err;

    snprintf(prefix, sizeof(prefix), "faults/vm/guest-%s/host-%s",
             fault_kinds_page_name(region->guest == ABI_PAGE_2M), fault_kinds_page_name(huge_host));
    measure_progress(faults->run, 0.1 + 0.15 * region->guest + 0.075 * huge_host, prefix);
    err = test_region_host(region, huge_host, &found);
    if (err)
        return err;
    if (huge_host && found < TEST_REGION_BLOCK_BYTES) {
        measure_unavailable(faults->run,
                            found ? "the host had no 2M page free, or gives none (THP)"
                                  : FAULT_SIZE_UNKNOWN,
                            "%s", prefix);
        return 0;
    }
    if (found)
        measure_count(faults->run, found, "%s/found-page/bytes", prefix);
    else
        measure_unavailable(faults->run, FAULT_SIZE_UNKNOWN, "%s/found-page/bytes", prefix);
    memset(results, 0, sizeof(results));
    /* The first is to warm up. By turns, so that other load meets all kinds alike. */
    for (unsigned batch = 0; batch < faults->warm_up + faults->batches; batch++) {
        if (batch == faults->warm_up)
            memset(results, 0, sizeof(results));
        for (unsigned i = 0; i < KINDS && !err; i++)
            err = fault_kinds_one_batch(faults, region, &kinds[i], &results[i]);
    }
    for (unsigned i = 0; i < KINDS && !err; i++) {
        fault_kinds_report(faults, &results[i], "%s/%s", prefix, kinds[i].name);
        *mixed += !fault_kinds_separated(faults, &kinds[i], &results[i]);
    }
    return err ? err : fault_kinds_sweep(faults, region, prefix);
}

static void fault_kinds_say_separated(const struct faults *faults, unsigned mixed)
{
    struct measure_run *run = faults->run;

    if (mixed)
        measure_remark(run,
                       "In %u cases other sides faulted than were to, or not only those: see "
                       "guest-faults and kvm-faults.",
                       mixed);
    else if (faults->shadow)
        measure_remark(run,
                       "Each fault is where it was to be, by the guest's own count. KVM keeps "
                       "the guest's tables in shadow here, so there is no second stage: every "
                       "guest fault is seen, and most are mended, by KVM too; `kvm` alone is a "
                       "shadow entry that is filled in anew.");
    else
        measure_remark(run,
                       "Each side faulted exactly where it was to: in the guest by its own "
                       "count, in the second stage by KVM's pf_fixed. A guest fault alone never "
                       "leaves the guest here.");
}

int fault_kinds(struct faults *faults)
{
    unsigned mixed = 0;
    int err = 0;

    for (unsigned huge = 0; huge < 2 && !err; huge++) {
        for (unsigned host = 0; host < 2 && !err; host++)
            err = fault_kinds_one_field(faults, &faults->region[huge], host, &mixed);
    }
    if (!err)
        fault_kinds_say_separated(faults, mixed);
    return err;
}

int fault_kinds_native(struct faults *faults)
{
    for (unsigned huge = 0; huge < 2; huge++) {
        uint64_t page = huge ? TEST_REGION_BLOCK_BYTES : PAGE_BYTES;
        struct abi_command command = { .kind = ABI_COMMAND_MAP,
                                       .page = huge ? ABI_PAGE_2M : ABI_PAGE_4K,
                                       .bytes = faults->pages[huge] * page,
                                       .stride = page,
                                       .flags = ABI_TOUCH_WRITE | ABI_TOUCH_TIMED };
        struct abi_histogram all = { 0 };
        struct abi_reply reply;

        native_command(&command, &reply);
        if (reply.status)
            return -ENOMEM;
        command.va = reply.value[0];
        for (unsigned batch = 0; batch <= faults->batches; batch++) {
            command.kind = ABI_COMMAND_TOUCH;
            native_command(&command, &reply);
            if (batch)
                histogram_merge(&all, &reply.histogram);
            command.kind = ABI_COMMAND_DISCARD;
            native_command(&command, &reply);
        }
        command.kind = ABI_COMMAND_UNMAP;
        native_command(&command, &reply);
        measure_distribution(faults->run, &all, faults->ns_per_tick, faults->native_floor,
                             "faults/native/host-%s/host/ns", fault_kinds_page_name(huge));
    }
    return 0;
}
