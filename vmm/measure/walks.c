/*
 * What a TLB miss costs: pointer chains over more and more pages, less the same chains packed
 * together, for each size of the guest's pages and of the host's, and natively.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "guest/abi/syscall.h"
#include "guest/measure/chain.h"
#include "vmm/base/monotonic.h"
#include "vmm/base/size.h"
#include "vmm/machine/stats.h"
#include "vmm/measure/backing.h"
#include "vmm/measure/chains.h"
#include "vmm/measure/experiments.h"
#include "vmm/measure/references.h"

#define KIB           1024ull
#define MIB           (1024 * KIB)
#define GIB           (1024 * MIB)

#define SIZES_MAX     16
#define SIZE_LEAST    (64 * KIB)
#define BATCHES       21
#define BATCHES_QUICK 7
#define TURNS_NS      500000000u /* beyond, so many are enough, too */

/* Figures of one kind of guest page on one kind of host page, for the sentences. */
struct result {
    bool measured;
    unsigned references; /* of a walk, the most; 0: not known */
    double ratio, walk_ns, native_walk_ns;
    uint64_t bytes; /* where */
    uint64_t reach; /* the largest size whose walks cost little; 0: none */
};

struct walks {
    struct measure_run *run;
    double ns_per_tick;
    unsigned nsizes, batches;
    uint64_t size[SIZES_MAX];

    struct chain_place native[2]; /* by 4K and by 2M, one packed part for both */
    struct chain_series native_series[2][SIZES_MAX];
    struct chain_series series; /* of what is measured now */
    struct chain_series control[SIZES_MAX], native_control[SIZES_MAX];
    struct result result[BACKINGS][ABI_PAGE_KINDS];
    unsigned native_references[2];
    double done, all; /* sizes */
};

/* ---- Figures ----------------------------------------------------------------- */

static double walks_median_of(const double *values, size_t n, double *low, double *high)
{
    double copy[CHAIN_SAMPLES];

    memcpy(copy, values, n * sizeof(*values));
    return measure_median(copy, n, low, high);
}

/* What the spread chain costs more than the packed one, batch by batch. */
static double walks_median(const struct chain_series *series, double *low, double *high)
{
    double walk[CHAIN_SAMPLES];

    for (size_t i = 0; i < series->n; i++)
        walk[i] = series->spread[i] - series->packed[i];
    return measure_median(walk, series->n, low, high);
}

static void walks_say_times(struct measure_run *run, const struct chain_series *series,
                            const char *path, uint64_t bytes)
{
    char size[16];
    double low, high, value;

    size_short(bytes, size);
    value = walks_median_of(series->spread, series->n, &low, &high);
    measure_value(run, value, low, high, series->n, "%s/%s/access/ns", path, size);
    value = walks_median(series, &low, &high);
    measure_value(run, value, low, high, series->n, "%s/%s/walk/ns", path, size);
}

static void walks_say_control(struct measure_run *run, const struct chain_series *series,
                              const char *path, uint64_t bytes)
{
    char size[16];
    double low, high, value;

    if (!series->n)
        return;
    value = walks_median_of(series->packed, series->n, &low, &high);
    measure_value(run, value, low, high, series->n, "%s/%s/control/ns", path,
                  size_short(bytes, size));
}

/*
 * A count where the pages are forced, and so all walks alike; else their mean, between the
 * least and the most: how many transparent huge pages there are may be another number next time.
 */
static void walks_say_references(struct measure_run *run, const struct reference_range *range,
                                 bool forced, const char *path)
{
    if (forced && range->least == range->most)
        measure_count(run, range->most, "%s/references", path);
    else
        measure_value(run, range->mean, range->least, range->most, range->pages, "%s/references",
                      path);
}

/* The largest size whose walks cost less than a quarter of those of the largest of all. */
static uint64_t walks_reach_of(const double *walk, const uint64_t *size, unsigned n)
{
    for (unsigned i = n - 1; i-- > 0;) {
        if (walk[i] < walk[n - 1] / 4)
            return size[i];
    }
    return 0;
}

