#include "vmm/launch/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "vmm/launch/config_cpuid.h"
#include "vmm/launch/config_fields.h"

struct config_text {
    struct config_text *next;
    char text[];
};

static const struct vm_config config_defaults = {
    .memory_bytes = VM_CONFIG_MEMORY_BYTES,
    .vcpu_count = VM_CONFIG_CPUS,
    .huge_pages = VM_CONFIG_PAGES_AUTO,
    .debug_exit_port = VM_CONFIG_DEBUG_EXIT_AUTO,
};

void config_init(struct vm_config *config)
{
    *config = config_defaults;
}

void config_destroy(struct vm_config *config)
{
    while (config->texts) {
        struct config_text *text = config->texts;

        config->texts = text->next;
        free(text);
    }
}

const char *config_text(struct vm_config *config, const char *text)
{
    size_t bytes = strlen(text) + 1;
    struct config_text *copy = malloc(sizeof(*copy) + bytes);

    if (!copy)
        return NULL;
    memcpy(copy->text, text, bytes);
    copy->next = config->texts;
    config->texts = copy;
    return copy->text;
}

bool config_is_pc(const struct vm_config *config)
{
    return config->kernel_path != NULL;
}

bool config_has_iommu(const struct vm_config *config)
{
    return config->iommu != VM_IOMMU_OFF;
}

/* ---- Devices ----------------------------------------------------------------------- */

int config_add_device(struct vm_config *config, const struct config_device *device,
                      struct error *error)
{
    if (config->ndevices == ABI_MMIO_DEVICES_MAX)
        return error_set(error, -E2BIG, "more than %d devices; give fewer", ABI_MMIO_DEVICES_MAX);
    config->devices[config->ndevices++] = *device;
    return 0;
}

/* Behind ports without a console there is a device that is none. */
static void config_place_ports(struct vm_config *config)
{
    const struct config_device device = { .kind = DEVICE_CONSOLE, .ports_only = true };
    bool console = config->nports == 0;
    struct error ignored;

    for (unsigned i = 0; i < config->ndevices; i++)
        console |= config->devices[i].kind == DEVICE_CONSOLE;
    if (!console)
        (void)config_add_device(config, &device, &ignored);
}

static unsigned config_rank(const struct config_device *device)
{
    unsigned rank = 0;

    while (rank < config_sections_count && (config_sections[rank].place != CONFIG_DEVICE ||
                                            config_sections[rank].kind != device->kind))
        rank++;
    return 2 * rank + (device->kind == DEVICE_BLK && !device->root);
}

void config_place_devices(struct vm_config *config)
{
    unsigned first = config_has_iommu(config) ? 1 : 0;

    config_place_ports(config);
    for (unsigned i = 1; i < config->ndevices; i++) {
        const struct config_device device = config->devices[i];
        unsigned at = i;

        for (; at && config_rank(&config->devices[at - 1]) > config_rank(&device); at--)
            config->devices[at] = config->devices[at - 1];
        config->devices[at] = device;
    }
    for (unsigned i = 0; i < config->ndevices; i++)
        config->devices[i].endpoint = first + i;
}

/* ---- Checks ------------------------------------------------------------------------ */

/* Every field by itself. */
static int config_check_fields(struct vm_config *config, struct error *error)
{
    static const struct config_device no_device;
    static const struct console_port_config no_port;
    int err = 0;

    for (unsigned s = 0; s < config_sections_count && !err; s++) {
        const struct config_section *section = &config_sections[s];
        const void *zero = section->place == CONFIG_MACHINE ? (const void *)&config_defaults
                           : section->place == CONFIG_PORT  ? (const void *)&no_port
                                                            : (const void *)&no_device;
        const void *object;

        for (unsigned i = 0; (object = config_object(config, section, i)) && !err; i++) {
            for (unsigned f = 0; f < section->nfields && !err; f++) {
                const struct config_field *field = &section->fields[f];
                char path[CONFIG_PATH_BYTES];

                if (!field->required && config_is_default(object, zero, field))
                    continue;
                config_path(path, section, i, field->name);
                err = config_check_field(object, field, path, error);
            }
        }
    }
    return err;
}

static uint64_t config_host_memory_bytes(void)
{
    struct sysinfo info;

    return sysinfo(&info) == 0 ? (uint64_t)info.totalram * info.mem_unit : UINT64_MAX;
}

static int config_check_memory(const struct vm_config *config, struct error *error)
{
    uint64_t host = config_host_memory_bytes(), bytes = config->memory_bytes;
    uint32_t ring = config->dirty_ring_bytes;

    if (bytes > host)
        return error_field(error, -ERANGE, BOOT_FIELD_MEMORY,
                           "more than the host's %llu MiB; give less",
                           (unsigned long long)(host >> 20));
    if (bytes % MEMORY_PAGE_BYTES)
        return error_field(error, -EINVAL, BOOT_FIELD_MEMORY, "not a multiple of 4K; round it");
    if (config->huge_pages == MEMORY_HUGETLB && bytes % MEMORY_HUGE_BYTES)
        return error_field(error, -EINVAL, "machine-config.huge_pages",
                           "memory must be a multiple of 2M for such pages; round it");
    if (config->huge_pages == MEMORY_HUGETLB_1G && bytes % MEMORY_GIANT_BYTES)
        return error_field(error, -EINVAL, "machine-config.huge_pages",
                           "memory must be a multiple of 1G for such pages; round it");
    if (ring && (ring & (ring - 1) || ring < MEMORY_PAGE_BYTES))
        return error_field(error, -EINVAL, "machine-config.dirty_ring_bytes",
                           "%u is no power of two from 4096 on; give one", ring);
    return 0;
}

