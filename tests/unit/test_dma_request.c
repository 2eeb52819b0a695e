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

#define VICTIM    5
#define DOMAIN    7
#define THEIRS    8
#define IOVA      0x40000000ull
#define SECRET    0x100000ull /* GPA of a page full of 's' */

static struct memory memory;
static struct vm vm; /* a bus, and no KVM behind it: a message fails with EBADF */
static struct dma dma, victim;
static struct iommu *iommu;
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
    ck_assert(dma_trylock(&dma));
    dma_unlock(&dma);
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
    ck_assert_int_eq(dma_create(&dma, &memory, NULL, ENDPOINT), 0);
    dma.vm = &vm;
}

static void teardown(void)
{
    dma_destroy(&dma);
    memory_destroy(&memory);
}

static void perform(uint64_t iova, uint64_t len, enum dma_direction direction)
{
    const struct dma_request request = {
        .iova = iova, .len = len, .direction = direction, .data = data
    };

    dma_perform(&dma, &request, &outcome);
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
    dma.vm = NULL;
    perform(IOMMU_MSI_FIRST, 4, DMA_WRITE);
    expect(-ENXIO, 0, DMA_NOWHERE);
}
END_TEST

/* The local APIC of a VM really has it. */
START_TEST(message_arrives)
{
    struct vm_params params = { .memory_bytes = 2 << 20, .ncpus = 1 };
    struct kvm_lapic_state lapic;
    struct kvm_host host;
    uint32_t vector = 0x51, word;

    ck_assert_int_eq(kvm_open(&host), 0);
    ck_assert_int_eq(vm_create(&vm, &host, &params), 0);
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

/* ---- Behind an IOMMU ------------------------------------------------------ */

static void setup_iommu(uint32_t disabled)
{
    const struct iommu_config config = { .disabled_checks = disabled };

    setup_memory();
    ck_assert_int_eq(iommu_create(&iommu, &memory, &config), 0);
    ck_assert_int_eq(dma_create(&dma, &memory, iommu, ENDPOINT), 0);
    ck_assert_int_eq(dma_create(&victim, &memory, iommu, VICTIM), 0);
    dma.vm = &vm;
    victim.vm = &vm;
}

static void teardown_iommu(void)
{
    dma_destroy(&victim);
    dma_destroy(&dma);
    iommu_destroy(iommu);
    memory_destroy(&memory);
}

static void setup_strict(void)
{
    setup_iommu(0);
}

static void attach(uint32_t endpoint, uint32_t domain)
{
    ck_assert_int_eq(iommu_attach(iommu, endpoint, domain, false), 0);
}

static int map(uint32_t domain, uint64_t iova, uint64_t gpa, uint32_t prot)
{
    return iommu_map(iommu, domain, iova, iova + PAGE - 1, gpa, prot);
}

/* The request ended in this fault, and that is what the record says; it is the only one. */
static void expect_fault(uint64_t done, enum iommu_fault_code code, uint32_t endpoint,
                         enum dma_direction direction, uint64_t iova)
{
    struct iommu_fault fault;

    ck_assert_int_eq(outcome.error, -EFAULT);
    ck_assert_uint_eq(outcome.done, done);
    ck_assert(outcome.faulted);
    ck_assert(iommu_next_fault(iommu, &fault));
    ck_assert_int_eq(fault.code, code);
    ck_assert_uint_eq(fault.endpoint, endpoint);
    ck_assert_uint_eq(fault.access, direction);
    ck_assert_uint_eq(fault.iova, iova);
    ck_assert_int_eq(memcmp(&fault, &outcome.fault, sizeof(fault)), 0);
    ck_assert(!iommu_next_fault(iommu, &fault));
}

static void expect_no_fault(void)
{
    struct iommu_fault fault;

    ck_assert(!outcome.faulted);
    ck_assert(!iommu_next_fault(iommu, &fault));
}

/* Nothing of the two secret pages in `data`, nothing of `data` in them. */
static void expect_untouched(void)
{
    ck_assert(all(data, 'd', sizeof(data)));
    ck_assert(all(ram(SECRET, 2 * PAGE), 's', 2 * PAGE));
}

START_TEST(unattached_reaches_nothing)
{
    perform(SECRET, 2 * PAGE, DMA_READ);
    expect_fault(0, IOMMU_FAULT_NO_DOMAIN, ENDPOINT, DMA_READ, SECRET);
    perform(SECRET, 2 * PAGE, DMA_WRITE);
    expect_fault(0, IOMMU_FAULT_NO_DOMAIN, ENDPOINT, DMA_WRITE, SECRET);
    perform(IOMMU_MSI_FIRST, 4, DMA_WRITE);
    expect_fault(0, IOMMU_FAULT_NO_DOMAIN, ENDPOINT, DMA_WRITE, IOMMU_MSI_FIRST);
    perform(PEER_GPA, 4, DMA_WRITE);
    expect_fault(0, IOMMU_FAULT_NO_DOMAIN, ENDPOINT, DMA_WRITE, PEER_GPA);
    expect_untouched();
    ck_assert_uint_eq(seen.n, 0);
}
END_TEST

START_TEST(mapped_reaches_that)
{
    attach(ENDPOINT, DOMAIN);
    ck_assert_int_eq(map(DOMAIN, IOVA, SECRET, IOMMU_READ | IOMMU_WRITE), 0);
    perform(SECRET, 8, DMA_READ);
    expect_fault(0, IOMMU_FAULT_NOT_MAPPED, ENDPOINT, DMA_READ, SECRET);
    expect_untouched();
    /* What came through before the fault stays done. */
    perform(IOVA + 16, 2 * PAGE, DMA_READ);
    expect_fault(PAGE - 16, IOMMU_FAULT_NOT_MAPPED, ENDPOINT, DMA_READ, IOVA + PAGE);
    ck_assert_int_eq(outcome.target, DMA_RAM);
    ck_assert(all(data, 's', PAGE - 16));
    ck_assert(all(data + PAGE - 16, 'd', PAGE + 16));
    memset(data, 'w', sizeof(data));
    perform(IOVA + 16, 2 * PAGE, DMA_WRITE);
    expect_fault(PAGE - 16, IOMMU_FAULT_NOT_MAPPED, ENDPOINT, DMA_WRITE, IOVA + PAGE);
    ck_assert(all(ram(SECRET + 16, PAGE - 16), 'w', PAGE - 16));
    ck_assert(all(ram(SECRET + PAGE, PAGE), 's', PAGE));
    perform(IOVA, PAGE, DMA_READ);
    expect(0, PAGE, DMA_RAM);
    expect_no_fault();
}
END_TEST

START_TEST(direction)
{
    attach(ENDPOINT, DOMAIN);
    ck_assert_int_eq(map(DOMAIN, IOVA, SECRET, IOMMU_READ), 0);
    ck_assert_int_eq(map(DOMAIN, IOVA + PAGE, SECRET + PAGE, IOMMU_WRITE), 0);
    perform(IOVA, PAGE, DMA_WRITE);
    expect_fault(0, IOMMU_FAULT_PERMISSION, ENDPOINT, DMA_WRITE, IOVA);
    perform(IOVA + PAGE, PAGE, DMA_READ);
    expect_fault(0, IOMMU_FAULT_PERMISSION, ENDPOINT, DMA_READ, IOVA + PAGE);
    expect_untouched();
}
END_TEST

START_TEST(revoked)
{
    attach(ENDPOINT, DOMAIN);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(map(DOMAIN, IOVA, SECRET, IOMMU_READ), 0);
        perform(IOVA, 8, DMA_READ);
        expect(0, 8, DMA_RAM);
        memset(data, 'd', 8);
        if (i == 0)
            ck_assert_int_eq(iommu_unmap(iommu, DOMAIN, IOVA, IOVA + PAGE - 1), 0);
        else if (i == 1)
            ck_assert_int_eq(iommu_detach(iommu, ENDPOINT, DOMAIN), 0);
        else
            iommu_reset(iommu, false);
        perform(IOVA, 8, DMA_READ);
        expect_fault(0, i ? IOMMU_FAULT_NO_DOMAIN : IOMMU_FAULT_NOT_MAPPED, ENDPOINT, DMA_READ,
                     IOVA);
        expect_untouched();
        if (i)
            attach(ENDPOINT, DOMAIN);
    }
}
END_TEST

