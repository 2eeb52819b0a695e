/*
 * What page tables take in memory, in each dimension, for each size of pages; and what of
 * it is left when memory has come apart.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest/abi/syscall.h"
#include "vmm/base/size.h"
#include "vmm/machine/dirty.h"
#include "vmm/measure/backing.h"
#include "vmm/measure/chains.h"
#include "vmm/measure/experiments.h"
#include "vmm/measure/table_memory.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

struct tables {
    struct measure_run *run;
    uint64_t bytes; /* of each range */
    struct session *session;
    enum memory_backing backing;
    /* For the sentences; NAN: not known. */
    double second[BACKINGS][ABI_PAGE_KINDS], apart, logged;
    int64_t guest[ABI_PAGE_KINDS], sparse;
    enum table_source source;
    bool moved; /* second-stage bytes were seen to change */
    double done;
};

static double tables_per_gib(double bytes, uint64_t of)
{
    return bytes * (double)GIB / (double)of;
}

static double tables_change(uint64_t before, uint64_t after)
{
    return (double)(int64_t)(after - before);
}

static int tables_failed(struct tables *t, const char *doing, int err)
{
    snprintf(t->run->error, sizeof(t->run->error), "%s: %s", doing,
             t->session->program.failure[0] ? t->session->program.failure : strerror(abs(err)));
    return err < 0 ? err : -EIO;
}

/* ---- Figures ------------------------------------------------------------------- */

/* The second stage between two looks: what KVM maps more, and what that takes. */
static double tables_report_second(struct tables *t, const char *path, uint64_t range,
                                   const struct table_memory *before,
                                   const struct table_memory *after)
{
    double bytes = tables_change(before->second_bytes, after->second_bytes);

    if (before->pages_4k != UINT64_MAX && after->pages_4k != UINT64_MAX) {
        measure_value(t->run, tables_change(before->pages_4k, after->pages_4k), NAN, NAN, 1,
                      "%s/kvm/pages_4k", path);
        measure_value(t->run, tables_change(before->pages_2m, after->pages_2m), NAN, NAN, 1,
                      "%s/kvm/pages_2m", path);
        measure_value(t->run, tables_change(before->pages_1g, after->pages_1g), NAN, NAN, 1,
                      "%s/kvm/pages_1g", path);
    }
    measure_value(t->run, tables_change(before->process_bytes, after->process_bytes), NAN, NAN, 1,
                  "%s/process/bytes", path);
    if (!before->second_known || !after->second_known)
        return NAN;
    t->moved |= bytes != 0;
    /* They never shrink while more is mapped: those of other machines went. */
    if (bytes < 0) {
        measure_unavailable(t->run, "other machines of this host gave tables back meanwhile",
                            "%s/second-stage/bytes", path);
        return NAN;
    }
    measure_value(t->run, bytes, NAN, NAN, 1, "%s/second-stage/bytes", path);
    measure_value(t->run, tables_per_gib(bytes, range), NAN, NAN, 1,
                  "%s/second-stage/bytes-per-gib", path);
    return bytes;
}

/*
 * The guest's, by walking what maps the range: counts, which another run gives again. -errno,
 * or how many tables.
 */
static int64_t tables_report_guest(struct tables *t, const char *path, uint64_t va, uint64_t mapped,
                                   enum abi_page_kind page)
{
    struct table_count count;
    int err = table_memory_count(t->session, va, t->bytes, &count);

    if (err)
        return err;
    measure_count(t->run, count.tables, "%s/guest/tables", path);
    measure_count(t->run, table_memory_least(va, t->bytes, MEMORY_PAGE_BYTES << 9 * page),
                  "%s/guest/tables-by-arithmetic", path);
    measure_count(t->run, count.entries, "%s/guest/entries", path);
    measure_value(t->run, tables_per_gib((double)count.tables * MEMORY_PAGE_BYTES, mapped), NAN,
                  NAN, 1, "%s/guest/bytes-per-gib", path);
    return (int64_t)count.tables;
}

/* ---- Ranges, dense --------------------------------------------------------------- */

