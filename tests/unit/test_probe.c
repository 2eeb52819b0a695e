/*
 * devices/hostile/probe: the registers that it has from QEMU's educational device, tested
 * by what that device's documentation says (docs/specs/edu.rst), and the attack functions.
 */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "devices/hostile/probe.h"
#include "tests/unit/suites.h"
#include "vmm/machine/memory.h"
#include "vmm/machine/vm.h"

#define RAM_BYTES (4ull << 20)
#define PAGE      4096ull
#define PROBE_GPA 0xd0000000ull
#define PEER_GPA  0xd0001000ull
#define ADDRESS   0x100ffcull /* crosses a page */

static struct memory memory;
static struct vm vm; /* a bus, and no KVM behind it */
static struct dma handle, peer_dma;
static struct probe probe, peer;

static void setup(void)
{
    ck_assert_int_eq(memory_create(&memory, -1, RAM_BYTES, MEMORY_4K), 0);
    ck_assert_int_eq(dma_create(&handle, &memory, NULL, 1), 0);
    ck_assert_int_eq(dma_create(&peer_dma, &memory, NULL, 2), 0);
    memset(&vm, 0, sizeof(vm));
    vm.fd = -1;
    bus_init(&vm.mmio, UINT64_MAX);
    ck_assert_int_eq(probe_create(&probe, &vm, &handle, PROBE_GPA, 16), 0);
    ck_assert_int_eq(probe_create(&peer, &vm, &peer_dma, PEER_GPA, 17), 0);
    handle.vm = &vm;
    peer_dma.vm = &vm;
}

static void teardown(void)
{
    dma_destroy(&peer_dma);
    dma_destroy(&handle);
    memory_destroy(&memory);
}

static uint64_t get(uint64_t offset, unsigned size)
{
    uint64_t value = 0;

    bus_read(&vm.mmio, NULL, PROBE_GPA + offset, &value, size, 1);
    return value;
}

static void put(uint64_t offset, unsigned size, uint64_t value)
{
    bus_write(&vm.mmio, NULL, PROBE_GPA + offset, &value, size, 1);
}

static char *ram(uint64_t gpa, uint64_t len)
{
    return memory_at(&memory, gpa, len);
}

static bool all(const void *bytes, int value, size_t n)
{
    const uint8_t *at = bytes;

    return at[0] == (uint8_t)value && !memcmp(at, at + 1, n - 1);
}

static void dma(uint64_t source, uint64_t target, uint64_t count, uint64_t command)
{
    put(ABI_PROBE_DMA_SOURCE, 8, source);
    put(ABI_PROBE_DMA_TARGET, 8, target);
    put(ABI_PROBE_DMA_COUNT, 8, count);
    put(ABI_PROBE_DMA_COMMAND, 8, command);
}

static void attack(enum abi_probe_attack function, uint64_t address, uint64_t length,
                   uint64_t flags)
{
    put(ABI_PROBE_ADDRESS, 8, address);
    put(ABI_PROBE_LENGTH, 8, length);
    put(ABI_PROBE_FLAGS, 8, flags);
    put(ABI_PROBE_ATTACK, 8, function);
    ck_assert_uint_eq(get(ABI_PROBE_ATTACK, 8), 0);
    ck_assert(!probe.busy);
}

static void expect(uint64_t result, int error)
{
    ck_assert_uint_eq(get(ABI_PROBE_RESULT, 8), result);
    ck_assert_uint_eq(get(ABI_PROBE_ERROR, 8), (uint64_t)error);
}

/* ---- As edu --------------------------------------------------------------- */

START_TEST(edu_identification)
{
    ck_assert_uint_eq(get(0x00, 4) & 0xffff, 0x00ed);
    ck_assert_uint_eq(get(0x00, 4) >> 24, 1);
    put(0x00, 4, 7);
    ck_assert_uint_eq(get(0x00, 4), 0x010000ed);
}
END_TEST

START_TEST(edu_liveness)
{
    put(0x04, 4, 0x12345678);
    ck_assert_uint_eq(get(0x04, 4), 0xedcba987);
    put(0x04, 4, get(0x04, 4));
    ck_assert_uint_eq(get(0x04, 4), 0x12345678);
}
END_TEST

