/*
 * vmm/machine: real VMs with guests of a few bytes.
 */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "devices/core/board.h"
#include "guest/abi/machine.h"
#include "tests/unit/suites.h"
#include "vmm/machine/irq.h"
#include "vmm/machine/probe.h"
#include "vmm/machine/vm.h"

#define CODE_GPA    0x1000
#define COUNTER_GPA 0x3000 /* each vCPU counts at its own place, 64 bytes apart */
#define MIB         (1ull << 20)
#define LIMIT_MS    20000 /* for what is to come, however busy the host is */
#define TRIES       5     /* for what is to come at once: other load makes some late, not all */

#define OUT(port)   0x66, 0xba, (port)&0xff, (port) >> 8 /* mov $port, %dx */

/* Guests, in 32-bit code; EBX is the vCPU's number. */
static const uint8_t exit_42[] = { OUT(ABI_HYPERCALL_PORT + ABI_HYPERCALL_EXIT),
                                   0xb8,
                                   42,
                                   0,
                                   0,
                                   0,      /* mov $42, %eax */
                                   0xef }; /* out %eax, %dx */
static const uint8_t panic[] = { OUT(ABI_HYPERCALL_PORT + ABI_HYPERCALL_PANIC), 0xef };
static const uint8_t reset[] = { 0xb0, I8042_RESET, 0xe6, I8042_PORT };
static const uint8_t halt[] = { 0xf4, 0xeb, 0xfd };   /* 1: hlt; jmp 1b, interrupts off */
static const uint8_t triple_fault[] = { 0x0f, 0x0b }; /* ud2; the IDT is all zero */
/* With IF clear, Bochs would hold back its host's interrupts too (tests/guests/spin.S). */
static const uint8_t count[] = { 0xfb,                               /* sti */
                                 0xc1, 0xe3, 6,                      /* shl $6, %ebx */
                                 0xff, 0x83, 0x00, 0x30, 0x00, 0x00, /* 1: incl 0x3000(%ebx) */
                                 0xeb, 0xf8 };                       /* jmp 1b */
static const uint8_t ring[] = { OUT(ABI_HYPERCALL_PORT),
                                0x89,
                                0xd8, /* mov %ebx, %eax */
                                0xef,
                                0xeb,
                                0xfd }; /* 1: out %eax, %dx; jmp 1b */
static const uint8_t print[] = { OUT(ABI_SERIAL_PORT), 0xee, 0xeb, 0xfd };

static struct kvm_host host;
static struct vm vm;
static struct board board;

static void open_kvm(void)
{
    ck_assert_int_eq(kvm_open(&host), 0);
}

/* A VM whose first `running` vCPUs start with this code; the others wait for SIPI. */
struct guest {
    struct vm *vm;
    struct board *board;
    unsigned ncpus, running;
    const uint8_t *code;
    size_t bytes;
};

static void make_guest(const struct guest *guest, const struct board_config *config)
{
    const struct board_config silent = { .console_out_fd = -1, .console_input_ready_fd = -1 };
    const struct vm_params params = { .memory_bytes = 2 * MIB, .ncpus = guest->ncpus };
    struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };

    ck_assert_int_eq(vm_create(guest->vm, &host, &params), 0);
    ck_assert_int_eq(board_create(guest->board, guest->vm, config ? config : &silent), 0);
    memcpy(memory_at(&guest->vm->memory, CODE_GPA, guest->bytes), guest->code, guest->bytes);
    for (unsigned i = 0; i < guest->running; i++) {
        ck_assert_int_eq(vcpu_configure(&guest->vm->vcpus[i]), 0);
        ck_assert_int_eq(vcpu_enter_protected(&guest->vm->vcpus[i],
                                              &(struct vcpu_entry){ .rip = CODE_GPA, .rbx = i }),
                         0);
        ck_assert_int_ge(ioctl(guest->vm->vcpus[i].fd, KVM_SET_MP_STATE, &runnable), 0);
    }
}

#define MAKE(ncpus, running, code) \
    make_guest(&(struct guest){ &vm, &board, ncpus, running, code, sizeof(code) }, NULL)

static void destroy(void)
{
    vm_stop(&vm, VM_END_HOST_STOP, 0);
    ck_assert_int_eq(vm_wait(&vm, LIMIT_MS), 0);
    board_destroy(&board);
    vm_destroy(&vm);
    kvm_close(&host);
}