static int tables_measure_range(struct tables *t, enum abi_page_kind page, uint64_t *va)
{
    struct chain_place place = { .session = t->session };
    struct table_memory before, after;
    char path[64];
    int err;

    table_memory_read(t->session, &before);
    err = chain_map(&place, page, t->bytes, va);
    if (err == -ABI_ENOMEM || err == -ABI_EINVAL)
        return err;
    if (err)
        return tables_failed(t, "mapping a range", err);
    table_memory_read(t->session, &after);
    /* What the host does is no matter to the guest's tables: once is enough. */
    if (t->backing == MEMORY_4K) {
        snprintf(path, sizeof(path), "tables/guest-%s", backing_guest_name(page));
        t->guest[page] = tables_report_guest(t, path, *va, t->bytes, page);
        if (t->guest[page] < 0)
            return tables_failed(t, "walking the guest's tables", (int)t->guest[page]);
    }
    snprintf(path, sizeof(path), "tables/guest-%s/host-%s", backing_guest_name(page),
             backing_name(t->backing));
    t->second[t->backing][page] = tables_report_second(t, path, t->bytes, &before, &after);
    return 0;
}

/* ---- And what has come apart -------------------------------------------------------- */

static int tables_touch(struct tables *t, uint64_t va, uint64_t stride)
{
    const struct chain_place place = { .session = t->session };
    const struct abi_command command = { .kind = ABI_COMMAND_TOUCH,
                                         .va = va,
                                         .bytes = t->bytes,
                                         .stride = stride,
                                         .flags = ABI_TOUCH_WRITE };
    struct abi_reply reply;

    return chain_order(&place, &command, &reply);
}

/* The guest's side: one 4K page in every 2M of a range, and a table for each. */
static int tables_measure_sparse(struct tables *t)
{
    const struct chain_place place = { .session = t->session };
    const struct abi_command command = { .kind = ABI_COMMAND_MAP, .bytes = t->bytes };
    struct abi_reply reply;
    int err = chain_order(&place, &command, &reply);

    err = err ? err : tables_touch(t, reply.value[0], MEMORY_HUGE_BYTES);
    if (err)
        return tables_failed(t, "touching a page in every 2M", err);
    t->sparse = tables_report_guest(t, "tables/apart/one-4k-in-2m", reply.value[0],
                                    t->bytes / MEMORY_HUGE_BYTES * MEMORY_PAGE_BYTES, ABI_PAGE_4K);
    return t->sparse < 0 ? tables_failed(t, "walking the guest's tables", (int)t->sparse) : 0;
}

/* The host's side: it takes a 4K page out of every 2M, and the guest touches all again. */
static int tables_measure_apart(struct tables *t, uint64_t va)
{
    const struct memory *memory = &t->session->machine.vm.memory;
    struct table_memory before, after;
    struct paging_walk walk;
    int err = 0;

    table_memory_read(t->session, &before);
    for (uint64_t at = va; at < va + t->bytes && !err; at += MEMORY_HUGE_BYTES) {
        err = program_walk(&t->session->program, at, &walk);
        if (!err && memory_discard(memory, walk.gpa, MEMORY_PAGE_BYTES) < 0)
            err = -EIO;
    }
    err = err ? err : tables_touch(t, va, MEMORY_PAGE_BYTES);
    table_memory_read(t->session, &after);
    if (err)
        return tables_failed(t, "taking pages out of huge ones", err);
    t->apart = tables_report_second(t, "tables/apart/guest-2m/host-thp-less-a-4k", t->bytes,
                                    &before, &after);
    return 0;
}

static int tables_log_dirty_pages(struct session *session, bool on)
{
    struct memory *memory = &session->machine.vm.memory;
    int err = 0;

    for (unsigned i = 0; i < memory->nslots && !err; i++) {
        if (!(memory->slots[i].flags & KVM_MEM_READONLY))
            err = dirty_log(memory, i, on);
    }
    return err;
}