/* ---- One kind of guest page on one kind of host page --------------------------- */

static int walks_failed(struct walks *w, const struct session *session, const char *doing, int err)
{
    if (session && session->program.failure[0])
        snprintf(w->run->error, sizeof(w->run->error), "%s: %s", doing, session->program.failure);
    else if (err == -EIO)
        snprintf(w->run->error, sizeof(w->run->error), "%s: a chain did not end where it began",
                 doing);
    else
        snprintf(w->run->error, sizeof(w->run->error), "%s: failed (%d)", doing, err);
    return err < 0 ? err : -EIO;
}

static void walks_append_packed(struct chain_series *to, const struct chain_series *from)
{
    for (size_t i = 0; i < from->n && to->n < CHAIN_SAMPLES; i++)
        to->packed[to->n++] = from->packed[i];
}

/* How many times as long a walk takes in the guest as here, and the ends of its interval. */
struct walks_ratio {
    double median, low, high;
};

/* Batches by turns, in the guest and here. Returns 0 or -errno. */
static int walks_take_turns(struct walks *w, const struct chain_place *guest, unsigned native,
                            unsigned size, struct walks_ratio *ratio)
{
    struct chain_series *here = &w->native_series[native][size];
    uint64_t bytes = w->size[size], seed = w->run->seed + size;
    double ratios[BATCHES];
    uint64_t start;
    size_t before = here->n, n;
    int err = chain_make(guest, bytes, seed);

    err = err ? err : chain_make(&w->native[native], bytes, seed);
    w->series.n = 0;
    start = monotonic_ns();
    for (unsigned i = 0; i < w->batches && !err; i++) {
        if (i >= BATCHES_QUICK && monotonic_ns() - start > TURNS_NS)
            break;
        err = chain_follow(guest, bytes, w->ns_per_tick, &w->series);
        err = err ? err : chain_follow(&w->native[native], bytes, w->ns_per_tick, here);
    }
    if (err)
        return err;
    n = here->n - before < w->series.n ? here->n - before : w->series.n;
    for (size_t i = 0; i < n; i++)
        ratios[i] = w->series.spread[i] / here->spread[before + i];
    ratio->median = n ? measure_median(ratios, n, &ratio->low, &ratio->high) : NAN;
    walks_append_packed(&w->control[size], &w->series);
    return 0;
}

static int walks_measure_page(struct walks *w, const struct chain_place *guest,
                              enum memory_backing backing, enum abi_page_kind page,
                              struct references *references)
{
    struct result *result = &w->result[backing][page];
    double walk[SIZES_MAX], low, high, native_low, native_high;
    unsigned native = page == ABI_PAGE_4K ? 0 : 1, size;
    struct reference_range range;
    char path[64], name[16], doing[96];
    int err;