static uint32_t counter(unsigned index)
{
    return __atomic_load_n(
        (uint32_t *)memory_at(&vm.memory, COUNTER_GPA + 64 * index, sizeof(uint32_t)),
        __ATOMIC_SEQ_CST);
}

static void sleep_ms(unsigned ms)
{
    struct timespec time = { .tv_nsec = ms * 1000000l };

    nanosleep(&time, NULL);
}

static long now_ms(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static unsigned open_fds(void)
{
    DIR *listing = opendir("/proc/self/fd");
    unsigned n = 0;

    ck_assert_ptr_nonnull(listing);
    while (readdir(listing))
        n++;
    closedir(listing);
    return n;
}

static const struct {
    const char *name;
    const uint8_t *code;
    size_t bytes;
    enum vm_end_reason reason;
    int status;
} ends[] = {
    { "exit", exit_42, sizeof(exit_42), VM_END_GUEST_EXIT, 42 },
    { "panic", panic, sizeof(panic), VM_END_GUEST_PANIC, 1 },
    { "reset", reset, sizeof(reset), VM_END_GUEST_RESET, 0 },
    { "triple fault", triple_fault, sizeof(triple_fault), VM_END_TRIPLE_FAULT, 1 },
};

START_TEST(test_end)
{
    uint64_t signalled;

    open_kvm();
    make_guest(&(struct guest){ &vm, &board, 2, 1, ends[_i].code, ends[_i].bytes }, NULL);
    ck_assert_int_eq(vm_start(&vm), 0);
    ck_assert_int_eq(vm_wait(&vm, LIMIT_MS), 0);
    ck_assert_int_eq(vm.end.reason, ends[_i].reason);
    ck_assert_int_eq(vm.end.status, ends[_i].status);
    ck_assert_uint_eq(vm.end.vcpu, 0);
    ck_assert_int_eq(read(vm.end_fd, &signalled, 8), 8);
    /* What comes later changes nothing. */
    vm_stop(&vm, VM_END_HOST_STOP, 99);
    ck_assert_int_eq(vm.end.reason, ends[_i].reason);
    destroy();
}
END_TEST

static void wait_beside(void *arg)
{
    ck_assert(!pthread_equal(pthread_self(), *(pthread_t *)arg));
    ck_assert_int_eq(vm_wait(&vm, LIMIT_MS), 0);
    ck_assert_int_eq(vm.end.status, 42);
    *(pthread_t *)arg = pthread_self();
}

/* The boot CPU on the calling thread, and somebody who waits for it beside. */
START_TEST(test_run)
{
    pthread_t thread = pthread_self();

    open_kvm();
    MAKE(2, 1, exit_42);
    ck_assert_int_eq(vm_run(&vm, wait_beside, &thread), 0);
    ck_assert(!pthread_equal(pthread_self(), thread));
    destroy();

    ck_assert_int_eq(kvm_open(&host), 0);
    MAKE(1, 1, exit_42);
    ck_assert_int_eq(vm_run(&vm, NULL, NULL), 0);
    ck_assert_int_eq(vm_wait(&vm, LIMIT_MS), 0);
    ck_assert_int_eq(vm.end.status, 42);
    ck_assert_uint_eq(vm.end.vcpu, 0);
    ck_assert_uint_eq(vm.vcpus[0].exits[KVM_EXIT_IO], 1);
    destroy();
}
END_TEST

static const struct {
    const char *name;
    const uint8_t *code;
    size_t bytes;
} endless[] = {
    { "stop in hlt", halt, sizeof(halt) },
    { "stop in a loop", count, sizeof(count) },
    { "stop in exits", ring, sizeof(ring) },
};

#define STOP_MS 500

/* How many milliseconds it takes from asking for it until no vCPU runs. */
static long stop(int status)
{
    long before = now_ms();

    vm_stop(&vm, VM_END_HOST_STOP, status);
    ck_assert_int_eq(vm_wait(&vm, LIMIT_MS), 0);
    return now_ms() - before;
}

START_TEST(test_stop)
{
    long took = STOP_MS;

    for (unsigned i = 0; i < TRIES && took >= STOP_MS; i++) {
        open_kvm();
        make_guest(&(struct guest){ &vm, &board, 4, 2, endless[_i].code, endless[_i].bytes }, NULL);
        ck_assert_int_eq(vm_start(&vm), 0);
        ck_assert_int_eq(vm_wait(&vm, 20), -ETIMEDOUT);
        took = stop(7);
        ck_assert_int_eq(vm.end.reason, VM_END_HOST_STOP);
        ck_assert_int_eq(vm.end.status, 7);
        ck_assert_uint_eq(vm.end.vcpu, VM_NO_VCPU);
        destroy();
    }
    ck_assert_int_lt(took, STOP_MS);
}
END_TEST

/* A vCPU that waits for a reader who never reads. */
START_TEST(test_stop_in_output)
{
    struct board_config config = { .console_input_ready_fd = -1 };
    long took = STOP_MS, before;
    int fds[2];

    for (unsigned i = 0; i < TRIES && took >= STOP_MS; i++) {
        open_kvm();
        ck_assert_int_eq(pipe(fds), 0);
        config.console_out_fd = fds[1];
        make_guest(&(struct guest){ &vm, &board, 1, 1, print, sizeof(print) }, &config);
        ck_assert_int_eq(fcntl(fds[1], F_SETPIPE_SZ, 4096) < 0, 0);
        ck_assert_int_eq(vm_start(&vm), 0);
        sleep_ms(200);
        before = now_ms();
        vm_pause(&vm, NULL);
        vm_resume(&vm, NULL);
        took = now_ms() - before;
        took += stop(0);
        destroy();
        close(fds[0]);
        close(fds[1]);
    }
    ck_assert_int_lt(took, STOP_MS);
}
END_TEST

START_TEST(test_pause)
{
    uint32_t first[2];

    open_kvm();
    /* Two that count, one that waits for SIPI. */
    MAKE(3, 2, count);
    ck_assert_int_eq(vm_start(&vm), 0);
    for (unsigned round = 0; round < 5; round++) {
        sleep_ms(10);
        vm_pause(&vm, NULL);
        vm_pause(&vm, NULL);
        for (unsigned i = 0; i < 3; i++)
            ck_assert(!vcpu_is_running(&vm.vcpus[i]));
        first[0] = counter(0);
        first[1] = counter(1);
        sleep_ms(10);
        ck_assert_uint_eq(counter(0), first[0]);
        ck_assert_uint_eq(counter(1), first[1]);
        vm_resume(&vm, NULL);
        sleep_ms(5);
        ck_assert_uint_eq(counter(0), first[0]);
        vm_resume(&vm, NULL);
        for (unsigned i = 0; i < LIMIT_MS / 2 && (counter(0) == first[0] || counter(1) == first[1]);
             i++)
            sleep_ms(2);
        ck_assert_uint_ne(counter(0), first[0]);
        ck_assert_uint_ne(counter(1), first[1]);
    }
    destroy();
}
END_TEST

/* Stopped while paused: the paused vCPUs leave without another instruction. */
START_TEST(test_stop_while_paused)
{
    uint32_t first;

    open_kvm();
    MAKE(2, 2, count);
    ck_assert_int_eq(vm_start(&vm), 0);
    sleep_ms(10);
    vm_pause(&vm, NULL);
    first = counter(0);
    vm_stop(&vm, VM_END_HOST_STOP, 0);
    ck_assert_int_eq(vm_wait(&vm, LIMIT_MS), 0);
    vm_resume(&vm, NULL);
    ck_assert_uint_eq(counter(0), first);
    destroy();
}
END_TEST

struct stress {
    struct vm *vm;
    atomic_uint inside, pauses, broken, rings[3];
    atomic_bool stop;
};

/* Alone in here, whoever it is. */
static void hold_the_world(struct stress *stress, struct vcpu *self)
{
    vm_pause(stress->vm, self);
    if (atomic_fetch_add(&stress->inside, 1) != 0 && !atomic_load(&stress->stop))
        atomic_fetch_add(&stress->broken, 1);
    atomic_fetch_add(&stress->pauses, 1);
    atomic_fetch_sub(&stress->inside, 1);
    vm_resume(stress->vm, self);
}

static int pause_on_ring(void *owner, struct vcpu *vcpu, uint32_t frame)
{
    struct stress *stress = owner;

    (void)frame;
    atomic_fetch_add(&stress->rings[vcpu->index], 1);
    hold_the_world(stress, vcpu);
    return 0;
}

static void *pause_from_outside(void *arg)
{
    struct stress *stress = arg;

    while (!atomic_load(&stress->stop))
        hold_the_world(stress, NULL);
    return NULL;
}

/* Every vCPU and two other threads stop the world at the same time, over and over. */
START_TEST(test_pause_stress)
{
    struct stress stress = { .vm = &vm };
    struct board_config config = { .console_out_fd = -1,
                                   .console_input_ready_fd = -1,
                                   .checkpoint = pause_on_ring,
                                   .checkpoint_owner = &stress };
    pthread_t outside[2];

    open_kvm();
    make_guest(&(struct guest){ &vm, &board, 4, 3, ring, sizeof(ring) }, &config);
    ck_assert_int_eq(vm_start(&vm), 0);
    for (unsigned i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&outside[i], NULL, pause_from_outside, &stress), 0);
    sleep_ms(400);
    /* Each of them gets its turn, at some time. */
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned ms = 0; ms < LIMIT_MS && !atomic_load(&stress.rings[i]); ms += 10)
            sleep_ms(10);
        ck_assert_msg(atomic_load(&stress.rings[i]) > 0, "vCPU %u never had its turn", i);
    }
    for (unsigned ms = 0; ms < LIMIT_MS && atomic_load(&stress.pauses) <= 10; ms += 10)
        sleep_ms(10);
    atomic_store(&stress.stop, true);
    vm_stop(&vm, VM_END_HOST_STOP, 0);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(outside[i], NULL);
    ck_assert_int_eq(vm_wait(&vm, LIMIT_MS), 0);
    ck_assert_uint_eq(stress.broken, 0);
    ck_assert_uint_gt(stress.pauses, 10);
    destroy();
}
END_TEST

