#include "vmm/measure/field.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/inspect/translate.h"
#include "vmm/machine/stats.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define PAGE_BYTES 4096ull
/* Of 4K pages, of which a field is the middle. */
#define STRETCHES 4

int field_order(struct session *session, const struct abi_order *order, struct abi_answer *answer,
                const char *what)
{
    int err = session_order(session, order, answer);

    if (err || !answer->status)
        return err;
    snprintf(session->failure, sizeof(session->failure), "the guest cannot %s: error %d", what,
             (int)-answer->status);
    return -EIO;
}

static int touch(struct session *session, uint64_t va, uint64_t bytes, uint64_t stride)
{
    const struct abi_order order = { .kind = ABI_ORDER_TOUCH,
                                     .va = va,
                                     .bytes = bytes,
                                     .stride = stride,
                                     .flags = ABI_TOUCH_WRITE };
    struct abi_answer answer;

    return field_order(session, &order, &answer, "touch its memory");
}

static uint64_t gpa_of(const struct field *field, uint64_t va)
{
    struct paging_walk walk;

    return session_walk(field->session, va, &walk) ? UINT64_MAX : walk.gpa;
}

/* Maps memory for it in the program. */
static int map(struct field *field, uint64_t bytes)
{
    const struct abi_order order = { .kind = ABI_ORDER_MAP, .page = field->guest, .bytes = bytes };
    struct abi_answer answer;
    int err = field_order(field->session, &order, &answer, "map memory");

    field->mapped_va = answer.value[0];
    field->mapped_bytes = bytes;
    return err;
}

/* How far frames follow each other from the field's start up, or down, without first pages. */
static uint64_t follow(const struct field *field, uint64_t end, bool up)
{
    uint64_t va = field->va, gpa = field->gpa, step = up ? PAGE_BYTES : -PAGE_BYTES, run = 0;

    for (; va != end && gpa_of(field, va) == gpa; run += PAGE_BYTES) {
        va += step;
        gpa += step;
        if (va % FIELD_BLOCK_BYTES == 0)
            va += step;
    }
    return run;
}

/*
 * Pages behind the first one of a 2M stretch, in the middle of others. Each stretch's first page
 * is touched before, and keeps its table; so the frames of the rest follow each other, and
 * the blocks that the field's frames lie in hold nobody else's.
 */
static int open_small(struct field *field, unsigned pages)
{
    uint64_t first, end, before, after, blocks_end;
    int err = map(field, (STRETCHES + 1) * FIELD_BLOCK_BYTES);

    first = (field->mapped_va + FIELD_BLOCK_BYTES - 1) & ~(FIELD_BLOCK_BYTES - 1);
    end = first + STRETCHES * FIELD_BLOCK_BYTES;
    if (!err)
        err = touch(field->session, first, end - first, FIELD_BLOCK_BYTES);
    if (!err)
        err = touch(field->session, first, end - first, PAGE_BYTES);
    if (err)
        return err;
    field->va = first + STRETCHES / 2 * FIELD_BLOCK_BYTES + PAGE_BYTES;
    field->bytes = pages * PAGE_BYTES;
    field->gpa = gpa_of(field, field->va);
    after = follow(field, end, true);
    before = follow(field, first, false) - PAGE_BYTES;
    field->blocks_gpa = field->gpa & ~(FIELD_BLOCK_BYTES - 1);
    blocks_end = (field->gpa + field->bytes + FIELD_BLOCK_BYTES - 1) & ~(FIELD_BLOCK_BYTES - 1);
    field->blocks_bytes = blocks_end - field->blocks_gpa;
    return field->gpa - before <= field->blocks_gpa && field->gpa + after >= blocks_end ? 0
                                                                                        : -ERANGE;
}

/* 2M pages, which come from the end of memory down. */
static int open_huge(struct field *field, unsigned pages)
{
    uint64_t first = UINT64_MAX, last = 0;
    int err = map(field, pages * FIELD_BLOCK_BYTES);

    field->va = field->mapped_va;
    field->bytes = field->mapped_bytes;
    if (!err)
        err = touch(field->session, field->va, field->bytes, PAGE_BYTES);
    if (err)
        return err;
    for (uint64_t at = 0; at < field->bytes; at += FIELD_BLOCK_BYTES) {
        uint64_t gpa = gpa_of(field, field->va + at);

        first = gpa < first ? gpa : first;
        last = gpa > last ? gpa : last;
    }
    field->gpa = field->blocks_gpa = first;
    field->blocks_bytes = field->bytes;
    return last - first == field->bytes - FIELD_BLOCK_BYTES ? 0 : -ERANGE;
}

int field_open(struct field *field, struct session *session, enum abi_page_kind guest,
               unsigned pages, char *error, size_t error_bytes)
{
    int err;

    *field = (struct field){ .session = session, .guest = guest };
    err = guest == ABI_PAGE_2M ? open_huge(field, pages) : open_small(field, pages);
    if (err == -ERANGE)
        snprintf(error, error_bytes, "the guest's frames do not follow each other");
    else if (err)
        snprintf(error, error_bytes, "%s", session->failure);
    return err;
}