    snprintf(path, sizeof(path), "walks/vm/guest-%s/host-%s", backing_guest_name(page),
             backing_name(backing));
    err = references_of_guest(references, guest->session, guest->spread, guest->bytes, &range);
    if (err == -ENODATA) {
        char name_of[MEASURE_NAME_BYTES];

        snprintf(name_of, sizeof(name_of), "%s/references", path);
        measure_unavailable(w->run, references->unknown, "%s", name_of);
    } else if (err) {
        return walks_failed(w, guest->session, "walking the guest's tables", err);
    } else {
        walks_say_references(w->run, &range, backing != MEMORY_THP, path);
        result->references = range.most;
    }
    for (size = 0; size < w->nsizes && w->size[size] <= guest->bytes; size++) {
        struct walks_ratio ratio;

        size_short(w->size[size], name);
        snprintf(doing, sizeof(doing), "guest %s on host %s, %s", backing_guest_name(page),
                 backing_name(backing), name);
        measure_progress(w->run, w->done++ / w->all, doing);
        err = walks_take_turns(w, guest, native, size, &ratio);
        if (err)
            return walks_failed(w, guest->session, doing, err);
        walks_say_times(w->run, &w->series, path, w->size[size]);
        measure_value(w->run, ratio.median, ratio.low, ratio.high, w->series.n,
                      "%s/%s/vm-vs-native/ratio", path, name);
        walk[size] = walks_median(&w->series, &low, &high);
        result->measured = true;
        result->ratio = ratio.median;
        result->walk_ns = walk[size];
        result->native_walk_ns = walks_median(&w->native_series[native][size], &native_low,
                                              &native_high);
        result->bytes = w->size[size];
    }
    /* `low` is of the largest size. */
    if (size && low > 0)
        result->reach = walks_reach_of(walk, w->size, size);
    if (result->reach)
        measure_value(w->run, (double)result->reach, NAN, NAN, 1, "%s/tlb-reach/bytes", path);
    else
        measure_unavailable(
            w->run,
            size && low > 0
                ? "walks of the least size take a quarter of those of the largest, or more"
                : "whether walks of the largest size take any time is not certain",
            "%s/tlb-reach/bytes", path);
    return 0;
}

/* ---- One machine: one kind of host page ------------------------------------------ */

/*
 * The packed chains lie in 2M pages on both sides wherever the host has some, so that the
 * control is of the cache alone.
 */
static void walks_prefer_huge(struct session *session, uint64_t va, uint64_t bytes)
{
    for (uint64_t at = va; at < va + bytes; at += MEMORY_HUGE_BYTES) {
        const struct memory *memory = &session->machine.vm.memory;
        struct paging_walk walk;

        /* What the guest's tables say may be anything; these two check that it is RAM. */
        if (program_walk(&session->program, at, &walk) ||
            memory_discard(memory, walk.gpa, MEMORY_HUGE_BYTES) != (int64_t)MEMORY_HUGE_BYTES)
            return;
        madvise(memory_at(memory, walk.gpa, MEMORY_HUGE_BYTES), MEMORY_HUGE_BYTES, MADV_HUGEPAGE);
    }
}

static const char *const stats[] = { "pages_4k", "pages_2m", "pages_1g" };
#define STATS (sizeof(stats) / sizeof(stats[0]))

/* KVM's own count of what it maps, before and after memory is first touched. */
static int walks_map_counted(struct walks *w, const struct chain_place *place,
                             enum memory_backing backing, enum abi_page_kind page, uint64_t *va)
{
    uint64_t before[STATS], after[STATS];
    int fd = place->session->machine.vm.fd;
    bool counted = stats_read(fd, stats, before, STATS) == 0;
    int err = chain_map(place, page, place->bytes, va);

    if (err || !counted || stats_read(fd, stats, after, STATS))
        return err;
    for (unsigned i = 0; i < STATS; i++) {
        if (before[i] != UINT64_MAX && after[i] != UINT64_MAX)
            measure_value(w->run, (double)(int64_t)(after[i] - before[i]), NAN, NAN, 1,
                          "walks/vm/guest-%s/host-%s/kvm/%s", backing_guest_name(page),
                          backing_name(backing), stats[i]);
    }
    return 0;
}

static void walks_lack_page(struct walks *w, enum memory_backing backing, enum abi_page_kind page,
                            const char *why)
{
    measure_unavailable(w->run, why, "walks/vm/guest-%s/host-%s", backing_guest_name(page),
                        backing_name(backing));
}

