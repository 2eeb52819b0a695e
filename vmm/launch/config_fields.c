#include "vmm/launch/config_fields.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "devices/backend/delay.h"
#include "devices/legacy/debug_exit.h"
#include "devices/virtio/vsock.h"
#include "vmm/boot/layout.h"
#include "vmm/machine/vm.h"

#define MIB            (1ull << 20)
#define COUNT(array)   (sizeof(array) / sizeof((array)[0]))
#define VM(member)     offsetof(struct vm_config, member)
#define DEVICE(member) offsetof(struct config_device, member)
#define PORT(member)   offsetof(struct console_port_config, member)
#define SCALED(struct_name, member, in_file)                                                  \
    .type = CONFIG_NUMBER, .unit = (in_file), .offset = offsetof(struct struct_name, member), \
    .bytes = sizeof(((struct struct_name *)0)->member)
#define NUMBER(struct_name, member) SCALED(struct_name, member, 1)
#define WORDS(list)                 .type = CONFIG_CHOICE, .words = (list), .nwords = COUNT(list)
#define FIELDS(list)                .fields = (list), .nfields = COUNT(list)

static const char *const pages_words[] = {
    [MEMORY_4K] = "None",
    [MEMORY_THP] = "THP",
    [MEMORY_HUGETLB] = "2M",
    [MEMORY_HUGETLB_1G] = "1G",
};

static const char *const iommu_words[] = {
    [VM_IOMMU_OFF] = "off",
    [VM_IOMMU_BYPASS] = "bypass",
    [VM_IOMMU_STRICT] = "strict",
    [VM_IOMMU_LAZY] = "lazy",
};

static const struct config_field boot_fields[] = {
    { "kernel_image_path", CONFIG_TEXT, .offset = VM(kernel_path) },
    { "initrd_path", CONFIG_TEXT, .offset = VM(initrd_path) },
    { "boot_args", CONFIG_TEXT, .offset = VM(boot_args) },
    { "modules", CONFIG_TEXTS, .offset = VM(modules), .count_offset = VM(nmodules),
      .max = MULTIBOOT_MODULES_MAX },
};

/* Guest-physical addresses have at most 52 bits (SDM, volume 3, 4.1.4). */
#define ADDRESS_MAX ((1ull << 52) - 1)

static const struct config_field flat_fields[] = {
    { "bits", NUMBER(vm_config, flat.bits), .max = 64 },
    { "gpa", NUMBER(vm_config, flat.gpa), .max = ADDRESS_MAX },
    { "entry", NUMBER(vm_config, flat.entry), .max = ADDRESS_MAX },
};

static const struct config_field machine_fields[] = {
    { "vcpu_count", NUMBER(vm_config, vcpu_count), .always = true, .min = 1, .max = VM_CPUS_MAX },
    { "mem_size_mib", SCALED(vm_config, memory_bytes, MIB), .always = true,
      .min = LAYOUT_MEMORY_BYTES_MIN, .max = INT64_MAX },
    { "mem_size_bytes", NUMBER(vm_config, memory_bytes), .remainder = true,
      .min = LAYOUT_MEMORY_BYTES_MIN, .max = INT64_MAX },
    { "huge_pages", WORDS(pages_words), .offset = VM(huge_pages) },
    { "cpuid", CONFIG_TEXT, .offset = VM(cpuid) },
    { "dirty_ring_bytes", NUMBER(vm_config, dirty_ring_bytes), .max = 1u << 20 },
    { "io_thread", CONFIG_FLAG, .offset = VM(io_thread) },
    { "smt", .type = CONFIG_ABSENT },
    { "track_dirty_pages", .type = CONFIG_ABSENT },
};

static const struct config_field iommu_fields[] = {
    { "mode", WORDS(iommu_words), .offset = VM(iommu) },
};

static const struct config_field debug_exit_fields[] = {
    { "port", NUMBER(vm_config, debug_exit_port), .max = 0x10000 - DEBUG_EXIT_PORT_BYTES },
};

static const struct config_field drive_fields[] = {
    { "drive_id", CONFIG_TEXT, .offset = DEVICE(id) },
    { "path_on_host", CONFIG_TEXT, .required = true, .offset = DEVICE(path) },
    { "is_root_device", CONFIG_FLAG, .always = true, .offset = DEVICE(root) },
    { "is_read_only", CONFIG_FLAG, .always = true, .offset = DEVICE(read_only) },
    { "latency_ns", NUMBER(config_device, latency_ns), .max = DELAY_NS_MAX },
};

