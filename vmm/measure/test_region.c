#include "vmm/measure/test_region.h"

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
/* Of 4K pages, of which a test region is the middle. */
#define STRETCHES 4

int test_region_command(struct session *session, const struct abi_command *command,
                        struct abi_reply *reply, const char *what)
{
    int err = session_command(session, command, reply);

    if (err || !reply->status)
        return err;
    snprintf(session->program.failure, sizeof(session->program.failure),
             "the guest cannot %s: error %d", what, (int)-reply->status);
    return -EIO;
}

static int touch(struct session *session, uint64_t va, uint64_t bytes, uint64_t stride)
{
    const struct abi_command command = { .kind = ABI_COMMAND_TOUCH,
                                         .va = va,
                                         .bytes = bytes,
                                         .stride = stride,
                                         .flags = ABI_TOUCH_WRITE };
    struct abi_reply reply;

    return test_region_command(session, &command, &reply, "touch its memory");
}

static uint64_t test_region_gpa_of(const struct test_region *region, uint64_t va)
{
    struct paging_walk walk;

    return program_walk(&region->session->program, va, &walk) ? UINT64_MAX : walk.gpa;
}

/* Maps memory for it in the program. */
static int test_region_map(struct test_region *region, uint64_t bytes)
{
    const struct abi_command command = { .kind = ABI_COMMAND_MAP,
                                         .page = region->guest,
                                         .bytes = bytes };
    struct abi_reply reply;
    int err = test_region_command(region->session, &command, &reply, "map memory");

    region->mapped_va = reply.value[0];
    region->mapped_bytes = bytes;
    return err;
}

/* How far frames follow each other from the test region's start up, or down, without first pages.
 */
static uint64_t test_region_follow(const struct test_region *region, uint64_t end, bool up)
{
    uint64_t va = region->va, gpa = region->gpa, step = up ? PAGE_BYTES : -PAGE_BYTES, run = 0;

    for (; va != end && test_region_gpa_of(region, va) == gpa; run += PAGE_BYTES) {
        va += step;
        gpa += step;
        if (va % TEST_REGION_BLOCK_BYTES == 0)
            va += step;
    }
    return run;
}

/*
 * Pages behind the first one of a 2M stretch, in the middle of others. Each stretch's first page
 * is touched before, and keeps its table; so the frames of the rest follow each other, and
 * the blocks that the test region's frames lie in hold no others.
 */
static int test_region_open_small(struct test_region *region, unsigned pages)
{
    uint64_t first, end, before, after, blocks_end;
    int err = test_region_map(region, (STRETCHES + 1) * TEST_REGION_BLOCK_BYTES);

    first = (region->mapped_va + TEST_REGION_BLOCK_BYTES - 1) & ~(TEST_REGION_BLOCK_BYTES - 1);
    end = first + STRETCHES * TEST_REGION_BLOCK_BYTES;
    if (!err)
        err = touch(region->session, first, end - first, TEST_REGION_BLOCK_BYTES);
    if (!err)
        err = touch(region->session, first, end - first, PAGE_BYTES);
    if (err)
        return err;
    region->va = first + STRETCHES / 2 * TEST_REGION_BLOCK_BYTES + PAGE_BYTES;
    region->bytes = pages * PAGE_BYTES;
    region->gpa = test_region_gpa_of(region, region->va);
    after = test_region_follow(region, end, true);
    before = test_region_follow(region, first, false) - PAGE_BYTES;
    region->blocks_gpa = region->gpa & ~(TEST_REGION_BLOCK_BYTES - 1);
    blocks_end = (region->gpa + region->bytes + TEST_REGION_BLOCK_BYTES - 1) &
                 ~(TEST_REGION_BLOCK_BYTES - 1);
    region->blocks_bytes = blocks_end - region->blocks_gpa;
    return region->gpa - before <= region->blocks_gpa && region->gpa + after >= blocks_end
               ? 0
               : -ERANGE;
}

/* 2M pages, which come from the end of memory down. */
static int test_region_open_huge(struct test_region *region, unsigned pages)
{
    uint64_t first = UINT64_MAX, last = 0;
    int err = test_region_map(region, pages * TEST_REGION_BLOCK_BYTES);

    region->va = region->mapped_va;
    region->bytes = region->mapped_bytes;
    if (!err)
        err = touch(region->session, region->va, region->bytes, PAGE_BYTES);
    if (err)
        return err;
    for (uint64_t at = 0; at < region->bytes; at += TEST_REGION_BLOCK_BYTES) {
        uint64_t gpa = test_region_gpa_of(region, region->va + at);

        first = gpa < first ? gpa : first;
        last = gpa > last ? gpa : last;
    }
    region->gpa = region->blocks_gpa = first;
    region->blocks_bytes = region->bytes;
    return last - first == region->bytes - TEST_REGION_BLOCK_BYTES ? 0 : -ERANGE;
}

int test_region_open(struct test_region *region, struct session *session, enum abi_page_kind guest,
                     unsigned pages, char *error, size_t error_bytes)
{
    int err;

    *region = (struct test_region){ .session = session, .guest = guest };
    err = guest == ABI_PAGE_2M ? test_region_open_huge(region, pages)
                               : test_region_open_small(region, pages);
    if (err == -ERANGE)
        snprintf(error, error_bytes, "the guest's frames do not follow each other");
    else if (err)
        snprintf(error, error_bytes, "%s", session->program.failure);
    return err;
}

