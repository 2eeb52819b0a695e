/* vmm/launch/config, config_fields, config_json: what may be in a configuration and what not. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/suites.h"
#include "vmm/launch/config_fields.h"
#include "vmm/launch/config_json.h"

static struct vm_config config;
static struct error error;

static void setup(void)
{
    config_init(&config);
    error = (struct error){ .code = 0 };
}

static void teardown(void)
{
    config_destroy(&config);
}

static int load(const char *text)
{
    int err = config_json_read(&config, text, strlen(text), &error);

    if (!err)
        config_place_devices(&config);
    return err ? err : config_check(&config, &error);
}

/* What is wrong is told by its place. */
static const struct {
    const char *text;
    int err;
    const char *field, *says;
} bad[] = {
    { "", -EINVAL, "", "line 1 is no JSON" },
    { "{", -EINVAL, "", "line 1 is no JSON" },
    { "[]", -EINVAL, "", "is a list" },
    { "3", -EINVAL, "", "no JSON" },
    { "{\"drive\": []}", -EINVAL, "drive", "no such field" },
    { "{\"a\\nb\": 1}", -EINVAL, "a?b", "no such field" },
    { "{\"machine-config\": []}", -EINVAL, "machine-config", "is a list" },
    { "{\"machine-config\": {\"vcpus\": 1}}", -EINVAL, "machine-config.vcpus", "no such field" },
    { "{\"machine-config\": {\"vcpu_count\": \"2\"}}", -EINVAL, "machine-config.vcpu_count",
      "is a text; give a whole number" },
    { "{\"machine-config\": {\"vcpu_count\": 2.5}}", -EINVAL, "machine-config.vcpu_count",
      "is a number with a point" },
    { "{\"machine-config\": {\"vcpu_count\": 0}}", -ERANGE, "machine-config.vcpu_count",
      "from 1 to 64" },
    { "{\"machine-config\": {\"vcpu_count\": 65}}", -ERANGE, "machine-config.vcpu_count",
      "from 1 to 64" },
    { "{\"machine-config\": {\"vcpu_count\": 4294967297}}", -ERANGE, "machine-config.vcpu_count",
      "from 1 to 64" },
    { "{\"machine-config\": {\"mem_size_mib\": -1}}", -ERANGE, "machine-config.mem_size_mib",
      "is not from 2" },
    { "{\"machine-config\": {\"mem_size_mib\": 1}}", -ERANGE, "machine-config.mem_size_mib",
      "is not from 2" },
    { "{\"machine-config\": {\"mem_size_mib\": 8796093022207}}", -ERANGE,
      "machine-config.mem_size_mib", "more than the host's" },
    { "{\"machine-config\": {\"mem_size_mib\": 8796093022208}}", -ERANGE,
      "machine-config.mem_size_mib", "is not from 2" },
    { "{\"machine-config\": {\"mem_size_bytes\": 2097153}}", -EINVAL, "machine-config.mem_size_mib",
      "multiple of 4K" },
    { "{\"machine-config\": {\"mem_size_mib\": 4, \"mem_size_bytes\": 4194304}}", -EINVAL,
      "machine-config.mem_size_bytes", "one of them" },
    { "{\"machine-config\": {\"huge_pages\": \"4M\"}}", -EINVAL, "machine-config.huge_pages",
      "say None, THP, 2M or 1G" },
    { "{\"machine-config\": {\"huge_pages\": \"2M\", \"mem_size_mib\": 3}}", -EINVAL,
      "machine-config.huge_pages", "multiple of 2M" },
    { "{\"machine-config\": {\"smt\": true}}", -EINVAL, "machine-config.smt", "give false" },
    { "{\"machine-config\": {\"dirty_ring_bytes\": 5000}}", -EINVAL,
      "machine-config.dirty_ring_bytes", "power of two" },
    { "{\"machine-config\": {\"cpuid\": \"-avx3\"}}", -EINVAL, "machine-config.cpuid",
      "no such feature" },
    { "{\"machine-config\": {\"cpuid\": \"a\\u0000b\"}}", -EINVAL, "", "no JSON" },
    { "{\"boot-source\": {\"initrd_path\": \"/x\"}}", -EINVAL, "boot-source.initrd_path",
      "no kernel" },
    { "{\"boot-source\": {\"kernel_image_path\": \"\"}}", -EINVAL, "boot-source.kernel_image_path",
      "empty" },
    { "{\"flat-kernel\": {\"bits\": 8}, \"boot-source\": {\"kernel_image_path\": \"k\"}}", -EINVAL,
      "flat-kernel", "16, 32 or 64" },
    { "{\"iommu\": {\"mode\": \"maybe\"}}", -EINVAL, "iommu.mode",
      "say off, bypass, strict or lazy" },
    { "{\"debug-exit\": {\"port\": 65535}}", -ERANGE, "debug-exit.port", "to 65532" },
    { "{\"drives\": {}}", -EINVAL, "drives", "give a list" },
    { "{\"drives\": [3]}", -EINVAL, "drives[0]", "give an object" },
    { "{\"drives\": [{}]}", -EINVAL, "drives[0].path_on_host", "missing" },
    { "{\"drives\": [{\"path_on_host\": \"/dev/null\"}, {\"path_on_host\": 1}]}", -EINVAL,
      "drives[1].path_on_host", "give a text" },
    { "{\"drives\": [{\"path_on_host\": \"/nonexistent/disk\"}]}", -ENOENT,
      "drives[0].path_on_host", "give a file that exists" },
    { "{\"drives\": [{\"path_on_host\": \"/dev/null\", \"latency_ns\": 99999999999}]}", -ERANGE,
      "drives[0].latency_ns", "is not from 0" },
    { "{\"drives\": [{\"path_on_host\": \"/dev/null\", \"drive_id\": \"a\"}, "
      "{\"path_on_host\": \"/dev/null\", \"drive_id\": \"a\"}]}",
      -EEXIST, "drives[1]", "the id a" },
    { "{\"drives\": [{\"path_on_host\": \"/dev/null\", \"is_root_device\": true}, "
      "{\"path_on_host\": \"/dev/null\", \"is_root_device\": true}]}",
      -EEXIST, "drives[1]", "a second root disk" },
    { "{\"network-interfaces\": [{\"guest_mac\": \"01:00:00:00:00:01\"}]}", -EINVAL,
      "network-interfaces[0].guest_mac", "no address of a device" },
    { "{\"network-interfaces\": [{\"host_dev_name\": \"t\", \"host_forwards\": [\"tcp:1:1\"]}]}",
      -EINVAL, "network-interfaces[0]", "leave them or t out" },
    { "{\"network-interfaces\": [{\"host_forwards\": [1]}]}", -EINVAL,
      "network-interfaces[0].host_forwards", "give a text" },
    { "{\"vsock\": {\"guest_cid\": 2, \"uds_path\": \"s\"}}", -ERANGE, "vsock.guest_cid",
      "is not from 3" },
    { "{\"vsock\": {\"guest_cid\": 3}}", -EINVAL, "vsock.uds_path", "missing" },
    { "{\"balloon\": [{\"amount_mib\": 1}, {\"amount_mib\": 1}]}", -E2BIG, "balloon",
      "a machine has one" },
    { "{\"balloon\": {\"amount_mib\": 256}}", -EINVAL, "balloon", "give less than 256M" },
    { "{\"virtio-ports\": [{\"name\": \"a/b\", \"uds_path\": \"s\"}]}", -EINVAL, "virtio-ports",
      "other than /" },
    { "{\"virtio-ports\": [{\"name\": \"a\", \"uds_path\": \"s\"}, "
      "{\"name\": \"a\", \"uds_path\": \"t\"}]}",
      -EEXIST, "virtio-ports", "name=a twice" },
};

