/* vmm/dma/policy: what a policy says, each thing that it cannot say, and blobs from anywhere. */
#include <check.h>
#include <errno.h>
#include <glob.h>
#include <libfdt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/suites.h"
#include "vmm/dma/policy/policy.h"

#define SHIPPED "tests/policies/*.dts"
#define BROKEN  "tests/policies/broken/*.dts"

/* Everything that a policy can hold, each where a test finds it. */
static const char full[] =
    "/dts-v1/;\n"
    "/ {\n"
    "model = \"full\";\n"
    "strata,description = \"all there is\";\n"
    "#address-cells = <2>;\n"
    "#size-cells = <2>;\n"
    "reserved-memory {\n"
    "#address-cells = <2>; #size-cells = <1>; ranges;\n"
    "rx: rx { size = <0x4000>; };\n"
    "tx: tx { reg = <0 0x4000000 0x2000>; no-map; };\n"
    "pool: pool { compatible = \"restricted-dma-pool\"; size = <0x10000>; };\n"
    "window { reg = <0 0x5000000 0x1000>;\n"
    "iommu-addresses = <&nic 0 0x5000000 0 0x1000>; };\n"
    "reserved { iommu-addresses = <&nic 0 0x7000000 0 0x1000>; };\n"
    "off: off { status = \"disabled\"; size = <1>; };\n"
    "};\n"
    "iommu: iommu { compatible = \"virtio,device17\"; #iommu-cells = <1>;\n"
    "strata,lacks = \"wrap-check\", \"pinning\";\n"
    "strata,boot-bypass;\n"
    "strata,max-domains = <4>;\n"
    "strata,max-mappings = <100>;\n"
    "strata,max-mappings-per-domain = <50>;\n"
    "strata,fault-records = <8>;\n"
    "};\n"
    "nic: nic { compatible = \"strata,dma-probe\"; iommus = <&iommu 7>;\n"
    "memory-region = <&rx>, <&tx>;\n"
    "strata,permission = \"w\", \"r\";\n"
    "strata,mode = \"DMA-FQ\";\n"
    "strata,buffers = \"exclusive\";\n"
    "strata,msi-vectors = <0x50 0xff>;\n"
    "strata,fault-action = \"reset\";\n"
    "strata,completion-timeout-ms = <250>;\n"
    "strata,driver-lacks = \"pinning\", \"attach-before-use\";\n"
    "};\n"
    "bus { compatible = \"simple-bus\"; #address-cells = <1>; #size-cells = <1>;\n"
    "iommu-map = <0x10 &iommu 0x20 0x8>;\n"
    "disk: disk@12 { compatible = \"virtio,device2\"; reg = <0x12 1>;\n"
    "memory-region = <&pool>;\n"
    "strata,domain = <1>; };\n"
    "gone { status = \"disabled\"; iommus = <&iommu 7>; };\n"
    "};\n"
    "};\n";

static char path[64];
static struct policy policy;
static struct policy_error error;

static void setup(void)
{
    int fd;

    /* A name that dtc writes into comments as it is. */
    strcpy(path, "/tmp/strata policy, 1:2 XXXXXX.dts");
    fd = mkstemps(path, 4);
    ck_assert_int_ge(fd, 0);
    close(fd);
}

static void teardown(void)
{
    unlink(path);
}

static void put(const char *text)
{
    FILE *file = fopen(path, "w");

    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
}

/* `full` with one piece of it replaced; the line where that begins. */
static unsigned put_edited(const char *from, const char *to)
{
    const char *at = strstr(full, from);
    char *text;
    unsigned line = 1;

    ck_assert_msg(at != NULL, "\"%s\" is not in the policy", from);
    ck_assert_int_gt(asprintf(&text, "%.*s%s%s", (int)(at - full), full, to, at + strlen(from)), 0);
    put(text);
    free(text);
    for (const char *c = full; c < at; c++)
        line += *c == '\n';
    return line;
}

static int load(void)
{
    int err = policy_load(&policy, path, &error);

    ck_assert_int_le(err, 0);
    ck_assert_msg((err < 0) == (error.text[0] != 0), "%d: %s", err, error.text);
    return err;
}

START_TEST(test_full)
{
    const struct abi_policy *guest = &policy.guest;

    put(full);
    ck_assert_msg(load() == 0, "%s", error.text);
    ck_assert_str_eq(policy.name, "full");
    ck_assert_str_eq(policy.description, "all there is");
    ck_assert(policy.iommu);
    ck_assert_uint_eq(policy.iommu_config.disabled_checks, IOMMU_CHECK_WRAP | IOMMU_CHECK_PIN);
    ck_assert(policy.iommu_config.boot_bypass);
    ck_assert_uint_eq(policy.iommu_config.domains_max, 4);
    ck_assert_uint_eq(policy.iommu_config.mappings_max, 100);
    ck_assert_uint_eq(policy.iommu_config.mappings_of_domain_max, 50);
    ck_assert_uint_eq(policy.iommu_config.faults_max, 8);

    ck_assert_uint_eq(guest->magic, ABI_POLICY_MAGIC);
    ck_assert_uint_eq(guest->version, ABI_POLICY_VERSION);
    ck_assert_uint_eq(guest->ndevices, 2);
    ck_assert_uint_eq(guest->nregions, 5);
}
END_TEST

