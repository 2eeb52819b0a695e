#include "vmm/measure/fault_copies.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/measure/fault_kinds.h"
#include "vmm/measure/histogram.h"

#define PAGE_BYTES 4096ull

static uint64_t power_below(uint64_t n)
{
    return 1ull << (63 - __builtin_clzll(n));
}

/* After fork the child stores to all pages; each is copied by the kernel that it runs on. */
static int in_guest(struct faults *faults, bool huge)
{
    struct fault_case result = { 0 };
    uint64_t before[FIELD_COUNTS] = { 0 }, after[FIELD_COUNTS] = { 0 };
    struct field *field = &faults->field[huge];
    struct abi_order order = { .kind = ABI_ORDER_FORK,
                               .va = field->va,
                               .stride = huge ? FIELD_BLOCK_BYTES : PAGE_BYTES,
                               .count = power_below(faults->pages[huge]),
                               .flags = ABI_TOUCH_TIMED };
    struct abi_answer answer;
    int err = 0;

    order.bytes = order.count * order.stride;
    for (unsigned i = 0; i < faults->warm_up + faults->batches && !err; i++) {
        err = field_counts(field->session, before);
        if (!err)
            err = field_order(field->session, &order, &answer, "fork");
        if (!err)
            err = field_counts(field->session, after);
        if (!err && i >= faults->warm_up)
            histogram_merge(&result.histogram, &answer.histogram);
    }
    if (err)
        return err;
    measure_distribution(faults->run, &result.histogram, faults->ns_per_tick, faults->floor,
                         "faults/vm/guest-%s/copy-in-guest/ns", fault_kinds_page_name(huge));
    /* In the last batch; those of the program, fork and its end included. */
    if (!faults->shadow && after[FIELD_KVM_FIXED] != UINT64_MAX)
        measure_count(faults->run, after[FIELD_KVM_FIXED] - before[FIELD_KVM_FIXED],
                      "faults/vm/guest-%s/copy-in-guest/kvm-faults", fault_kinds_page_name(huge));
    return 0;
}

/* A private file behind guest memory, read before: the guest has its page, the host has not. */
static int on_host(struct faults *faults)
{
    struct fault_case result = { 0 };
    struct abi_answer answer;
    struct field *field = &faults->field[0];
    uint64_t found;
    int err = field_host(field, false, &found);

    /* A fork before has left pages to be copied by the guest, too, if they are written. */
    if (!err)
        err = field_touch(field, PAGE_BYTES, ABI_TOUCH_WRITE, &answer);
    for (unsigned i = 0; i < faults->warm_up + faults->batches && !err; i++) {
        if (i == faults->warm_up)
            memset(&result, 0, sizeof(result));
        err = field_map_file(field);
        if (!err)
            err = field_touch(field, PAGE_BYTES, 0, &answer);
        if (!err)
            err = fault_kinds_touch(field, PAGE_BYTES, ABI_TOUCH_WRITE, &result);
    }
    if (!err)
        err = field_host(field, false, &found);
    if (!err)
        fault_kinds_report(faults, &result, "faults/vm/guest-4k/copy-on-host");
    measure_lack(faults->run,
                 "Linux copies private memory of a file by 4K, whatever page it is in; 2M copies "
                 "are hugetlb's alone",
                 "faults/vm/guest-2m/copy-on-host/ns");
    return err;
}

int fault_copies(struct faults *faults)
{
    int err;

    measure_progress(faults->run, 0.45, "copies on write");
    err = in_guest(faults, false);
    if (faults->run->quick && faults->run->host->interprets)
        measure_lack(faults->run,
                     "copying 2M takes half a second where kernel code is interpreted: not quick",
                     "faults/vm/guest-2m/copy-in-guest/ns");
    else if (!err)
        err = in_guest(faults, true);
    return err ? err : on_host(faults);
}

/* Anonymous memory after fork, in this process. */
static int native_fork(struct faults *faults)
{
    uint64_t pages = power_below(faults->pages[0]);
    struct abi_order order = {
        .kind = ABI_ORDER_MAP, .bytes = pages * PAGE_BYTES, .stride = PAGE_BYTES, .count = pages
    };
    struct abi_histogram all = { 0 };
    struct abi_answer answer;
    int err = 0;

    native_order(&order, &answer);
    order.va = answer.value[0];
    for (unsigned i = 0; i < 1 + faults->batches && !answer.status; i++) {
        order.kind = i ? ABI_ORDER_FORK : ABI_ORDER_TOUCH;
        order.flags = i ? ABI_TOUCH_TIMED : ABI_TOUCH_WRITE;
        native_order(&order, &answer);
        if (i)
            histogram_merge(&all, &answer.histogram);
    }
    if (answer.status)
        err = -EIO;
    else
        measure_distribution(faults->run, &all, faults->ns_per_tick, faults->native_floor,
                             "faults/native/host-4k/copy-after-fork/ns");
    order.kind = ABI_ORDER_UNMAP;
    native_order(&order, &answer);
    return err;
}

static int native_file(struct faults *faults)
{
    uint64_t bytes = faults->pages[0] * PAGE_BYTES;
    struct abi_order order = { .kind = ABI_ORDER_TOUCH, .bytes = bytes, .stride = PAGE_BYTES };
    struct abi_histogram all = { 0 };
    struct abi_answer answer;
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
        order.va = (uintptr_t)at;
        order.flags = 0;
        native_order(&order, &answer);
        order.flags = ABI_TOUCH_WRITE | ABI_TOUCH_TIMED;
        native_order(&order, &answer);
        if (i)
            histogram_merge(&all, &answer.histogram);
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
    int err = native_fork(faults);

    return err ? err : native_file(faults);
}
