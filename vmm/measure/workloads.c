/* Whole programs in the guest and natively, by small and by large pages on each side. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "vmm/base/monotonic.h"
#include "vmm/inspect/translate.h"
#include "vmm/measure/backing.h"
#include "vmm/measure/experiments.h"
#include "vmm/measure/measure.h"
#include "vmm/measure/native.h"
#include "vmm/measure/session.h"

#define HUGE_BYTES   (2ull << 20)
#define SMALL_BYTES  (4ull << 20)  /* the least memory that a workload gets, */
#define QUICK_BYTES  (32ull << 20) /* and the most */
#define FULL_BYTES   (256ull << 20)
#define SLOW_PART    4             /* of that, where each first use of a page takes 0.5 ms */
#define SYSTEM_SHARE 128           /* of all memory, at most one part in so many */
#define KERNEL_BYTES (48ull << 20) /* of a guest, beside what it works on */
#define ROUNDS_MAX   64
#define MOSTLY       90 /* percent of a place's pages that must be as they should */

enum { HOST_4K, HOST_2M, HOSTS };

/* Somewhere to work: in this process, or in a guest; by which pages. */
struct place {
    const char *name;
    bool native;
    unsigned host; /* HOST_*: of the guest's memory */
    enum abi_page_kind page;
    unsigned baseline; /* the native place with the same pages */
    uint64_t va;
    double guest_huge, host_huge; /* found, percent; NAN: cannot be seen */
    char why[MEASURE_TEXT_BYTES]; /* it cannot be had; "": it can */
};

enum { NATIVE_4K, NATIVE_2M, PLACES = 6 };

#define PLACE(text, here, kind, pages, beside)                                        \
    {                                                                                 \
        .name = text, .native = here, .host = kind, .page = pages, .baseline = beside \
    }

static const struct place all_places[PLACES] = {
    [NATIVE_4K] = PLACE("native/4k", true, HOST_4K, ABI_PAGE_4K, NATIVE_4K),
    [NATIVE_2M] = PLACE("native/2m", true, HOST_2M, ABI_PAGE_2M, NATIVE_2M),
    PLACE("vm/guest-4k/host-4k", false, HOST_4K, ABI_PAGE_4K, NATIVE_4K),
    PLACE("vm/guest-4k/host-2m", false, HOST_2M, ABI_PAGE_4K, NATIVE_4K),
    PLACE("vm/guest-2m/host-4k", false, HOST_4K, ABI_PAGE_2M, NATIVE_2M),
    PLACE("vm/guest-2m/host-2m", false, HOST_2M, ABI_PAGE_2M, NATIVE_2M),
};

/* What is counted never depends on time. */
static const struct {
    const char *name;
    uint64_t quick, full; /* operations of a run */
} workloads[ABI_WORKLOADS] = {
    [ABI_WORKLOAD_GUPS] = { "gups", 50000, 1000000 },
    [ABI_WORKLOAD_BTREE] = { "btree", 5000, 100000 },
    [ABI_WORKLOAD_JOIN] = { "join", 50000, 1000000 },
    [ABI_WORKLOAD_BFS] = { "bfs", 5000, 100000 },
};

struct work {
    struct measure_run *run;
    struct session session[HOSTS];
    struct host_pages pages;
    struct place place[PLACES];
    uint64_t bytes;
    double ns_per_tick;
    /* Of one workload. */
    unsigned rounds;
    double ns[PLACES][ROUNDS_MAX];
    uint64_t result; /* of the first round */
};

static int workloads_do_command(struct work *w, const struct place *place,
                                const struct abi_command *command, struct abi_reply *reply)
{
    struct session *session = &w->session[place->host];
    int err;

    if (place->native) {
        native_command(command, reply);
        return 0;
    }
    err = session_command(session, command, reply);
    if (err)
        snprintf(w->run->error, sizeof(w->run->error), "%s: %s", place->name,
                 session->program.failure);
    return err;
}

/* ---- Memory ------------------------------------------------------------------ */

/* By all memory, not by what is free just now: the next run is to do the same. */
static uint64_t workloads_choose_bytes(const struct measure_run *run)
{
    uint64_t most = run->quick ? QUICK_BYTES : FULL_BYTES, bytes = SMALL_BYTES, all;
    struct sysinfo info;

    if (run->host->interprets)
        most /= SLOW_PART;
    if (sysinfo(&info))
        return bytes;
    all = (uint64_t)info.totalram * info.mem_unit;
    while (2 * bytes <= most && 2 * bytes <= all / SYSTEM_SHARE)
        bytes *= 2;
    return bytes;
}