START_TEST(edu_factorial)
{
    static const struct {
        uint32_t n, factorial;
    } cases[] = {
        { 0, 1 },
        { 1, 1 },
        { 5, 120 },
        { 12, 479001600 },
        { 13, (uint32_t)6227020800ull },
        { 33, 1u << 31 },
        { 34, 0 },
        { UINT32_MAX, 0 },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        put(0x08, 4, cases[i].n);
        while (get(0x20, 4) & 0x01)
            ;
        ck_assert_uint_eq(get(0x08, 4), cases[i].factorial);
    }
    ck_assert_uint_eq(get(0x24, 4), 0);
}
END_TEST

START_TEST(edu_factorial_interrupt)
{
    put(0x20, 4, 0xff);
    ck_assert_uint_eq(get(0x20, 4), 0x80);
    put(0x08, 4, 4);
    ck_assert_uint_eq(get(0x08, 4), 24);
    ck_assert_uint_eq(get(0x24, 4), 0x01);
    put(0x64, 4, 0x01);
    ck_assert_uint_eq(get(0x24, 4), 0);
    put(0x20, 4, 0);
    put(0x08, 4, 4);
    ck_assert_uint_eq(get(0x24, 4), 0);
}
END_TEST

START_TEST(edu_interrupts)
{
    put(0x60, 4, 0x6);
    put(0x60, 4, 0x8);
    ck_assert_uint_eq(get(0x24, 4), 0xe);
    put(0x64, 4, 0x4);
    ck_assert_uint_eq(get(0x24, 4), 0xa);
    put(0x24, 4, 0); /* read-only */
    ck_assert_uint_eq(get(0x24, 4), 0xa);
    put(0x64, 4, 0xa);
    ck_assert_uint_eq(get(0x24, 4), 0);
}
END_TEST

/* The documentation's own example: 100 bytes there, and back to 100 bytes further on. */
START_TEST(edu_dma)
{
    for (unsigned i = 0; i < 100; i++)
        ram(ADDRESS, 200)[i] = (char)(i + 1);
    dma(ADDRESS, 0x40000, 100, 1);
    while (get(0x98, 8) & 1)
        ;
    dma(0x40000, ADDRESS + 100, 100, 3);
    while (get(0x98, 8) & 1)
        ;
    ck_assert_int_eq(memcmp(ram(ADDRESS, 200), ram(ADDRESS + 100, 100), 100), 0);
    ck_assert_int_eq(ram(ADDRESS + 200, 1)[0], 0);
    ck_assert_uint_eq(get(0x24, 4), 0);
    dma(ADDRESS, 0x40000, 100, 5);
    ck_assert_uint_eq(get(0x24, 4), 0x100);
    expect(100, 0);
}
END_TEST

START_TEST(edu_dma_stays_in_the_buffer)
{
    static const struct {
        uint64_t at, count;
        bool ok;
    } cases[] = {
        { 0x40000, 4096, true },  { 0x40fff, 1, true },           { 0x41000, 0, true },
        { 0x40001, 4096, false }, { 0x41000, 1, false },          { 0x3ffff, 2, false },
        { 0x40000, 4097, false }, { 0x40000, UINT64_MAX, false }, { UINT64_MAX, 2, false },
        { 0, 1, false },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        memset(probe.state.buffer, 'b', sizeof(probe.state.buffer));
        memset(ram(0x200000, 2 * PAGE), 'm', 2 * PAGE);
        dma(0x200000, cases[i].at, cases[i].count, 1);
        expect(cases[i].ok ? cases[i].count : 0, cases[i].ok ? 0 : EINVAL);
        ck_assert_uint_eq(get(0x98, 8), 0);
        ck_assert(cases[i].ok || all(probe.state.buffer, 'b', sizeof(probe.state.buffer)));
        memset(probe.state.buffer, 'b', sizeof(probe.state.buffer));
        dma(cases[i].at, 0x200000, cases[i].count, 3);
        expect(cases[i].ok ? cases[i].count : 0, cases[i].ok ? 0 : EINVAL);
        ck_assert_int_eq(ram(0x200000, 1)[0], cases[i].ok && cases[i].count ? 'b' : 'm');
    }
}
END_TEST

