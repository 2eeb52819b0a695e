/* vmm/boot/fdt: what was written, read back with libfdt. */
#include <check.h>
#include <errno.h>
#include <libfdt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/core/board.h"
#include "guest/abi/machine.h"
#include "tests/unit/suites.h"
#include "vmm/boot/fdt.h"
#include "vmm/machine/vm.h"

#define GIB (1ull << 30)

static struct vm vm;
static struct board board;

/* As much of a VM as a board and a description need. */
static void setup(void)
{
    const struct board_config config = { .console_out_fd = -1, .console_input_ready_fd = -1 };

    vm = (struct vm){ .fd = -1, .ncpus = 3 };
    ck_assert_int_eq(memory_create(&vm.memory, -1, 4 * GIB, MEMORY_4K), 0);
    bus_init(&vm.pio, 0xffff);
    bus_init(&vm.mmio, ~0ull);
    ck_assert_int_eq(board_create(&board, &vm, &config), 0);
}

static void teardown(void)
{
    board_destroy(&board);
    memory_destroy(&vm.memory);
}

static uint32_t cell(const void *fdt, const char *path, const char *name, unsigned index)
{
    int bytes, node = fdt_path_offset(fdt, path);
    const fdt32_t *cells = fdt_getprop(fdt, node, name, &bytes);

    ck_assert_msg(cells && bytes >= (int)(4 * index + 4), "%s: no %s[%u]", path, name, index);
    return fdt32_to_cpu(cells[index]);
}

static const char *text(const void *fdt, const char *path, const char *name)
{
    const char *value = fdt_getprop(fdt, fdt_path_offset(fdt, path), name, NULL);

    ck_assert_msg(value, "%s: no %s", path, name);
    return value;
}

START_TEST(test_contents)
{
    struct fdt_info info = { .bootargs = "a b exec=c d", .host_cpus = 5, .tsc_hz = 0x123456789 };
    size_t room = fdt_room(&vm, &board, &info);
    void *fdt = malloc(room);
    int bytes = fdt_build(fdt, room, &vm, &board, &info);

    ck_assert_int_gt(bytes, 0);
    ck_assert_int_eq(fdt_check_full(fdt, (size_t)bytes), 0);
    ck_assert_str_eq(text(fdt, "/chosen", "bootargs"), "a b exec=c d");
    ck_assert_uint_eq(cell(fdt, "/chosen", ABI_FDT_HOST_CPUS, 0), 5);
    ck_assert_uint_eq(cell(fdt, "/chosen", ABI_FDT_TSC_HZ, 0), 1);
    ck_assert_uint_eq(cell(fdt, "/chosen", ABI_FDT_TSC_HZ, 1), 0x23456789);
    ck_assert_int_ge(fdt_path_offset(fdt, text(fdt, "/chosen", "stdout-path")), 0);

    /* [0, 3 GiB) and [4 GiB, 5 GiB), 64 bits each. */
    static const uint32_t reg[] = { 0, 0, 0, 0xc0000000, 1, 0, 0, 0x40000000 };

    for (unsigned i = 0; i < 8; i++)
        ck_assert_uint_eq(cell(fdt, "/memory@0", "reg", i), reg[i]);
    ck_assert_uint_eq(cell(fdt, "/", "#address-cells", 0), 2);
    ck_assert_uint_eq(cell(fdt, "/", "#size-cells", 0), 2);

    for (unsigned i = 0; i < 3; i++) {
        char path[32];

        snprintf(path, sizeof(path), "/cpus/cpu@%u", i);
        ck_assert_uint_eq(cell(fdt, path, "reg", 0), i);
    }
    ck_assert_int_lt(fdt_path_offset(fdt, "/cpus/cpu@3"), 0);

    ck_assert_str_eq(text(fdt, "/isa/serial@3f8", "compatible"), "ns16550a");
    ck_assert_uint_eq(cell(fdt, "/isa/serial@3f8", "reg", 0), 1);
    ck_assert_uint_eq(cell(fdt, "/isa/serial@3f8", "reg", 1), ABI_SERIAL_PORT);
    ck_assert_uint_eq(cell(fdt, "/isa/serial@3f8", "reg", 2), 8);
    ck_assert_uint_eq(cell(fdt, "/isa/serial@3f8", "interrupts", 0), ABI_SERIAL_GSI);
    ck_assert_str_eq(text(fdt, "/isa/hypercall-port@5c0", "compatible"), ABI_HYPERCALL_COMPATIBLE);
    ck_assert_uint_eq(cell(fdt, "/isa/hypercall-port@5c0", "reg", 1), ABI_HYPERCALL_PORT);
    ck_assert_uint_eq(cell(fdt, "/isa/hypercall-port@5c0", "reg", 2), ABI_HYPERCALL_BYTES);

    /* The interrupt parent of everything is the IOAPIC. */
    int ioapic = fdt_node_offset_by_phandle(fdt, cell(fdt, "/", "interrupt-parent", 0));

    ck_assert_int_eq(fdt_path_offset(fdt, "/interrupt-controller@fec00000"), ioapic);
    ck_assert_int_ge(fdt_path_offset(fdt, "/interrupt-controller@fee00000"), 0);
    free(fdt);
}
END_TEST

START_TEST(test_unknown_tsc)
{
    struct fdt_info info = { .bootargs = "", .host_cpus = 1 };
    char fdt[8192];

    ck_assert_int_gt(fdt_build(fdt, sizeof(fdt), &vm, NULL, &info), 0);
    ck_assert_ptr_null(fdt_getprop(fdt, fdt_path_offset(fdt, "/chosen"), ABI_FDT_TSC_HZ, NULL));
    ck_assert_int_lt(fdt_path_offset(fdt, "/isa/serial@3f8"), 0);
}
END_TEST

/* The room that is asked for is enough for the largest machine; less is an error, not a crash. */
START_TEST(test_room)
{
    char bootargs[2048];
    struct fdt_info info = { .bootargs = bootargs, .host_cpus = 64, .tsc_hz = 1 };
    size_t room;
    void *fdt;

    memset(bootargs, 'x', sizeof(bootargs) - 1);
    bootargs[sizeof(bootargs) - 1] = 0;
    vm.ncpus = VM_CPUS_MAX;
    room = fdt_room(&vm, &board, &info);
    fdt = malloc(room);
    ck_assert_int_gt(fdt_build(fdt, room, &vm, &board, &info), 0);
    for (size_t less = 0; less < room / 2; less += 64) {
        void *small = malloc(less + 1);

        ck_assert_int_eq(fdt_build(small, less, &vm, &board, &info), -ENOSPC);
        free(small);
    }
    free(fdt);
}
END_TEST

Suite *fdt_suite(void)
{
    Suite *suite = suite_create("fdt");
    TCase *tc = tcase_create("fdt");

    tcase_set_timeout(tc, 10);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_contents);
    tcase_add_test(tc, test_unknown_tsc);
    tcase_add_test(tc, test_room);
    suite_add_tcase(suite, tc);
    return suite;
}