START_TEST(test_devices)
{
    const struct abi_policy_device *nic = &policy.guest.device[0], *disk = &policy.guest.device[1];

    put(full);
    ck_assert_int_eq(load(), 0);
    ck_assert_str_eq(nic->name, "nic");
    ck_assert_uint_eq(nic->kind, ABI_DEVICE_PROBE);
    ck_assert_uint_eq(nic->endpoint, 7);
    ck_assert_uint_eq(nic->mode, ABI_DMA_LAZY);
    ck_assert_uint_eq(nic->buffers, ABI_DMA_EXCLUSIVE);
    ck_assert_uint_eq(nic->pool, ~0u);
    ck_assert_uint_eq(nic->flags, ABI_DEVICE_NO_PIN | ABI_DEVICE_EARLY);
    ck_assert_uint_eq(nic->fault_action, ABI_FAULT_RESET);
    ck_assert_uint_eq(nic->timeout_ms, 250);
    ck_assert_uint_eq(nic->nuses, 2);
    ck_assert_uint_eq(nic->use[0].region, 0);
    ck_assert_uint_eq(nic->use[0].rights, IOMMU_WRITE);
    ck_assert_uint_eq(nic->use[1].region, 1);
    ck_assert_uint_eq(nic->use[1].rights, IOMMU_READ);
    ck_assert_uint_eq(policy.device[0].vectors[1], 1ull << (0x50 - 64));
    ck_assert_uint_eq(policy.device[0].vectors[3], 1ull << 63);
    ck_assert_uint_eq(policy.device[0].line, 25);

    ck_assert_str_eq(disk->name, "disk@12");
    ck_assert_uint_eq(disk->kind, ABI_DEVICE_BLK);
    ck_assert_uint_eq(disk->endpoint, 0x22);
    ck_assert_uint_eq(disk->domain, 1);
    ck_assert_uint_ne(nic->domain, 1);
    ck_assert_uint_eq(disk->mode, ABI_DMA_STRICT);
    ck_assert_uint_eq(disk->buffers, ABI_DMA_BOUNCE);
    ck_assert_uint_eq(disk->pool, 2);
    ck_assert_uint_eq(disk->nuses, 0);
    ck_assert_uint_eq(policy.device[1].line, 37);
}
END_TEST

START_TEST(test_regions)
{
    const struct abi_policy_region *region = policy.guest.region;

    put(full);
    ck_assert_int_eq(load(), 0);
    ck_assert_uint_eq(region[0].kind, ABI_REGION_BUFFER);
    ck_assert_uint_eq(region[0].gpa, 0);
    ck_assert_uint_eq(region[0].bytes, 0x4000);
    ck_assert_uint_eq(region[1].kind, ABI_REGION_BUFFER);
    ck_assert_uint_eq(region[1].gpa, 0x4000000);
    ck_assert_uint_eq(region[1].bytes, 0x2000);
    ck_assert_uint_eq(region[2].kind, ABI_REGION_POOL);
    ck_assert_uint_eq(region[3].kind, ABI_REGION_IDENTITY);
    ck_assert_uint_eq(region[3].iova, 0x5000000);
    ck_assert_uint_eq(region[3].endpoints, 1);
    ck_assert_uint_eq(region[4].kind, ABI_REGION_RESERVED_IOVA);
    ck_assert_uint_eq(region[4].gpa, 0);
    ck_assert_uint_eq(region[4].iova, 0x7000000);
    ck_assert_uint_eq(region[4].bytes, 0x1000);
    ck_assert_uint_eq(region[4].endpoints, 1);
}
END_TEST

START_TEST(test_defaults)
{
    const struct abi_policy_device *device = policy.guest.device;

    /* Without an IOMMU, and without an IOMMU that is on, everything is off. */
    put("/dts-v1/;\n/ { a { compatible = \"strata,dma-probe\"; };\n"
        "iommu: i { #iommu-cells = <1>; compatible = \"virtio,iommu\"; status = \"disabled\"; };\n"
        "b { compatible = \"strata,dma-probe\"; iommus = <&iommu 1>; }; };\n");
    ck_assert_msg(load() == 0, "%s", error.text);
    ck_assert(!policy.iommu);
    ck_assert_str_ne(policy.name, "");
    ck_assert_uint_eq(device[0].mode, ABI_DMA_OFF);
    ck_assert_uint_eq(device[0].endpoint, 2);
    ck_assert_uint_eq(device[1].endpoint, 1);
    ck_assert_uint_ne(device[0].domain, device[1].domain);
    ck_assert_uint_eq(device[0].buffers, ABI_DMA_IN_PLACE);
    ck_assert_uint_eq(device[0].timeout_ms, 0);
    ck_assert_uint_eq(device[0].fault_action, ABI_FAULT_REPORT);
}
END_TEST