/* What the host's operations are about: whole blocks if its pages are that large. */
static uint64_t test_region_host_gpa(const struct test_region *region)
{
    return region->huge_host ? region->blocks_gpa : region->gpa;
}

static uint64_t test_region_host_bytes(const struct test_region *region)
{
    return region->huge_host ? region->blocks_bytes : region->bytes;
}

static char *test_region_host_hva(const struct test_region *region)
{
    return memory_at(&region->session->machine.vm.memory, test_region_host_gpa(region),
                     test_region_host_bytes(region));
}

/* Writable entries in the host's tables for all of it, as its content is. */
static int test_region_populate(const struct test_region *region)
{
    if (!madvise(test_region_host_hva(region), test_region_host_bytes(region), MADV_POPULATE_WRITE))
        return 0;
    if (errno != EINVAL)
        return -errno;
    /* Linux before 5.14. */
    for (uint64_t at = 0; at < test_region_host_bytes(region); at += PAGE_BYTES)
        __atomic_fetch_or(test_region_host_hva(region) + at, 0, __ATOMIC_RELAXED);
    return 0;
}

static uint64_t test_region_smallest_page(const struct test_region *region)
{
    uint64_t smallest = UINT64_MAX;
    struct host_pages pages;

    host_pages_open(&pages);
    for (uint64_t at = 0; at < test_region_host_bytes(region); at += PAGE_BYTES) {
        struct host_page page;

        host_pages_read(&pages, test_region_host_hva(region) + at, &page);
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
static int test_region_remap(struct test_region *region, int fd)
{
    int flags = MAP_PRIVATE | MAP_FIXED | (fd < 0 ? MAP_ANONYMOUS | MAP_NORESERVE : 0);
    void *hva = memory_at(&region->session->machine.vm.memory, region->blocks_gpa,
                          region->blocks_bytes);

    if (mmap(hva, region->blocks_bytes, PROT_READ | PROT_WRITE, flags, fd, 0) == MAP_FAILED)
        return -errno;
    /* Without transparent huge pages there are 4K ones, which is what will be found. */
    madvise(hva, region->blocks_bytes, region->huge_host ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    return 0;
}

int test_region_host(struct test_region *region, bool huge, uint64_t *found)
{
    int err = 0;

    region->huge_host = huge;
    *found = 0;
    /* A large page is not always at hand. */
    for (unsigned tries = 0; !err && tries < 3 && *found < (huge ? TEST_REGION_BLOCK_BYTES : 1);
         tries++) {
        err = test_region_remap(region, -1);
        if (!err)
            err = test_region_populate(region);
        *found = err ? 0 : test_region_smallest_page(region);
    }
    return err;
}

int test_region_zap(struct test_region *region)
{
    if (mprotect(test_region_host_hva(region), test_region_host_bytes(region), PROT_READ) ||
        mprotect(test_region_host_hva(region), test_region_host_bytes(region),
                 PROT_READ | PROT_WRITE))
        return -errno;
    return test_region_populate(region);
}

int test_region_discard(struct test_region *region)
{
    int64_t done = memory_discard(&region->session->machine.vm.memory, test_region_host_gpa(region),
                                  test_region_host_bytes(region));

    return done < 0 ? (int)done : 0;
}

int test_region_map_file(struct test_region *region)
{
    int fd = memfd_create("strata guest RAM", MFD_CLOEXEC), err;

    if (fd < 0)
        return -errno;
    err = fallocate(fd, 0, 0, (off_t)region->blocks_bytes) ? -errno : test_region_remap(region, fd);
    close(fd);
    return err;
}

int test_region_touch(struct test_region *region, uint64_t stride, uint32_t flags,
                      struct abi_reply *reply)
{
    const struct abi_command command = { .kind = ABI_COMMAND_TOUCH,
                                         .va = region->va,
                                         .bytes = region->bytes,
                                         .stride = stride,
                                         .flags = flags };

    return test_region_command(region->session, &command, reply, "touch its memory");
}

int test_region_drop(struct test_region *region)
{
    const struct abi_command command = { .kind = ABI_COMMAND_DISCARD,
                                         .va = region->va,
                                         .bytes = region->bytes };
    struct abi_reply reply;

    return test_region_command(region->session, &command, &reply, "give memory back");
}

int test_region_counts(const struct session *session, uint64_t counts[TEST_REGION_COUNTS])
{
    static const char *const names[] = { "pf_taken", "pf_fixed", "pf_fast" };
    struct abi_process process;
    int err = guest_process(&session->program.view, session->program.record.pid, &process);

    if (err)
        return err;
    counts[TEST_REGION_GUEST_FAULTS] = process.faults;
    counts[TEST_REGION_GUEST_COPIES] = process.cow_copies;
    for (unsigned i = TEST_REGION_KVM_TAKEN; i < TEST_REGION_COUNTS; i++)
        counts[i] = 0;
    for (unsigned i = 0; i < session->machine.vm.ncpus; i++) {
        uint64_t more[3];

        if (stats_read(session->machine.vm.vcpus[i].fd, names, more, 3))
            memset(more, 0xff, sizeof(more));
        for (unsigned j = 0; j < 3; j++) {
            uint64_t *sum = &counts[TEST_REGION_KVM_TAKEN + j];

            *sum = more[j] == UINT64_MAX || *sum == UINT64_MAX ? UINT64_MAX : *sum + more[j];
        }
    }
    return 0;
}