START_TEST(bypass_reaches_all)
{
    ck_assert_int_eq(iommu_attach(iommu, ENDPOINT, DOMAIN, true), 0);
    perform(SECRET, PAGE, DMA_READ);
    expect(0, PAGE, DMA_RAM);
    ck_assert(all(data, 's', PAGE));
    perform(PEER_GPA, 4, DMA_WRITE);
    expect(0, 4, DMA_PEER);
    perform(IOMMU_MSI_FIRST, 4, DMA_WRITE);
    expect(-EBADF, 0, DMA_NOWHERE);
    expect_no_fault();
}
END_TEST

START_TEST(wrap_is_refused)
{
    memset(memory_at(&memory, 0, 8), 'z', 8);
    ck_assert_int_eq(iommu_attach(iommu, ENDPOINT, DOMAIN, true), 0);
    perform(UINT64_MAX - 7, 16, DMA_READ);
    expect_fault(0, IOMMU_FAULT_WRAP, ENDPOINT, DMA_READ, UINT64_MAX - 7);
    expect_untouched();
    /* The last byte there is does not wrap. */
    perform(UINT64_MAX - 7, 8, DMA_READ);
    expect(-ENXIO, 0, DMA_NOWHERE);
}
END_TEST

static void setup_without_wrap(void)
{
    setup_iommu(IOMMU_CHECK_WRAP);
}

