/* devices/core/board: which devices there are, where, behind what; and their description. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <libfdt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/core/board.h"
#include "devices/iommu/dma.h"
#include "guest/abi/machine.h"
#include "guest/abi/policy.h"
#include "guest/abi/probe.h"
#include "tests/unit/suites.h"
#include "vmm/boot/boot.h"
#include "vmm/boot/fdt.h"
#include "vmm/boot/layout.h"
#include "vmm/machine/vm.h"

#define RAM_BYTES (4ull << 20)

static struct vm vm;
static struct board board;
static char disk[] = "/tmp/strata-board-XXXXXX";

/* As much of a VM as devices need; its interrupts go nowhere. */
static void make_vm(void)
{
    vm = (struct vm){ .fd = -1, .ncpus = 2 };
    ck_assert_int_eq(memory_create(&vm.memory, -1, RAM_BYTES, MEMORY_4K), 0);
    bus_init(&vm.pio, 0xffff);
    bus_init(&vm.mmio, ~0ull);
}

static void setup(void)
{
    int fd;

    make_vm();
    strcpy(strrchr(disk, '-') + 1, "XXXXXX");
    fd = mkstemp(disk);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, 1 << 20), 0);
    close(fd);
}

static void teardown(void)
{
    unlink(disk);
    memory_destroy(&vm.memory);
}

static void make_again(void)
{
    memory_destroy(&vm.memory);
    make_vm();
}

static int create(const struct device_config *devices, unsigned count, const char *mode)
{
    const struct board_config board_config = { .devices = devices,
                                               .ndevices = count,
                                               .iommu = mode && strcmp(mode, "off"),
                                               .console_out_fd = -1,
                                               .console_input_ready_fd = -1 };

    return board_create(&board, &vm, &board_config);
}

static uint32_t mmio_read(unsigned window, unsigned offset)
{
    uint32_t value;

    bus_read(&vm.mmio, NULL, ABI_MMIO_GPA + window * ABI_MMIO_BYTES + offset, &value, 4, 1);
    return value;
}

/* A machine that asks for no device has none, and nothing that belongs to one. */
START_TEST(test_none)
{
    struct board_report report;

    ck_assert_int_eq(create(NULL, 0, NULL), 0);
    ck_assert_ptr_null(board.slots);
    ck_assert_ptr_null(board_iommu(&board));
    ck_assert_ptr_null(board_dma(&board, 0));
    ck_assert(!board_report(&board, 0, &report));
    ck_assert_uint_eq(vm.mmio.nregions, 0);
    board_destroy(&board);
}
END_TEST

static const struct device_config all[] = {
    { .kind = DEVICE_BLK, .endpoint = 11, .path = disk, .read_only = true },
    { .kind = DEVICE_PROBE, .endpoint = 12 },
    { .kind = DEVICE_RNG, .endpoint = 13 },
    { .kind = DEVICE_CONSOLE, .endpoint = 14 },
};

static const struct {
    const char *name;
    uint32_t device_id;
} identities[] = {
    { "virtio-iommu", 23 }, { "virtio-blk", 2 },     { "dma-probe", 0 },
    { "virtio-rng", 4 },    { "virtio-console", 3 },
};

START_TEST(test_all)
{
    bool iommu = _i;

    ck_assert_int_eq(create(all, 4, iommu ? "DMA" : "off"), 0);
    ck_assert(!board_iommu(&board) == !iommu);
    for (unsigned i = 0; i < 4u + iommu; i++) {
        unsigned kind = i + !iommu;
        struct board_report report;

        ck_assert(board_report(&board, i, &report));
        ck_assert_str_eq(report.device->ops->name, identities[kind].name);
        ck_assert_uint_eq(report.gpa, ABI_MMIO_GPA + i * ABI_MMIO_BYTES);
        ck_assert(report.translated == (iommu && kind > 0));
        if (identities[kind].device_id) {
            ck_assert_uint_eq(mmio_read(i, 0), 0x74726976);
            ck_assert_uint_eq(mmio_read(i, 8), identities[kind].device_id);
        } else {
            ck_assert_uint_eq(mmio_read(i, ABI_PROBE_ID), ABI_PROBE_ID_VALUE);
        }
    }
    for (unsigned i = 0; i < 4; i++) {
        const struct dma *dma = board_dma(&board, i);

        ck_assert_ptr_eq(dma->iommu, board_iommu(&board));
        ck_assert_ptr_eq(dma->vm, &vm);
        ck_assert_uint_eq(dma->id, 11 + i);
        ck_assert(!board_model(&board, i, &virtio_blk_ops) == (i != 0));
        ck_assert_ptr_null(board_model(&board, i, &virtio_iommu_ops));
        ck_assert(!board_model(&board, i, &probe_ops) == (i != 1));
    }
    ck_assert(!board_model(&board, BOARD_IOMMU_DEVICE, &virtio_iommu_ops) == !iommu);
    ck_assert_ptr_null(board_dma(&board, 4));
    board_destroy(&board);
}
END_TEST