START_TEST(test_bad)
{
    int err = load(bad[_i].text);

    ck_assert_msg(err == bad[_i].err, "%s: %d, expected %d: %s: %s", bad[_i].text, err, bad[_i].err,
                  error.field, error.text);
    ck_assert_int_eq(error.code, err);
    ck_assert_str_eq(error.field, bad[_i].field);
    ck_assert_msg(strstr(error.text, bad[_i].says), "\"%s\" lacks \"%s\"", error.text,
                  bad[_i].says);
    ck_assert_msg(strchr(error.text, ';'), "no remedy in \"%s\"", error.text);
}
END_TEST

/* What is good is read, and written as it would be read again. */
static const char *const good[] = {
    "{}",
    "{\"machine-config\": {\"vcpu_count\": 1, \"mem_size_mib\": 64, \"smt\": false, "
    "\"track_dirty_pages\": false, \"huge_pages\": \"2M\", \"dirty_ring_bytes\": 65536}}",
    "{\"machine-config\": {\"mem_size_bytes\": 4198400, \"io_thread\": true}}",
    "{\"machine-config\": null, \"vsock\": null, \"boot-source\": {\"initrd_path\": null}}",
    "{\"boot-source\": {\"kernel_image_path\": \"/k\", \"initrd_path\": \"/i\", \"boot_args\": "
    "\"a \\u00e9\", \"modules\": [\"m x\"]}, \"flat-kernel\": {\"bits\": 16, \"gpa\": 31744, "
    "\"entry\": 31744}}",
    "{\"drives\": [{\"drive_id\": \"d\", \"path_on_host\": \"/dev/null\", \"is_read_only\": true, "
    "\"is_root_device\": true, \"latency_ns\": 5}, {\"path_on_host\": \"/dev/zero\"}]}",
    "{\"network-interfaces\": [{\"iface_id\": \"e\", \"host_dev_name\": \"tap0\", \"guest_mac\": "
    "\"02:00:00:00:00:0A\"}, {\"host_forwards\": [\"tcp:1:2\", \"udp:3:4\"]}]}",
    "{\"vsock\": {\"guest_cid\": 3, \"uds_path\": \"s\", \"vsock_id\": \"v\"}, \"entropy\": {}}",
    "{\"entropy\": [{}, {}], \"virtio-console\": {}, \"dma-probe\": [{}]}",
    "{\"balloon\": {\"amount_mib\": 0}, \"iommu\": {\"mode\": \"lazy\"}, \"debug-exit\": "
    "{\"port\": 0}}",
    "{\"virtio-ports\": [{\"name\": \"a\", \"uds_path\": \"s\"}]}",
};