START_TEST(wrap_without_the_check)
{
    memset(memory_at(&memory, 0, 8), 'z', 8);
    ck_assert_int_eq(iommu_attach(iommu, ENDPOINT, DOMAIN, true), 0);
    perform(UINT64_MAX - 7, 16, DMA_READ);
    expect(-ENXIO, 8, DMA_RAM);
    ck_assert(all(data + 8, 'z', 8));
    /* Translated, it finds nothing mapped at the end. */
    ck_assert_int_eq(iommu_attach(iommu, ENDPOINT, THEIRS, false), 0);
    perform(UINT64_MAX - 7, 16, DMA_READ);
    expect_fault(0, IOMMU_FAULT_ADDRESS_WIDTH, ENDPOINT, DMA_READ, UINT64_MAX - 7);
}
END_TEST

static void perform_spoofed(uint64_t iova, bool translated, bool claims, uint32_t requester)
{
    const struct dma_request request = { .iova = iova,
                                         .len = PAGE,
                                         .direction = DMA_READ,
                                         .data = data,
                                         .translated = translated,
                                         .claims = claims,
                                         .requester = requester };

    dma_perform(&dma, &request, &outcome);
}

START_TEST(translated_is_refused)
{
    perform_spoofed(SECRET, true, false, 0);
    expect_fault(0, IOMMU_FAULT_CLAIM, ENDPOINT, DMA_READ, SECRET);
    attach(ENDPOINT, DOMAIN);
    ck_assert_int_eq(map(DOMAIN, IOVA, SECRET, IOMMU_READ), 0);
    perform_spoofed(SECRET, true, false, 0);
    expect_fault(0, IOMMU_FAULT_CLAIM, ENDPOINT, DMA_READ, SECRET);
    perform_spoofed(IOVA, true, false, 0);
    expect_fault(0, IOMMU_FAULT_CLAIM, ENDPOINT, DMA_READ, IOVA);
    expect_untouched();
}
END_TEST

static void setup_without_translated(void)
{
    setup_iommu(IOMMU_CHECK_TRANSLATED);
}

START_TEST(translated_believed)
{
    attach(ENDPOINT, DOMAIN);
    perform(SECRET, PAGE, DMA_READ);
    expect_fault(0, IOMMU_FAULT_NOT_MAPPED, ENDPOINT, DMA_READ, SECRET);
    perform_spoofed(SECRET, true, false, 0);
    expect(0, PAGE, DMA_RAM);
    ck_assert(all(data, 's', PAGE));
}
END_TEST