static int workloads_map_places(struct work *w)
{
    for (unsigned i = 0; i < PLACES; i++) {
        struct place *place = &w->place[i];
        const struct abi_command command = { .kind = ABI_COMMAND_MAP,
                                             .bytes = w->bytes,
                                             .page = place->page };
        struct abi_reply reply;
        int err = workloads_do_command(w, place, &command, &reply);

        if (err)
            return err;
        if (reply.status)
            snprintf(place->why, sizeof(place->why), "there is no memory of such pages");
        place->va = reply.value[0];
    }
    return 0;
}

static int workloads_unmap_native(struct work *w)
{
    for (unsigned i = 0; i < PLACES; i++) {
        const struct abi_command command = { .kind = ABI_COMMAND_UNMAP,
                                             .va = w->place[i].va,
                                             .bytes = w->bytes };
        struct abi_reply reply;

        if (w->place[i].native && w->place[i].va)
            native_command(&command, &reply);
    }
    return 0;
}

/*
 * Which pages a place really has, on both sides, once its memory has been used: each 2M of it
 * by its middle.
 */
static void workloads_look_at_pages(struct work *w, struct place *place)
{
    unsigned n = 0, guest = 0, host = 0, unknown = 0;

    for (uint64_t at = HUGE_BYTES / 2; at < w->bytes; at += HUGE_BYTES, n++) {
        void *hva = (void *)(place->va + at);
        struct host_page page;
        struct paging_walk walk;

        if (!place->native) {
            if (program_walk(&w->session[place->host].program, place->va + at, &walk))
                continue;
            guest += walk.leaf.page_bytes >= HUGE_BYTES;
            hva = program_hva(&w->session[place->host].program, place->va + at);
        }
        host_pages_read(&w->pages, hva, &page);
        unknown += !page.bytes;
        host += page.bytes >= HUGE_BYTES;
    }
    place->guest_huge = 100.0 * guest / n;
    place->host_huge = unknown ? NAN : 100.0 * host / n;
}

/* Whether they are what the place is named for. */
static void workloads_check_outcome_pages(struct place *place)
{
    bool host_2m = place->host == HOST_2M;
    const char *side = NULL, *why;
    double found = 0;

    if (!isnan(place->host_huge) &&
        (host_2m ? place->host_huge < MOSTLY : place->host_huge > 100 - MOSTLY)) {
        side = "host";
        found = place->host_huge;
    }
    if (!place->native && (place->page == ABI_PAGE_2M ? place->guest_huge < MOSTLY
                                                      : place->guest_huge > 100 - MOSTLY)) {
        side = "guest";
        found = place->guest_huge;
    }
    if (!side)
        return;
    if (host_2m && !strcmp(side, "host") && !backing_available(MEMORY_THP, &why))
        snprintf(place->why, sizeof(place->why), "%s", why);
    else
        snprintf(place->why, sizeof(place->why), "%.0f %% of its memory has 2M pages of the %s's",
                 found, side);
}

static void workloads_report_pages(struct work *w)
{
    for (unsigned i = 0; i < PLACES; i++) {
        struct place *place = &w->place[i];

        if (place->why[0])
            continue;
        workloads_look_at_pages(w, place);
        workloads_check_outcome_pages(place);
        if (!place->native)
            measure_value(w->run, place->guest_huge, NAN, NAN, 1,
                          "workloads/pages/%s/guest-2m/percent", place->name);
        if (isnan(place->host_huge))
            measure_unavailable(w->run, "/proc/kpageflags is not ours to read; be root",
                                "workloads/pages/%s/host-2m/percent", place->name);
        else
            measure_value(w->run, place->host_huge, NAN, NAN, 1,
                          "workloads/pages/%s/host-2m/percent", place->name);
    }
}

/* ---- Rounds ------------------------------------------------------------------ */

static int workloads_build(struct work *w, enum abi_workload workload)
{
    for (unsigned i = 0; i < PLACES; i++) {
        const struct abi_command command = { .kind = ABI_COMMAND_WORKLOAD,
                                             .va = w->place[i].va,
                                             .bytes = w->bytes,
                                             .seed = w->run->seed,
                                             .flags = ABI_WORKLOAD_BUILD,
                                             .arg = { workload } };
        struct abi_reply reply;
        int err = w->place[i].why[0] ? 0 : workloads_do_command(w, &w->place[i], &command, &reply);

        if (err)
            return err;
    }
    return 0;
}

/*
 * The same operations in all places, which must come to the same. Round 0 does not count: its
 * times are not kept. Round n's are the n-1st.
 */