START_TEST(edu_access_sizes)
{
    put(0x80, 8, 0x1122334455667788);
    ck_assert_uint_eq(get(0x80, 8), 0x1122334455667788);
    ck_assert_uint_eq(get(0x80, 4), 0x55667788);
    ck_assert_uint_eq(get(0x84, 4), 0x11223344);
    put(0x80, 4, 0x99);
    ck_assert_uint_eq(get(0x80, 8), 0x99);
    put(0x84, 4, 0x77);
    ck_assert_uint_eq(get(0x80, 8), 0x7700000099);
    ck_assert_uint_eq(probe.bad_accesses, 0);
    /* Below 0x80 only 4 bytes. */
    ck_assert_uint_eq(get(0x00, 8), ~0ull);
    ck_assert_uint_eq(get(0x00, 1), 0xff);
    put(0x00, 8, 1);
    ck_assert_uint_eq(probe.bad_accesses, 3);
}
END_TEST

/* Every offset in every size, read and written with all ones: nothing comes of it. */
START_TEST(any_access_is_harmless)
{
    memset(ram(0, RAM_BYTES), 'm', RAM_BYTES);
    for (unsigned size = 1; size <= 8; size *= 2) {
        for (uint64_t offset = 0; offset + size <= ABI_PROBE_BYTES; offset++) {
            get(offset, size);
            put(offset, size, ~0ull);
        }
    }
    ck_assert(!probe.busy);
    ck_assert(all(ram(0, RAM_BYTES), 'm', RAM_BYTES));
    put(ABI_PROBE_RESET, 4, 0);
    ck_assert_uint_eq(get(ABI_PROBE_DMA_SOURCE, 8), 0);
    ck_assert_uint_eq(get(ABI_PROBE_IRQ_STATUS, 4), 0);
}
END_TEST

/* ---- Attack functions ----------------------------------------------------- */

START_TEST(access_both_ways)
{
    memset(ram(ADDRESS, 4096), 's', 4096);
    attack(ABI_PROBE_ACCESS, ADDRESS, 4096, 0);
    expect(4096, 0);
    ck_assert_int_eq(memcmp(probe.state.buffer, ram(ADDRESS, 4096), 4096), 0);
    memset(probe.state.buffer, 'w', 16);
    attack(ABI_PROBE_ACCESS, ADDRESS, 16, ABI_PROBE_FLAG_WRITE);
    expect(16, 0);
    ck_assert_int_eq(memcmp(ram(ADDRESS, 17), "wwwwwwwwwwwwwwwws", 17), 0);
    attack(ABI_PROBE_ACCESS, ADDRESS, 4097, 0);
    expect(0, EINVAL);
    attack(ABI_PROBE_ACCESS, ADDRESS, 0, 0);
    expect(0, EINVAL);
    attack(ABI_PROBE_ACCESS, RAM_BYTES, 8, 0);
    expect(0, ENXIO);
}
END_TEST

START_TEST(sweeps)
{
    uint64_t word = 0xfeed;

    memcpy(ram(RAM_BYTES - PAGE, 8), &word, 8);
    put(ABI_PROBE_STRIDE, 8, PAGE);
    attack(ABI_PROBE_SWEEP, RAM_BYTES - 3 * PAGE, 5 * PAGE, 0);
    expect(3, ENXIO);
    ck_assert_uint_eq(get(ABI_PROBE_FIRST, 8), RAM_BYTES - 3 * PAGE);
    ck_assert_int_eq(memcmp(probe.state.buffer + 16, &word, 8), 0);
    put(ABI_PROBE_VALUE, 8, 0xabcd);
    attack(ABI_PROBE_SWEEP, 0x1000, 2 * PAGE, ABI_PROBE_FLAG_WRITE);
    expect(2, 0);
    ck_assert_int_eq(memcmp(ram(0x2000, 2), "\xcd\xab", 2), 0);
    /* Bounded work. */
    put(ABI_PROBE_STRIDE, 8, 0);
    attack(ABI_PROBE_SWEEP, 0, PAGE, 0);
    expect(0, EINVAL);
    put(ABI_PROBE_STRIDE, 8, 1);
    attack(ABI_PROBE_SWEEP, 0, ABI_PROBE_SWEEP_MAX + 1, 0);
    expect(0, EINVAL);
    attack(ABI_PROBE_SWEEP, 0, UINT64_MAX, 0);
    expect(0, EINVAL);
    put(ABI_PROBE_STRIDE, 8, UINT64_MAX);
    attack(ABI_PROBE_SWEEP, 0, UINT64_MAX, 0);
    expect(0, EINVAL);
}
END_TEST