/* Words for which the table above has one each. */
static const struct {
    const char *from, *to;
    int device;
    uint32_t expected;
    size_t at; /* of the field in abi_policy_device */
} words[] = {
#define FIELD(name) offsetof(struct abi_policy_device, name)
    { "\"DMA-FQ\"", "\"DMA\"", 0, ABI_DMA_STRICT, FIELD(mode) },
    { "\"reset\"", "\"report\"", 0, ABI_FAULT_REPORT, FIELD(fault_action) },
    { "\"reset\"", "\"detach\"", 0, ABI_FAULT_DETACH, FIELD(fault_action) },
    { "\"exclusive\"", "\"in-place\"", 0, ABI_DMA_IN_PLACE, FIELD(buffers) },
    { "\"w\", \"r\"", "\"rw\", \"r\"", 0, IOMMU_READ | IOMMU_WRITE, FIELD(use[0].rights) },
    { "strata,permission = \"w\", \"r\";\n", "", 0, IOMMU_READ | IOMMU_WRITE,
      FIELD(use[0].rights) },
    { "\"pinning\", \"attach-before-use\"", "\"checks\"", 0, ABI_DEVICE_TRUSTING, FIELD(flags) },
    { "\"pinning\", \"attach-before-use\"", "\"alias-tracking\"", 0, ABI_DEVICE_ALIASES_STAY,
      FIELD(flags) },
    { "strata,domain = <1>;", "strata,driver-lacks = \"private-bounce-metadata\";", 1,
      ABI_DEVICE_BOUNCE_META, FIELD(flags) },
    { "strata,domain = <1>;", "strata,driver-lacks = \"descriptor-checks\";", 1,
      ABI_DEVICE_NAIVE_QUEUE, FIELD(flags) },
    { "iommu-map = <0x10", "iommu-map-mask = <0xf>; iommu-map = <0x2", 1, 0x20, FIELD(endpoint) },
    { "bus { compatible = \"simple-bus\";", "bus { device_type = \"pci\";", 1, ~0u,
      FIELD(endpoint) },
    { "strata,domain = <1>", "strata,domain = <0>", 1, 0, FIELD(domain) },
#undef FIELD
};

START_TEST(test_word)
{
    uint32_t value;

    put_edited(words[_i].from, words[_i].to);
    /* As on PCI, 0x12 is part of the register number, and no function has it for an id. */
    if (words[_i].expected == ~0u) {
        ck_assert_int_eq(load(), -EINVAL);
        ck_assert_msg(strstr(error.text, "device with id 0x0") != NULL, "%s", error.text);
        return;
    }
    ck_assert_msg(load() == 0, "%s", error.text);
    memcpy(&value, (const char *)&policy.guest.device[words[_i].device] + words[_i].at,
           sizeof(value));
    ck_assert_uint_eq(value, words[_i].expected);
}
END_TEST

static const struct {
    const char *word;
    uint32_t bit;
} lacks[] = {
    { "requester-check", IOMMU_CHECK_REQUESTER },
    { "translated-check", IOMMU_CHECK_TRANSLATED },
    { "wrap-check", IOMMU_CHECK_WRAP },
    { "pinning", IOMMU_CHECK_PIN },
    { "msi-filter", IOMMU_CHECK_MSI },
    { "peer-filter", IOMMU_CHECK_PEER },
    { "permission", IOMMU_CHECK_PERMISSION },
    { "quota\";\nstrata,max-domains = <3", IOMMU_CHECK_QUOTA },
};

START_TEST(test_lacks)
{
    char to[96];

    snprintf(to, sizeof(to), strchr(lacks[_i].word, '"') ? "\"%s>;" : "\"%s\";", lacks[_i].word);
    if (lacks[_i].bit == IOMMU_CHECK_QUOTA)
        put_edited("\"wrap-check\", \"pinning\";\nstrata,boot-bypass;\nstrata,max-domains = <4>;\n"
                   "strata,max-mappings = <100>;\nstrata,max-mappings-per-domain = <50>;",
                   to);
    else
        put_edited("\"wrap-check\", \"pinning\";", to);
    ck_assert_msg(load() == 0, "%s", error.text);
    ck_assert_uint_eq(policy.iommu_config.disabled_checks, lacks[_i].bit);
}
END_TEST

