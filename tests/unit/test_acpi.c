/*
 * vmm/boot/acpi, aml and mptable: what is written for boards of several shapes, read
 * back field by field. tests/firmware/run.sh has iasl read the same tables, which the
 * first test leaves in the folder that STRATA_ACPI_TABLES names.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/core/board.h"
#include "guest/abi/machine.h"
#include "tests/unit/suites.h"
#include "vmm/boot/acpi.h"
#include "vmm/boot/aml.h"
#include "vmm/boot/layout.h"
#include "vmm/boot/mptable.h"
#include "vmm/boot/reset_vector.h"
#include "vmm/machine/vm.h"

#define ROOM 0x10000u
#define GPA  0xe0000ull

static uint8_t area[ROOM];

static const struct device_node serial = { .name = "serial",
                                           .hid = "PNP0501",
                                           .port = 0x3f8,
                                           .bytes = 8,
                                           .gsi = 4,
                                           .sense = DEVICE_EDGE_RISING };
static const struct device_node hypercall_port = {
    .name = "hypercall-port", .port = 0x5c0, .bytes = 16, .gsi = -1
};
static const struct device_node rtc = {
    .name = "rtc", .hid = "PNP0B00", .port = 0x70, .bytes = 2, .gsi = -1
};

/* The boards: how many virtio devices, the first an IOMMU, the last not behind it. */
static const struct shape {
    const char *name;
    unsigned ncpus, ndevices;
    bool iommu, shared;
} shapes[] = {
    { "bare", 1, 0, false, false },      { "plain", 2, 3, false, false },
    { "iommu", 4, 8, true, false },      { "many-cpus", 32, 2, true, false },
    { "shared-gsi", 64, 9, true, true },
};

#define NSHAPES ((int)(sizeof(shapes) / sizeof(shapes[0])))

static unsigned make_nodes(const struct shape *shape, struct device_node *nodes)
{
    unsigned count = 0;

    nodes[count++] = serial;
    nodes[count++] = hypercall_port;
    nodes[count++] = rtc;
    for (unsigned i = 0; i < shape->ndevices; i++)
        nodes[count++] = (struct device_node){ .name = "virtio",
                                               .hid = "LNRO0005",
                                               .gpa = ABI_MMIO_GPA + i * ABI_MMIO_BYTES,
                                               .bytes = ABI_MMIO_BYTES,
                                               .gsi = ABI_MMIO_GSI + (int)(i % 8),
                                               .sense = DEVICE_LEVEL_HIGH,
                                               .is_iommu = shape->iommu && i == 0,
                                               .translated = shape->iommu && i > 0 &&
                                                             i + 1 < shape->ndevices,
                                               .endpoint = 100 + i };
    return count;
}

static int build(const struct shape *shape)
{
    struct device_node nodes[BOARD_NODES_MAX];
    unsigned count = make_nodes(shape, nodes);

    memset(area, 0xee, sizeof(area));
    return acpi_build(area, sizeof(area), GPA, shape->ncpus, nodes, count);
}

static uint64_t field(const uint8_t *at, unsigned offset, unsigned bytes)
{
    uint64_t value = 0;

    memcpy(&value, at + offset, bytes);
    return value;
}

static uint8_t sum(const uint8_t *at, size_t bytes)
{
    uint8_t total = 0;

    while (bytes--)
        total = (uint8_t)(total + *at++);
    return total;
}

static const uint8_t *at_gpa(uint64_t gpa)
{
    ck_assert_uint_ge(gpa, GPA);
    ck_assert_uint_lt(gpa, GPA + ROOM);
    ck_assert_uint_eq(gpa % 16, 0);
    return area + (gpa - GPA);
}

static uint64_t xsdt_gpa(void)
{
    ck_assert_mem_eq(area, "RSD PTR ", 8);
    ck_assert_uint_eq(field(area, 15, 1), 2);
    ck_assert_uint_eq(field(area, 16, 4), 0);
    ck_assert_uint_eq(field(area, 20, 4), 36);
    ck_assert_uint_eq(sum(area, 20), 0);
    ck_assert_uint_eq(sum(area, 36), 0);
    return field(area, 24, 8);
}

/* What every table's header must say. */
static const uint8_t *check_header(const uint8_t *table, const char *signature, unsigned revision)
{
    ck_assert_mem_eq(table, signature, 4);
    ck_assert_uint_eq(table[8], revision);
    ck_assert_uint_ge(field(table, 4, 4), 36);
    ck_assert_uint_eq(sum(table, field(table, 4, 4)), 0);
    ck_assert_mem_eq(table + 10, "STRATASTRATAVM", 14);
    return table;
}

