/*
 * vmm/machine/vcpu_state, vm_state: a guest is paused in the middle of a computation, all its
 * state is read, a second VM gets it with a copy of memory, and finishes what the first began.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "devices/core/hypercall_port.h"
#include "guest/abi/machine.h"
#include "tests/unit/suites.h"
#include "vmm/machine/vcpu_state.h"
#include "vmm/machine/vm.h"
#include "vmm/machine/vm_state.h"

#define CODE_GPA   0x1000u
#define HALF_GPA   0x3000u /* the first half of the computation is done */
#define GO_GPA     0x3004u /* by the host: the second may begin */
#define RESULT_GPA 0x3008u
#define ROUNDS     5000u
#define SEED       0x12345678u
#define FACTOR     1664525u
#define SUMMAND    1013904223u
#define MIB        (1ull << 20)
#define LIMIT_MS   20000
#define EXIT_PORT  (ABI_HYPERCALL_PORT + ABI_HYPERCALL_EXIT)

#define U32(value) \
    (value) & 0xff, (value) >> 8 & 0xff, (value) >> 16 & 0xff, (uint32_t)(value) >> 24

/* One half: EAX goes through a linear congruential generator, EBX adds up what it was. */
#define HALF                                                       \
    0xb9, U32(ROUNDS),           /* mov $ROUNDS, %ecx */           \
        0x69, 0xc0, U32(FACTOR), /* 1: imul $FACTOR, %eax, %eax */ \
        0x05, U32(SUMMAND),      /* add $SUMMAND, %eax */          \
        0x01, 0xc3,              /* add %eax, %ebx */              \
        0x49,                    /* dec %ecx */                    \
        0x75, 0xf0               /* jnz 1b */

static const uint8_t compute[] = {
    0xb8,
    U32(SEED), /* mov $SEED, %eax */
    0x31,
    0xdb, /* xor %ebx, %ebx */
    HALF,
    0xc7,
    0x05,
    U32(HALF_GPA),
    1,
    0,
    0,
    0, /* movl $1, HALF_GPA */
    0xe6,
    0x80, /* 1: out %al, $0x80, an exit, so that a slow emulated host gets to its own work */
    0x83,
    0x3d,
    U32(GO_GPA),
    0, /* cmpl $0, GO_GPA */
    0x74,
    0xf5, /* je 1b */
    HALF,
    0x89,
    0x1d,
    U32(RESULT_GPA), /* mov %ebx, RESULT_GPA */
    0x66,
    0xba,
    EXIT_PORT & 0xff,
    EXIT_PORT >> 8, /* mov $EXIT_PORT, %dx */
    0xb8,
    7,
    0,
    0,
    0,    /* mov $7, %eax */
    0xef, /* out %eax, %dx */
};

struct machine {
    struct vm vm;
    struct hypercall_port port;
};

static struct kvm_host host;
static struct machine first, second;
static struct vcpu_state state[2];
static struct vm_state chips;
static char why[256];

static uint32_t expected(void)
{
    uint32_t value = SEED, sum = 0;

    for (unsigned i = 0; i < 2 * ROUNDS; i++) {
        value = value * FACTOR + SUMMAND;
        sum += value;
    }
    return sum;
}

static uint32_t *word(struct machine *machine, uint64_t gpa)
{
    return memory_at(&machine->vm.memory, gpa, sizeof(uint32_t));
}

/* Two vCPUs, of which the second waits for SIPI. */
static void make(struct machine *machine, enum memory_source source)
{
    const struct vm_params params = { .memory_bytes = 2 * MIB, .ncpus = 2, .source = source };

    ck_assert_int_eq(vm_create(&machine->vm, &host, &params), 0);
    ck_assert_int_eq(hypercall_port_create(&machine->port, &machine->vm, NULL, NULL), 0);
    for (unsigned i = 0; i < 2; i++)
        ck_assert_int_eq(vcpu_configure(&machine->vm.vcpus[i]), 0);
}

static void run_to_the_half(enum memory_source source)
{
    struct timespec time = { .tv_nsec = 1000000 };

    ck_assert_int_eq(kvm_open(&host), 0);
    make(&first, source);
    memcpy(memory_at(&first.vm.memory, CODE_GPA, sizeof(compute)), compute, sizeof(compute));
    ck_assert_int_eq(
        vcpu_enter_protected(&first.vm.vcpus[0], &(struct vcpu_entry){ .rip = CODE_GPA }), 0);
    ck_assert_int_eq(vm_start(&first.vm), 0);
    for (unsigned i = 0; i < LIMIT_MS && !__atomic_load_n(word(&first, HALF_GPA), __ATOMIC_SEQ_CST);
         i++)
        nanosleep(&time, NULL);
    ck_assert_uint_eq(*word(&first, HALF_GPA), 1);
    vm_pause(&first.vm, NULL);
}

static void read_state(void)
{
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_msg(vcpu_state_get(&first.vm.vcpus[i], &state[i], why, sizeof(why)) == 0, "%s",
                      why);
        if (why[0])
            printf("# not available here, because %s\n", why);
    }
    ck_assert_msg(vm_state_get(&first.vm, &chips, why, sizeof(why)) == 0, "%s", why);
}

static void write_state(struct machine *machine)
{
    ck_assert_msg(vm_state_set(&machine->vm, &chips, why, sizeof(why)) == 0, "%s", why);
    for (unsigned i = 0; i < 2; i++)
        ck_assert_msg(vcpu_state_set(&machine->vm.vcpus[i], &state[i], why, sizeof(why)) == 0, "%s",
                      why);
}