/* One edit, and what is said about it; the line is that of the edit plus `line`. */
static const struct {
    const char *from, *to;
    int line; /* -1: there is none */
    const char *says;
} mistakes[] = {
    { "model = \"full\"", "model = \"f\\tull\"", 0,
      "node /: property \"model\": holds what cannot" },
    { "model = \"full\"", "model = \"a\", \"b\"", 0, "is not one text" },
    { "model = \"full\"", "model = <1>", 0, "is not one text" },
    { "strata,description = \"all there is\"", "strata,descripton = \"\"", 0,
      "\"strata,description\" is the nearest" },
    { "#address-cells = <2>; #size-cells = <1>; ranges", "#address-cells = <3>; ranges", 0,
      "node /reserved-memory: property \"#address-cells\": 3 cells cannot be; give 1 or 2" },
    { "size = <0x4000>", "size = <0 0x4000>", 0, "holds 2 cells; give 1" },
    { "size = <0x4000>", "size = <0>", 0, "not whole pages" },
    { "size = <0x4000>", "size = <0x123>", 0, "not whole pages" },
    { "size = <0x4000>", "size = <0x10000000>", 0, "more than the guest has" },
    { "size = <0x4000>", "size = <0x4000000>", 1, "above 0x4000000 bytes in all" },
    { "size = <0x4000>", "size = [00 01]", 0, "2 bytes are not a number of cells" },
    { "size = <0x4000>", "size = <0x4000>; alignment = <1>", 0, "are not known here" },
    { "size = <0x4000>", "size = <0x4000>; strata,mode = \"DMA\"", 0, "belongs on a device" },
    { "reg = <0 0x4000000 0x2000>", "reg = <0 0x4000000>", 0,
      "holds 2 cells; give one address of 2" },
    { "reg = <0 0x4000000 0x2000>", "reg = <1 0 0x2000>", 0, "ends outside memory" },
    { "reg = <0 0x4000000 0x2000>", "reg = <0xffffffff 0xfffff000 0x2000>", 0,
      "ends outside memory" },
    { "reg = <0 0x4000000 0x2000>", "reg = <0 0x4000010 0x2000>", 0, "does not start a page" },
    { "reg = <0 0x4000000 0x2000>", "reg = <0 0x1000 0x2000>", 0, "is the guest kernel's" },
    { "reg = <0 0x4000000 0x2000>", "reg = <0 0x5000000 0x2000>", 2, "overlaps tx" },
    { "reg = <0 0x4000000 0x2000>;", "reg = <0 0x4000000 0x2000>; size = <1>;", 0,
      "not whole pages" },
    { "reg = <0 0x4000000 0x2000>;", "reg = <0 0x4000000 0x2000>; size = <0x1000>;", 0,
      "says again what reg says" },
    { "reg = <0 0x4000000 0x2000>;", "", 0, "has neither reg nor size nor iommu-addresses" },
    { "pool: pool {", "pool: a-name-that-is-too-long-for-it {", 0, "its name is too long" },
    { "size = <0x10000>", "size = <0x10000>; iommu-addresses = <&nic 0 0 0 0x1000>", 0,
      "needs memory at a known place" },
    { "reg = <0 0x5000000 0x1000>;",
      "compatible = \"restricted-dma-pool\"; "
      "reg = <0 0x5000000 0x1000>;",
      1, "a restricted-dma-pool has none" },
    { "<&nic 0 0x5000000 0 0x1000>", "<&nic 0 0x5000000 0 0x2000>", 0, "make them equal" },
    { "<&nic 0 0x5000000 0 0x1000>", "<&nic 0 0x5000000 0>", 0, "is too short" },
    { "<&nic 0 0x5000000 0 0x1000>", "<&rx 0 0x5000000 0 0x1000>", 0,
      "is no device of this policy" },
    { "<&nic 0 0x5000000 0 0x1000>", "<0x7777 0 0x5000000 0 0x1000>", 0, "is no device of this" },
    { "<&nic 0 0x5000000 0 0x1000>", "<&nic 0 0xfee00000 0 0x1000>", 0, "in the interrupt window" },
    { "<&nic 0 0x5000000 0 0x1000>", "<&nic 0x10000 0 0 0x1000>", 0, "beyond 48 bits" },
    { "<&nic 0 0x5000000 0 0x1000>", "<&nic 0 0 0 0x1000>", 0, "address 0 is never mapped" },
    { "<&nic 0 0x5000000 0 0x1000>", "<&nic 0 0x5000000 0 0x1000 &disk 0x6000000 0x1000>", 0,
      "differs between devices" },
    { "<&nic 0 0x5000000 0 0x1000>", "<&nic 0x100 0 0 0x1000>", 0,
      "the attacks need 0x10000000000 to 0x2ffffffffff for themselves" },
    { "<&nic 0 0x5000000 0 0x1000>", "<&nic 0x2ff 0xfffff000 0 0x1000>", 0, "the attacks need" },
    { "<&nic 0 0x7000000 0 0x1000>", "<&nic 1 0 0xfffe 0>", 0, "the attacks need" },
    { "<&nic 0 0x7000000 0 0x1000>", "<&nic 0x4000 0 0x100 0>", 0, "leaves drivers no addresses" },
    { "<&nic 0 0x7000000 0 0x1000>", "<&nic 0 0x7000001 0 0x1000>", 0, "not whole pages" },
    { "<&nic 0 0x7000000 0 0x1000>", "<&nic 0 0x7000000 0 0>", 0, "not whole pages" },
    { "<&nic 0 0x7000000 0 0x1000>", "<&nic 0xffffffff 0xfffff000 0 0x2000>", 0,
      "end beyond 2^64" },
    { "<&nic 0 0x7000000 0 0x1000>", "<&nic 0 0x5000000 0 0x1000>", 0, "overlaps that of window" },
    { "\"virtio,device17\"", "\"virtio,device16\"", 0, "is not that of an IOMMU" },
    { "strata,fault-records = <8>", "strata,fault-records = <2049>", 0, "give 1 to 2048" },
    { "#iommu-cells = <1>", "#iommu-cells = <2>", 0, "2 is out of range; give 1" },
    { "#iommu-cells = <1>;", "", 0, "an IOMMU needs #iommu-cells" },
    { "strata,boot-bypass;", "strata,boot-bypass = <0>;", 0, "takes no value" },
    { "\"wrap-check\"", "\"wrapcheck\"", 0, "give \"requester-check\", " },
    { "\"wrap-check\"", "\"quota\"", 4, "leave one of them out" },
    { "strata,max-domains = <4>", "strata,max-domains = <0>", 0, "0 is out of range" },
    { "strata,max-mappings = <100>", "strata,max-mappings = <40>", 1,
      "50 for each of 2 domains are more than all mappings, 40; give at most 20" },
    { "strata,max-domains = <4>", "strata,max-domains = <1>", 0, "1, but the devices need 2" },
    { "strata,fault-records = <8>", "strata,fault-records = \"8\"", 0,
      "are not a number of cells" },
    { "strata,fault-records = <8>", "strata,fault-records = <8 9>", 0, "holds 2 cells" },
    { "strata,fault-records = <8>;\n};", "};\niommu2 { #iommu-cells = <1>; };", 1,
      "is a second IOMMU" },
    { "nic: nic { compatible = \"strata,dma-probe\"", "nic: nic { compatible = \"strata,probe\"", 2,
      "belongs on a device" },
    { "iommus = <&iommu 7>;", "", 0, "has no iommus" },
    { "iommus = <&iommu 7>", "iommus = <&iommu>", 0, "holds 1 cells; write one" },
    { "iommus = <&iommu 7>", "iommus = <&iommu 7>, <&iommu 8>", 0, "holds 4 cells; write one" },
    { "iommus = <&iommu 7>", "iommus = <&rx 7>", 0, "is no IOMMU" },
    { "iommus = <&iommu 7>", "iommus = <&iommu 0xffffffff>", 0, "cannot be told from none" },
    { "iommus = <&iommu 7>", "iommus = <0x4242 7>", 0, "0x4242 is no IOMMU" },
    { "iommus = <&iommu 7>", "iommus = <&iommu 0x22>", 12, "endpoint 34 is that of nic too" },
    { "memory-region = <&rx>, <&tx>", "memory-region = <&rx>, <&rx>", 0, "names rx twice" },
    { "memory-region = <&rx>, <&tx>", "memory-region = <&rx>, <&iommu>", 0,
      "entry 2 is no enabled" },
    { "memory-region = <&rx>, <&tx>", "memory-region = <&rx>, <&off>", 0, "entry 2 is no enabled" },
    { "memory-region = <&rx>, <&tx>", "memory-region = <&rx>", 1,
      "has 2 entries, memory-region 1" },
    { "memory-region = <&rx>, <&tx>", "memory-region = <&rx>, <&pool>", 1,
      "a pool is for both directions" },
    { "memory-region = <&rx>, <&tx>", "memory-region = <&rx>, <&{/reserved-memory/window}>", 1,
      "window is mapped for good and for both directions" },
    { "memory-region = <&pool>;", "memory-region = <&pool>, <&{/reserved-memory/window}>;", 0,
      "window has iommu-addresses, but none for this device" },
    { "strata,permission = \"w\", \"r\"", "strata,permission = \"w\", \"wr\"", 0,
      "\"wr\" means nothing" },
    { "strata,permission = \"w\", \"r\"", "strata,permission = \"w\", \"\"", 0,
      "\"\" means nothing" },
    { "strata,mode = \"DMA-FQ\"", "strata,mode = \"DMA-FQ\", \"DMA\"", 0, "holds 2 strings" },
    { "strata,mode = \"DMA-FQ\"", "strata,mode = \"lazy\"", 0,
      "\"lazy\" means nothing here; give \"DMA\", \"DMA-FQ\" or \"identity\"" },
    { "strata,mode = \"DMA-FQ\"", "mode = \"DMA-FQ\"", 0,
      "property \"mode\": would change nothing; write strata,mode" },
    { "strata,max-domains = <4>", "max-domains = <4>", 0, "write strata,max-domains" },
    { "strata,mode = \"DMA-FQ\"", "strata,mode = <1>", 0, "is not text" },
    { "strata,mode = \"DMA-FQ\"", "strata,mode = \"identity\"", -15, "is not translated" },
    { "strata,mode = \"DMA-FQ\"", "strata,mode", 0, "is not text" },
    { "strata,buffers = \"exclusive\"", "strata,buffers = \"bounce\"", 0,
      "\"bounce\" needs a pool" },
    { "strata,msi-vectors = <0x50 0xff>", "strata,msi-vectors = <0x1f>", 0, "31 is no vector" },
    { "strata,msi-vectors = <0x50 0xff>", "strata,msi-vectors = <0x100>", 0, "256 is no vector" },
    { "\"reset\"", "\"panic\"", 0, "means nothing here" },
    { "<250>", "<1000000>", 0, "is out of range" },
    { "\"attach-before-use\"", "\"private-bounce-metadata\"", 0, "needs a bounce pool" },
    { "\"attach-before-use\"", "\"descriptor-checks\"", 0, "is for a device with queues" },
    { "\"simple-bus\";", "\"simple-bus\"; strata,mode = \"DMA\";", 0, "belongs on a device" },
    { "\"simple-bus\";", "\"simple-bus\"; dma-ranges = <0 0 0>;", 0, "is not known here" },
    { "<0x10 &iommu 0x20 0x8>", "<0x10 &iommu 0x20>", 0, "holds 3 cells" },
    { "<0x10 &iommu 0x20 0x8>", "<0x10 &iommu 0x20 0x2>", 0,
      "no entry for the device with id 0x12" },
    { "<0x10 &iommu 0x20 0x8>", "<0x10 &rx 0x20 0x8>", 0, "is no IOMMU" },
    { "reg = <0x12 1>;", "", 0, "is missing; iommu-map of its bus goes by it" },
    { "memory-region = <&pool>;", "memory-region = <&pool>; strata,buffers = \"exclusive\";", 0,
      "but memory-region names a pool" },
    { "memory-region = <&pool>;", "memory-region = <&pool>, <&pool>;", 0, "names two pools" },
    { "strata,domain = <1>", "strata,domain = \"three\"", 0, "are not a number" },
    { "gone { status = \"disabled\";", "gone {", 0, "is no device of strata" },
    { "gone { status = \"disabled\";", "gone { status = \"disabled\"; strata,mode;", 0,
      "belongs on" },
    { "disk@12 {", "nic {", 0, "there are two of this name" },
    { "#iommu-cells = <1>", "#iommu-cells = <1>; status = \"disabled\"", 11, "needs an IOMMU" },
};