static const struct config_field net_fields[] = {
    { "iface_id", CONFIG_TEXT, .offset = DEVICE(id) },
    { "host_dev_name", CONFIG_TEXT, .offset = DEVICE(tap) },
    { "guest_mac", CONFIG_MAC, .offset = DEVICE(mac) },
    { "host_forwards", CONFIG_TEXTS, .offset = DEVICE(forwards), .count_offset = DEVICE(nforwards),
      .max = NET_FORWARDS_MAX },
};

static const struct config_field vsock_fields[] = {
    { "guest_cid", NUMBER(config_device, guest_cid), .required = true, .always = true,
      .min = VSOCK_CID_FIRST, .max = VSOCK_CID_LAST },
    { "uds_path", CONFIG_TEXT, .required = true, .offset = DEVICE(path) },
    { "vsock_id", CONFIG_TEXT, .offset = DEVICE(id) },
};

static const struct config_field balloon_fields[] = {
    { "amount_mib", SCALED(config_device, bytes, MIB), .always = true, .max = INT64_MAX },
    { "amount_bytes", NUMBER(config_device, bytes), .remainder = true, .max = INT64_MAX },
};

static const struct config_field port_fields[] = {
    { "name", CONFIG_TEXT, .required = true, .offset = PORT(name) },
    { "uds_path", CONFIG_TEXT, .required = true, .offset = PORT(path) },
};

/* Devices come in this order (config_place_devices). */
const struct config_section config_sections[] = {
    { "boot-source", CONFIG_MACHINE, FIELDS(boot_fields) },
    { "flat-kernel", CONFIG_MACHINE, FIELDS(flat_fields) },
    { "machine-config", CONFIG_MACHINE, FIELDS(machine_fields) },
    { "iommu", CONFIG_MACHINE, FIELDS(iommu_fields) },
    { "debug-exit", CONFIG_MACHINE, FIELDS(debug_exit_fields) },
    { "drives", CONFIG_DEVICE, DEVICE_BLK, .list = true, FIELDS(drive_fields) },
    { "network-interfaces", CONFIG_DEVICE, DEVICE_NET, .list = true, FIELDS(net_fields) },
    { "vsock", CONFIG_DEVICE, DEVICE_VSOCK, .most = 1, FIELDS(vsock_fields) },
    { "entropy", CONFIG_DEVICE, DEVICE_RNG, .fields = NULL },
    { "virtio-console", CONFIG_DEVICE, DEVICE_CONSOLE, .fields = NULL },
    { "virtio-ports", CONFIG_PORT, .list = true, FIELDS(port_fields) },
    { "balloon", CONFIG_DEVICE, DEVICE_BALLOON, .most = 1, FIELDS(balloon_fields) },
    { "dma-probe", CONFIG_DEVICE, DEVICE_PROBE, .fields = NULL },
};
const unsigned config_sections_count = COUNT(config_sections);

void *config_object(struct vm_config *config, const struct config_section *section, unsigned index)
{
    if (section->place == CONFIG_MACHINE)
        return index ? NULL : config;
    if (section->place == CONFIG_PORT)
        return index < config->nports ? &config->ports[index] : NULL;
    for (unsigned i = 0; i < config->ndevices; i++) {
        struct config_device *device = &config->devices[i];

        if (device->kind == section->kind && !device->ports_only && index-- == 0)
            return device;
    }
    return NULL;
}

int config_add_object(struct vm_config *config, const struct config_section *section, void **object,
                      struct error *error)
{
    const struct config_device device = { .kind = section->kind };
    int err;

    if (section->most && config_object(config, section, section->most - 1))
        return error_field(error, -E2BIG, section->name, "a machine has one; give one of them");
    if (section->place == CONFIG_PORT) {
        if (config->nports == VM_CONFIG_PORTS_MAX)
            return error_field(error, -E2BIG, section->name, "more than %u ports; give fewer",
                               VM_CONFIG_PORTS_MAX);
        config->ports[config->nports] = (struct console_port_config){ .name = NULL };
        *object = &config->ports[config->nports++];
        return 0;
    }
    err = config_add_device(config, &device, error);
    if (!err)
        *object = &config->devices[config->ndevices - 1];
    return err;
}