/* The victim has a mapping, the attacker says that it is the victim. */
START_TEST(claimed_identity_is_ignored)
{
    attach(ENDPOINT, DOMAIN);
    attach(VICTIM, THEIRS);
    ck_assert_int_eq(map(THEIRS, IOVA, SECRET, IOMMU_READ), 0);
    perform_spoofed(IOVA, false, true, VICTIM);
    expect_fault(0, IOMMU_FAULT_NOT_MAPPED, ENDPOINT, DMA_READ, IOVA);
    expect_untouched();
    /* Nor does it do harm to one's own. */
    ck_assert_int_eq(map(DOMAIN, IOVA + PAGE, SECRET, IOMMU_READ), 0);
    perform_spoofed(IOVA + PAGE, false, true, 99);
    expect(0, PAGE, DMA_RAM);
}
END_TEST

static void setup_without_requester(void)
{
    setup_iommu(IOMMU_CHECK_REQUESTER);
}

START_TEST(claimed_identity_believed)
{
    attach(ENDPOINT, DOMAIN);
    attach(VICTIM, THEIRS);
    ck_assert_int_eq(map(THEIRS, IOVA, SECRET, IOMMU_READ), 0);
    perform_spoofed(IOVA, false, false, VICTIM);
    expect_fault(0, IOMMU_FAULT_NOT_MAPPED, ENDPOINT, DMA_READ, IOVA);
    perform_spoofed(IOVA, false, true, VICTIM);
    expect(0, PAGE, DMA_RAM);
    ck_assert(all(data, 's', PAGE));
    /* Its faults are the victim's; nobody's are its own. */
    perform_spoofed(IOVA + PAGE, false, true, VICTIM);
    expect_fault(0, IOMMU_FAULT_NOT_MAPPED, VICTIM, DMA_READ, IOVA + PAGE);
    perform_spoofed(IOVA, false, true, 99);
    expect_fault(0, IOMMU_FAULT_REQUESTER, ENDPOINT, DMA_READ, IOVA);
}
END_TEST

static void send(uint32_t message)
{
    memcpy(data, &message, sizeof(message));
    perform(IOMMU_MSI_FIRST, sizeof(message), DMA_WRITE);
}

START_TEST(vectors)
{
    const uint64_t allowed[4] = { 0, 1ull << (0x51 - 64), 0, 1ull << 63 };

    attach(ENDPOINT, DOMAIN);
    send(0x51);
    expect_fault(0, IOMMU_FAULT_MESSAGE, ENDPOINT, DMA_WRITE, IOMMU_MSI_FIRST);
    ck_assert_int_eq(iommu_allow_vectors(iommu, ENDPOINT, allowed), 0);
    send(0x51);
    expect(-EBADF, 0, DMA_NOWHERE);
    send(0x151); /* lowest priority */
    expect(-EBADF, 0, DMA_NOWHERE);
    send(0xff);
    expect(-EBADF, 0, DMA_NOWHERE);
    expect_no_fault();
    send(0x52);
    expect_fault(0, IOMMU_FAULT_MESSAGE, ENDPOINT, DMA_WRITE, IOMMU_MSI_FIRST);
    /* As SMI, NMI, INIT and external interrupt, its vector is not what counts. */
    for (uint32_t mode = 2; mode < 8; mode++) {
        send(0x51 | mode << 8);
        expect_fault(0, IOMMU_FAULT_MESSAGE, ENDPOINT, DMA_WRITE, IOMMU_MSI_FIRST);
    }
    perform(IOMMU_MSI_FIRST, 8, DMA_WRITE);
    expect_fault(0, IOMMU_FAULT_MESSAGE, ENDPOINT, DMA_WRITE, IOMMU_MSI_FIRST);
    perform(IOMMU_MSI_FIRST, 4, DMA_READ);
    expect_fault(0, IOMMU_FAULT_NOT_MAPPED, ENDPOINT, DMA_READ, IOMMU_MSI_FIRST);
}
END_TEST

static void setup_without_msi(void)
{
    setup_iommu(IOMMU_CHECK_MSI);
}