START_TEST(fills)
{
    put(ABI_PROBE_VALUE, 8, 0x1ff);
    attack(ABI_PROBE_FILL, ADDRESS, 2 * PAGE + 1, 0);
    expect(2 * PAGE + 1, 0);
    ck_assert(all(ram(ADDRESS, 2 * PAGE + 1), 0xff, 2 * PAGE + 1));
    ck_assert_int_eq(ram(ADDRESS + 2 * PAGE + 1, 1)[0], 0);
    attack(ABI_PROBE_FILL, 0, ABI_PROBE_FILL_MAX + 1, 0);
    expect(0, EINVAL);
}
END_TEST

START_TEST(remembers_and_replays)
{
    attack(ABI_PROBE_REPLAY, 0, 0, 0);
    expect(0, ENOENT);
    memset(ram(0x3000, 8), 'r', 8);
    attack(ABI_PROBE_REMEMBER, 0x3000, 8, 0);
    expect(8, 0);
    attack(ABI_PROBE_REPLAY, 0, 0, 0);
    expect(8, 0);
    ck_assert_int_eq(memcmp(probe.state.buffer, "rrrrrrrr", 8), 0);
    attack(ABI_PROBE_REMEMBER, RAM_BYTES, 8, 0);
    expect(0, EFAULT);
    attack(ABI_PROBE_REPLAY, 0, 0, 0);
    expect(0, ENOENT);
}
END_TEST

START_TEST(withholds_and_releases)
{
    memset(ram(ADDRESS, 8), 's', 8);
    attack(ABI_PROBE_WITHHOLD, 0, 0, 0);
    dma(ADDRESS, ABI_PROBE_BUFFER, 8, ABI_PROBE_DMA_START | ABI_PROBE_DMA_IRQ);
    /* Carried out, and not completed; the engine is taken. */
    ck_assert_int_eq(memcmp(probe.state.buffer, "ssssssss", 8), 0);
    ck_assert_uint_eq(get(ABI_PROBE_DMA_COMMAND, 8), 5);
    ck_assert_uint_eq(get(ABI_PROBE_IRQ_STATUS, 4), 0);
    dma(0, ABI_PROBE_BUFFER, 8, ABI_PROBE_DMA_START);
    ck_assert_int_eq(memcmp(probe.state.buffer, "ssssssss", 8), 0);
    ck_assert_uint_eq(get(ABI_PROBE_DMA_SOURCE, 8), ADDRESS);
    attack(ABI_PROBE_RELEASE, 0, 0, 0);
    ck_assert_uint_eq(get(ABI_PROBE_DMA_COMMAND, 8), 4);
    ck_assert_uint_eq(get(ABI_PROBE_IRQ_STATUS, 4), ABI_PROBE_IRQ_DMA);
    dma(0, ABI_PROBE_BUFFER, 8, ABI_PROBE_DMA_START);
    ck_assert_uint_eq(get(ABI_PROBE_DMA_COMMAND, 8), 0);
    /* A reset ends it as well, without a completion. */
    attack(ABI_PROBE_WITHHOLD, 0, 0, 0);
    put(ABI_PROBE_IRQ_ACK, 4, ~0u);
    dma(ADDRESS, ABI_PROBE_BUFFER, 8, ABI_PROBE_DMA_START | ABI_PROBE_DMA_IRQ);
    put(ABI_PROBE_RESET, 8, 0);
    ck_assert_uint_eq(get(ABI_PROBE_DMA_COMMAND, 8), 0);
    ck_assert_uint_eq(get(ABI_PROBE_IRQ_STATUS, 4), 0);
    dma(ADDRESS, ABI_PROBE_BUFFER, 8, ABI_PROBE_DMA_START);
    ck_assert_uint_eq(get(ABI_PROBE_DMA_COMMAND, 8), 0);
}
END_TEST

