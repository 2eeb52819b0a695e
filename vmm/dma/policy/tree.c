#include "vmm/dma/policy/tree.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest/abi/machine.h"
#include "guest/abi/probe.h"
#include "vmm/dma/policy/check.h"
#include "vmm/dma/policy/nodes.h"
#include "vmm/dma/policy/properties.h"

static const char *const probe_text[] = { ABI_PROBE_COMPATIBLE };
static const struct policy_words probe_words = POLICY_WORDS(probe_text);
static const char *const blk_text[] = { "virtio,device2" };
static const struct policy_words blk_words = POLICY_WORDS(blk_text);
static const char *const iommu_text[] = { "virtio,device17", "virtio,iommu", "virtio,pci-iommu" };
static const struct policy_words iommu_words = POLICY_WORDS(iommu_text);

static int tree_note_iommu(struct policy_reader *reader, int node, bool disabled)
{
    int *slot = disabled ? &reader->disabled_iommu : &reader->iommu;

    if (!fdt_getprop(reader->fdt, node, "#iommu-cells", NULL))
        return policy_complain(reader, node, NULL,
                               "an IOMMU needs #iommu-cells; add #iommu-cells = <1>");
    if (*slot != POLICY_NO_NODE)
        return policy_complain(reader, node, NULL,
                               "is a second IOMMU; strata has one for all devices");
    *slot = node;
    return 0;
}

static int tree_note_device(struct policy_reader *reader, int node, enum abi_device_kind kind)
{
    struct abi_policy *guest = &reader->policy->guest;
    struct abi_policy_device *device = &guest->device[guest->ndevices];

    if (guest->ndevices == ABI_POLICY_DEVICES_MAX)
        return policy_complain(reader, node, NULL, "is one device too many; use at most %d",
                               ABI_POLICY_DEVICES_MAX);
    if (policy_node_name(reader, node, device->name))
        return -EINVAL;
    for (unsigned i = 0; i < guest->ndevices; i++) {
        if (!strcmp(guest->device[i].name, device->name))
            return policy_complain(reader, node, NULL, "there are two of this name; rename one");
    }
    device->kind = kind;
    device->pool = ~0u;
    reader->device[guest->ndevices++] = node;
    return 0;
}

static int tree_note_node(struct policy_reader *reader, int node, int depth, bool disabled)
{
    const void *fdt = reader->fdt;
    bool probe = policy_compatible(fdt, node, &probe_words);
    bool blk = policy_compatible(fdt, node, &blk_words);
    bool iommu = fdt_getprop(fdt, node, "#iommu-cells", NULL) ||
                 policy_compatible(fdt, node, &iommu_words);
    int bytes;

    if (policy_check_words(reader, node,
                           depth == 0     ? POLICY_ROOT
                           : iommu        ? POLICY_IOMMU
                           : probe || blk ? POLICY_DEVICE
                                          : POLICY_ELSEWHERE))
        return -EINVAL;
    if (iommu && (probe || blk))
        return policy_complain(reader, node, "compatible",
                               "cannot be an IOMMU and a device; make two nodes");
    if (iommu)
        return tree_note_iommu(reader, node, disabled);
    if (disabled)
        return 0;
    if (fdt_getprop(fdt, node, "dma-ranges", &bytes) && bytes)
        return policy_complain(reader, node, "dma-ranges",
                               "is not known here; leave it out, or empty");
    if (probe || blk)
        return tree_note_device(reader, node, probe ? ABI_DEVICE_PROBE : ABI_DEVICE_BLK);
    if (fdt_getprop(fdt, node, "iommus", NULL) || fdt_getprop(fdt, node, "memory-region", NULL))
        return policy_complain(reader, node, "compatible",
                               "is no device of strata; write \"%s\" or \"%s\" (virtio-blk)",
                               probe_text[0], blk_text[0]);
    return 0;
}

/* dtc compiles one, but what it says is of a tree that is not there. */
static bool tree_is_overlay(const char *name, int depth)
{
    return (depth == 1 && (!strcmp(name, "__fixups__") || !strcmp(name, "__local_fixups__"))) ||
           (depth == 2 && !strcmp(name, "__overlay__"));
}

static int tree_walk(struct policy_reader *reader)
{
    int depth = -1, off = 0; /* off: depth from which on everything is switched off; 0: nothing */
    const void *fdt = reader->fdt;

    for (int node = fdt_next_node(fdt, -1, &depth); node >= 0;
         node = fdt_next_node(fdt, node, &depth)) {
        if (depth > POLICY_DEPTH_MAX)
            return policy_complain(reader, POLICY_NO_NODE, NULL,
                                   "nodes are nested too deeply; use at most %d levels",
                                   POLICY_DEPTH_MAX);
        if (tree_is_overlay(fdt_get_name(fdt, node, NULL), depth))
            return policy_complain(reader, POLICY_NO_NODE, NULL,
                                   "is an overlay; leave /plugin/ out, or apply it to its tree "
                                   "(fdtoverlay) and give that");
        if (off && depth <= off)
            off = 0;
        if (!off && depth && policy_disabled(fdt, node))
            off = depth;
        if (tree_note_node(reader, node, depth, off))
            return -EINVAL;
        if (depth == 1 && !off && !strcmp(fdt_get_name(fdt, node, NULL), "reserved-memory"))
            reader->reserved = node;
    }
    if (!reader->policy->guest.ndevices)
        return policy_complain(reader, POLICY_NO_NODE, NULL,
                               "has no device; give a node with compatible = \"%s\"",
                               probe_text[0]);
    return 0;
}