/* The table with this signature that the XSDT names; NULL: none, twice: a failure. */
static const uint8_t *find(const char *signature)
{
    const uint8_t *xsdt = check_header(at_gpa(xsdt_gpa()), "XSDT", 1), *found = NULL;

    for (unsigned at = 36; at < field(xsdt, 4, 4); at += 8) {
        const uint8_t *table = at_gpa(field(xsdt, at, 8));

        if (memcmp(table, signature, 4) == 0) {
            ck_assert_ptr_null(found);
            found = table;
        }
    }
    return found;
}

static void save(const char *shape, const uint8_t *table)
{
    const char *folder = getenv("STRATA_ACPI_TABLES");
    char path[512];
    FILE *file;

    if (!folder)
        return;
    snprintf(path, sizeof(path), "%s/%s-%.4s.dat", folder, shape, (const char *)table);
    file = fopen(path, "w");
    ck_assert_msg(file, "%s", path);
    ck_assert_uint_eq(fwrite(table, field(table, 4, 4), 1, file), 1);
    fclose(file);
}

START_TEST(test_tables)
{
    const struct shape *shape = &shapes[_i];
    int used = build(shape);
    const uint8_t *fadt, *dsdt;

    ck_assert_int_gt(used, 0);
    ck_assert_uint_eq(area[used], 0xee); /* and nothing is written behind them */
    fadt = check_header(find("FACP"), "FACP", 6);
    dsdt = check_header(at_gpa(field(fadt, 140, 8)), "DSDT", 2);
    check_header(find("APIC"), "APIC", 5);
    ck_assert(!find("VIOT") == !shape->iommu);

    save(shape->name, at_gpa(xsdt_gpa()));
    save(shape->name, fadt);
    save(shape->name, dsdt);
    save(shape->name, find("APIC"));
    if (shape->iommu)
        save(shape->name, find("VIOT"));
}
END_TEST

START_TEST(test_fadt)
{
    const uint8_t *fadt;

    ck_assert_int_gt(build(&shapes[1]), 0);
    fadt = find("FACP");
    ck_assert_uint_eq(field(fadt, 4, 4), 276);
    ck_assert_uint_eq(field(fadt, 36, 4), 0); /* no FACS */
    ck_assert_uint_eq(field(fadt, 40, 4), field(fadt, 140, 8));
    for (unsigned at = 48; at < 108; at++)
        ck_assert_uint_eq(fadt[at], 0); /* no fixed hardware */
    for (unsigned at = 148; at < 244; at++)
        ck_assert_uint_eq(fadt[at], 0);
    ck_assert_uint_eq(fadt[108], 0x32);
    ck_assert_uint_eq(field(fadt, 109, 2), 4);
    ck_assert_uint_eq(field(fadt, 112, 4), 1u << 20 | 1 << 12 | 1 << 10 | 0x71);
    /* Generic addresses: I/O space, 8 bits, bytes. */
    ck_assert_uint_eq(field(fadt, 116, 4), 0x01000801);
    ck_assert_uint_eq(field(fadt, 120, 8), 0x602);
    ck_assert_uint_eq(fadt[128], 0x52);
    ck_assert_uint_eq(fadt[131], 4);
    ck_assert_uint_eq(field(fadt, 244, 4), 0x01000801);
    ck_assert_uint_eq(field(fadt, 248, 8), 0x600);
    ck_assert_uint_eq(field(fadt, 256, 4), 0x01000801);
    ck_assert_uint_eq(field(fadt, 260, 8), 0x601);
    ck_assert_mem_eq(fadt + 268, "strata\0", 8);
}
END_TEST

START_TEST(test_madt)
{
    const struct shape *shape = &shapes[_i];
    const uint8_t *madt;
    unsigned at = 44;

    ck_assert_int_gt(build(shape), 0);
    madt = find("APIC");
    ck_assert_uint_eq(field(madt, 36, 4), 0xfee00000);
    ck_assert_uint_eq(field(madt, 40, 4), 0);
    for (unsigned i = 0; i < shape->ncpus; i++, at += 8) {
        ck_assert_uint_eq(field(madt, at, 2), 0x0800);
        ck_assert_uint_eq(madt[at + 2], i);
        ck_assert_uint_eq(madt[at + 3], i);
        ck_assert_uint_eq(field(madt, at + 4, 4), 1);
    }
    ck_assert_uint_eq(field(madt, at, 4), 0x0c01);
    ck_assert_uint_eq(field(madt, at + 4, 4), 0xfec00000);
    ck_assert_uint_eq(field(madt, at + 8, 4), 0);
    at += 12;
    ck_assert_uint_eq(field(madt, at, 6), 0x010000ff0604);
    ck_assert_uint_eq(field(madt, 4, 4), at + 6);
}
END_TEST

