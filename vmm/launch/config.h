/*
 * The one description of a VM, wherever it came from: options, a file, later an API or a
 * snapshot's manifest. What each field is called outside, and its limits, is a row of
 * config_fields.c; what fields have to do with each other config_check knows.
 *
 * Texts belong to the configuration (config_text). Everything made from a configuration
 * (struct machine) needs it to stay where it is for as long as that lives.
 */
#ifndef STRATA_LAUNCH_CONFIG_H
#define STRATA_LAUNCH_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/backend/net.h"
#include "devices/core/board.h"
#include "devices/iommu/iommu.h"
#include "devices/virtio/console_ports.h"
#include "guest/abi/machine.h"
#include "vmm/base/error.h"
#include "vmm/boot/multiboot.h"
#include "vmm/boot/source.h"
#include "vmm/machine/cpuid_mask.h"
#include "vmm/machine/memory.h"

#define VM_CONFIG_MEMORY_BYTES    (256ull << 20)
#define VM_CONFIG_CPUS            2
#define VM_CONFIG_PAGES_AUTO      (-1)
#define VM_CONFIG_DEBUG_EXIT_AUTO (~0u)
#define VM_CONFIG_PORTS_MAX       (CONSOLE_PORTS_MAX - 1)

/* How devices reach memory; all but the first put an IOMMU before them. */
enum vm_iommu {
    VM_IOMMU_OFF,
    VM_IOMMU_BYPASS, /* the guest is to leave the devices untranslated */
    VM_IOMMU_STRICT, /* to unmap at once */
    VM_IOMMU_LAZY,   /* to unmap in batches */
};

/* One device of the list. Which fields count depends on its kind. */
struct config_device {
    enum device_kind kind;
    uint32_t endpoint; /* its id for the IOMMU, which config_place_devices gives */
    const char *id;    /* its name for who manages the machine; NULL: none */
    const char *path;  /* DEVICE_BLK: the disk's file; DEVICE_VSOCK: the socket */
    bool root;         /* DEVICE_BLK: Linux is told that this is its root file system */
    bool read_only;
    uint64_t latency_ns;        /* DEVICE_BLK: of each request, at least */
    const char *tap;            /* DEVICE_NET: an interface of the host; NULL: user networking */
    uint8_t mac[NET_MAC_BYTES]; /* all zero: net_default_mac */
    const char *forwards[NET_FORWARDS_MAX]; /* DEVICE_NET without tap, as in struct net_config */
    unsigned nforwards;
    bool ports_only;    /* DEVICE_CONSOLE: it is no console to drivers that know of ports */
    uint64_t guest_cid; /* DEVICE_VSOCK */
    uint64_t bytes;     /* DEVICE_BALLOON: what the guest should do without, at first */
};

struct config_text;

struct vm_config {
    /* boot-source */
    const char *kernel_path; /* NULL: the bundled guest, and none of the next four */
    const char *initrd_path;
    const char *modules[MULTIBOOT_MODULES_MAX]; /* "FILE ARGUMENTS" each */
    unsigned nmodules;
    struct boot_flat flat;
    const char *boot_args; /* NULL: none */

    /* machine-config */
    uint64_t memory_bytes;
    unsigned vcpu_count;
    int huge_pages;    /* enum memory_backing; VM_CONFIG_PAGES_AUTO until config_resolve */
    const char *cpuid; /* what CPUID shows, "x86-64-v2,-avx"; NULL: what this host needs */
    struct cpuid_mask cpuid_mask; /* config_check makes it from that */
    uint32_t dirty_ring_bytes;    /* of each vCPU, a power of two; 0: no rings */
    bool io_thread;               /* devices are notified on a thread, not by exits */

    enum vm_iommu iommu;
    struct iommu_config iommu_config; /* zero: the defaults */
    const struct abi_policy *policy;  /* for the bundled guest; NULL: none. Not owned */
    /* Of a device like QEMU's isa-debug-exit; 0: none. _AUTO until config_resolve. */
    unsigned debug_exit_port;

    struct config_device devices[ABI_MMIO_DEVICES_MAX]; /* in the order of their windows */
    unsigned ndevices;
    /* Of the first virtio-console; without one, of a device that is no console. */
    struct console_port_config ports[VM_CONFIG_PORTS_MAX];
    unsigned nports;

    struct config_text *texts; /* all that it owns */
};

/* A machine that only has memory, CPUs and the bundled guest, all of it by default. */
void config_init(struct vm_config *config);
void config_destroy(struct vm_config *config);

/* A copy of the text that lives as long as the configuration; NULL: no memory for it. */
const char *config_text(struct vm_config *config, const char *text);

/* One more device, after all others: 0, or -E2BIG with an error. */
int config_add_device(struct vm_config *config, const struct config_device *device,
                      struct error *error);

/*
 * Puts the devices into the order that does not depend on how they were written down: disks
 * (the root disk first), networks, vsock, entropy, consoles, balloon, DMA probes; those of a
 * kind stay in their order. Then numbers them: a device's endpoint is its window.
 */
void config_place_devices(struct vm_config *config);

/*
 * Whether a machine can be such, by itself and on this host as far as that is known without
 * KVM: 0, or -errno and the first field that is wrong. Files are looked at, not opened.
 */
int config_check(struct vm_config *config, struct error *error);

/* Whether the machine has the devices of a PC and CPUs as its firmware leaves them. */
bool config_is_pc(const struct vm_config *config);

/* Whether an IOMMU is before the devices. */
bool config_has_iommu(const struct vm_config *config);

#endif