static int workloads_take_round(struct work *w, enum abi_workload workload, unsigned round,
                                uint64_t *result)
{
    bool first = true;

    for (unsigned k = 0; k < PLACES; k++) {
        unsigned i = (k + round) % PLACES;
        const struct abi_command command = {
            .kind = ABI_COMMAND_WORKLOAD,
            .va = w->place[i].va,
            .bytes = w->bytes,
            .count = w->run->quick ? workloads[workload].quick : workloads[workload].full,
            .seed = w->run->seed + round + 1 ? w->run->seed + round + 1 : 1,
            .arg = { workload },
        };
        struct abi_reply reply;
        int err = w->place[i].why[0] ? 0 : workloads_do_command(w, &w->place[i], &command, &reply);

        if (err)
            return err;
        if (w->place[i].why[0])
            continue;
        if (first)
            *result = reply.value[1];
        first = false;
        if (reply.status || !reply.value[2] || reply.value[1] != *result) {
            snprintf(w->run->error, sizeof(w->run->error),
                     "%s, %s, round %u: status %lld, result 0x%llx, and 0x%llx elsewhere",
                     workloads[workload].name, w->place[i].name, round, (long long)reply.status,
                     (unsigned long long)reply.value[1], (unsigned long long)*result);
            return -EIO;
        }
        if (round)
            w->ns[i][round - 1] = (double)reply.value[0] * w->ns_per_tick / (double)reply.value[2];
    }
    return 0;
}

/* Rounds for so long, at least `least`, after one that does not count. */
static int workloads_take_rounds(struct work *w, enum abi_workload workload)
{
    uint64_t start, budget_ns = w->run->quick ? 500000000u : 8000000000u;
    unsigned least = w->run->quick ? 3 : 9;
    uint64_t result;
    int err = workloads_take_round(w, workload, 0, &w->result);

    start = monotonic_ns();
    for (w->rounds = 0; !err && w->rounds < ROUNDS_MAX; w->rounds++) {
        if (w->rounds >= least && monotonic_ns() - start > budget_ns)
            break;
        measure_progress(w->run,
                         (workload + fmin(1, w->rounds / (double)least)) / (double)ABI_WORKLOADS,
                         workloads[workload].name);
        err = workloads_take_round(w, workload, w->rounds + 1, &result);
    }
    return err;
}

/* Median over rounds of one place against another. */
static double workloads_ratio(const struct work *w, unsigned place, unsigned to, double *low,
                              double *high)
{
    double ratios[ROUNDS_MAX];

    for (unsigned i = 0; i < w->rounds; i++)
        ratios[i] = w->ns[place][i] / w->ns[to][i];
    return measure_median(ratios, w->rounds, low, high);
}

static void workloads_report(struct work *w, enum abi_workload workload)
{
    const char *name = workloads[workload].name;
    double low, high, middle, ns[ROUNDS_MAX];

    for (unsigned i = 0; i < PLACES; i++) {
        const struct place *place = &w->place[i];

        if (place->why[0]) {
            measure_unavailable(w->run, place->why, "workloads/%s/%s/ns", name, place->name);
            continue;
        }
        memcpy(ns, w->ns[i], sizeof(ns));
        middle = measure_median(ns, w->rounds, &low, &high);
        measure_value(w->run, middle, low, high, w->rounds, "workloads/%s/%s/ns", name,
                      place->name);
        if (i == NATIVE_4K || w->place[place->baseline].why[0])
            continue;
        middle = workloads_ratio(w, i, place->native ? NATIVE_4K : place->baseline, &low, &high);
        measure_value(w->run, middle, low, high, w->rounds, "workloads/%s/%s/%s/ratio", name,
                      place->name, place->native ? "vs-4k" : "vs-native");
    }
    measure_count(w->run, (uint32_t)w->result, "workloads/%s/result", name);
}

/* ---- All of it ----------------------------------------------------------------- */

static double workloads_value_of(const struct measure_run *run, const char *workload,
                                 const char *rest)
{
    const struct measure_figure *figure;
    char name[MEASURE_NAME_BYTES];

    snprintf(name, sizeof(name), "workloads/%s/%s", workload, rest);
    figure = measure_figure(run, name);
    return figure ? figure->value : NAN;
}

static const char *workloads_times(double ratio, char text[16])
{
    if (isnan(ratio))
        return "not available";
    snprintf(text, 16, "%.2f", ratio);
    return text;
}

static void workloads_say(struct work *w)
{
    struct measure_run *run = w->run;

    measure_remark(run, "Times the native time, by 4K pages on both sides and by 2M:");
    for (unsigned i = 0; i < ABI_WORKLOADS; i++) {
        const char *name = workloads[i].name;
        char small[16], huge[16];

        measure_remark(
            run, "%s %s and %s%s", name,
            workloads_times(workloads_value_of(run, name, "vm/guest-4k/host-4k/vs-native/ratio"),
                            small),
            workloads_times(workloads_value_of(run, name, "vm/guest-2m/host-2m/vs-native/ratio"),
                            huge),
            i + 1 < ABI_WORKLOADS ? "," : ".");
    }
    if (run->host->kvm->backend == KVM_BACKEND_SOFTWARE ||
        run->host->kvm->backend == KVM_BACKEND_SHADOW)
        measure_remark(run, "KVM shadows the guest's tables here: a walk has as many steps as a "
                            "native one, and only pages that are large on both sides are large in "
                            "the shadow, so differences have other causes than steps.");
    else
        measure_remark(run, "Each walk that misses all caches has up to six times the steps of a "
                            "native one here; the experiment walks counts them.");
    if (run->host->virtual_machine)
        measure_remark(run, "The native time is itself that of a virtual machine.");
}