START_TEST(test_viot)
{
    const struct shape *shape = &shapes[_i];
    const uint8_t *viot;
    unsigned endpoints = shape->ndevices - 2; /* neither the IOMMU nor the last one */

    ck_assert_int_gt(build(shape), 0);
    viot = check_header(find("VIOT"), "VIOT", 0);
    ck_assert_uint_eq(field(viot, 36, 2), endpoints + 1);
    ck_assert_uint_eq(field(viot, 38, 2), 48);
    ck_assert_uint_eq(field(viot, 48, 4), 0x00100004);
    ck_assert_uint_eq(field(viot, 56, 8), ABI_MMIO_GPA);
    ck_assert_uint_eq(field(viot, 4, 4), 64 + 24 * endpoints);
    for (unsigned i = 0; i < endpoints; i++) {
        unsigned at = 64 + 24 * i;

        ck_assert_uint_eq(field(viot, at, 4), 0x00180002);
        ck_assert_uint_eq(field(viot, at + 4, 4), 101 + i);
        ck_assert_uint_eq(field(viot, at + 8, 8), ABI_MMIO_GPA + (i + 1) * ABI_MMIO_BYTES);
        ck_assert_uint_eq(field(viot, at + 16, 8), 48);
    }
}
END_TEST

/* One device, byte for byte as the specification encodes it. */
START_TEST(test_dsdt)
{
    /* clang-format off */
    static const uint8_t expected[] = {
        0x08, '_', 'S', '5', '_', 0x12, 0x07, 4, 0x0a, 5, 0, 0, 0, /* Name (_S5, Package () …) */
        0x10, 0x49, 0x04, '_', 'S', 'B', '_',                      /* Scope (_SB) */
        0x5b, 0x82, 0x41, 0x04, 'D', '0', '0', '0',                /* Device (D000) */
        0x08, '_', 'H', 'I', 'D', 0x0d, 'L', 'N', 'R', 'O', '0', '0', '0', '5', 0,
        0x08, '_', 'U', 'I', 'D', 0,
        0x08, '_', 'C', 'C', 'A', 1,
        0x08, '_', 'C', 'R', 'S', 0x11, 0x1a, 0x0a, 0x17,          /* ResourceTemplate () */
        0x86, 9, 0, 1, 0, 0x10, 0, 0xd0, 0, 0x10, 0, 0,            /* Memory32Fixed */
        0x89, 6, 0, 1, 1, 17, 0, 0, 0,                             /* Interrupt */
        0x79, 0,
    };
    /* clang-format on */
    const struct device_node node = { .hid = "LNRO0005",
                                      .gpa = ABI_MMIO_GPA + 0x1000,
                                      .bytes = 0x1000,
                                      .gsi = 17,
                                      .sense = DEVICE_LEVEL_HIGH };
    const uint8_t *dsdt;

    ck_assert_int_gt(acpi_build(area, sizeof(area), GPA, 1, &node, 1), 0);
    dsdt = at_gpa(field(find("FACP"), 140, 8));
    ck_assert_uint_eq(field(dsdt, 4, 4), 36 + sizeof(expected));
    ck_assert_mem_eq(dsdt + 36, expected, sizeof(expected));
}
END_TEST

/* Lengths on both sides of each change of their encoding. */
START_TEST(test_lengths)
{
    static const struct {
        size_t inside, prefix;
    } cases[] = { { 0, 1 },     { 62, 1 },      { 63, 2 },      { 0xffd, 2 },
                  { 0xffe, 3 }, { 0xffffc, 3 }, { 0xffffd, 4 }, { 0x123456, 4 } };
    size_t inside = cases[_i].inside, prefix = cases[_i].prefix, length;
    struct aml aml = { .room = 2 << 20 };
    size_t begun;

    aml.bytes = calloc(1, aml.room);
    begun = aml_scope(&aml, "X");
    /* A scope's name is five bytes less the prefix; fill up to `inside` in all. */
    if (inside >= 4)
        memset(aml.bytes + aml.used, 'f', inside - 4);
    aml.used = begun + inside;
    aml_end(&aml, begun);
    ck_assert(!aml.overflow);
    ck_assert_uint_eq(aml.used, 1 + prefix + inside);
    ck_assert_uint_eq(aml.bytes[1] >> 6, prefix - 1);
    length = prefix == 1 ? aml.bytes[1] & 0x3f : aml.bytes[1] & 0xf;
    for (unsigned i = 1; i < prefix; i++)
        length |= (size_t)aml.bytes[1 + i] << (8 * i - 4);
    ck_assert_uint_eq(length, prefix + inside);
    free(aml.bytes);
}
END_TEST

