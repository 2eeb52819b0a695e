/*
 * A DMA policy as the bundled guest gets it: the host has read it from the device tree
 * source that the user wrote (vmm/dma/policy/policy.h) and hands over this block as the
 * property ABI_FDT_POLICY of /chosen. It says what the operating system is to set up for
 * each device; what the platform lacks (IOMMU_CHECK_*) the guest is not told.
 *
 * Little-endian, naturally aligned, no padding.
 */
#ifndef STRATA_ABI_POLICY_H
#define STRATA_ABI_POLICY_H

#include <stdint.h>

#define ABI_POLICY_MAGIC       0x504d4453u /* "SDMP" */
#define ABI_POLICY_VERSION     1
#define ABI_POLICY_DEVICES_MAX 8
#define ABI_POLICY_REGIONS_MAX 16
#define ABI_POLICY_USES_MAX    8
#define ABI_POLICY_NAME_BYTES  24

/* How a device's addresses are translated; the words are Linux's for an IOMMU group. */
enum abi_dma_mode {
    ABI_DMA_OFF = 0,      /* there is no IOMMU */
    ABI_DMA_IDENTITY = 1, /* attached to a bypass domain */
    ABI_DMA_STRICT = 2,   /* "DMA": an unmap has taken effect when it returns */
    ABI_DMA_LAZY = 3,     /* "DMA-FQ": unmaps are collected and take effect later */
};

/* What a driver's buffer that is not whole pages shares its pages with. */
enum abi_dma_buffers {
    ABI_DMA_IN_PLACE = 0,  /* whatever lies on the same pages */
    ABI_DMA_EXCLUSIVE = 1, /* nothing: copied to and from pages of its own, zeroed before */
    ABI_DMA_BOUNCE = 2,    /* the slots of the device's restricted-dma-pool, always mapped */
};

enum abi_dma_fault_action {
    ABI_FAULT_REPORT = 0, /* count it and go on */
    ABI_FAULT_DETACH = 1, /* take the device off its domain */
    ABI_FAULT_RESET = 2,  /* and reset it */
};

/* Flags of a device: what its driver does, or does not. */
#define ABI_DEVICE_TRUSTING     1u  /* believes ids, lengths and indices that come back */
#define ABI_DEVICE_ALIASES_STAY 2u  /* unmapping one IOVA of a page leaves the others */
#define ABI_DEVICE_NO_PIN       4u  /* frees pages that are still mapped */
#define ABI_DEVICE_EARLY        8u  /* the device runs before its driver attaches it */
#define ABI_DEVICE_BOUNCE_META  16u /* keeps the pool's book-keeping inside the pool */
#define ABI_DEVICE_NAIVE_QUEUE  32u /* (host) believes descriptors: no bounds, reads them twice */

enum abi_device_kind {
    ABI_DEVICE_PROBE = 1, /* guest/abi/probe.h */
    ABI_DEVICE_BLK = 2,   /* virtio-blk, which can turn hostile */
    /* In no policy: what else the guest finds in its device tree. */
    ABI_DEVICE_RNG = 3,
    ABI_DEVICE_CONSOLE = 4,
    ABI_DEVICE_IOMMU = 5,
    ABI_DEVICE_BALLOON = 6,
};

struct abi_policy_use {
    uint32_t region;
    uint32_t rights; /* 1 the device reads, 2 the device writes */
};

struct abi_policy_device {
    char name[ABI_POLICY_NAME_BYTES]; /* of its node */
    uint32_t kind;                    /* enum abi_device_kind */
    uint32_t endpoint;                /* id, the cell of `iommus` */
    uint32_t domain;                  /* devices with the same number share one */
    uint32_t mode;                    /* enum abi_dma_mode */
    uint32_t buffers;                 /* enum abi_dma_buffers */
    uint32_t pool;                    /* index of its restricted-dma-pool; ~0: none */
    uint32_t flags;                   /* ABI_DEVICE_* */
    uint32_t fault_action;            /* enum abi_dma_fault_action */
    uint32_t timeout_ms; /* for a completion, then unmap and reset; 0: waits for ever */
    uint32_t nuses;
    struct abi_policy_use use[ABI_POLICY_USES_MAX]; /* its memory-region */
};

enum abi_region_kind {
    ABI_REGION_BUFFER = 0,   /* pages a driver hands to devices */
    ABI_REGION_POOL = 1,     /* restricted-dma-pool */
    ABI_REGION_IDENTITY = 2, /* identity-mapped for good for the devices in `iommu-addresses` */
    ABI_REGION_RESERVED_IOVA = 3, /* addresses that a device must not use; no memory */
};

struct abi_policy_region {
    char name[ABI_POLICY_NAME_BYTES];
    uint32_t kind; /* enum abi_region_kind */
    uint32_t reserved;
    uint64_t gpa; /* `reg`; 0: wherever there is memory */
    uint64_t bytes;
    uint64_t iova;      /* `iommu-addresses`; 0 and a gpa: the same */
    uint64_t endpoints; /* bit n: device n of the list has it in `iommu-addresses` */
};

/*
 * A pool is cut into slots of ABI_BOUNCE_BYTES. A buffer takes slots that follow each other,
 * with the same offset into the first as it has in its own page. Book-keeping: one struct
 * abi_bounce_slot for each, in the kernel's memory, or (ABI_DEVICE_BOUNCE_META) from the
 * pool's start on, in place of the first slots, and believed when it is copied back.
 */
#define ABI_BOUNCE_BYTES 2048

struct abi_bounce_slot {
    uint64_t gpa;    /* the buffer's bytes behind this slot */
    uint32_t bytes;  /* how many; they begin at gpa % ABI_BOUNCE_BYTES of the slot */
    uint32_t in_use; /* rights of the mapping + 4; 0: free */
};

struct abi_policy {
    uint32_t magic, version;
    uint32_t ndevices, nregions;
    struct abi_policy_device device[ABI_POLICY_DEVICES_MAX];
    struct abi_policy_region region[ABI_POLICY_REGIONS_MAX];
};

#endif