/* Largest first: a 1G page needs memory that nothing has been taken from. */
static int walks_map_all(struct walks *w, struct session *session, enum memory_backing backing,
                         uint64_t bytes, struct chain_place place[ABI_PAGE_KINDS])
{
    uint64_t packed = 0, packed_bytes = chain_bytes(bytes / CHAIN_PAGE_BYTES, true);
    struct chain_place common = { .session = session, .bytes = bytes };
    int err;

    if (packed_bytes < MEMORY_HUGE_BYTES)
        packed_bytes = MEMORY_HUGE_BYTES;
    for (unsigned page = ABI_PAGE_KINDS; page-- > 0;) {
        place[page] = common;
        if (page == ABI_PAGE_1G && w->run->host->interprets) {
            walks_lack_page(w, backing, page, "this backend walks no guest pages of 1 GiB");
            continue;
        }
        err = walks_map_counted(w, &place[page], backing, page, &place[page].spread);
        if (err > 0 || err == -ABI_ENOMEM || err == -ABI_EINVAL) {
            place[page].spread = 0;
            walks_lack_page(w, backing, page,
                            err == -ABI_EINVAL ? "the guest's CPU has no such pages"
                                               : backing_shortage(backing));
        } else if (err) {
            return walks_failed(w, session, "mapping memory", err);
        }
    }
    err = chain_map(&common, ABI_PAGE_2M, packed_bytes, &packed);
    if (!err && backing == MEMORY_4K) {
        struct abi_command again = { .kind = ABI_COMMAND_TOUCH,
                                     .va = packed,
                                     .bytes = packed_bytes,
                                     .stride = CHAIN_PAGE_BYTES,
                                     .flags = ABI_TOUCH_WRITE };
        struct abi_reply reply;

        walks_prefer_huge(session, packed, packed_bytes);
        err = chain_order(&common, &again, &reply);
    }
    for (unsigned page = 0; page < ABI_PAGE_KINDS; page++) {
        place[page].packed = packed;
        place[page].packed_bytes = packed_bytes;
    }
    return err ? walks_failed(w, session, "mapping memory", err) : 0;
}

static int walks_measure_machine(struct walks *w, struct session *session,
                                 enum memory_backing backing, uint64_t bytes)
{
    struct chain_place place[ABI_PAGE_KINDS];
    struct references *references = malloc(sizeof(*references));
    int err = references ? 0 : -ENOMEM;

    w->ns_per_tick = 1e9 / (double)session->tsc_hz;
    err = err ? err : walks_map_all(w, session, backing, bytes, place);
    if (!err) {
        references_open(references, w->run->host->kvm, &session->machine.vm.memory);
        for (unsigned page = 0; page < ABI_PAGE_KINDS && !err; page++) {
            if (place[page].spread)
                err = walks_measure_page(w, &place[page], backing, page, references);
        }
        references_close(references);
    }
    free(references);
    return err;
}

static int walks_measure_backing(struct walks *w, enum memory_backing backing)
{
    struct session_params params;
    struct session *session;
    const char *why = "too few of them are free for a guest";
    uint64_t bytes = w->size[w->nsizes - 1];
    char error[256];
    int err;

    if (!backing_params(w->run->host, backing, &params, &bytes, &why)) {
        measure_unavailable(w->run, why, "walks/vm/host-%s", backing_name(backing));
        return 0;
    }
    session = malloc(sizeof(*session));
    if (!session)
        return -ENOMEM;
    err = session_open(session, w->run->host->kvm, &params, error, sizeof(error));
    if (!err) {
        err = walks_measure_machine(w, session, backing, bytes);
        session_close(session);
    } else if (backing == MEMORY_4K) {
        snprintf(w->run->error, sizeof(w->run->error), "%s", error);
    } else {
        measure_unavailable(w->run, error, "walks/vm/host-%s", backing_name(backing));
        err = 0;
    }
    free(session);
    return err;
}

/* ---- This process ---------------------------------------------------------------- */

static int walks_map_native(struct walks *w, uint64_t bytes)
{
    static const enum abi_page_kind kinds[] = { ABI_PAGE_4K, ABI_PAGE_2M };
    uint64_t packed, packed_bytes = chain_bytes(bytes / CHAIN_PAGE_BYTES, true);
    int err;

    if (packed_bytes < MEMORY_HUGE_BYTES)
        packed_bytes = MEMORY_HUGE_BYTES;
    err = chain_map(&w->native[0], ABI_PAGE_2M, packed_bytes, &packed);
    for (unsigned i = 0; i < 2 && !err; i++) {
        struct chain_place *place = &w->native[i];

        *place = (struct chain_place){ .bytes = bytes,
                                       .packed = packed,
                                       .packed_bytes = packed_bytes };
        err = chain_map(place, kinds[i], bytes, &place->spread);
    }
    return err ? -ENOMEM : 0;
}