START_TEST(test_integers)
{
    static const struct {
        uint64_t value;
        uint8_t bytes[9];
        unsigned count;
    } cases[] = {
        { 0, { 0 }, 1 },
        { 1, { 1 }, 1 },
        { 2, { 0x0a, 2 }, 2 },
        { 0xff, { 0x0a, 0xff }, 2 },
        { 0x100, { 0x0b, 0, 1 }, 3 },
        { 0x10000, { 0x0c, 0, 0, 1, 0 }, 5 },
        { 0x100000000, { 0x0e, 0, 0, 0, 0, 1, 0, 0, 0 }, 9 },
    };
    uint8_t bytes[16];

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct aml aml = { .bytes = bytes, .room = sizeof(bytes) };

        aml_integer(&aml, cases[i].value);
        ck_assert_uint_eq(aml.used, cases[i].count);
        ck_assert_mem_eq(bytes, cases[i].bytes, cases[i].count);
    }
}
END_TEST

/* With any room less than what they take: an error, and nothing written beyond it. */
START_TEST(test_room)
{
    struct device_node nodes[BOARD_NODES_MAX];
    const struct shape *shape = &shapes[2];
    unsigned count = make_nodes(shape, nodes);
    int used = build(shape);

    for (size_t room = 0; room < (size_t)used; room++) {
        uint8_t *small = malloc(room + 1);

        small[room] = 0xee;
        ck_assert_int_eq(acpi_build(small, room, GPA, shape->ncpus, nodes, count), -ENOSPC);
        ck_assert_uint_eq(small[room], 0xee);
        free(small);
    }
    ck_assert_int_eq(acpi_build(area, (size_t)used, GPA, shape->ncpus, nodes, count), used);
    used = mptable_build(area, sizeof(area), GPA, shape->ncpus, nodes, count);
    for (size_t room = 0; room < (size_t)used; room++)
        ck_assert_int_eq(mptable_build(area, room, GPA, shape->ncpus, nodes, count), -ENOSPC);
}
END_TEST

START_TEST(test_limits)
{
    struct device_node far = { .hid = "LNRO0005", .gpa = 1ull << 32, .bytes = 0x1000, .gsi = 16 };

    ck_assert_int_eq(acpi_build(area, sizeof(area), GPA, 1, &far, 1), -ERANGE);
    far.gpa = 0xfffff000;
    ck_assert_int_eq(acpi_build(area, sizeof(area), GPA, 1, &far, 1), -ERANGE);
    ck_assert_int_gt(acpi_build(area, sizeof(area), GPA, 255, NULL, 0), 0);
    ck_assert_int_eq(acpi_build(area, sizeof(area), GPA, 256, NULL, 0), -ERANGE);
    ck_assert_int_gt(mptable_build(area, sizeof(area), GPA, 254, NULL, 0), 0);
    ck_assert_int_eq(mptable_build(area, sizeof(area), GPA, 255, NULL, 0), -ERANGE);
}
END_TEST