START_TEST(test_mistake)
{
    unsigned line = put_edited(mistakes[_i].from, mistakes[_i].to);
    char place[96];

    ck_assert_msg(load() == -EINVAL, "\"%s\" was accepted", mistakes[_i].to);
    ck_assert_msg(strstr(error.text, mistakes[_i].says) != NULL, "%s", error.text);
    snprintf(place, sizeof(place), "%s:%d: node /", path, (int)line + mistakes[_i].line);
    ck_assert_msg(!strncmp(error.text, place, strlen(place)), "not %s... but %s", place,
                  error.text);
    /* What is wrong, and what to do. */
    ck_assert_msg(strchr(error.text, ';') != NULL, "%s", error.text);
    ck_assert_ptr_null(strchr(error.text, '\n'));
}
END_TEST

START_TEST(test_shared_domain)
{
    put("/dts-v1/;\n/ { i: i { #iommu-cells = <1>; compatible = \"virtio,iommu\"; };\n"
        "a { compatible = \"strata,dma-probe\"; iommus = <&i 1>; strata,domain = <5>; };\n"
        "b { compatible = \"strata,dma-probe\"; iommus = <&i 2>; strata,domain = <5>; }; };\n");
    ck_assert_msg(load() == 0, "%s", error.text);
    ck_assert_uint_eq(policy.guest.device[0].domain, 5);
    ck_assert_uint_eq(policy.guest.device[1].domain, 5);
    put("/dts-v1/;\n/ { i: i { #iommu-cells = <1>; compatible = \"virtio,iommu\"; };\n"
        "a { compatible = \"strata,dma-probe\"; iommus = <&i 1>; strata,domain = <5>; };\n"
        "b { compatible = \"strata,dma-probe\"; iommus = <&i 2>; strata,domain = <5>;\n"
        "strata,mode = \"identity\"; }; };\n");
    ck_assert_int_eq(load(), -EINVAL);
    ck_assert_msg(strstr(error.text, "is shared with a, which has another strata,mode") != NULL,
                  "%s", error.text);
}
END_TEST