START_TEST(messages)
{
    put(ABI_PROBE_VALUE, 8, 0x41);
    attack(ABI_PROBE_MESSAGE, IOMMU_MSI_FIRST, 0, 0);
    expect(0, EBADF); /* it got as far as KVM, which there is none of */
}
END_TEST

/* A probe that writes another's registers, and its own, and through the other its own. */
START_TEST(peers)
{
    uint32_t *word = (uint32_t *)probe.state.buffer;

    word[0] = 0x01020304;
    attack(ABI_PROBE_ACCESS, PEER_GPA + ABI_PROBE_LIVENESS, 4, ABI_PROBE_FLAG_WRITE);
    expect(4, 0);
    ck_assert_uint_eq(peer.state.liveness, ~0x01020304u);
    attack(ABI_PROBE_ACCESS, PROBE_GPA + ABI_PROBE_LIVENESS, 4, 0);
    expect(4, 0);
    ck_assert_uint_eq(word[0], 0);
    /* Its own command register, while it is busy. */
    word[0] = ABI_PROBE_ACCESS;
    attack(ABI_PROBE_ACCESS, PROBE_GPA + ABI_PROBE_ATTACK, 4, ABI_PROBE_FLAG_WRITE);
    expect(4, 0);
    /* The peer starts, and writes the command register of the first. */
    peer.state.address = PROBE_GPA + ABI_PROBE_ATTACK;
    peer.state.length = 4;
    peer.state.flags = ABI_PROBE_FLAG_WRITE;
    peer.state.buffer[0] = ABI_PROBE_FILL;
    word[0] = ABI_PROBE_ACCESS;
    attack(ABI_PROBE_ACCESS, PEER_GPA + ABI_PROBE_ATTACK, 4, ABI_PROBE_FLAG_WRITE);
    expect(4, 0);
    ck_assert_uint_eq(peer.state.result, 4);
    ck_assert(!peer.busy);
}
END_TEST

START_TEST(unknown_function)
{
    attack((enum abi_probe_attack)99, 0, 8, 0);
    expect(0, EINVAL);
    probe_attack(&probe, ABI_PROBE_IDLE);
    expect(0, EINVAL);
}
END_TEST

/* ---- Behind an IOMMU ------------------------------------------------------ */

#define DOMAIN 7
#define IOVA   0x40000000ull

static struct iommu *iommu;

static void setup_iommu(void)
{
    const struct iommu_config config = { 0 };

    setup();
    dma_destroy(&handle);
    ck_assert_int_eq(iommu_create(&iommu, &memory, &config), 0);
    ck_assert_int_eq(dma_create(&handle, &memory, iommu, 1), 0);
    handle.vm = &vm;
    ck_assert_int_eq(iommu_attach(iommu, 1, DOMAIN, false), 0);
}

static void teardown_iommu(void)
{
    dma_destroy(&handle);
    iommu_destroy(iommu);
    ck_assert_int_eq(dma_create(&handle, &memory, NULL, 1), 0);
    teardown();
}

static void map_page(uint32_t rights)
{
    memset(ram(0x3000, PAGE), 's', PAGE);
    memset(probe.state.buffer, 'b', sizeof(probe.state.buffer));
    ck_assert_int_eq(iommu_map(iommu, DOMAIN, IOVA, IOVA + PAGE - 1, 0x3000, rights), 0);
}

static void unmap_page(void)
{
    ck_assert_int_eq(iommu_unmap(iommu, DOMAIN, IOVA, IOVA + PAGE - 1), 0);
}

static void expect_record(enum dma_direction direction, uint64_t address)
{
    struct iommu_fault fault;

    ck_assert(iommu_next_fault(iommu, &fault));
    ck_assert_uint_eq(fault.endpoint, 1);
    ck_assert_uint_eq(fault.access, direction);
    ck_assert_uint_eq(fault.iova, address);
    ck_assert(!iommu_next_fault(iommu, &fault));
}