START_TEST(test_mptable)
{
    const struct shape *shape = &shapes[_i];
    struct device_node nodes[BOARD_NODES_MAX];
    unsigned count = make_nodes(shape, nodes), entries = 0, at = 44, pin = 0;
    const uint8_t *table = area + 16;
    int used;

    memset(area, 0xee, sizeof(area));
    used = mptable_build(area, sizeof(area), 0xf0000, shape->ncpus, nodes, count);
    ck_assert_int_gt(used, 0);
    ck_assert_uint_eq(area[used], 0xee);
    ck_assert_mem_eq(area, "_MP_", 4);
    ck_assert_uint_eq(field(area, 4, 4), 0xf0010);
    ck_assert_uint_eq(field(area, 8, 2), 0x0401);
    ck_assert_uint_eq(sum(area, 16), 0);
    ck_assert_uint_eq(field(area, 11, 5), 0); /* a configuration table, virtual wire mode */

    ck_assert_mem_eq(table, "PCMP", 4);
    ck_assert_uint_eq(table[6], 4);
    ck_assert_int_eq((int)field(table, 4, 2), used - 16);
    ck_assert_uint_eq(sum(table, field(table, 4, 2)), 0);
    ck_assert_mem_eq(table + 8, "STRATA  STRATAVM    ", 20);
    ck_assert_uint_eq(field(table, 36, 4), 0xfee00000);
    for (unsigned i = 0; i < shape->ncpus; i++, at += 20, entries++) {
        ck_assert_uint_eq(field(table, at, 2), i << 8);
        ck_assert_uint_eq(table[at + 3], i ? 1 : 3);
    }
    ck_assert_mem_eq(table + at, "\1\0ISA   ", 8);
    ck_assert_uint_eq(field(table, at + 8, 4), 0x01110002u | shape->ncpus << 8);
    ck_assert_uint_eq(field(table, at + 12, 4), 0xfec00000);
    at += 16;
    entries += 2;
    for (; table[at] == 3; at += 8, entries++, pin++) {
        if (pin == 2)
            pin++;
        ck_assert_uint_eq(table[at + 1], 0);
        ck_assert_uint_eq(field(table, at + 2, 2), pin < 16 ? 0 : 0xd);
        ck_assert_uint_eq(table[at + 4], 0);
        ck_assert_uint_eq(table[at + 5], pin);
        ck_assert_uint_eq(table[at + 6], shape->ncpus);
        ck_assert_uint_eq(table[at + 7], pin);
    }
    ck_assert_uint_eq(pin, 16 + (shape->ndevices < 8 ? shape->ndevices : 8));
    ck_assert_uint_eq(field(table, at, 8), 0x0000000000000304);
    ck_assert_uint_eq(field(table, at + 8, 8), 0x01ff000000000104);
    ck_assert_uint_eq(field(table, 34, 2), entries + 2);
    ck_assert_uint_eq(at + 16, field(table, 4, 2));
}
END_TEST

/* Into guest memory, where they are looked for, as the board says what there is. */
START_TEST(test_write)
{
    const struct board_config config = { .pc = true,
                                         .console_out_fd = -1,
                                         .console_input_ready_fd = -1 };
    struct vm vm = { .fd = -1, .ncpus = 2 };
    struct error error = { .code = 0 };
    uint64_t rsdp = 0;
    struct board board;

    ck_assert_int_eq(memory_create(&vm.memory, -1, LAYOUT_MEMORY_BYTES_MIN, MEMORY_4K), 0);
    bus_init(&vm.pio, 0xffff);
    bus_init(&vm.mmio, ~0ull);
    ck_assert_int_eq(board_create(&board, &vm, &config), 0);
    ck_assert_int_eq(acpi_write(&vm, &board, &rsdp, &error), 0);
    ck_assert_uint_eq(rsdp, 0xe0000);
    ck_assert_mem_eq(memory_at(&vm.memory, rsdp, 8), "RSD PTR ", 8);
    ck_assert_int_eq(mptable_write(&vm, &board, &error), 0);
    ck_assert_mem_eq(memory_at(&vm.memory, 0xff000, 4), "_MP_", 4);
    ck_assert_int_eq(reset_vector_write(&vm.memory, &error), 0);
    ck_assert_mem_eq(memory_at(&vm.memory, 0xffff0, 4), "\xb0\xfe\xe6\x64", 4);
    vm.ncpus = 300;
    ck_assert_int_lt(acpi_write(&vm, &board, &rsdp, &error), 0);
    ck_assert_ptr_nonnull(strstr(error.text, "300 CPUs"));
    ck_assert_int_lt(mptable_write(&vm, &board, &error), 0);
    ck_assert_ptr_nonnull(strstr(error.field, "vcpu_count"));
    board_destroy(&board);
    memory_destroy(&vm.memory);
}
END_TEST

Suite *acpi_suite(void)
{
    Suite *suite = suite_create("acpi");
    TCase *tc = tcase_create("acpi");

    tcase_set_timeout(tc, 30);
    tcase_add_loop_test(tc, test_tables, 0, NSHAPES);
    tcase_add_test(tc, test_fadt);
    tcase_add_loop_test(tc, test_madt, 0, NSHAPES);
    tcase_add_loop_test(tc, test_viot, 2, NSHAPES);
    tcase_add_test(tc, test_dsdt);
    tcase_add_loop_test(tc, test_lengths, 0, 8);
    tcase_add_test(tc, test_integers);
    tcase_add_test(tc, test_room);
    tcase_add_test(tc, test_limits);
    tcase_add_loop_test(tc, test_mptable, 0, NSHAPES);
    tcase_add_test(tc, test_write);
    suite_add_tcase(suite, tc);
    return suite;
}