/* Two devices with what is given for each; the regions are "a" and "b" and a pool. */
static int load_two(const char *addresses, const char *first, const char *second)
{
    char text[2048];

    snprintf(text, sizeof(text),
             "/dts-v1/;\n/ { #address-cells = <1>; #size-cells = <1>;\n"
             "i: i { #iommu-cells = <1>; compatible = \"virtio,iommu\"; };\n"
             "reserved-memory { #address-cells = <1>; #size-cells = <1>; ranges;\n%s\n"
             "pool: pool { compatible = \"restricted-dma-pool\"; size = <0x10000>; }; };\n"
             "nic: nic { compatible = \"strata,dma-probe\"; iommus = <&i 1>; %s };\n"
             "usb: usb { compatible = \"strata,dma-probe\"; iommus = <&i 2>; %s }; };\n",
             addresses, first, second);
    put(text);
    return load();
}

/* What is mapped for one device of a domain is mapped for the others. */
START_TEST(test_holes_of_a_domain)
{
    const char *windows = "a { reg = <0x4000000 0x1000>;\n"
                          "iommu-addresses = <&nic 0x5000000 0x1000>; };\n"
                          "b { reg = <0x4100000 0x1000>;\n"
                          "iommu-addresses = <&usb 0x5000000 0x1000>; };\n";
    const char *reserved = "a { reg = <0x4000000 0x1000>;\n"
                           "iommu-addresses = <&nic 0x5000000 0x1000>; };\n"
                           "b { iommu-addresses = <&usb 0x4ff0000 0x20000>; };\n";

    ck_assert_msg(load_two(windows, "", "") == 0, "%s", error.text);
    ck_assert_msg(load_two(reserved, "", "") == 0, "%s", error.text);
    ck_assert_int_eq(load_two(windows, "strata,domain = <3>;", "strata,domain = <3>;"), -EINVAL);
    ck_assert_msg(strstr(error.text, ":8: node /reserved-memory/b: ") != NULL, "%s", error.text);
    ck_assert_msg(strstr(error.text, "overlaps that of a for the same device, or one that") != NULL,
                  "%s", error.text);
    ck_assert_int_eq(load_two(reserved, "strata,domain = <3>;", "strata,domain = <3>;"), -EINVAL);
}
END_TEST

/* A pool has its book-keeping in one place. */
START_TEST(test_shared_pool)
{
    const char *uses = "memory-region = <&pool>;";
    const char *inside = "memory-region = <&pool>; "
                         "strata,driver-lacks = \"private-bounce-metadata\";";

    ck_assert_msg(load_two("", uses, uses) == 0, "%s", error.text);
    ck_assert_msg(load_two("", inside, inside) == 0, "%s", error.text);
    ck_assert_int_eq(load_two("", uses, inside), -EINVAL);
    ck_assert_msg(strstr(error.text, "names the pool of nic, and only one of") != NULL, "%s",
                  error.text);
}
END_TEST

/* n devices, behind an IOMMU or not. */
static int load_devices(unsigned n, bool iommu)
{
    char text[4096];
    int at = snprintf(text, sizeof(text), "/dts-v1/;\n/ { %s",
                      iommu ? "i: i { #iommu-cells = <1>; compatible = \"virtio,iommu\"; };\n"
                            : "");

    for (unsigned i = 0; i < n; i++) {
        char iommus[32] = "";

        if (iommu)
            snprintf(iommus, sizeof(iommus), "iommus = <&i %u>;", i);
        at += snprintf(text + at, sizeof(text) - (size_t)at,
                       "d%u { compatible = \"strata,dma-probe\"; %s };\n", i, iommus);
    }
    snprintf(text + at, sizeof(text) - (size_t)at, "};\n");
    put(text);
    return load();
}

