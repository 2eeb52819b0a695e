/*
 * devices/iommu/dma_request: where a request goes, piece by piece, and what it leaves in
 * memory, at peers and in the fault record.
 */
#include <check.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "devices/iommu/dma_request.h"
#include "tests/unit/suites.h"
#include "vmm/machine/vm.h"

#define RAM_BYTES (4ull << 20)
#define PAGE      4096ull
#define PEER_GPA  0xd0000000ull
#define PEER_LEN  0x18
#define NOWHERE   0x80000000ull
#define ENDPOINT  3

#define SECRET    0x100000ull /* GPA of a page full of 's' */

static struct memory memory;
static struct vm vm; /* a bus, and no KVM behind it: a message fails with EBADF */
static struct dma door;
static struct dma_outcome outcome;
static uint8_t data[2 * PAGE];

/* A peer that notes what is done to it. */
static struct {
    unsigned n, size[16];
    bool write[16];
    uint64_t offset[16], value[16];
} seen;

static void note(uint64_t offset, unsigned size, bool write, uint64_t value)
{
    ck_assert_uint_lt(seen.n, 16);
    seen.size[seen.n] = size;
    seen.write[seen.n] = write;
    seen.offset[seen.n] = offset;
    seen.value[seen.n++] = value;
}

static uint64_t peer_read(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size)
{
    (void)owner;
    ck_assert_ptr_null(vcpu);
    note(offset, size, false, 0);
    return 0x1122334455667788ull;
}

static void peer_write(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size,
                       uint64_t value)
{
    (void)owner;
    ck_assert_ptr_null(vcpu);
    /* No lock is held: a peer may be the requester itself. */
    ck_assert(dma_trylock(&door));
    dma_unlock(&door);
    note(offset, size, true, value);
}

static const struct bus_region peer = {
    .base = PEER_GPA, .len = PEER_LEN, .read = peer_read, .write = peer_write
};

static void setup_memory(void)
{
    ck_assert_int_eq(memory_create(&memory, -1, RAM_BYTES, MEMORY_4K), 0);
    memset(memory_at(&memory, SECRET, 2 * PAGE), 's', 2 * PAGE);
    memset(data, 'd', sizeof(data));
    memset(&seen, 0, sizeof(seen));
    memset(&vm, 0, sizeof(vm));
    vm.fd = -1;
    bus_init(&vm.mmio, UINT64_MAX);
    ck_assert_int_eq(bus_add(&vm.mmio, &peer), 0);
}

static void setup(void)
{
    setup_memory();
    ck_assert_int_eq(dma_create(&door, &memory, NULL, ENDPOINT), 0);
    door.vm = &vm;
}

static void teardown(void)
{
    dma_destroy(&door);
    memory_destroy(&memory);
}

static void perform(uint64_t iova, uint64_t len, enum dma_direction direction)
{
    const struct dma_request request = {
        .iova = iova, .len = len, .direction = direction, .data = data
    };

    dma_perform(&door, &request, &outcome);
}

static void expect(int error, uint64_t done, enum dma_target target)
{
    ck_assert_int_eq(outcome.error, error);
    ck_assert_uint_eq(outcome.done, done);
    ck_assert_int_eq(outcome.target, target);
}

static bool all(const void *bytes, int value, size_t n)
{
    const uint8_t *at = bytes;

    for (size_t i = 0; i < n; i++) {
        if (at[i] != (uint8_t)value)
            return false;
    }
    return true;
}

static const uint8_t *ram(uint64_t gpa, uint64_t len)
{
    return memory_at(&memory, gpa, len);
}

/* ---- Nobody translates ---------------------------------------------------- */

START_TEST(reads_and_writes_ram)
{
    perform(SECRET + PAGE - 100, 200, DMA_READ);
    expect(0, 200, DMA_RAM);
    ck_assert(all(data, 's', 200));
    ck_assert(all(data + 200, 'd', sizeof(data) - 200));
    memset(data, 'w', 200);
    perform(SECRET + PAGE - 100, 200, DMA_WRITE);
    expect(0, 200, DMA_RAM);
    ck_assert(all(ram(SECRET + PAGE - 100, 200), 'w', 200));
    ck_assert(all(ram(SECRET, PAGE - 100), 's', PAGE - 100));
    ck_assert(all(ram(SECRET + PAGE + 100, 100), 's', 100));
    ck_assert(!outcome.faulted);
}
END_TEST

START_TEST(nothing_is_nothing)
{
    perform(NOWHERE, 0, DMA_WRITE);
    expect(0, 0, DMA_NOWHERE);
}
END_TEST

START_TEST(nobody_answers)
{
    perform(NOWHERE, 16, DMA_READ);
    expect(-ENXIO, 0, DMA_NOWHERE);
    ck_assert(all(data, 0xff, 16));
    perform(NOWHERE, 16, DMA_WRITE);
    expect(-ENXIO, 0, DMA_NOWHERE);
    ck_assert(!outcome.faulted);
}
END_TEST