START_TEST(test_two_at_once)
{
    static struct vm other;
    static struct board other_board;

    open_kvm();
    MAKE(1, 1, count);
    make_guest(&(struct guest){ &other, &other_board, 1, 1, exit_42, sizeof(exit_42) }, NULL);
    ck_assert_int_eq(vm_start(&vm), 0);
    ck_assert_int_eq(vm_start(&other), 0);
    ck_assert_int_eq(vm_wait(&other, LIMIT_MS), 0);
    ck_assert_int_eq(other.end.status, 42);
    ck_assert_int_eq(vm.end.reason, VM_END_NONE);
    board_destroy(&other_board);
    vm_destroy(&other);
    destroy();
}
END_TEST

START_TEST(test_nothing_left)
{
    unsigned before;

    open_kvm();
    kvm_close(&host);
    before = open_fds();
    for (unsigned i = 0; i < 5; i++) {
        ck_assert_int_eq(kvm_open(&host), 0);
        MAKE(2, 1, exit_42);
        if (i % 2)
            ck_assert_int_eq(vm_start(&vm), 0);
        destroy();
        ck_assert_uint_eq(open_fds(), before);
    }
}
END_TEST

struct put {
    int fails, was_zero;
};

static int put_code(struct memory *memory, void *arg)
{
    struct put *put = arg;
    uint8_t *to = memory_at(memory, CODE_GPA, sizeof(exit_42));

    put->was_zero += !to[0];
    memcpy(to, exit_42, sizeof(exit_42));
    return put->fails;
}

