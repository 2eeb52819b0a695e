#include "vmm/measure/fault_copies.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/measure/fault_kinds.h"
#include "vmm/measure/histogram.h"
#include "vmm/measure/native.h"

#define PAGE_BYTES 4096ull

static uint64_t fault_copies_power_below(uint64_t n)
{
    return 1ull << (63 - __builtin_clzll(n));
}

/* After fork the child stores to all pages; each is copied by the kernel that it runs on. */
static int fault_copies_in_guest(struct faults *faults, bool huge)
{
    struct fault_case result = { 0 };
    uint64_t before[TEST_REGION_COUNTS] = { 0 }, after[TEST_REGION_COUNTS] = { 0 };
    struct test_region *region = &faults->region[huge];
    struct abi_command command = { .kind = ABI_COMMAND_FORK,
                                   .va = region->va,
                                   .stride = huge ? TEST_REGION_BLOCK_BYTES : PAGE_BYTES,
                                   .count = fault_copies_power_below(faults->pages[huge]),
                                   .flags = ABI_TOUCH_TIMED };
    struct abi_reply reply;
    int err = 0;

    command.bytes = command.count * command.stride;
    for (unsigned i = 0; i < faults->warm_up + faults->batches && !err; i++) {
        err = test_region_counts(region->session, before);
        if (!err)
            err = test_region_command(region->session, &command, &reply, "fork");
        if (!err)
            err = test_region_counts(region->session, after);
        if (!err && i >= faults->warm_up)
            histogram_merge(&result.histogram, &reply.histogram);
    }
    if (err)
        return err;
    measure_distribution(faults->run, &result.histogram, faults->ns_per_tick, faults->floor,
                         "faults/vm/guest-%s/copy-in-guest/ns", fault_kinds_page_name(huge));
    /* In the last batch; those of the program, fork and its end included. */
    if (!faults->shadow && after[TEST_REGION_KVM_FIXED] != UINT64_MAX)
        measure_count(faults->run, after[TEST_REGION_KVM_FIXED] - before[TEST_REGION_KVM_FIXED],
                      "faults/vm/guest-%s/copy-in-guest/kvm-faults", fault_kinds_page_name(huge));
    return 0;
}

/* A private file behind guest memory, read before: the guest has its page, the host has not. */
static int fault_copies_on_host(struct faults *faults)
{
    struct fault_case result = { 0 };
    struct abi_reply reply;
    struct test_region *region = &faults->region[0];
    uint64_t found;
    int err = test_region_host(region, false, &found);

    /* A fork before has left pages to be copied by the guest, too, if they are written. */
    if (!err)
        err = test_region_touch(region, PAGE_BYTES, ABI_TOUCH_WRITE, &reply);
    for (unsigned i = 0; i < faults->warm_up + faults->batches && !err; i++) {
        if (i == faults->warm_up)
            memset(&result, 0, sizeof(result));
        err = test_region_map_file(region);
        if (!err)
            err = test_region_touch(region, PAGE_BYTES, 0, &reply);
        if (!err)
            err = fault_kinds_touch(region, PAGE_BYTES, ABI_TOUCH_WRITE, &result);
    }
    if (!err)
        err = test_region_host(region, false, &found);
    if (!err)
        fault_kinds_report(faults, &result, "faults/vm/guest-4k/copy-on-host");
    measure_unavailable(
        faults->run,
        "Linux copies private memory of a file by 4K, whatever page it is in; 2M copies "
        "are hugetlb's alone",
        "faults/vm/guest-2m/copy-on-host/ns");
    return err;
}

int fault_copies(struct faults *faults)
{
    int err;

    measure_progress(faults->run, 0.45, "copies on write");
    err = fault_copies_in_guest(faults, false);
    if (faults->run->quick && faults->run->host->interprets)
        measure_unavailable(
            faults->run,
            "copying 2M takes half a second where kernel code is interpreted: not quick",
            "faults/vm/guest-2m/copy-in-guest/ns");
    else if (!err)
        err = fault_copies_in_guest(faults, true);
    return err ? err : fault_copies_on_host(faults);
}

/* Anonymous memory after fork, in this process. */
static int fault_copies_native_fork(struct faults *faults)
{
    uint64_t pages = fault_copies_power_below(faults->pages[0]);
    struct abi_command command = {
        .kind = ABI_COMMAND_MAP, .bytes = pages * PAGE_BYTES, .stride = PAGE_BYTES, .count = pages
    };
    struct abi_histogram all = { 0 };
    struct abi_reply reply;
    int err = 0;

    native_command(&command, &reply);
    command.va = reply.value[0];
    for (unsigned i = 0; i < 1 + faults->batches && !reply.status; i++) {
        command.kind = i ? ABI_COMMAND_FORK : ABI_COMMAND_TOUCH;
        command.flags = i ? ABI_TOUCH_TIMED : ABI_TOUCH_WRITE;
        native_command(&command, &reply);
        if (i)
            histogram_merge(&all, &reply.histogram);
    }
    if (reply.status)
        err = -EIO;
    else
        measure_distribution(faults->run, &all, faults->ns_per_tick, faults->native_floor,
                             "faults/native/host-4k/copy-after-fork/ns");
    command.kind = ABI_COMMAND_UNMAP;
    native_command(&command, &reply);
    return err;
}

static int fault_copies_native_file(struct faults *faults)
{
    uint64_t bytes = faults->pages[0] * PAGE_BYTES;
    struct abi_command command = { .kind = ABI_COMMAND_TOUCH,
                                   .bytes = bytes,
                                   .stride = PAGE_BYTES };
    struct abi_histogram all = { 0 };
    struct abi_reply reply;
    int fd = memfd_create("strata file", MFD_CLOEXEC), err = 0;
    void *at;

    if (fd < 0 || fallocate(fd, 0, 0, (off_t)bytes))
        err = -errno;
    for (unsigned i = 0; i < 1 + faults->batches && !err; i++) {
        at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
        if (at == MAP_FAILED) {
            err = -errno;
            break;
        }
        command.va = (uintptr_t)at;
        command.flags = 0;
        native_command(&command, &reply);
        command.flags = ABI_TOUCH_WRITE | ABI_TOUCH_TIMED;
        native_command(&command, &reply);
        if (i)
            histogram_merge(&all, &reply.histogram);
        munmap(at, bytes);
    }
    if (fd >= 0)
        close(fd);
    if (!err)
        measure_distribution(faults->run, &all, faults->ns_per_tick, faults->native_floor,
                             "faults/native/host-4k/copy-of-file/ns");
    return err;
}

int fault_copies_native(struct faults *faults)
{
    int err = fault_copies_native_fork(faults);

    return err ? err : fault_copies_native_file(faults);
}