static int workloads_work_all(struct work *w)
{
    int err = workloads_map_places(w);

    for (unsigned i = 0; i < ABI_WORKLOADS && !err; i++) {
        err = workloads_build(w, (enum abi_workload)i);
        if (!err && i == 0)
            workloads_report_pages(w);
        if (!err)
            err = workloads_take_rounds(w, (enum abi_workload)i);
        if (!err)
            workloads_report(w, (enum abi_workload)i);
    }
    workloads_unmap_native(w);
    if (!err) {
        measure_value(w->run, (double)w->bytes, NAN, NAN, 1, "workloads/memory/bytes");
        workloads_say(w);
    }
    return err;
}

static int workloads_with_sessions(struct work *w)
{
    struct session_params params = { .memory_bytes = 2 * w->bytes + KERNEL_BYTES, .cpus = 1 };
    struct measure_run *run = w->run;
    int err;

    /* What a guest has beyond its two places it hardly touches. */
    if (PLACES * w->bytes > run->host->memory_bytes) {
        snprintf(run->error, sizeof(run->error),
                 "%d times %llu MiB do not go into the %llu MiB that may be used; free some, or "
                 "raise the limit of the control group",
                 PLACES, (unsigned long long)(w->bytes >> 20),
                 (unsigned long long)(run->host->memory_bytes >> 20));
        return -ENOMEM;
    }
    err = session_open(&w->session[HOST_4K], run->host->kvm, &params, run->error,
                       sizeof(run->error));
    if (err)
        return err;
    params.backing = MEMORY_THP;
    err = session_open(&w->session[HOST_2M], run->host->kvm, &params, run->error,
                       sizeof(run->error));
    if (err)
        goto close_first;
    w->ns_per_tick = 1e9 / (double)w->session[HOST_4K].tsc_hz;
    host_pages_open(&w->pages);
    err = workloads_work_all(w);
    host_pages_close(&w->pages);
    session_close(&w->session[HOST_2M]);

close_first:
    session_close(&w->session[HOST_4K]);
    return err;
}

static int workloads_run(struct measure_run *run)
{
    struct work *w = calloc(1, sizeof(*w));
    int err;

    if (!w)
        return -ENOMEM;
    w->run = run;
    w->bytes = workloads_choose_bytes(run);
    memcpy(w->place, all_places, sizeof(all_places));
    err = workloads_with_sessions(w);
    free(w);
    return err;
}

static const struct measure_plot plots[] = {
    { "Times the native time", "workloads/*/vm/*/*/vs-native/ratio", NULL },
    { .title = NULL },
};

const struct measure_experiment measure_workloads = {
    .name = "workloads",
    .shows = "whole programs, native and in the guest, by 4K and 2M pages on each side",
    .method =
        "The same source runs in ring 3 of guests and in this process: GUPS updates random words "
        "of all its memory; btree looks up keys, half of which exist, in a tree of 256-byte "
        "nodes scattered over its memory; join looks up rows, half of which match, in a hash "
        "table with linear probing, half full; bfs goes through a random graph of eight edges a "
        "vertex and counts edges. Six places: native by 4K and by 2M pages, and the guest's 4K "
        "and 2M on host memory of each (madvise for or against huge pages); which pages there "
        "are is looked up in the guest's tables and /proc/kpageflags, each 2M by its middle, "
        "after all have been touched; places with less than 90 % of theirs are left out. Each "
        "has the same memory, 32 MiB (quick) or 256, at most 1/128 of the machine's, a quarter "
        "where KVM interprets kernel code. Data is built by the seed, not timed. Rounds go "
        "through all places, a different one first each time, with the same operations, chosen "
        "by seed and round: 50000, 5000 lookups, 50000 rows, 5000 vertices (quick) or 1000000, "
        "100000, 1000000, 100000; after one round that does not count for 0.5 s or 8 s a "
        "workload, at least 3 or 9, at most 64. ns is that of one operation, the median over "
        "rounds; vs-native is to the native place with the guest's page size, round by round. In "
        "every round all places must come to the same result; that of the first is a count.",
    .run = workloads_run,
    .plots = plots,
};