/* As a migration or a snapshot does: dirty pages are logged, by 4K, while all is written. */
static int tables_measure_logged(struct tables *t, uint64_t va)
{
    struct table_memory before, after;
    int err;

    table_memory_read(t->session, &before);
    err = tables_log_dirty_pages(t->session, true);
    err = err ? err : tables_touch(t, va, MEMORY_PAGE_BYTES);
    table_memory_read(t->session, &after);
    if (err)
        return tables_failed(t, "logging dirty pages", err);
    t->logged = tables_report_second(t, "tables/apart/guest-2m/host-thp-dirty-logged", t->bytes,
                                     &before, &after);
    /* Large again, before the next. */
    err = tables_log_dirty_pages(t->session, false);
    err = err ? err : tables_touch(t, va, MEMORY_PAGE_BYTES);
    return err ? tables_failed(t, "ending the log", err) : 0;
}

/* ---- One machine ---------------------------------------------------------------------- */

static void tables_lack_page(struct tables *t, enum abi_page_kind page, const char *why)
{
    measure_unavailable(t->run, why, "tables/guest-%s/host-%s", backing_guest_name(page),
                        backing_name(t->backing));
}

static int tables_measure_machine(struct tables *t)
{
    uint64_t va[ABI_PAGE_KINDS] = { 0 };
    int err = 0;

    for (unsigned page = ABI_PAGE_KINDS; page-- > 0 && !err;) {
        char doing[64];

        snprintf(doing, sizeof(doing), "guest %s on host %s", backing_guest_name(page),
                 backing_name(t->backing));
        measure_progress(t->run, t->done++ / (BACKINGS * ABI_PAGE_KINDS), doing);
        if (page == ABI_PAGE_1G && t->run->host->interprets) {
            tables_lack_page(t, page, "this backend walks no guest pages of 1 GiB");
            continue;
        }
        err = tables_measure_range(t, page, &va[page]);
        if (err == -ABI_ENOMEM || err == -ABI_EINVAL) {
            tables_lack_page(t, page,
                             err == -ABI_EINVAL ? "the guest's CPU has no such pages"
                                                : backing_shortage(t->backing));
            err = 0;
        }
    }
    if (!err && t->backing == MEMORY_4K)
        err = tables_measure_sparse(t);
    if (!err && t->backing == MEMORY_THP) {
        err = tables_measure_logged(t, va[ABI_PAGE_2M]);
        err = err ? err : tables_measure_apart(t, va[ABI_PAGE_2M]);
    }
    return err;
}

static int tables_measure_backing(struct tables *t)
{
    struct session_params params;
    const char *why = NULL;
    uint64_t all = t->bytes;
    char error[256];
    int err;

    if (!backing_params(t->run->host, t->backing, &params, &t->bytes, &why) ||
        t->bytes < MEMORY_HUGE_BYTES) {
        measure_unavailable(t->run, why, "tables/host-%s", backing_name(t->backing));
        t->bytes = all;
        return 0;
    }
    err = session_open(t->session, t->run->host->kvm, &params, error, sizeof(error));
    if (!err) {
        err = tables_measure_machine(t);
        session_close(t->session);
    } else if (t->backing == MEMORY_4K) {
        snprintf(t->run->error, sizeof(t->run->error), "%s", error);
    } else {
        measure_unavailable(t->run, error, "tables/host-%s", backing_name(t->backing));
        err = 0;
    }
    t->bytes = all;
    return err;
}

/* ---- What it says ------------------------------------------------------------------------ */

static void tables_report_limits(struct measure_run *run)
{
    for (unsigned page = 0; page < ABI_PAGE_KINDS; page++)
        measure_count(run, table_memory_limit(MEMORY_PAGE_BYTES << 9 * page),
                      "tables/limit/%s/bytes-per-gib", backing_guest_name(page));
}

static const char *tables_kib(double bytes, char text[32])
{
    if (isnan(bytes))
        return "an unknown amount";
    snprintf(text, 32, "%.0f KiB", bytes / 1024);
    return text;
}