START_TEST(end_of_ram)
{
    perform(RAM_BYTES - 8, 16, DMA_READ);
    expect(-ENXIO, 8, DMA_RAM);
    ck_assert(all(data, 0, 8));
    ck_assert(all(data + 8, 0xff, 8));
}
END_TEST

START_TEST(wraps_around)
{
    memset(memory_at(&memory, 0, 8), 'z', 8);
    perform(UINT64_MAX - 7, 16, DMA_READ);
    expect(-ENXIO, 8, DMA_RAM);
    ck_assert(all(data + 8, 'z', 8));
}
END_TEST

START_TEST(peer_registers)
{
    for (unsigned i = 0; i < 15; i++)
        data[i] = (uint8_t)i;
    perform(PEER_GPA + 1, 15, DMA_WRITE);
    expect(0, 15, DMA_PEER);
    ck_assert_uint_eq(seen.n, 4);
    for (unsigned i = 0; i < 4; i++) {
        ck_assert(seen.write[i]);
        ck_assert_uint_eq(seen.size[i], 1u << i);
        ck_assert_uint_eq(seen.offset[i], 1u << i);
    }
    ck_assert_uint_eq(seen.value[2], 0x06050403);
    seen.n = 0;
    perform(PEER_GPA, 12, DMA_READ);
    expect(0, 12, DMA_PEER);
    ck_assert_uint_eq(seen.n, 2);
    ck_assert_uint_eq(seen.size[1], 4);
    ck_assert_uint_eq(data[0], 0x88);
    ck_assert_uint_eq(data[8], 0x88);
    /* Beyond its end there is nobody. */
    perform(PEER_GPA + PEER_LEN - 4, 8, DMA_READ);
    expect(-ENXIO, 4, DMA_PEER);
    ck_assert(all(data + 4, 0xff, 4));
}
END_TEST

START_TEST(messages)
{
    perform(IOMMU_MSI_FIRST, 4, DMA_WRITE);
    expect(-EBADF, 0, DMA_NOWHERE);
    perform(IOMMU_MSI_FIRST, 8, DMA_WRITE);
    expect(-EINVAL, 0, DMA_NOWHERE);
    perform(IOMMU_MSI_FIRST + 2, 4, DMA_WRITE);
    expect(-EINVAL, 0, DMA_NOWHERE);
    perform(IOMMU_MSI_LAST - 3, 4, DMA_READ);
    expect(-ENXIO, 0, DMA_NOWHERE);
    ck_assert(all(data, 0xff, 4));
    door.vm = NULL;
    perform(IOMMU_MSI_FIRST, 4, DMA_WRITE);
    expect(-ENXIO, 0, DMA_NOWHERE);
}
END_TEST

/* The local APIC of a VM really has it. */
START_TEST(message_arrives)
{
    struct vm_shape shape = { .memory_bytes = 2 << 20, .ncpus = 1 };
    struct kvm_lapic_state lapic;
    struct kvm_host host;
    uint32_t vector = 0x51, word;
    int err = kvm_open(&host);

    if (err) {
        printf("# dma_request: message_arrives not run: no usable /dev/kvm\n");
        return;
    }
    ck_assert_int_eq(vm_create(&vm, &host, &shape), 0);
    ck_assert_int_eq(ioctl(vm.vcpus[0].fd, KVM_GET_LAPIC, &lapic), 0);
    memcpy(&word, lapic.regs + 0xf0, 4);
    word |= 0x100; /* spurious vector register: software enable */
    memcpy(lapic.regs + 0xf0, &word, 4);
    ck_assert_int_eq(ioctl(vm.vcpus[0].fd, KVM_SET_LAPIC, &lapic), 0);
    memcpy(data, &vector, 4);
    perform(IOMMU_MSI_FIRST, 4, DMA_WRITE);
    expect(0, 4, DMA_MESSAGE);
    ck_assert_int_eq(ioctl(vm.vcpus[0].fd, KVM_GET_LAPIC, &lapic), 0);
    memcpy(&word, lapic.regs + 0x200 + 0x10 * (vector / 32), 4);
    ck_assert_uint_eq(word, 1u << vector % 32);
    vm_destroy(&vm);
    kvm_close(&host);
}
END_TEST

Suite *dma_request_suite(void)
{
    Suite *suite = suite_create("dma_request");
    TCase *plain = tcase_create("untranslated");

    tcase_add_checked_fixture(plain, setup, teardown);
    tcase_add_test(plain, reads_and_writes_ram);
    tcase_add_test(plain, nothing_is_nothing);
    tcase_add_test(plain, nobody_answers);
    tcase_add_test(plain, end_of_ram);
    tcase_add_test(plain, wraps_around);
    tcase_add_test(plain, peer_registers);
    tcase_add_test(plain, messages);
    tcase_add_test(plain, message_arrives);
    suite_add_tcase(suite, plain);
    return suite;
}