/* What belongs to a kernel of one's own. */
static int config_check_kernel(const struct vm_config *config, struct error *error)
{
    const char *extra = config->initrd_path ? BOOT_FIELD_INITRD
                        : config->nmodules  ? BOOT_FIELD_MODULES
                        : config->flat.bits ? BOOT_FIELD_FLAT
                                            : NULL;
    unsigned bits = config->flat.bits;

    if (!config->kernel_path && extra)
        return error_field(error, -EINVAL, extra,
                           "no kernel is given that it is for; give the kernel, too");
    if (bits && bits != 16 && bits != 32 && bits != 64)
        return error_field(error, -EINVAL, BOOT_FIELD_FLAT,
                           "there is no mode of %u bits; say 16, 32 or 64", bits);
    if (!bits && (config->flat.gpa || config->flat.entry))
        return error_field(error, -EINVAL, BOOT_FIELD_FLAT, "bits are missing; say 16, 32 or 64");
    return 0;
}

static int config_check_drive(const struct config_device *drive, const char *path,
                              struct error *error)
{
    if (access(drive->path, drive->read_only ? R_OK : R_OK | W_OK) == 0)
        return 0;
    if (errno == EACCES || errno == EROFS)
        return error_field(error, -errno, path, "%.200s: %s; %s", drive->path, strerror(errno),
                           access(drive->path, R_OK) ? "make the file readable"
                                                     : "make the disk read-only");
    return error_field(error, -errno, path, "%.200s: %s; give a file that exists", drive->path,
                       strerror(errno));
}

static int config_check_device(const struct vm_config *config, const struct config_device *device,
                               const char *path, struct error *error)
{
    static const uint8_t unset[NET_MAC_BYTES];

    if (device->kind == DEVICE_BLK)
        return config_check_drive(device, path, error);
    if (device->kind == DEVICE_NET && device->tap && device->nforwards)
        return error_field(error, -EINVAL, path,
                           "ports are forwarded by user networking, not by a tap interface; leave "
                           "them or %s out",
                           device->tap);
    if (device->kind == DEVICE_NET && device->mac[0] & 1 &&
        memcmp(device->mac, unset, sizeof(unset)) != 0)
        return error_field(error, -EINVAL, path,
                           "the MAC address is one of a group; give one of a device");
    if (device->kind == DEVICE_BALLOON && device->bytes >= config->memory_bytes)
        return error_field(error, -EINVAL, path, "as much as there is memory; give less than %lluM",
                           (unsigned long long)(config->memory_bytes >> 20));
    return 0;
}

/* Names are for telling devices apart. */
static int config_check_id(const struct vm_config *config, const struct config_device *device,
                           const char *path, struct error *error)
{
    for (const struct config_device *other = config->devices; other < device; other++) {
        if (device->id && other->id && !strcmp(device->id, other->id))
            return error_field(error, -EEXIST, path,
                               "two devices have the id %s; give each its own", device->id);
        if (device->root && other->root)
            return error_field(error, -EEXIST, path, "a second root disk; leave one");
    }
    return 0;
}

static int config_check_devices(struct vm_config *config, struct error *error)
{
    unsigned max = ABI_MMIO_DEVICES_MAX - (config_has_iommu(config) ? 1 : 0);
    int err = 0;

    if (config->ndevices > max)
        return error_set(error, -E2BIG, "more than %u devices%s; give fewer", max,
                         config_has_iommu(config) ? " beside the IOMMU" : "");
    for (unsigned s = 0; s < config_sections_count && !err; s++) {
        const struct config_section *section = &config_sections[s];
        const struct config_device *device;

        for (unsigned i = 0; section->place == CONFIG_DEVICE &&
                             (device = config_object(config, section, i)) && !err;
             i++) {
            char path[CONFIG_PATH_BYTES];

            config_path(path, section, i, NULL);
            err = config_check_id(config, device, path, error);
            if (device->kind == DEVICE_BLK)
                config_path(path, section, i, "path_on_host");
            if (!err)
                err = config_check_device(config, device, path, error);
        }
    }
    return err;
}

/* A file's name for the guest, and a line's worth of it. */
static int config_check_port(const struct vm_config *config, unsigned index, struct error *error)
{
    const char *name = config->ports[index].name;
    size_t length = strlen(name);

    if (!length || length > CONSOLE_PORT_NAME_MAX || !strcmp(name, ".") || !strcmp(name, ".."))
        return error_field(error, -EINVAL, "virtio-ports",
                           "name=%.70s is too short or too long; give 1 to %u characters", name,
                           CONSOLE_PORT_NAME_MAX);
    for (const char *c = name; *c; c++) {
        if (*c <= ' ' || *c > '~' || *c == '/')
            return error_field(error, -EINVAL, "virtio-ports",
                               "name=%s has others; give letters, digits and signs other than /",
                               name);
    }
    for (unsigned i = 0; i < index; i++) {
        if (!strcmp(name, config->ports[i].name))
            return error_field(error, -EEXIST, "virtio-ports", "name=%s twice; give each its own",
                               name);
    }
    return 0;
}

int config_check(struct vm_config *config, struct error *error)
{
    int err = config_check_fields(config, error);

    if (!err)
        err = config_check_memory(config, error);
    if (!err)
        err = config_check_kernel(config, error);
    if (!err && config->cpuid)
        err = config_cpuid_parse(&config->cpuid_mask, config->cpuid, error);
    for (unsigned i = 0; i < config->nports && !err; i++)
        err = config_check_port(config, i, error);
    return err ? err : config_check_devices(config, error);
}