START_TEST(test_how_many)
{
    ck_assert_int_eq(load_devices(8, false), 0);
    ck_assert_int_eq(load_devices(9, false), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error.text, "is one device too many; use at most 8"));
    ck_assert_int_eq(load_devices(8, true), 0);
    ck_assert_int_eq(load_devices(9, true), -EINVAL);
    ck_assert_int_eq(load_devices(0, true), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error.text, "has no device"));
}
END_TEST

START_TEST(test_nested)
{
    char text[4096] = "/dts-v1/;\n/ { a { compatible = \"strata,dma-probe\"; };\n";

    for (int i = 0; i < 100; i++)
        strcat(text, "n { ");
    for (int i = 0; i < 100; i++)
        strcat(text, "}; ");
    strcat(text, "};\n");
    put(text);
    ck_assert_int_eq(load(), -EINVAL);
    ck_assert_msg(strstr(error.text, "nested too deeply") != NULL, "%s", error.text);
}
END_TEST

START_TEST(test_files)
{
    struct policy_error gone;
    char *where = strdup(getenv("PATH") ? getenv("PATH") : "");

    ck_assert_int_eq(policy_load(&policy, "/nowhere/at/all.dts", &gone), -ENOENT);
    ck_assert_ptr_nonnull(strstr(gone.text, "/nowhere/at/all.dts: No such file"));
    ck_assert_int_eq(policy_load(&policy, "/", &gone), -EINVAL);
    ck_assert_ptr_nonnull(strstr(gone.text, "is not a regular file"));
    put("");
    ck_assert_int_eq(load(), -EINVAL);

    ck_assert_str_eq(strrchr(error.text, ':'), ": is empty; give a policy (.dts or .dtb)");
    put("\xef\xbb\xbf/dts-v1/;\n/ { };\n");
    ck_assert_int_eq(load(), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error.text, ":1: begins with a byte order mark; save"));
    put("#include <a.h>\n/dts-v1/;\n/ { };\n");
    ck_assert_int_eq(load(), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error.text, ":1: syntax error; look for"));
    ck_assert_ptr_nonnull(strstr(error.text, "/include/, not #include"));
    put("/dts-v1/;\n/plugin/;\n&nic { strata,mode = \"DMA\"; };\n");
    ck_assert_int_eq(load(), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error.text, ": is an overlay; leave /plugin/ out, or apply"));

    put(full);
    ck_assert_int_eq(truncate(path, sizeof(full)), 0);
    ck_assert_int_eq(load(), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error.text, "holds a zero byte"));
    ck_assert_int_eq(truncate(path, 20 << 20), 0);
    ck_assert_int_eq(load(), -E2BIG);
    ck_assert_ptr_nonnull(strstr(error.text, "is too long; a policy has at most 262144 bytes"));
    put(full);
    setenv("PATH", "/nowhere", 1);
    ck_assert_int_eq(load(), -ENOENT);
    ck_assert_ptr_nonnull(
        strstr(error.text, "there is no dtc to compile it; install device-tree-compiler"));
    setenv("PATH", where, 1);
    free(where);
    ck_assert_int_eq(load(), 0);
}
END_TEST

/* A mistake in a file that is included is found there, from wherever strata runs. */
START_TEST(test_included)
{
    char inner[sizeof(path) + 4], place[sizeof(inner) + 16], text[sizeof(inner) + 32];
    FILE *file;

    snprintf(inner, sizeof(inner), "%s.inc", path);
    snprintf(text, sizeof(text), "/dts-v1/;\n/include/ \"%s\"\n", strrchr(inner, '/') + 1);
    put(text);
    file = fopen(inner, "w");
    ck_assert_ptr_nonnull(file);
    fputs("/ { a {\ncompatible = \"strata,dma-probe\";\nstrata,mode = \"on\"; }; };\n", file);
    fclose(file);
    ck_assert_int_eq(load(), -EINVAL);
    unlink(inner);
    snprintf(place, sizeof(place), "%s:3: node /a: ", inner);
    ck_assert_msg(!strncmp(error.text, place, strlen(place)), "%s", error.text);
}
END_TEST

/* A compiled policy: what policy_parse gets. */
static char *compile(size_t *bytes)
{
    char command[192], *blob = malloc(65536);
    FILE *pipe;

    put(full);
    snprintf(command, sizeof(command), "dtc -q -O dtb '%s'", path);
    pipe = popen(command, "r");
    ck_assert_ptr_nonnull(pipe);
    *bytes = fread(blob, 1, 65536, pipe);
    ck_assert_int_eq(pclose(pipe), 0);
    return blob;
}

START_TEST(test_blob)
{
    size_t bytes;
    char *blob = compile(&bytes);
    FILE *file;

    ck_assert_int_eq(policy_parse(&policy, blob, bytes, "name", &error), 0);
    ck_assert_uint_eq(policy.guest.ndevices, 2);
    ck_assert_uint_eq(policy.device[0].line, 0);
    /* A file with it is as good as its source, but for the lines. */
    file = fopen(path, "w");
    fwrite(blob, 1, bytes, file);
    fclose(file);
    ck_assert_int_eq(load(), 0);
    ck_assert_str_eq(policy.name, "full");

    /* It is cut short anywhere: an error, and never more. */
    for (size_t cut = 0; cut < bytes; cut++) {
        char *part = malloc(cut + 1);

        memcpy(part, blob, cut);
        ck_assert_int_eq(policy_parse(&policy, part, cut, "name", &error), -EINVAL);
        ck_assert_msg(!strncmp(error.text, "name: ", 6), "%s", error.text);
        free(part);
    }
    free(blob);
}
END_TEST