START_TEST(any_vector)
{
    attach(ENDPOINT, DOMAIN);
    send(0x52);
    expect(-EBADF, 0, DMA_NOWHERE);
    send(0x452);
    expect(-EBADF, 0, DMA_NOWHERE);
    expect_no_fault();
}
END_TEST

START_TEST(peers_are_out_of_reach)
{
    attach(ENDPOINT, DOMAIN);
    perform(PEER_GPA, 4, DMA_WRITE);
    expect_fault(0, IOMMU_FAULT_NOT_MAPPED, ENDPOINT, DMA_WRITE, PEER_GPA);
    ck_assert_int_lt(map(DOMAIN, IOVA, PEER_GPA, IOMMU_WRITE), 0);
    ck_assert_int_lt(map(DOMAIN, IOVA, PEER_GPA, IOMMU_WRITE | IOMMU_MMIO), 0);
    perform(IOVA, 4, DMA_WRITE);
    expect_fault(0, IOMMU_FAULT_NOT_MAPPED, ENDPOINT, DMA_WRITE, IOVA);
    ck_assert_uint_eq(seen.n, 0);
}
END_TEST

static void setup_without_peer(void)
{
    setup_iommu(IOMMU_CHECK_PEER);
}

START_TEST(peers_mapped)
{
    attach(ENDPOINT, DOMAIN);
    ck_assert_int_eq(map(DOMAIN, IOVA, PEER_GPA, IOMMU_WRITE | IOMMU_MMIO), 0);
    perform(IOVA + 4, 4, DMA_WRITE);
    expect(0, 4, DMA_PEER);
    ck_assert_uint_eq(seen.n, 1);
    ck_assert_uint_eq(seen.offset[0], 4);
    perform(IOVA, 4, DMA_READ);
    expect_fault(0, IOMMU_FAULT_PERMISSION, ENDPOINT, DMA_READ, IOVA);
}
END_TEST

static void add(Suite *suite, const char *name, void (*before)(void), const TTest *test)
{
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, before, teardown_iommu);
    tcase_add_test(tcase, test);
    suite_add_tcase(suite, tcase);
}

Suite *dma_request_suite(void)
{
    Suite *suite = suite_create("dma_request");
    TCase *plain = tcase_create("untranslated"), *strict = tcase_create("strict");
    TCase *interrupt = tcase_create("interrupt");

    tcase_add_checked_fixture(plain, setup, teardown);
    tcase_add_test(plain, reads_and_writes_ram);
    tcase_add_test(plain, nothing_is_nothing);
    tcase_add_test(plain, nobody_answers);
    tcase_add_test(plain, end_of_ram);
    tcase_add_test(plain, wraps_around);
    tcase_add_test(plain, peer_registers);
    tcase_add_test(plain, messages);
    suite_add_tcase(suite, plain);

    tcase_set_tags(interrupt, NEEDS_KVM);
    tcase_add_checked_fixture(interrupt, setup, teardown);
    tcase_add_test(interrupt, message_arrives);
    suite_add_tcase(suite, interrupt);

    tcase_add_checked_fixture(strict, setup_strict, teardown_iommu);
    tcase_add_test(strict, unattached_reaches_nothing);
    tcase_add_test(strict, mapped_reaches_that);
    tcase_add_test(strict, direction);
    tcase_add_test(strict, revoked);
    tcase_add_test(strict, bypass_reaches_all);
    tcase_add_test(strict, wrap_is_refused);
    tcase_add_test(strict, translated_is_refused);
    tcase_add_test(strict, claimed_identity_is_ignored);
    tcase_add_test(strict, vectors);
    tcase_add_test(strict, peers_are_out_of_reach);
    suite_add_tcase(suite, strict);

    add(suite, "without_wrap", setup_without_wrap, wrap_without_the_check);
    add(suite, "without_translated", setup_without_translated, translated_believed);
    add(suite, "without_requester", setup_without_requester, claimed_identity_believed);
    add(suite, "without_msi", setup_without_msi, any_vector);
    add(suite, "without_peer", setup_without_peer, peers_mapped);
    return suite;
}
