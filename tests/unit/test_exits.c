/* Measuring exits: the bare machine, and what the guest's kernel does when asked. */
#include <check.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "guest/abi/dma.h"
#include "guest/abi/syscall.h"
#include "tests/unit/suites.h"
#include "vmm/machine/irq_route.h"
#include "vmm/machine/msr.h"
#include "vmm/measure/bare.h"
#include "vmm/measure/native.h"
#include "vmm/measure/session.h"

#define MSR_OURS     0x4b564df0u
#define VIRTIO_MAGIC 0x74726976u

static struct kvm_host host;
static struct session session;
static struct msr_reader reader;
static int msr_error;

static void setup(void)
{
    ck_assert_int_eq(kvm_open(&host), 0);
}

static void teardown(void)
{
    kvm_close(&host);
}

START_TEST(bare_machine)
{
    uint64_t ticks[BARE_SAMPLES], exits;
    struct bare bare;

    ck_assert_int_eq(bare_open(&bare, host.fd), 0);
    for (unsigned turn = 0; turn < 2; turn++) {
        /* Every other sample is the event, and that is when KVM_RUN comes back. */
        ck_assert_int_eq(bare_run(&bare, BARE_PIO, ticks, &exits), 0);
        ck_assert_uint_eq(exits, BARE_SAMPLES / 2);
        ck_assert_int_eq(bare_run(&bare, BARE_MMIO, ticks, &exits), 0);
        ck_assert_uint_eq(exits, BARE_SAMPLES / 2);
        ck_assert_int_eq(bare_run(&bare, BARE_CPUID, ticks, &exits), 0);
        ck_assert_uint_eq(exits, 0);
    }
    for (unsigned i = 0; i < BARE_SAMPLES; i++)
        ck_assert_uint_gt(ticks[i], 0);
    bare_close(&bare);
    ck_assert_int_lt(bare_open(&bare, -1), 0);
}
END_TEST

static uint64_t read_msr(void *owner, struct vcpu *vcpu)
{
    ck_assert_ptr_eq(owner, &reader);
    ck_assert_uint_eq(vcpu->index, 0);
    return 0x123456789;
}

static int prepare(void *owner, struct session *s)
{
    reader = (struct msr_reader){ .index = MSR_OURS, .read = read_msr, .owner = owner };
    msr_error = msr_take_reads(&s->machine.vm, &reader);
    return 0;
}

static void open_session(unsigned cpus, bool device)
{
    static const struct config_device rng = { .kind = DEVICE_RNG };
    const struct session_params params = { .memory_bytes = 64ull << 20,
                                           .cpus = cpus,
                                           .devices = &rng,
                                           .ndevices = device,
                                           .prepare = prepare,
                                           .prepare_owner = &reader };
    char error[256];

    ck_assert_msg(session_open(&session, &host, &params, error, sizeof(error)) == 0, "%s", error);
}

/* What the kernel says to an operation. */
static int64_t ask(uint64_t op, uint64_t count, uint64_t arg)
{
    const struct abi_command command = { .kind = ABI_COMMAND_KERNEL,
                                         .count = count,
                                         .arg = { op, arg } };
    struct abi_reply reply;

    ck_assert_msg(session_command(&session, &command, &reply) == 0, "%s", session.program.failure);
    return reply.status < 0 ? reply.status : (int64_t)reply.value[0];
}

static struct abi_measure_area *find_area(void)
{
    struct abi_measure_area *area = memory_at(&session.machine.vm.memory,
                                              (uint64_t)ask(ABI_MEASURE_AREA, 0, 0),
                                              sizeof(struct abi_measure_area));

    ck_assert_ptr_nonnull(area);
    return area;
}