void config_path(char path[CONFIG_PATH_BYTES], const struct config_section *section, unsigned index,
                 const char *field)
{
    int length = section->list ? snprintf(path, CONFIG_PATH_BYTES, "%s[%u]", section->name, index)
                               : snprintf(path, CONFIG_PATH_BYTES, "%s", section->name);

    if (field)
        snprintf(path + length, CONFIG_PATH_BYTES - (size_t)length, ".%s", field);
}

int config_parse_mac(const char *text, uint8_t mac[NET_MAC_BYTES])
{
    uint8_t bytes[NET_MAC_BYTES], any = 0;

    for (unsigned i = 0; i < NET_MAC_BYTES; i++, text += 3) {
        char end = i + 1 < NET_MAC_BYTES ? ':' : 0;
        unsigned byte;

        if (!isxdigit((unsigned char)text[0]) || !isxdigit((unsigned char)text[1]) ||
            text[2] != end || sscanf(text, "%2x", &byte) != 1)
            return -EINVAL;
        bytes[i] = (uint8_t)byte;
        any |= bytes[i];
    }
    /* A group of devices, or nobody at all. */
    if (bytes[0] & 1 || !any)
        return -EINVAL;
    memcpy(mac, bytes, sizeof(bytes));
    return 0;
}

uint64_t config_number(const void *object, const struct config_field *field)
{
    const char *at = (const char *)object + field->offset;
    uint64_t large;
    uint32_t small;

    if (field->bytes == sizeof(large)) {
        memcpy(&large, at, sizeof(large));
        return large;
    }
    memcpy(&small, at, sizeof(small));
    return small;
}

void config_set_number(void *object, const struct config_field *field, uint64_t value)
{
    char *at = (char *)object + field->offset;
    uint32_t small = (uint32_t)value;

    if (field->bytes == sizeof(value))
        memcpy(at, &value, sizeof(value));
    else
        memcpy(at, &small, sizeof(small));
}

bool config_is_default(const void *object, const void *defaults, const struct config_field *field)
{
    const char *a = (const char *)object + field->offset;
    const char *b = (const char *)defaults + field->offset;
    static const size_t bytes[] = { [CONFIG_FLAG] = sizeof(bool),
                                    [CONFIG_CHOICE] = sizeof(int),
                                    [CONFIG_TEXT] = sizeof(char *),
                                    [CONFIG_MAC] = NET_MAC_BYTES };

    if (field->type == CONFIG_ABSENT)
        return true;
    if (field->type == CONFIG_TEXTS)
        return *(const unsigned *)((const char *)object + field->count_offset) == 0;
    return memcmp(a, b, field->type == CONFIG_NUMBER ? field->bytes : bytes[field->type]) == 0;
}

static int config_check_number(const void *object, const struct config_field *field,
                               const char *path, struct error *error)
{
    uint64_t value = config_number(object, field);
    unsigned long long min = (field->min + field->unit - 1) / field->unit;
    unsigned long long max = field->max / field->unit;

    if (value >= field->min && value <= field->max)
        return 0;
    if (value < field->min)
        return error_field(error, -ERANGE, path, "%llu is too little; give %llu or more",
                           (unsigned long long)(value / field->unit), min);
    if (field->max == ADDRESS_MAX)
        return error_field(error, -ERANGE, path,
                           "0x%llx is beyond 0x%llx, the last address that RAM can have; give less",
                           (unsigned long long)value, max);
    return error_field(error, -ERANGE, path, "%llu is more than %llu; give less",
                       (unsigned long long)(value / field->unit), max);
}

int config_check_field(const void *object, const struct config_field *field, const char *path,
                       struct error *error)
{
    const char *const *texts = (const void *)((const char *)object + field->offset);

    if (field->type == CONFIG_NUMBER && !field->remainder)
        return config_check_number(object, field, path, error);
    if (field->type == CONFIG_TEXT && !*texts)
        return field->required ? error_field(error, -EINVAL, path, "missing; give it") : 0;
    if (field->type == CONFIG_TEXT && !**texts && strcmp(field->name, "boot_args") != 0)
        return error_field(error, -EINVAL, path, "empty; give it, or leave it out");
    return 0;
}
