/*
 * devices/core/io_thread: notifications without exits, on a thread that stands still while
 * the world is paused.
 */
#include <check.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <time.h>

#include "devices/core/io_thread.h"
#include "guest/abi/machine.h"
#include "tests/unit/suites.h"
#include "vmm/machine/vm.h"

#define CODE_GPA   0x1000
#define MIB        (1ull << 20)
#define NOTIFY_GPA 0xd0000050u

/* movl $value, NOTIFY_GPA */
#define NOTIFY(value) \
    0xc7, 0x05, NOTIFY_GPA & 0xff, NOTIFY_GPA >> 8 & 0xff, 0, NOTIFY_GPA >> 24, (value), 0, 0, 0

/* Three times 1, once 2, once 1 by a write of 16 bits; then hlt, with interrupts off. */
static const uint8_t notify[] = {
    NOTIFY(1), NOTIFY(1), NOTIFY(2), NOTIFY(1), 0x66, 0xc7, 0x05, NOTIFY_GPA & 0xff,
    0,         0,         0xd0,      1,         0,    0xf4, 0xeb, 0xfd,
};

static struct kvm_host host;
static struct vm vm;
static struct io_thread io;
static atomic_uint calls, total;

static void count_calls(void *owner, unsigned index, uint64_t count, struct vm_thread *self)
{
    ck_assert_ptr_eq(owner, &vm);
    ck_assert_ptr_eq(self->vm, &vm);
    ck_assert_uint_eq(index, 1);
    atomic_fetch_add(&calls, 1);
    atomic_fetch_add(&total, (unsigned)count);
}

static void make(void)
{
    const struct vm_params params = { .memory_bytes = 2 * MIB, .ncpus = 1 };

    ck_assert_int_eq(kvm_open(&host), 0);
    atomic_store(&calls, 0);
    atomic_store(&total, 0);
    ck_assert_int_eq(vm_create(&vm, &host, &params), 0);
    memcpy(memory_at(&vm.memory, CODE_GPA, sizeof(notify)), notify, sizeof(notify));
    ck_assert_int_eq(vcpu_configure(&vm.vcpus[0]), 0);
    ck_assert_int_eq(vcpu_enter_protected(&vm.vcpus[0], &(struct vcpu_entry){ .rip = CODE_GPA }),
                     0);
    io_thread_create(&io, &vm);
}

static void destroy(void)
{
    vm_stop(&vm, VM_END_HOST_STOP, 0);
    io_thread_destroy(&io);
    ck_assert_int_eq(vm_wait(&vm, 20000), 0);
    vm_destroy(&vm);
    kvm_close(&host);
}

static void sleep_ms(unsigned ms)
{
    struct timespec time = { .tv_nsec = ms * 1000000l };

    nanosleep(&time, NULL);
}

static void await(atomic_uint *counter, unsigned value)
{
    for (unsigned i = 0; i < 1000 && atomic_load(counter) != value; i++)
        sleep_ms(10);
    ck_assert_uint_eq(atomic_load(counter), value);
}

/* Only the writes that match come by the thread; the others are exits as before. */
START_TEST(test_match)
{
    make();
    ck_assert_int_eq(io_thread_watch(&io, NOTIFY_GPA, 1, count_calls, &vm), 0);
    ck_assert_int_eq(vm_start(&vm), 0);
    await(&total, 3);
    for (unsigned i = 0; i < 1000 && atomic_load(&vm.mmio.unclaimed_writes) < 2; i++)
        sleep_ms(10);
    ck_assert_uint_eq(atomic_load(&vm.mmio.unclaimed_writes), 2);
    vm_pause(&vm, NULL);
    ck_assert_uint_eq(vm.vcpus[0].exits[KVM_EXIT_MMIO], 2);
    vm_resume(&vm, NULL);
    ck_assert_uint_eq(atomic_load(&total), 3);
    ck_assert_uint_eq(atomic_load(&io.signals), 3);
    destroy();
}
END_TEST

/* The control: without it, all five are exits. And nothing was made for it. */
START_TEST(test_none)
{
    make();
    ck_assert_int_eq(vm_start(&vm), 0);
    for (unsigned i = 0; i < 1000 && atomic_load(&vm.mmio.unclaimed_writes) < 5; i++)
        sleep_ms(10);
    ck_assert_uint_eq(atomic_load(&vm.mmio.unclaimed_writes), 5);
    ck_assert(!io.thread.started);
    ck_assert_int_lt(io.epoll_fd, 0);
    destroy();
    ck_assert_uint_eq(atomic_load(&calls), 0);
}
END_TEST

/* While the world is paused nothing is called, however much comes in; later all of it is. */
START_TEST(test_pause)
{
    make();
    ck_assert_int_eq(io_thread_watch(&io, NOTIFY_GPA, 1, count_calls, &vm), 0);
    ck_assert_int_eq(vm_start(&vm), 0);
    await(&total, 3);
    for (unsigned i = 0; i < 20; i++) {
        unsigned before = atomic_load(&total);

        vm_pause(&vm, NULL);
        ck_assert_int_eq(eventfd_write(io.events[0]->fd, 2), 0);
        sleep_ms(5);
        ck_assert_int_eq(eventfd_write(io.events[0]->fd, 1), 0);
        sleep_ms(5);
        ck_assert_uint_eq(atomic_load(&total), before);
        vm_resume(&vm, NULL);
        await(&total, before + 3);
    }
    destroy();
}
END_TEST

static void park_for_ever(void *owner, unsigned index, uint64_t count, struct vm_thread *self)
{
    (void)owner;
    (void)index;
    (void)count;
    atomic_store(&calls, 1);
    while (vm_thread_park(self))
        sleep_ms(1);
    atomic_store(&calls, 2);
}

/* A callback that is at work all the time lets others pause, and ends with the VM. */
START_TEST(test_busy)
{
    make();
    ck_assert_int_eq(io_thread_watch(&io, NOTIFY_GPA, 1, park_for_ever, &vm), 0);
    ck_assert_int_eq(vm_start(&vm), 0);
    await(&calls, 1);
    for (unsigned i = 0; i < 20; i++) {
        vm_pause(&vm, NULL);
        vm_resume(&vm, NULL);
    }
    destroy();
    ck_assert_uint_eq(atomic_load(&calls), 2);
}
END_TEST

/* Where KVM has no such thing, nothing is left behind, and the reason is kept. */
START_TEST(test_refused)
{
    int fd;

    make();
    fd = vm.fd;
    vm.fd = -1;
    ck_assert_int_eq(io_thread_watch(&io, NOTIFY_GPA, 1, count_calls, &vm), -EBADF);
    vm.fd = fd;
    ck_assert_int_eq(io.error, -EBADF);
    ck_assert_uint_eq(io.nevents, 0);
    for (unsigned i = 0; i < IO_EVENTS_MAX; i++)
        ck_assert_int_eq(io_thread_watch(&io, NOTIFY_GPA, i, count_calls, &vm), 0);
    ck_assert_int_eq(io_thread_watch(&io, NOTIFY_GPA, IO_EVENTS_MAX, count_calls, &vm), -ENOSPC);
    destroy();
}
END_TEST

Suite *io_thread_suite(void)
{
    Suite *suite = suite_create("io_thread");
    TCase *tcase = tcase_create("io_thread");

    tcase_set_tags(tcase, NEEDS_KVM);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, test_match);
    tcase_add_test(tcase, test_none);
    tcase_add_test(tcase, test_pause);
    tcase_add_test(tcase, test_busy);
    tcase_add_test(tcase, test_refused);
    suite_add_tcase(suite, tcase);
    return suite;
}