/* What the host's operations are about: whole blocks if its pages are that large. */
static uint64_t host_gpa(const struct field *field)
{
    return field->huge_host ? field->blocks_gpa : field->gpa;
}

static uint64_t host_bytes(const struct field *field)
{
    return field->huge_host ? field->blocks_bytes : field->bytes;
}

static char *host_hva(const struct field *field)
{
    return memory_at(&field->session->vm.memory, host_gpa(field), host_bytes(field));
}

/* Writable entries in the host's tables for all of it, as its content is. */
static int populate(const struct field *field)
{
    if (!madvise(host_hva(field), host_bytes(field), MADV_POPULATE_WRITE))
        return 0;
    if (errno != EINVAL)
        return -errno;
    /* Linux before 5.14. */
    for (uint64_t at = 0; at < host_bytes(field); at += PAGE_BYTES)
        __atomic_fetch_or(host_hva(field) + at, 0, __ATOMIC_RELAXED);
    return 0;
}

static uint64_t smallest_page(const struct field *field)
{
    uint64_t smallest = UINT64_MAX;
    struct host_pages pages;

    host_pages_open(&pages);
    for (uint64_t at = 0; at < host_bytes(field); at += PAGE_BYTES) {
        struct host_page page;

        host_pages_read(&pages, host_hva(field) + at, &page);
        if (!page.present)
            page.bytes = 0;
        smallest = page.bytes < smallest ? page.bytes : smallest;
    }
    host_pages_close(&pages);
    return smallest;
}

/*
 * Anew, from nothing: where there was a table of 4K pages there would never be a 2M one, even
 * with nothing in it (before Linux 6.14).
 */
static int remap(struct field *field, int fd)
{
    int flags = MAP_PRIVATE | MAP_FIXED | (fd < 0 ? MAP_ANONYMOUS | MAP_NORESERVE : 0);
    void *hva = memory_at(&field->session->vm.memory, field->blocks_gpa, field->blocks_bytes);

    if (mmap(hva, field->blocks_bytes, PROT_READ | PROT_WRITE, flags, fd, 0) == MAP_FAILED)
        return -errno;
    /* Without transparent huge pages there are 4K ones, which is what will be found. */
    madvise(hva, field->blocks_bytes, field->huge_host ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    return 0;
}

int field_host(struct field *field, bool huge, uint64_t *found)
{
    int err = 0;

    field->huge_host = huge;
    *found = 0;
    /* A large page is not always at hand. */
    for (unsigned tries = 0; !err && tries < 3 && *found < (huge ? FIELD_BLOCK_BYTES : 1);
         tries++) {
        err = remap(field, -1);
        if (!err)
            err = populate(field);
        *found = err ? 0 : smallest_page(field);
    }
    return err;
}

int field_zap(struct field *field)
{
    if (mprotect(host_hva(field), host_bytes(field), PROT_READ) ||
        mprotect(host_hva(field), host_bytes(field), PROT_READ | PROT_WRITE))
        return -errno;
    return populate(field);
}

int field_discard(struct field *field)
{
    int64_t done = memory_discard(&field->session->vm.memory, host_gpa(field), host_bytes(field));

    return done < 0 ? (int)done : 0;
}

int field_map_file(struct field *field)
{
    int fd = memfd_create("strata guest RAM", MFD_CLOEXEC), err;

    if (fd < 0)
        return -errno;
    err = fallocate(fd, 0, 0, (off_t)field->blocks_bytes) ? -errno : remap(field, fd);
    close(fd);
    return err;
}

int field_touch(struct field *field, uint64_t stride, uint32_t flags, struct abi_answer *answer)
{
    const struct abi_order order = { .kind = ABI_ORDER_TOUCH,
                                     .va = field->va,
                                     .bytes = field->bytes,
                                     .stride = stride,
                                     .flags = flags };

    return field_order(field->session, &order, answer, "touch its memory");
}

int field_drop(struct field *field)
{
    const struct abi_order order = { .kind = ABI_ORDER_DISCARD,
                                     .va = field->va,
                                     .bytes = field->bytes };
    struct abi_answer answer;

    return field_order(field->session, &order, &answer, "give memory back");
}

int field_counts(const struct session *session, uint64_t counts[FIELD_COUNTS])
{
    static const char *const names[] = { "pf_taken", "pf_fixed", "pf_fast" };
    struct abi_process process;
    int err = guest_process(&session->view, session->record.pid, &process);

    if (err)
        return err;
    counts[FIELD_GUEST_FAULTS] = process.faults;
    counts[FIELD_GUEST_COPIES] = process.cow_copies;
    for (unsigned i = FIELD_KVM_TAKEN; i < FIELD_COUNTS; i++)
        counts[i] = 0;
    for (unsigned i = 0; i < session->vm.ncpus; i++) {
        uint64_t more[3];

        if (stats_read(session->vm.vcpus[i].fd, names, more, 3))
            memset(more, 0xff, sizeof(more));
        for (unsigned j = 0; j < 3; j++) {
            uint64_t *sum = &counts[FIELD_KVM_TAKEN + j];

            *sum = more[j] == UINT64_MAX || *sum == UINT64_MAX ? UINT64_MAX : *sum + more[j];
        }
    }
    return 0;
}