START_TEST(test_bad_shapes)
{
    static const struct vm_params bad[] = {
        { .memory_bytes = 2 * MIB, .ncpus = 0 },
        { .memory_bytes = 2 * MIB, .ncpus = VM_CPUS_MAX + 1 },
        { .memory_bytes = 0, .ncpus = 1 },
        { .memory_bytes = 2 * MIB + 1, .ncpus = 2 },
        { .memory_bytes = 3 * MIB, .ncpus = 2, .backing = MEMORY_HUGETLB },
    };
    unsigned before;

    open_kvm();
    before = open_fds();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct vm_params params = bad[i];

        ck_assert_int_eq(vm_create(&vm, &host, &params), -EINVAL);
        params.prepare = put_code;
        ck_assert_int_eq(vm_create(&vm, &host, &params), -EINVAL);
    }
    ck_assert_uint_eq(open_fds(), before);
    kvm_close(&host);
}
END_TEST

/* What is put into memory meanwhile is there, and KVM knows that memory. */
START_TEST(test_meanwhile)
{
    const struct board_config silent = { .console_out_fd = -1, .console_input_ready_fd = -1 };
    struct vm_params params = { .memory_bytes = 2 * MIB, .ncpus = 2, .prepare = put_code };
    struct put put = { .fails = -ENOEXEC };
    unsigned before;

    open_kvm();
    params.arg = &put;
    before = open_fds();
    ck_assert_int_eq(vm_create(&vm, &host, &params), -ENOEXEC);
    ck_assert_uint_eq(open_fds(), before);

    put.fails = 0;
    ck_assert_int_eq(vm_create(&vm, &host, &params), 0);
    ck_assert_int_eq(put.was_zero, 2);
    ck_assert_int_eq(board_create(&board, &vm, &silent), 0);
    ck_assert_int_eq(vcpu_configure(&vm.vcpus[0]), 0);
    ck_assert_int_eq(vcpu_enter_protected(&vm.vcpus[0], &(struct vcpu_entry){ .rip = CODE_GPA }),
                     0);
    ck_assert_int_eq(vm_run(&vm, NULL, NULL), 0);
    ck_assert_int_eq(vm_wait(&vm, LIMIT_MS), 0);
    ck_assert_int_eq(vm.end.reason, VM_END_GUEST_EXIT);
    ck_assert_int_eq(vm.end.status, 42);
    destroy();
}
END_TEST