START_TEST(test_good)
{
    struct vm_config again;
    char *text, *same;

    ck_assert_msg(load(good[_i]) == 0, "%s: %s: %s", good[_i], error.field, error.text);
    text = config_json_write(&config);
    ck_assert_ptr_nonnull(text);
    config_init(&again);
    ck_assert_int_eq(config_json_read(&again, text, strlen(text), &error), 0);
    config_place_devices(&again);
    same = config_json_write(&again);
    ck_assert_str_eq(text, same);
    ck_assert_uint_eq(again.memory_bytes, config.memory_bytes);
    ck_assert_uint_eq(again.ndevices, config.ndevices);
    free(text);
    free(same);
    config_destroy(&again);
}
END_TEST

/* Each value arrives where it belongs; what is not said stays. */
START_TEST(test_values)
{
    config.vcpu_count = 7;
    ck_assert_int_eq(load("{\"machine-config\": {\"mem_size_mib\": 64, \"huge_pages\": \"THP\"},"
                          "\"iommu\": {\"mode\": \"strict\"},"
                          "\"dma-probe\": {}, \"entropy\": {},"
                          "\"drives\": [{\"path_on_host\": \"/dev/null\"}, {\"path_on_host\": "
                          "\"/dev/zero\", \"is_root_device\": true, \"is_read_only\": true}],"
                          "\"virtio-ports\": [{\"name\": \"a\", \"uds_path\": \"s\"}]}"),
                     0);
    ck_assert_uint_eq(config.vcpu_count, 7);
    ck_assert_uint_eq(config.memory_bytes, 64u << 20);
    ck_assert_int_eq(config.huge_pages, MEMORY_THP);
    ck_assert_int_eq(config.iommu, VM_IOMMU_STRICT);
    /* The root disk first, then by kind; an endpoint is a window, the first the IOMMU's. */
    ck_assert_uint_eq(config.ndevices, 5);
    ck_assert_str_eq(config.devices[0].path, "/dev/zero");
    ck_assert(config.devices[0].root && config.devices[0].read_only);
    ck_assert_str_eq(config.devices[1].path, "/dev/null");
    ck_assert(!config.devices[1].root && !config.devices[1].read_only);
    ck_assert_int_eq(config.devices[2].kind, DEVICE_RNG);
    ck_assert(config.devices[3].kind == DEVICE_CONSOLE && config.devices[3].ports_only);
    ck_assert_int_eq(config.devices[4].kind, DEVICE_PROBE);
    for (unsigned i = 0; i < config.ndevices; i++)
        ck_assert_uint_eq(config.devices[i].endpoint, i + 1);
}
END_TEST

/* More devices than windows, one less with an IOMMU. */
START_TEST(test_too_many)
{
    const struct config_device rng = { .kind = DEVICE_RNG };

    for (unsigned i = 0; i < ABI_MMIO_DEVICES_MAX; i++)
        ck_assert_int_eq(config_add_device(&config, &rng, &error), 0);
    ck_assert_int_eq(config_add_device(&config, &rng, &error), -E2BIG);
    ck_assert_int_eq(config_check(&config, &error), 0);
    config.iommu = VM_IOMMU_LAZY;
    ck_assert_int_eq(config_check(&config, &error), -E2BIG);
}
END_TEST

/* Every field that an error can be about is a row of the table. */
START_TEST(test_paths)
{
    char path[CONFIG_PATH_BYTES];

    for (unsigned s = 0; s < config_sections_count; s++) {
        for (unsigned f = 0; f < config_sections[s].nfields; f++) {
            config_path(path, &config_sections[s], 12, config_sections[s].fields[f].name);
            ck_assert_uint_lt(strlen(path) + 1, CONFIG_PATH_BYTES);
            ck_assert_ptr_nonnull(strstr(path, config_sections[s].fields[f].name));
        }
    }
}
END_TEST

Suite *config_suite(void)
{
    Suite *suite = suite_create("config");
    TCase *tc = tcase_create("config");

    tcase_set_timeout(tc, 10);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, test_bad, 0, sizeof(bad) / sizeof(bad[0]));
    tcase_add_loop_test(tc, test_good, 0, sizeof(good) / sizeof(good[0]));
    tcase_add_test(tc, test_values);
    tcase_add_test(tc, test_too_many);
    tcase_add_test(tc, test_paths);
    suite_add_tcase(suite, tc);
    return suite;
}
