/*
 * vmm/launch/machine: one lifecycle from a configuration to its end, with the bundled guest; what
 * cannot be made says at which step, and leaves nothing behind.
 */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/suites.h"
#include "vmm/launch/machine.h"

#define MEMORY_BYTES (32ull << 20)
#define PATIENCE_MS  60000

static struct kvm_host host;
static struct vm_config config;
static struct machine machine;
static struct error error;

static void setup(void)
{
    config_init(&config);
    config.memory_bytes = MEMORY_BYTES;
    config.vcpu_count = 1;
    error = (struct error){ .code = 0 };
    ck_assert_int_eq(kvm_open(&host), 0);
}

static void teardown(void)
{
    kvm_close(&host);
    config_destroy(&config);
}

static int create(void)
{
    const struct machine_hooks hooks = MACHINE_NO_HOOKS;

    ck_assert_msg(config_check(&config, &error) == 0, "%s", error.text);
    return machine_create(&machine, &host, &config, &hooks, &error);
}

static void start(const char *boot_args)
{
    config.boot_args = boot_args;
    ck_assert_msg(create() == 0, "%s", error.text);
    ck_assert_msg(machine_boot(&machine, &error) == 0, "%s", error.text);
    ck_assert_msg(machine_configure(&machine, &error) == 0, "%s", error.text);
    ck_assert_msg(machine_start(&machine, &error) == 0, "%s", error.text);
}

static unsigned open_files(void)
{
    DIR *directory = opendir("/proc/self/fd");
    unsigned count = 0;

    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

static uint64_t sum_of_memory(void)
{
    const uint64_t *words = memory_at(&machine.vm.memory, 0, MEMORY_BYTES);
    uint64_t sum = 0;

    for (uint64_t i = 0; i < MEMORY_BYTES / sizeof(*words); i++)
        sum = sum * 31 + words[i];
    return sum;
}

static void wait_ms(long ms)
{
    nanosleep(&(struct timespec){ .tv_nsec = ms * 1000000 }, NULL);
}

START_TEST(test_to_its_end)
{
    unsigned before = open_files();

    start("exec=halt 7");
    ck_assert_int_eq(machine_wait(&machine, PATIENCE_MS), 0);
    ck_assert_int_eq(machine.vm.end.reason, VM_END_GUEST_EXIT);
    ck_assert_int_eq(machine.vm.end.status, 7);
    machine_destroy(&machine);
    ck_assert_uint_eq(open_files(), before);
}
END_TEST

START_TEST(test_pause)
{
    uint64_t sum;
    unsigned changes = 0;

    start("exec=run spin");
    for (unsigned i = 0; i < 5; i++) {
        wait_ms(20);
        machine_pause(&machine, NULL);
        sum = sum_of_memory();
        wait_ms(20);
        ck_assert_uint_eq(sum_of_memory(), sum);
        machine_resume(&machine, NULL);
    }
    /* The control: while it runs, its memory changes. */
    for (unsigned i = 0; i < PATIENCE_MS / 20 && !changes; i++) {
        wait_ms(20);
        changes += sum_of_memory() != sum;
    }
    ck_assert_uint_gt(changes, 0);
    machine_stop(&machine, VM_END_HOST_STOP, 3);
    ck_assert_int_eq(machine_wait(&machine, PATIENCE_MS), 0);
    ck_assert_int_eq(machine.vm.end.reason, VM_END_HOST_STOP);
    ck_assert_int_eq(machine.vm.end.status, 3);
    machine_destroy(&machine);
}
END_TEST

/* In the middle of everything, also of a pause. */
START_TEST(test_destroy)
{
    unsigned before = open_files();

    start("exec=run spin");
    if (_i) {
        machine_pause(&machine, NULL);
        machine_resume(&machine, NULL);
    }
    machine_destroy(&machine);
    ck_assert_uint_eq(open_files(), before);
}
END_TEST

/* The second disk is the first one's file: that is known only when it is opened. */
START_TEST(test_no_device)
{
    char path[] = "/tmp/strata-machine-XXXXXX";
    const struct config_device disk = { .kind = DEVICE_BLK, .path = path };
    int fd = mkstemp(path);
    unsigned before = open_files();

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, 1 << 20), 0);
    for (unsigned i = 0; i < 2; i++)
        ck_assert_int_eq(config_add_device(&config, &disk, &error), 0);
    config.iommu = VM_IOMMU_STRICT;
    config_place_devices(&config);
    ck_assert_int_eq(create(), -EBUSY);
    ck_assert_int_eq(machine.step, MACHINE_STEP_DEVICES);
    ck_assert_ptr_nonnull(strstr(error.text, path));
    ck_assert_uint_eq(open_files(), before);
    close(fd);
    unlink(path);
}
END_TEST

/* A kernel is read before or after the VM is made: either way this is told, and nothing else. */
START_TEST(test_no_kernel)
{
    unsigned before = open_files();
    int err;

    config.kernel_path = "/nonexistent/kernel";
    err = create();
    if (!err) {
        err = machine_boot(&machine, &error);
        machine_destroy(&machine);
    }
    ck_assert_int_eq(err, -ENOENT);
    ck_assert_int_eq(machine.step, MACHINE_STEP_BOOT);
    ck_assert_ptr_nonnull(strstr(error.text, "/nonexistent/kernel"));
    ck_assert_uint_eq(open_files(), before);
}
END_TEST

Suite *machine_suite(void)
{
    Suite *suite = suite_create("machine");
    TCase *tcase = tcase_create("machine");

    tcase_set_tags(tcase, NEEDS_KVM);
    tcase_set_timeout(tcase, 180);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, test_to_its_end);
    tcase_add_test(tcase, test_pause);
    tcase_add_loop_test(tcase, test_destroy, 0, 2);
    tcase_add_test(tcase, test_no_device);
    tcase_add_test(tcase, test_no_kernel);
    suite_add_tcase(suite, tcase);
    return suite;
}