START_TEST(test_slots)
{
    const struct vm_params params = { .memory_bytes = 2 * MIB, .ncpus = 1 };
    void *page;

    open_kvm();
    ck_assert_int_eq(vm_create(&vm, &host, &params), 0);
    page = aligned_alloc(4096, 4096);
    ck_assert_int_eq(memory_add(&vm.memory, 16 * MIB, 4096, page, KVM_MEM_READONLY), 0);
    /* Beyond what any CPU addresses: KVM refuses, and the slot is not there. */
    ck_assert_int_lt(memory_add(&vm.memory, 1ull << 62, 4096, page, 0), 0);
    ck_assert_ptr_null(memory_at(&vm.memory, 1ull << 62, 1));
    vm_destroy(&vm);
    free(page);
    kvm_close(&host);
}
END_TEST

START_TEST(test_probe)
{
    static const uint8_t report_7[] = { 0xb8, 7, 0, 0, 0, 0xe7, PROBE_PORT };
    static const enum probe_mode modes[] = { PROBE_32BIT, PROBE_64BIT };
    struct probe_code probe = { .code = report_7, .bytes = sizeof(report_7) };
    struct probe_outcome outcome;

    open_kvm();
    for (unsigned i = 0; i < 2; i++) {
        probe.mode = modes[i];
        ck_assert_int_eq(probe_run(&host, &probe, &outcome), 0);
        ck_assert_int_eq(outcome.end, VM_END_GUEST_EXIT);
        ck_assert_uint_eq(outcome.value, 7);
    }
    /* One that does not come back is stopped. */
    probe.code = halt;
    probe.bytes = sizeof(halt);
    probe.limit_ms = 100;
    ck_assert_int_eq(probe_run(&host, &probe, &outcome), 0);
    ck_assert_int_eq(outcome.end, VM_END_HOST_STOP);
    probe.bytes = PROBE_CODE_BYTES + 1;
    ck_assert_int_eq(probe_run(&host, &probe, &outcome), -EINVAL);
    kvm_close(&host);
}
END_TEST

/* A message is an interrupt that waits in the local APIC it names, if that is switched on. */
START_TEST(test_msi)
{
    enum { SPURIOUS = 0xf0, SPURIOUS_ENABLE = 0x1ff, REQUESTED = 0x200, VECTOR = 0x55 };
    struct kvm_lapic_state lapic;
    uint32_t *spurious = (uint32_t *)(void *)(lapic.regs + SPURIOUS);
    const uint32_t *requested = (uint32_t *)(void *)(lapic.regs + REQUESTED + VECTOR / 32 * 16);

    open_kvm();
    MAKE(1, 1, halt);
    ck_assert_int_eq(irq_msi(&vm, ABI_LAPIC_GPA, VECTOR), -EAGAIN);
    ck_assert_int_ge(ioctl(vm.vcpus[0].fd, KVM_GET_LAPIC, &lapic), 0);
    *spurious = SPURIOUS_ENABLE;
    ck_assert_int_ge(ioctl(vm.vcpus[0].fd, KVM_SET_LAPIC, &lapic), 0);
    ck_assert_int_eq(irq_msi(&vm, ABI_LAPIC_GPA, VECTOR), 0);
    ck_assert_int_eq(irq_msi(&vm, ABI_LAPIC_GPA | 9 << 12, VECTOR), -EAGAIN); /* no APIC 9 */
    ck_assert_int_ge(ioctl(vm.vcpus[0].fd, KVM_GET_LAPIC, &lapic), 0);
    ck_assert_uint_eq(*requested, 1u << VECTOR % 32);
    destroy();
}
END_TEST