static void walks_unmap_native(struct walks *w)
{
    for (unsigned i = 0; i < 2; i++) {
        if (w->native[i].spread)
            munmap((void *)w->native[i].spread, w->native[i].bytes);
    }
    if (w->native[0].packed)
        munmap((void *)w->native[0].packed, w->native[0].packed_bytes);
}

static void walks_report_native(struct walks *w)
{
    static const char *const paths[] = { "walks/native/4k", "walks/native/2m" };

    for (unsigned i = 0; i < 2; i++) {
        for (unsigned size = 0; size < w->nsizes; size++) {
            if (!w->native_series[i][size].n)
                continue;
            walks_say_times(w->run, &w->native_series[i][size], paths[i], w->size[size]);
            walks_append_packed(&w->native_control[size], &w->native_series[i][size]);
        }
    }
    for (unsigned size = 0; size < w->nsizes; size++) {
        walks_say_control(w->run, &w->native_control[size], "walks/native", w->size[size]);
        walks_say_control(w->run, &w->control[size], "walks/vm", w->size[size]);
    }
}

static int walks_count_native(struct walks *w)
{
    static const char *const paths[] = { "walks/native/4k", "walks/native/2m" };
    struct references *references = malloc(sizeof(*references));

    if (!references)
        return -ENOMEM;
    references_open(references, w->run->host->kvm, NULL);
    for (unsigned i = 0; i < 2; i++) {
        struct reference_range range;

        if (references_of_process(references, (const void *)w->native[i].spread, w->native[i].bytes,
                                  &range)) {
            measure_unavailable(w->run, references->unknown, "%s/references", paths[i]);
        } else {
            walks_say_references(w->run, &range, i == 0, paths[i]);
            w->native_references[i] = range.most;
        }
    }
    references_close(references);
    free(references);
    return 0;
}

/* ---- What it says ------------------------------------------------------------------ */

static void walks_explain_pair(const struct walks *w, const struct result *r, const char *pages,
                               unsigned native)
{
    char size[16], reach[64] = "", references[96] = "";

    if (!r->measured)
        return;
    if (r->references && w->native_references[native])
        snprintf(references, sizeof(references), ", in up to %u references (natively %u)",
                 r->references, w->native_references[native]);
    if (r->reach)
        snprintf(reach, sizeof(reach), "; up to %s walks cost little", size_short(r->reach, size));
    measure_remark(
        w->run,
        "%s: at %s an access takes %.2f times as long as natively; of it %.1f ns are the "
        "walk (natively %.1f)%s%s.",
        pages, size_short(r->bytes, size), r->ratio, r->walk_ns, r->native_walk_ns, references,
        reach);
}

static void walks_explain(const struct walks *w)
{
    const struct measure_host *host = w->run->host;

    if (host->kvm->backend <= KVM_BACKEND_NPT)
        measure_remark(w->run,
                       "The CPU walks the guest's tables and, for each of them and for the page, "
                       "%s: a count of references is what a walk takes where no cache of it helps, "
                       "by the page sizes found on both sides.",
                       host->kvm->backend == KVM_BACKEND_EPT ? "EPT's" : "the nested ones");
    else
        measure_remark(w->run,
                       "KVM shadows the guest's tables: the CPU walks one set, made of both, "
                       "so a walk has as many references as natively; what shadowing costs "
                       "is in faults, not here.");
    walks_explain_pair(w, &w->result[MEMORY_4K][ABI_PAGE_4K], "4K pages on 4K", 0);
    walks_explain_pair(w, &w->result[MEMORY_THP][ABI_PAGE_4K], "4K on transparent 2M", 0);
    walks_explain_pair(w, &w->result[MEMORY_THP][ABI_PAGE_2M], "2M on transparent 2M", 1);
    if (host->virtual_machine)
        measure_remark(w->run, "This machine is itself virtual: what is native here is nested "
                               "already below, and the ratio is of the layer on top.");
}