START_TEST(test_refused)
{
    struct device_config many[ABI_MMIO_DEVICES_MAX + 1];

    for (unsigned i = 0; i <= ABI_MMIO_DEVICES_MAX; i++)
        many[i] = (struct device_config){ .kind = DEVICE_RNG, .endpoint = i };
    ck_assert_int_eq(create(many, ABI_MMIO_DEVICES_MAX + 1, NULL), -E2BIG);
    make_again();
    ck_assert_int_eq(create(many, ABI_MMIO_DEVICES_MAX, "DMA"), -E2BIG);
    make_again();
    ck_assert_int_eq(create(many, ABI_MMIO_DEVICES_MAX, NULL), 0);
    board_destroy(&board);
    make_again();
    many[1].endpoint = 0;
    ck_assert_int_eq(create(many, 2, "DMA"), -EEXIST);
    ck_assert_ptr_null(board.slots);
    ck_assert_ptr_null(board.iommu);
    make_again();
    many[1] = (struct device_config){ .kind = DEVICE_BLK, .endpoint = 1, .path = "/nonexistent" };
    ck_assert_int_eq(create(many, 2, "DMA"), -ENOENT);
    ck_assert_ptr_nonnull(strstr(board.error, "/nonexistent"));
    /* Of no kind that there is, and of the one that is the board's own. */
    make_again();
    many[1] = (struct device_config){ .kind = DEVICE_KINDS, .endpoint = 1 };
    ck_assert_int_eq(create(many, 2, "DMA"), -EINVAL);
    make_again();
    many[1].kind = DEVICE_IOMMU;
    ck_assert_int_eq(create(many, 2, "DMA"), -EINVAL);
}
END_TEST

/* Input goes to the virtio console while a driver runs it, else to the serial port. */
START_TEST(test_input)
{
    ck_assert_int_eq(create(all + 2, 2, NULL), 0);
    ck_assert_uint_eq(board_input(&board, (const uint8_t *)"a", 1), 0);
    uint8_t enable = 1;

    bus_write(&vm.pio, NULL, ABI_SERIAL_PORT + 1, &enable, 1, 1); /* IER: input is wanted */
    ck_assert_uint_eq(board_input(&board, (const uint8_t *)"a", 1), 1);
    ck_assert_uint_eq(board.serial.state.rx_count, 1);
    board_destroy(&board);
}
END_TEST

/* ---- Device tree --------------------------------------------------------------------- */

static uint32_t cell(const void *fdt, const char *path, const char *name, unsigned index)
{
    int bytes, node = fdt_path_offset(fdt, path);
    const fdt32_t *cells = fdt_getprop(fdt, node, name, &bytes);

    ck_assert_msg(cells && bytes >= (int)(4 * index + 4), "%s: no %s[%u]", path, name, index);
    return fdt32_to_cpu(cells[index]);
}

static bool has(const void *fdt, const char *path, const char *name)
{
    return fdt_getprop(fdt, fdt_path_offset(fdt, path), name, NULL) != NULL;
}