static void tables_explain(const struct tables *t)
{
    struct measure_run *run = t->run;
    const char *stage = run->host->kvm->backend <= KVM_BACKEND_NPT ? "second-stage tables"
                                                                   : "shadow tables";
    char size[16], text[4][32];

    size_short(t->bytes, size);
    measure_remark(
        run,
        "%s in 4K pages take %" PRId64 " guest tables of 4 KiB, in 2M pages %" PRId64
        "; one 4K page in every 2M of it takes %" PRId64
        ". A GiB in 4K takes 2 MiB + 4 KiB in each dimension, in 2M 4 KiB, in 1G 8 bytes.",
        size, t->guest[ABI_PAGE_4K], t->guest[ABI_PAGE_2M], t->sparse);
    if (!t->moved) {
        static const char *const why[] = {
            [TABLES_OF_CGROUP] = "this KVM does not count its tables: nothing moves",
            [TABLES_OF_HOST] = "this KVM does not count its tables: nothing moves",
            [TABLES_LATE] = "SecPageTables is up to a second late; as root it is read at once",
            [TABLES_UNKNOWN] = "neither memory.stat nor /proc/meminfo has it (Linux 6.1 and later)",
        };

        measure_remark(run, "The host's kernel does not tell what %s take here.", stage);
        measure_unavailable(run, why[t->source], "tables/second-stage");
        return;
    }
    measure_remark(
        run,
        "The %s grew for it by %s on 4K host pages, by %s with 2M on both sides; by %s "
        "more when that memory came apart on the host's side, and by %s while dirty pages "
        "were logged, which is for all of the machine's memory",
        stage, tables_kib(t->second[MEMORY_4K][ABI_PAGE_4K], text[0]),
        tables_kib(t->second[MEMORY_THP][ABI_PAGE_2M], text[1]), tables_kib(t->apart, text[2]),
        tables_kib(t->logged, text[3]));
    measure_remark(run, "(by %s).",
                   t->source == TABLES_OF_CGROUP
                       ? "sec_pagetables of this control group"
                       : "SecPageTables, which counts all machines of the host: others disturb it");
}

static int tables_run(struct measure_run *run)
{
    struct tables *t = calloc(1, sizeof(*t));
    int err = 0;

    if (!t)
        return -ENOMEM;
    t->run = run;
    t->apart = t->logged = NAN;
    t->source = table_memory_source();
    for (unsigned i = 0; i < BACKINGS * ABI_PAGE_KINDS; i++)
        t->second[i / ABI_PAGE_KINDS][i % ABI_PAGE_KINDS] = NAN;
    t->bytes = run->quick ? 16 * MIB : GIB;
    /* A guest's page fault takes much longer there, and there is one for each 4K. */
    if (run->host->interprets)
        t->bytes /= run->quick ? 4 : 16;
    while (t->bytes > MEMORY_HUGE_BYTES && 4 * t->bytes > run->host->memory_bytes)
        t->bytes /= 2;
    t->session = malloc(sizeof(*t->session));
    if (!t->session)
        err = -ENOMEM;
    tables_report_limits(run);
    measure_count(run, t->bytes, "tables/range/bytes");
    for (t->backing = MEMORY_4K; t->backing < BACKINGS && !err; t->backing++)
        err = tables_measure_backing(t);
    if (!err)
        tables_explain(t);
    free(t->session);
    free(t);
    return err;
}

static const struct measure_plot plots[] = {
    { "Second stage, for each GiB (bytes)", "tables/*/*/second-stage/bytes-per-gib", NULL },
    { .title = NULL },
};

const struct measure_experiment measure_tables = {
    .name = "tables",
    .shows = "what page tables take, in each dimension, for each size of pages",
    .method =
        "A range of 16 MiB when quick, else 1 GiB (4 and 64 MiB where kernel code is "
        "interpreted), as far as memory goes, is mapped and every 4 KiB of it written, by each "
        "size of the guest's pages on each of the host's, each kind of host page in a machine of "
        "its own: the guest's tables below the root and their entries in use, by walking what "
        "maps the range; and, before and after, KVM's count of what it maps, by size (stats fd); "
        "second-stage tables by sec_pagetables of the control group's memory.stat, else by "
        "SecPageTables of /proc/meminfo; this process's own tables, which map the same memory, "
        "by VmPTE. limit: entries of 8 bytes for each page and for each full table of such "
        "pages. Apart: one 4K page in every 2M of a fresh range of the guest's; all of a range "
        "of 2M pages written while dirty pages are logged; and written again after the host has "
        "taken one 4K page out of every 2M.",
    .run = tables_run,
    .plots = plots,
};