/* ---- The whole -------------------------------------------------------------------- */

static bool tree_endpoint_taken(const struct policy_reader *reader, uint32_t endpoint)
{
    for (unsigned i = 0; i < reader->policy->guest.ndevices; i++) {
        if (reader->has_endpoint[i] && reader->policy->guest.device[i].endpoint == endpoint)
            return true;
    }
    return false;
}

static bool tree_domain_taken(const struct policy_reader *reader, uint32_t domain)
{
    for (unsigned i = 0; i < reader->policy->guest.ndevices; i++) {
        if (reader->has_domain[i] && reader->policy->guest.device[i].domain == domain)
            return true;
    }
    return false;
}

/* The least numbers that are free, for devices whose node names none. */
static void tree_number_devices(struct policy_reader *reader)
{
    for (unsigned i = 0; i < reader->policy->guest.ndevices; i++) {
        struct abi_policy_device *device = &reader->policy->guest.device[i];

        if (!reader->has_endpoint[i]) {
            for (device->endpoint = 1; tree_endpoint_taken(reader, device->endpoint);)
                device->endpoint++;
            reader->has_endpoint[i] = true;
        }
        if (!reader->has_domain[i]) {
            for (device->domain = 1; tree_domain_taken(reader, device->domain);)
                device->domain++;
            reader->has_domain[i] = true;
        }
    }
}

/* Text of the root that people will see. */
static int tree_read_text(const struct policy_reader *reader, const char *property, char *text,
                          size_t bytes)
{
    int length;
    const char *value = fdt_getprop(reader->fdt, 0, property, &length);

    if (!value)
        return 0;
    if (length < 2 || strnlen(value, (size_t)length) != (size_t)length - 1)
        return policy_complain(reader, 0, property, "is not one text; write \"...\"");
    if ((size_t)length > bytes)
        return policy_complain(reader, 0, property, "is too long; use at most %zu characters",
                               bytes - 1);
    for (int i = 0; i < length - 1; i++) {
        if (!isprint((unsigned char)value[i]))
            return policy_complain(reader, 0, property,
                                   "holds what cannot be printed everywhere; use ASCII");
    }
    memcpy(text, value, (size_t)length);
    return 0;
}

static void tree_name_after(struct policy *policy, const char *path)
{
    const char *base = strrchr(path, '/');
    size_t n = 0;

    for (base = base ? base + 1 : path; *base && *base != '.' && n + 1 < sizeof(policy->name);
         base++)
        policy->name[n++] = isprint((unsigned char)*base) ? *base : '?';
}

static int tree_read(struct policy_reader *reader, const char *name)
{
    struct policy *policy = reader->policy;
    int err;

    policy->guest.magic = ABI_POLICY_MAGIC;
    policy->guest.version = ABI_POLICY_VERSION;
    tree_name_after(policy, name);
    err = tree_read_text(reader, "model", policy->name, sizeof(policy->name));
    if (!err)
        err = tree_read_text(reader, "strata,description", policy->description,
                             sizeof(policy->description));
    if (!err)
        err = tree_walk(reader);
    if (!err)
        err = policy_read_iommu(reader);
    if (!err)
        err = policy_read_regions(reader);
    for (unsigned i = 0; !err && i < policy->guest.ndevices; i++)
        err = policy_read_device(reader, i);
    if (err)
        return err;
    tree_number_devices(reader);
    return policy_check(reader);
}

int policy_read(struct policy *policy, const struct policy_blob *blob, struct policy_nodes *nodes,
                struct policy_complaint *complaint)
{
    struct policy_reader reader = {
        .policy = policy,
        .complaint = complaint,
        .iommu = POLICY_NO_NODE,
        .disabled_iommu = POLICY_NO_NODE,
        .reserved = POLICY_NO_NODE,
    };
    size_t bytes = blob->bytes;
    void *copy;
    int err;

    memset(policy, 0, sizeof(*policy));
    memset(nodes, 0, sizeof(*nodes));
    memset(complaint, 0, sizeof(*complaint));
    if (!bytes || bytes > POLICY_BLOB_BYTES_MAX)
        return policy_complain(&reader, POLICY_NO_NODE, NULL,
                               "%zu bytes cannot be a policy; give 1 to %u", bytes,
                               POLICY_BLOB_BYTES_MAX);
    /* libfdt wants it aligned. */
    copy = malloc(bytes);
    if (!copy) {
        policy_complain(&reader, POLICY_NO_NODE, NULL, "out of memory");
        return -ENOMEM;
    }
    memcpy(copy, blob->data, bytes);
    reader.fdt = copy;
    err = fdt_check_full(copy, bytes);
    err = err ? policy_complain(&reader, POLICY_NO_NODE, NULL,
                                "is no device tree blob (%s); compile it anew with dtc",
                                fdt_strerror(err))
              : tree_read(&reader, blob->name);
    for (unsigned i = 0; !err && i < policy->guest.ndevices; i++) {
        if (fdt_get_path(copy, reader.device[i], nodes->device[i], sizeof(nodes->device[i])))
            nodes->device[i][0] = 0;
    }
    free(copy);
    return err;
}