START_TEST(dma_command_is_translated)
{
    map_page(IOMMU_READ);
    dma(IOVA, ABI_PROBE_BUFFER, PAGE, ABI_PROBE_DMA_START);
    expect(PAGE, 0);
    ck_assert(all(probe.state.buffer, 's', PAGE));
    dma(ABI_PROBE_BUFFER, IOVA, PAGE, ABI_PROBE_DMA_START | ABI_PROBE_DMA_TO_RAM);
    expect(0, EFAULT);
    expect_record(DMA_WRITE, IOVA);
    memset(probe.state.buffer, 'b', sizeof(probe.state.buffer));
    dma(0x3000, ABI_PROBE_BUFFER, PAGE, ABI_PROBE_DMA_START);
    expect(0, EFAULT);
    expect_record(DMA_READ, 0x3000);
    ck_assert(all(probe.state.buffer, 'b', PAGE));
    ck_assert(all(ram(0x3000, PAGE), 's', PAGE));
}
END_TEST

START_TEST(replay_ends_with_the_mapping)
{
    map_page(IOMMU_READ | IOMMU_WRITE);
    attack(ABI_PROBE_REMEMBER, IOVA, PAGE, ABI_PROBE_FLAG_WRITE);
    expect(PAGE, 0);
    attack(ABI_PROBE_REPLAY, 0, 0, 0);
    expect(PAGE, 0);
    ck_assert(all(ram(0x3000, PAGE), 'b', PAGE));
    unmap_page();
    memset(ram(0x3000, PAGE), 's', PAGE);
    attack(ABI_PROBE_REPLAY, 0, 0, 0);
    expect(0, EFAULT);
    expect_record(DMA_WRITE, IOVA);
    ck_assert(all(ram(0x3000, PAGE), 's', PAGE));
    /* Mapped to another page, it is that page. */
    ck_assert_int_eq(iommu_map(iommu, DOMAIN, IOVA, IOVA + PAGE - 1, 0x5000, IOMMU_WRITE), 0);
    attack(ABI_PROBE_REPLAY, 0, 0, 0);
    expect(PAGE, 0);
    ck_assert(all(ram(0x3000, PAGE), 's', PAGE));
    ck_assert(all(ram(0x5000, PAGE), 'b', PAGE));
}
END_TEST

START_TEST(sweep_finds_what_is_mapped)
{
    struct iommu_counts counts;

    map_page(IOMMU_READ);
    put(ABI_PROBE_STRIDE, 8, PAGE);
    attack(ABI_PROBE_SWEEP, IOVA - 100 * PAGE, 201 * PAGE, 0);
    expect(1, EFAULT);
    ck_assert_uint_eq(get(ABI_PROBE_FIRST, 8), IOVA);
    ck_assert(all(probe.state.buffer, 's', 8));
    iommu_count(iommu, &counts);
    ck_assert_uint_eq(counts.faults, 200);
}
END_TEST

Suite *probe_suite(void)
{
    Suite *suite = suite_create("probe");
    TCase *edu = tcase_create("edu"), *attacks = tcase_create("attacks");
    TCase *translated = tcase_create("translated");

    tcase_add_checked_fixture(edu, setup, teardown);
    tcase_add_test(edu, edu_identification);
    tcase_add_test(edu, edu_liveness);
    tcase_add_test(edu, edu_factorial);
    tcase_add_test(edu, edu_factorial_interrupt);
    tcase_add_test(edu, edu_interrupts);
    tcase_add_test(edu, edu_dma);
    tcase_add_test(edu, edu_dma_stays_in_the_buffer);
    tcase_add_test(edu, edu_access_sizes);
    tcase_add_test(edu, any_access_is_harmless);
    suite_add_tcase(suite, edu);

    tcase_add_checked_fixture(attacks, setup, teardown);
    tcase_add_test(attacks, access_both_ways);
    tcase_add_test(attacks, sweeps);
    tcase_add_test(attacks, fills);
    tcase_add_test(attacks, remembers_and_replays);
    tcase_add_test(attacks, withholds_and_releases);
    tcase_add_test(attacks, messages);
    tcase_add_test(attacks, peers);
    tcase_add_test(attacks, unknown_function);
    suite_add_tcase(suite, attacks);

    tcase_add_checked_fixture(translated, setup_iommu, teardown_iommu);
    tcase_add_test(translated, dma_command_is_translated);
    tcase_add_test(translated, replay_ends_with_the_mapping);
    tcase_add_test(translated, sweep_finds_what_is_mapped);
    suite_add_tcase(suite, translated);
    return suite;
}