START_TEST(test_damaged)
{
    size_t bytes;
    char *blob = compile(&bytes);

    /* A byte is something else: anything may come of it that has an error if it fails. */
    for (size_t at = 0; at < bytes; at++) {
        static const char with[] = { 0, 1, 0x7f, (char)0xff };

        for (unsigned i = 0; i < sizeof(with); i++) {
            char was = blob[at];
            int err;

            blob[at] = with[i];
            err = policy_parse(&policy, blob, bytes, "name", &error);
            ck_assert(err == 0 || err == -EINVAL);
            ck_assert_int_eq(err < 0, error.text[0] != 0);
            blob[at] = was;
        }
    }
    free(blob);
}
END_TEST

/* A loop of phandles: a bus that is its own IOMMU, regions that are devices. */
START_TEST(test_loop)
{
    put("/dts-v1/;\n/ { a: a { compatible = \"strata,dma-probe\"; iommus = <&a 1>;\n"
        "memory-region = <&a>; }; };\n");
    ck_assert_int_eq(load(), -EINVAL);
    put("/dts-v1/;\n/ { reserved-memory { #address-cells = <1>; #size-cells = <1>;\n"
        "r: r { iommu-addresses = <&r 0 0>; }; };\n"
        "a { compatible = \"strata,dma-probe\"; memory-region = <&r>; }; };\n");
    ck_assert_int_eq(load(), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error.text, "is no device of this policy"));
}
END_TEST

START_TEST(test_shipped)
{
    glob_t found;

    ck_assert_int_eq(glob(SHIPPED, 0, NULL, &found), 0);
    ck_assert_uint_ge(found.gl_pathc, 8);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        unsigned probes = 0, disks = 0;
        const char *base = strrchr(found.gl_pathv[i], '/') + 1;

        ck_assert_msg(!policy_load(&policy, found.gl_pathv[i], &error), "%s", error.text);
        ck_assert_int_eq(strncmp(policy.name, base, strlen(policy.name)), 0);
        ck_assert_str_eq(base + strlen(policy.name), ".dts");
        ck_assert_str_ne(policy.description, "");
        /* Enough for one device to rob another. */
        for (unsigned d = 0; d < policy.guest.ndevices; d++) {
            probes += policy.guest.device[d].kind == ABI_DEVICE_PROBE;
            disks += policy.guest.device[d].kind == ABI_DEVICE_BLK;
            ck_assert_uint_gt(policy.device[d].line, 0);
        }
        ck_assert_uint_ge(probes, 2);
        ck_assert_uint_ge(disks, 1);
        ck_assert_uint_ge(policy.guest.nregions, 3);
    }
    globfree(&found);
}
END_TEST

/* Each says in its first line which line is wrong and what is said of it. */
START_TEST(test_broken)
{
    glob_t found;

    ck_assert_int_eq(glob(BROKEN, 0, NULL, &found), 0);
    ck_assert_uint_ge(found.gl_pathc, 10);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        char first[512], expected[400], place[128];
        FILE *file = fopen(found.gl_pathv[i], "r");
        unsigned line;

        ck_assert_ptr_nonnull(fgets(first, sizeof(first), file));
        fclose(file);
        ck_assert_int_eq(sscanf(first, "/* expect: %u: %399[^\n]", &line, expected), 2);
        ck_assert_ptr_nonnull(strstr(expected, " */"));
        *strstr(expected, " */") = 0;
        ck_assert_int_eq(policy_load(&policy, found.gl_pathv[i], &error), -EINVAL);
        snprintf(place, sizeof(place), "%s:%u: ", found.gl_pathv[i], line);
        ck_assert_msg(!strncmp(error.text, place, strlen(place)) && strstr(error.text, expected),
                      "%s%s, not %s", place, expected, error.text);
    }
    globfree(&found);
}
END_TEST

Suite *policy_suite(void)
{
    Suite *suite = suite_create("policy");
    TCase *said = tcase_create("said"), *wrong = tcase_create("wrong"),
          *files = tcase_create("files");

    tcase_add_checked_fixture(said, setup, teardown);
    tcase_add_test(said, test_full);
    tcase_add_test(said, test_devices);
    tcase_add_test(said, test_regions);
    tcase_add_test(said, test_defaults);
    tcase_add_loop_test(said, test_word, 0, sizeof(words) / sizeof(words[0]));
    tcase_add_loop_test(said, test_lacks, 0, sizeof(lacks) / sizeof(lacks[0]));
    tcase_add_test(said, test_shared_domain);
    tcase_add_test(said, test_holes_of_a_domain);
    tcase_add_test(said, test_shared_pool);
    tcase_add_checked_fixture(wrong, setup, teardown);
    tcase_add_loop_test(wrong, test_mistake, 0, sizeof(mistakes) / sizeof(mistakes[0]));
    tcase_add_test(wrong, test_how_many);
    tcase_add_test(wrong, test_nested);
    tcase_add_test(wrong, test_loop);
    tcase_add_checked_fixture(files, setup, teardown);
    tcase_set_timeout(files, 60);
    tcase_add_test(files, test_files);
    tcase_add_test(files, test_included);
    tcase_add_test(files, test_blob);
    tcase_add_test(files, test_damaged);
    tcase_add_test(files, test_shipped);
    tcase_add_test(files, test_broken);
    suite_add_tcase(suite, said);
    suite_add_tcase(suite, wrong);
    suite_add_tcase(suite, files);
    return suite;
}