START_TEST(events)
{
    struct abi_measure_area *area;
    uint64_t *exits;

    open_session(2, true);
    area = find_area();
    exits = session.machine.vm.vcpus[0].exits;
    ck_assert_int_eq(ask(ABI_MEASURE_PIO, 8, ABI_HYPERCALL_PORT), 8);
    ck_assert_uint_eq(area->result, ABI_HYPERCALL_MAGIC);
    for (unsigned i = 0; i < 8; i++)
        ck_assert_uint_gt(area->end[i], area->begin[i]);
    ck_assert_uint_eq(exits[KVM_EXIT_X86_RDMSR], 0);
    ck_assert_int_eq(ask(ABI_MEASURE_MMIO, 8, 0), 8);
    ck_assert_uint_eq(area->result, VIRTIO_MAGIC);
    ck_assert_int_eq(ask(ABI_MEASURE_RDMSR, 8, 0x1b), 8);
    ck_assert_uint_eq(area->result & 0xfffff000, ABI_LAPIC_GPA);
    if (!msr_error) {
        ck_assert_int_eq(ask(ABI_MEASURE_RDMSR, 8, MSR_OURS), 8);
        ck_assert_uint_eq(area->result, 0x23456789);
        ck_assert_uint_eq(exits[KVM_EXIT_X86_RDMSR], 4);
    }
    ck_assert_int_eq(ask(ABI_MEASURE_IPI, 4, 0), 4);
    ck_assert_int_eq(ask(ABI_MEASURE_IPI_ECHO, 4, 0), 4);
    for (unsigned i = 0; i < 4; i++)
        ck_assert_uint_gt(area->end[i], area->begin[i]);
    /* What cannot be. */
    ck_assert_int_eq(ask(ABI_MEASURE_EMPTY, ABI_MEASURE_SAMPLES + 1, 0), -ABI_EINVAL);
    ck_assert_int_eq(ask(ABI_MEASURE_OPS, 1, 0), -ABI_ENOSYS);
    ck_assert_int_eq(ask(ABI_MEASURE_EMPTY, 0, 0), 0);
    session_close(&session);
}
END_TEST

START_TEST(without_what_it_takes)
{
    const struct abi_command command = { .kind = ABI_COMMAND_KERNEL, .arg = { ABI_MEASURE_EMPTY } };
    struct abi_reply reply;

    open_session(1, false);
    ck_assert_int_eq(ask(ABI_MEASURE_MMIO, 1, 0), -ABI_ENODEV);
    ck_assert_int_eq(ask(ABI_MEASURE_IPI, 1, 0), -ABI_ENODEV);
    ck_assert_int_eq(ask(ABI_MEASURE_EMPTY, 1, 0), 1);
    session_close(&session);
    /* There is no kernel of the guest's in this process. */
    native_command(&command, &reply);
    ck_assert_int_eq(reply.status, -ABI_ENOSYS);
}
END_TEST

/* An eventfd interrupts the guest's program, as soon as it runs. */
START_TEST(irqfd)
{
    const struct abi_command nothing = { .kind = ABI_COMMAND_CLOCK };
    struct abi_measure_area *area;
    struct abi_reply reply;
    const uint64_t one = 1;
    uint32_t before;
    int fd = eventfd(0, EFD_CLOEXEC);

    open_session(1, false);
    area = find_area();
    ck_assert_int_eq(ask(ABI_MEASURE_EMPTY, 1, 0), 1);
    ck_assert_int_ge(irq_route_add(&session.machine.vm, fd, ABI_LAPIC_GPA, ABI_MEASURE_VECTOR), 0);
    before = area->reached;
    ck_assert_int_eq(write(fd, &one, sizeof(one)), sizeof(one));
    ck_assert_int_eq(session_command(&session, &nothing, &reply), 0);
    ck_assert_uint_eq(area->reached, before + 1);
    ck_assert_uint_gt(area->stamp, 0);
    ck_assert_int_eq(irq_route_add(&session.machine.vm, -1, ABI_LAPIC_GPA, ABI_MEASURE_VECTOR),
                     -EBADF);
    session_close(&session);
    close(fd);
}
END_TEST

Suite *exits_suite(void)
{
    Suite *suite = suite_create("exits");
    TCase *kvm = tcase_create("kvm");

    tcase_add_checked_fixture(kvm, setup, teardown);
    tcase_set_tags(kvm, NEEDS_KVM);
    tcase_set_timeout(kvm, 60);
    tcase_add_test(kvm, bare_machine);
    tcase_add_test(kvm, events);
    tcase_add_test(kvm, without_what_it_takes);
    tcase_add_test(kvm, irqfd);
    suite_add_tcase(suite, kvm);
    return suite;
}