/* ---- All of it ---------------------------------------------------------------------- */

/* 64K up to 1G, as far as a sixth of the memory goes: five such ranges are there at once. */
static void walks_choose_sizes(struct walks *w)
{
    uint64_t most = w->run->quick ? 16 * MIB : GIB, step = w->run->quick ? 4 : 2;

    /* A guest's page fault takes much longer there, and there is one for each 4K. */
    if (w->run->host->interprets)
        most /= w->run->quick ? 2 : 8;

    while (most > SIZE_LEAST && 6 * most > w->run->host->memory_bytes)
        most /= 2;
    for (uint64_t size = SIZE_LEAST; size < most; size *= step)
        w->size[w->nsizes++] = size;
    w->size[w->nsizes++] = most;
    w->batches = w->run->quick ? BATCHES_QUICK : BATCHES;
    w->all = w->nsizes * BACKINGS * ABI_PAGE_KINDS;
}

static int walks_run(struct measure_run *run)
{
    struct walks *w = calloc(1, sizeof(*w));
    int err;

    if (!w)
        return -ENOMEM;
    w->run = run;
    walks_choose_sizes(w);
    err = walks_map_native(w, w->size[w->nsizes - 1]);
    err = err ? err : walks_count_native(w);
    for (unsigned backing = 0; backing < BACKINGS && !err; backing++)
        err = walks_measure_backing(w, backing);
    if (!err) {
        walks_report_native(w);
        walks_explain(w);
    }
    walks_unmap_native(w);
    free(w);
    return err;
}

static const struct measure_plot plots[] = {
    { "An access of the spread chain, 4K pages in the guest (ns)",
      "walks/=vm/=guest-4k/*/%/access/ns walks/=native/=4k/%/access/ns", "bytes of memory" },
    { "An access of the spread chain, 2M pages in the guest (ns)",
      "walks/=vm/=guest-2m/*/%/access/ns walks/=native/=2m/%/access/ns", "bytes of memory" },
    { "References of a walk where nothing is cached",
      "walks/=vm/*/*/references walks/=native/*/references", NULL },
    { .title = NULL },
};

const struct measure_experiment measure_walks = {
    .name = "walks",
    .shows = "what a TLB miss costs, for each size of pages on both sides",
    .method =
        "Two chains of pointers in one random cycle (Sattolo), each load waiting for the one "
        "before: one with a node in every 4 KiB of 64 KiB to 1 GiB (16 MiB when quick; 256 and 8 "
        "MiB where kernel code is interpreted), and as the control one of as many nodes packed "
        "side by side, numbered so that every set of a cache with a power of two of sets gets as "
        "many nodes of either. A node takes 128 bytes, as neighbouring lines are fetched along. "
        "Packed chains lie in 2M pages on both sides where there are some. Each batch: once "
        "around untimed, then as many nodes timed, at least 4096; VM and native by turns, 7 "
        "batches when quick, else up to 21 within half a second. access: the spread chain, for "
        "each node; walk: spread less packed, batch by batch; ratio: batch by batch; medians "
        "with 95 % intervals. Native pages are 4K, or transparent 2M for the guest's 2M and 1G. "
        "references: entries that a walk reads where no cache of it helps, of every 4 KiB of the "
        "range, from the guest's tables as walked and the host's page behind each table and "
        "behind the page (pagemap, kpageflags). kvm: mappings by size that KVM counts more after "
        "the first touch. tlb-reach: the largest size whose walks take less than a quarter of "
        "the largest's.",
    .run = walks_run,
    .plots = plots,
};
