#include "vmm/measure/fault_logged.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "guest/abi/syscall.h"
#include "vmm/machine/dirty.h"
#include "vmm/measure/fault_kinds.h"

#define PAGE_BYTES 4096ull
/* More than are ever written between two harvests, KVM's own reserve included. */
#define RING_BYTES 65536u

/* All of RAM lies in one slot (session_params.memory_bytes is below 3 GiB). */
#define RAM_SLOT 0

struct log {
    struct test_region *region;
    struct dirty_ring *ring; /* NULL: the bitmap */
};

/* How many pages of the test region have been written; they are protected again. */
static int fault_logged_fetch(const struct log *log, uint64_t *pages)
{
    struct vm *vm = &log->region->session->machine.vm;

    if (log->ring)
        return dirty_ring_harvest(log->ring, vm, RAM_SLOT, log->region->gpa, log->region->bytes,
                                  pages);
    return dirty_bitmap(&vm->memory, RAM_SLOT, log->region->gpa, log->region->bytes, pages);
}

static int fault_logged_one_log(struct faults *faults, const struct log *log, bool huge)
{
    struct memory *memory = &log->region->session->machine.vm.memory;
    const char *kind = log->ring ? "ring" : "bitmap";
    uint64_t pages = 0, logged = 0, found;
    char prefix[MEASURE_NAME_BYTES / 2];
    struct fault_case result = { 0 };
    struct abi_reply reply;
    int err = test_region_host(log->region, huge, &found);

    if (!err && huge && !found) {
        measure_unavailable(faults->run, FAULT_SIZE_UNKNOWN,
                            "faults/vm/guest-2m/host-2m/logged-%s/ns", kind);
        return 0;
    }
    if (!err)
        err = test_region_touch(log->region, PAGE_BYTES, ABI_TOUCH_WRITE, &reply);
    if (!err)
        err = dirty_log(memory, RAM_SLOT, true);
    for (unsigned i = 0; i < faults->warm_up + faults->batches && !err; i++) {
        if (i == faults->warm_up) {
            memset(&result, 0, sizeof(result));
            logged = 0;
        }
        err = fault_kinds_touch(log->region, PAGE_BYTES, ABI_TOUCH_WRITE, &result);
        if (!err)
            err = fault_logged_fetch(log, &pages);
        logged += pages;
    }
    if (!err)
        err = dirty_log(memory, RAM_SLOT, false);
    if (err)
        return err;
    snprintf(prefix, sizeof(prefix), "faults/vm/guest-%s/host-%s/logged-%s",
             fault_kinds_page_name(huge), fault_kinds_page_name(found == TEST_REGION_BLOCK_BYTES),
             kind);
    measure_distribution(faults->run, &result.histogram, faults->ns_per_tick, faults->floor,
                         "%s/ns", prefix);
    measure_count(faults->run, logged, "%s/pages-in-log", prefix);
    /* Pages of the program that an answer is written to are protected, too. */
    if (result.counts[TEST_REGION_KVM_FIXED] != UINT64_MAX)
        measure_value(faults->run, (double)result.counts[TEST_REGION_KVM_FIXED], NAN, NAN, 1,
                      "%s/kvm-faults", prefix);
    return 0;
}

static int fault_logged_both_sizes(struct faults *faults, struct test_region *region,
                                   struct dirty_ring *ring)
{
    int err = 0;

    for (unsigned huge = 0; huge < 2 && !err; huge++) {
        const struct log log = { .region = &region[huge], .ring = ring };

        err = fault_logged_one_log(faults, &log, huge);
    }
    return err;
}

static int fault_logged_with_ring(struct faults *faults, struct session *session)
{
    struct test_region region[2];
    struct dirty_ring ring;
    int err = dirty_ring_open(&ring, &session->machine.vm.vcpus[0], RING_BYTES);

    if (err)
        return err;
    for (unsigned huge = 0; huge < 2 && !err; huge++)
        err = test_region_open(&region[huge], session, huge ? ABI_PAGE_2M : ABI_PAGE_4K,
                               faults->pages[huge], faults->run->error, sizeof(faults->run->error));
    if (!err)
        err = fault_logged_both_sizes(faults, region, &ring);
    dirty_ring_close(&ring);
    return err;
}

/* Rings are a matter of the whole VM: one of its own. */
static int fault_logged_by_ring(struct faults *faults)
{
    const struct session_params params = { .memory_bytes = 64u << 20,
                                           .cpus = 1,
                                           .dirty_ring_bytes = RING_BYTES };
    struct measure_run *run = faults->run;
    struct session session;
    int err;

    if (kvm_capability(run->host->kvm, KVM_CAP_DIRTY_LOG_RING) < (int)RING_BYTES) {
        measure_unavailable(run, "this KVM has no dirty rings (KVM_CAP_DIRTY_LOG_RING, Linux 5.11)",
                            "faults/vm/guest-4k/host-4k/logged-ring/ns");
        return 0;
    }
    err = session_open(&session, run->host->kvm, &params, run->error, sizeof(run->error));
    if (err)
        return err;
    err = fault_logged_with_ring(faults, &session);
    if (err && !run->error[0])
        snprintf(run->error, sizeof(run->error), "dirty ring: %s",
                 session.program.failure[0] ? session.program.failure : strerror(-err));
    session_close(&session);
    return err;
}

int fault_logged(struct faults *faults)
{
    int err;

    measure_progress(faults->run, 0.6, "dirty logging");
    err = fault_logged_both_sizes(faults, faults->region, NULL);
    return err ? err : fault_logged_by_ring(faults);
}