/* A signal of an eventfd is the message of its route, also of one that has changed. */
START_TEST(test_routes)
{
    enum { SPURIOUS = 0xf0, SPURIOUS_ENABLE = 0x1ff, REQUESTED = 0x200, FIRST = 0x60, ROUTES = 3 };
    struct kvm_lapic_state lapic;
    uint32_t *spurious = (uint32_t *)(void *)(lapic.regs + SPURIOUS);
    const uint32_t *requested = (uint32_t *)(void *)(lapic.regs + REQUESTED + FIRST / 32 * 16);
    int fd[ROUTES], gsi[ROUTES];

    open_kvm();
    MAKE(1, 1, halt);
    ck_assert_int_ge(ioctl(vm.vcpus[0].fd, KVM_GET_LAPIC, &lapic), 0);
    *spurious = SPURIOUS_ENABLE;
    ck_assert_int_ge(ioctl(vm.vcpus[0].fd, KVM_SET_LAPIC, &lapic), 0);
    for (int i = 0; i < ROUTES; i++) {
        fd[i] = eventfd(0, EFD_CLOEXEC);
        gsi[i] = irq_route_add(&vm, fd[i], ABI_LAPIC_GPA, FIRST + (uint32_t)i);
        ck_assert_int_eq(gsi[i], IRQ_LINES + i);
    }
    ck_assert_int_eq(irq_route_set(&vm, (unsigned)gsi[1], ABI_LAPIC_GPA, FIRST + 8), 0);
    ck_assert_int_eq(irq_route_remove(&vm, (unsigned)gsi[2], fd[2]), 0);
    ck_assert_int_eq(irq_route_remove(&vm, (unsigned)gsi[2], fd[2]), -EINVAL);
    ck_assert_int_eq(irq_route_set(&vm, IRQ_LINES - 1, ABI_LAPIC_GPA, FIRST), -EINVAL);
    for (int i = 0; i < ROUTES; i++)
        ck_assert_int_eq(eventfd_write(fd[i], 1), 0);
    ck_assert_int_ge(ioctl(vm.vcpus[0].fd, KVM_GET_LAPIC, &lapic), 0);
    ck_assert_uint_eq(*requested, 1u << FIRST % 32 | 1u << (FIRST + 8) % 32);
    /* What was given back is given again. */
    ck_assert_int_eq(irq_route_add(&vm, fd[2], ABI_LAPIC_GPA, FIRST), gsi[2]);
    for (int i = 0; i < ROUTES; i++)
        close(fd[i]);
    destroy();
}
END_TEST

/* Pin 20 of the IOAPIC as KVM sees it. */
static bool pin_is_high(void)
{
    struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

    ck_assert_int_ge(ioctl(vm.fd, KVM_GET_IRQCHIP, &chip), 0);
    return chip.chip.ioapic.irr >> 20 & 1;
}

/* KVM's line is high while one of two sources is. */
START_TEST(test_shared_line)
{
    struct irq_source a = { .vm = &vm, .gsi = 20 }, b = a;

    open_kvm();
    MAKE(1, 1, halt);
    ck_assert(!pin_is_high());
    irq_source_set(&a, true);
    irq_source_set(&b, true);
    irq_source_set(&a, false);
    ck_assert(pin_is_high());
    irq_source_set(&b, false);
    ck_assert(!pin_is_high());
    destroy();
}
END_TEST

Suite *vm_suite(void)
{
    Suite *suite = suite_create("vm");
    TCase *tc = tcase_create("vm");

    tcase_set_tags(tc, NEEDS_KVM);
    tcase_set_timeout(tc, 30);
    tcase_add_loop_test(tc, test_end, 0, sizeof(ends) / sizeof(ends[0]));
    tcase_add_test(tc, test_run);
    tcase_add_loop_test(tc, test_stop, 0, sizeof(endless) / sizeof(endless[0]));
    tcase_add_test(tc, test_stop_in_output);
    tcase_add_test(tc, test_pause);
    tcase_add_test(tc, test_stop_while_paused);
    tcase_add_test(tc, test_pause_stress);
    tcase_add_test(tc, test_two_at_once);
    tcase_add_test(tc, test_nothing_left);
    tcase_add_test(tc, test_bad_shapes);
    tcase_add_test(tc, test_meanwhile);
    tcase_add_test(tc, test_slots);
    tcase_add_test(tc, test_probe);
    tcase_add_test(tc, test_msi);
    tcase_add_test(tc, test_routes);
    tcase_add_test(tc, test_shared_line);
    suite_add_tcase(suite, tc);
    return suite;
}