static uint32_t finish(struct machine *machine)
{
    __atomic_store_n(word(machine, GO_GPA), 1, __ATOMIC_SEQ_CST);
    ck_assert_int_eq(vm_wait(&machine->vm, LIMIT_MS), 0);
    ck_assert_int_eq(machine->vm.end.reason, VM_END_GUEST_EXIT);
    ck_assert_int_eq(machine->vm.end.status, 7);
    return *word(machine, RESULT_GPA);
}

/* Both finish: the copy, and the one that was read. */
START_TEST(test_go_on_elsewhere)
{
    run_to_the_half(_i ? MEMORY_SHARED : MEMORY_ANONYMOUS);
    read_state();
    make(&second, _i ? MEMORY_ANONYMOUS : MEMORY_SHARED);
    memcpy(memory_at(&second.vm.memory, 0, 2 * MIB), memory_at(&first.vm.memory, 0, 2 * MIB),
           2 * MIB);
    write_state(&second);
    ck_assert_int_eq(vm_start(&second.vm), 0);
    ck_assert_uint_eq(finish(&second), expected());
    vm_destroy(&second.vm);
    ck_assert_uint_eq(*word(&first, RESULT_GPA), 0);
    vm_resume(&first.vm, NULL);
    ck_assert_uint_eq(finish(&first), expected());
    vm_destroy(&first.vm);
    kvm_close(&host);
}
END_TEST

/* The control: with one register that is another the result is, too. */
START_TEST(test_spoiled)
{
    run_to_the_half(MEMORY_ANONYMOUS);
    read_state();
    state[0].regs.rbx ^= 1;
    make(&second, MEMORY_ANONYMOUS);
    memcpy(memory_at(&second.vm.memory, 0, 2 * MIB), memory_at(&first.vm.memory, 0, 2 * MIB),
           2 * MIB);
    write_state(&second);
    ck_assert_int_eq(vm_start(&second.vm), 0);
    ck_assert_uint_ne(finish(&second), expected());
    vm_destroy(&second.vm);
    vm_destroy(&first.vm);
    kvm_close(&host);
}
END_TEST

static const struct kvm_msr_entry *msr(const struct vcpu_state *of, uint32_t index)
{
    for (uint32_t i = 0; i < of->nmsrs; i++) {
        if (of->msrs[i].index == index)
            return &of->msrs[i];
    }
    return NULL;
}

/* What was written is read again, but for clocks, which go on. */
START_TEST(test_round_trip)
{
    static struct vcpu_state again;

    run_to_the_half(MEMORY_ANONYMOUS);
    read_state();
    state[0].regs.r15 = 0x1122334455667788;
    state[0].debugregs.db[1] = 0x1000;
    make(&second, MEMORY_ANONYMOUS);
    write_state(&second);
    ck_assert_int_eq(vcpu_state_get(&second.vm.vcpus[0], &again, why, sizeof(why)), 0);
    ck_assert_uint_eq(again.parts, state[0].parts);
    ck_assert_int_eq(memcmp(&again.regs, &state[0].regs, sizeof(again.regs)), 0);
    ck_assert_int_eq(memcmp(&again.sregs, &state[0].sregs, sizeof(again.sregs)), 0);
    ck_assert_uint_eq(again.mp_state.mp_state, state[0].mp_state.mp_state);
    ck_assert_int_eq(memcmp(&again.xcrs, &state[0].xcrs, sizeof(again.xcrs)), 0);
    if (again.parts & VCPU_STATE_DEBUGREGS)
        ck_assert_uint_eq(again.debugregs.db[1], 0x1000);
    ck_assert_uint_eq(again.nmsrs, state[0].nmsrs);
    ck_assert_ptr_nonnull(msr(&again, 0x10)); /* the TSC, which has gone on */
    ck_assert_uint_ge(msr(&again, 0x10)->data, msr(&state[0], 0x10)->data);
    ck_assert_int_eq(vcpu_state_get(&second.vm.vcpus[1], &again, why, sizeof(why)), 0);
    ck_assert_uint_eq(again.mp_state.mp_state, state[1].mp_state.mp_state);
    vm_destroy(&second.vm);
    vm_destroy(&first.vm);
    kvm_close(&host);
}
END_TEST

START_TEST(test_refused)
{
    run_to_the_half(MEMORY_ANONYMOUS);
    read_state();
    make(&second, MEMORY_ANONYMOUS);
    state[0].version++;
    ck_assert_int_eq(vcpu_state_set(&second.vm.vcpus[0], &state[0], why, sizeof(why)), -EINVAL);
    state[0].version--;
    state[0].nmsrs = VCPU_STATE_MSRS_MAX + 1;
    ck_assert_int_eq(vcpu_state_set(&second.vm.vcpus[0], &state[0], why, sizeof(why)), -EINVAL);
    /* A register that there is not. */
    state[0].nmsrs = 1;
    state[0].msrs[0] = (struct kvm_msr_entry){ .index = 0x7fffffff, .data = 1 };
    ck_assert_int_eq(vcpu_state_set(&second.vm.vcpus[0], &state[0], why, sizeof(why)), -EINVAL);
    ck_assert_ptr_nonnull(strstr(why, "0x7fffffff"));
    chips.version++;
    ck_assert_int_eq(vm_state_set(&second.vm, &chips, why, sizeof(why)), -EINVAL);
    vm_destroy(&second.vm);
    vm_destroy(&first.vm);
    kvm_close(&host);
}
END_TEST

Suite *vcpu_state_suite(void)
{
    Suite *suite = suite_create("vcpu_state");
    TCase *tcase = tcase_create("vcpu_state");

    tcase_set_tags(tcase, NEEDS_KVM);
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, test_go_on_elsewhere, 0, 2);
    tcase_add_test(tcase, test_spoiled);
    tcase_add_test(tcase, test_round_trip);
    tcase_add_test(tcase, test_refused);
    suite_add_tcase(suite, tcase);
    return suite;
}