START_TEST(test_description)
{
    static const char *const paths[] = { "/virtio@d0000000", "/virtio@d0001000",
                                         "/dma-probe@d0002000", "/virtio@d0003000",
                                         "/virtio@d0004000" };
    static const struct abi_policy policy = { .magic = ABI_POLICY_MAGIC, .ndevices = 7 };
    struct fdt_info info = { .bootargs = "", .dma_mode = "DMA", .policy = &policy };
    size_t room;
    void *fdt;
    int bytes;
    const void *property;

    ck_assert_int_eq(create(all, 4, "DMA"), 0);
    room = fdt_room(&vm, &board, &info);
    fdt = malloc(room);
    ck_assert_int_gt(fdt_build(fdt, room, &vm, &board, &info), 0);
    for (unsigned i = 0; i < 5; i++) {
        ck_assert_str_eq(fdt_getprop(fdt, fdt_path_offset(fdt, paths[i]), "compatible", NULL),
                         i == 2 ? ABI_PROBE_COMPATIBLE : "virtio,mmio");
        ck_assert_uint_eq(cell(fdt, paths[i], "reg", 0), 0);
        ck_assert_uint_eq(cell(fdt, paths[i], "reg", 1), ABI_MMIO_GPA + i * ABI_MMIO_BYTES);
        ck_assert_uint_eq(cell(fdt, paths[i], "reg", 2), 0);
        ck_assert_uint_eq(cell(fdt, paths[i], "reg", 3), ABI_MMIO_BYTES);
        ck_assert_uint_eq(cell(fdt, paths[i], "interrupts", 0), ABI_MMIO_GSI + i % 8);
        ck_assert_uint_eq(cell(fdt, paths[i], "interrupts", 1), DEVICE_LEVEL_HIGH);
        ck_assert(has(fdt, paths[i], "dma-coherent"));
        ck_assert(has(fdt, paths[i], "#iommu-cells") == (i == 0));
        ck_assert(has(fdt, paths[i], "iommus") == (i != 0));
        if (i) {
            ck_assert_uint_eq(cell(fdt, paths[i], "iommus", 0), cell(fdt, paths[0], "phandle", 0));
            ck_assert_uint_eq(cell(fdt, paths[i], "iommus", 1), all[i - 1].endpoint);
        }
    }
    ck_assert_uint_eq(cell(fdt, paths[0], "#iommu-cells", 0), 1);
    ck_assert_str_eq(fdt_getprop(fdt, fdt_path_offset(fdt, "/chosen"), ABI_FDT_DMA_MODE, NULL),
                     "DMA");
    property = fdt_getprop(fdt, fdt_path_offset(fdt, "/chosen"), ABI_FDT_DMA_POLICY, &bytes);
    ck_assert_int_eq(bytes, sizeof(policy));
    ck_assert_mem_eq(property, &policy, sizeof(policy));
    free(fdt);
    board_destroy(&board);
}
END_TEST

START_TEST(test_description_without_iommu)
{
    struct fdt_info info = { .bootargs = "" };
    char fdt[8192];

    ck_assert_int_eq(create(all, 4, NULL), 0);
    ck_assert_int_gt(fdt_build(fdt, sizeof(fdt), &vm, &board, &info), 0);
    ck_assert_int_ge(fdt_path_offset(fdt, "/virtio@d0000000"), 0);
    ck_assert(!has(fdt, "/virtio@d0000000", "iommus"));
    ck_assert(!has(fdt, "/virtio@d0000000", "#iommu-cells"));
    ck_assert(!has(fdt, "/chosen", ABI_FDT_DMA_MODE));
    ck_assert(!has(fdt, "/chosen", ABI_FDT_DMA_POLICY));
    board_destroy(&board);
}
END_TEST

/* The largest machine's tree fits into the room asked for, and that into its place. */
START_TEST(test_room)
{
    static const struct abi_policy policy = { .magic = ABI_POLICY_MAGIC };
    static char bootargs[LAYOUT_CMDLINE_BYTES];
    struct fdt_info info = {
        .bootargs = bootargs, .tsc_hz = 1, .dma_mode = "DMA-FQ", .policy = &policy
    };
    struct device_config devices[ABI_MMIO_DEVICES_MAX - 1];
    size_t room;
    void *fdt;

    memset(bootargs, 'x', sizeof(bootargs) - 1);
    for (unsigned i = 0; i < ABI_MMIO_DEVICES_MAX - 1; i++)
        devices[i] = (struct device_config){ .kind = DEVICE_PROBE, .endpoint = 1000 + i };
    vm.ncpus = VM_CPUS_MAX;
    ck_assert_int_eq(create(devices, ABI_MMIO_DEVICES_MAX - 1, "DMA-FQ"), 0);
    room = fdt_room(&vm, &board, &info);
    ck_assert_uint_le(room, LAYOUT_FDT_BYTES);
    fdt = malloc(room);
    ck_assert_int_gt(fdt_build(fdt, room, &vm, &board, &info), 0);
    free(fdt);
    board_destroy(&board);
}
END_TEST

Suite *board_suite(void)
{
    Suite *suite = suite_create("board");
    TCase *tc = tcase_create("board");

    tcase_set_timeout(tc, 10);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_none);
    tcase_add_loop_test(tc, test_all, 0, 2);
    tcase_add_test(tc, test_refused);
    tcase_add_test(tc, test_input);
    tcase_add_test(tc, test_description);
    tcase_add_test(tc, test_description_without_iommu);
    tcase_add_test(tc, test_room);
    suite_add_tcase(suite, tc);
    return suite;
}
