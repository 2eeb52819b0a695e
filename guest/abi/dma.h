/*
 * What a program of the bundled guest can ask of the kernel's drivers: SYS_DMA (op,
 * struct abi_dma *) for mappings and the DMA probe, SYS_BLOCK for disks. It is what
 * VFIO or iommufd are to a user-space driver: pages of the program are pinned and
 * mapped for a device, as the device's policy says.
 */
#ifndef STRATA_ABI_DMA_H
#define STRATA_ABI_DMA_H

#include <stdint.h>

enum abi_dma_op {
    /*
     * Device number `device`: fills in kind, endpoint, domain, mode, mmio, name, and of its
     * policy: value (enum abi_dma_buffers), bytes (ABI_DEVICE_*), last (enum
     * abi_dma_fault_action). -ABI_ENOENT past the last.
     */
    ABI_DMA_DEVICE = 1,
    /* Maps [va, va + bytes) with `rights` for the device: iova. Copies first where the policy says.
     */
    ABI_DMA_MAP,
    /* The same pages once more at another iova, whatever the buffers' policy: iova. */
    ABI_DMA_ALIAS,
    /* Undoes the MAP or ALIAS at iova, copies back; lazily where the mode is lazy. */
    ABI_DMA_UNMAP,
    /* All lazy unmaps of the device take effect. */
    ABI_DMA_FLUSH,
    /* Attaches the device as its policy says (at boot all are, but for ABI_DEVICE_EARLY). */
    ABI_DMA_ATTACH,
    ABI_DMA_DETACH,
    /* Resets the device and takes away all its mappings. */
    ABI_DMA_RESET,
    /*
     * The probe's registers move `bytes` (at most 4096) between memory at iova and its
     * buffer, rights 1 from memory, 2 to memory; waits for the interrupt, or for the
     * policy's timeout: -ABI_ETIMEDOUT, when the driver has unmapped and reset.
     */
    ABI_DMA_TRANSFER,
    /* Writes `value` to, or reads it from, the device's register at offset `iova`, `bytes` wide. */
    ABI_DMA_REGISTER_WRITE,
    ABI_DMA_REGISTER_READ,
    /* Takes the oldest fault the IOMMU's driver was told: endpoint, rights, iova, reason in value;
       -ABI_ENOENT. */
    ABI_DMA_FAULT,
    /* How many mappings the kernel holds for the device: value; the driver's errors: bytes. */
    ABI_DMA_STATE,
    /* Raw requests to the IOMMU, status as virtio numbers it in value: for quotas and bad ranges.
     */
    ABI_DMA_RAW_MAP,    /* device's domain, iova .. iova + bytes - 1 (or `last`), gpa, rights */
    ABI_DMA_RAW_UNMAP,  /* device's domain, iova .. last */
    ABI_DMA_RAW_ATTACH, /* device, domain number in value */
    /*
     * Region number `device` of the policy: fills in kind (enum abi_region_kind), name, gpa,
     * iova, bytes, and maps its memory into the process: va, 0 if it has none. -ABI_ENOENT
     * past the last.
     */
    ABI_DMA_REGION,
    /* The GPA of the page at va, which is touched first: gpa. */
    ABI_DMA_WHERE,
};

/*
 * What an operation that names a device says of it: -ABI_ENOENT, no such device; -ABI_ENODEV,
 * it is not attached (MAP), or there is no IOMMU (RAW_*); -ABI_EINVAL, a range that cannot be,
 * or (MAP without translation) one that is not contiguous; -ABI_ENOMEM; -ABI_EFAULT, the
 * program may not access its memory so; -ABI_EIO, the IOMMU refused, or (TRANSFER) the
 * device saw an error, whose errno is in value; -ABI_EBUSY, the process has a transfer there
 * already. A mapping is at most 4 MiB.
 *
 * UNMAP takes the iova that MAP or ALIAS gave. Unless ABI_DEVICE_ALIASES_STAY, the ALIASes
 * of the same bytes, and the MAP that an ALIAS doubles, go with it.
 */

struct abi_dma {
    uint32_t device; /* index in the order of the policy, or of the device tree */
    uint32_t rights; /* 1 the device reads, 2 it writes */
    uint64_t va, bytes, iova, last, gpa, value;
    uint32_t kind, endpoint, mode, domain; /* enum abi_device_kind, …, enum abi_dma_mode */
    uint64_t mmio;                         /* GPA of its registers */
    char name[24];
};

enum abi_block_op {
    /* Fills in sectors, flags. `device`: n-th disk; -ABI_ENOENT past the last. */
    ABI_BLOCK_INFO = 1,
    ABI_BLOCK_READ, /* bytes from sector on to va; the driver maps the pages for the transfer */
    ABI_BLOCK_WRITE,
    ABI_BLOCK_FLUSH,
    ABI_BLOCK_DISCARD, /* bytes from sector on */
    /*
     * count requests of `bytes`, depth at a time (at most 32), from `sector` on (step sectors
     * apart): a bench. Memory of depth * bytes from va on, mapped anew for each round of requests.
     */
    ABI_BLOCK_MANY,
};

#define ABI_BLOCK_READ_ONLY 1u
#define ABI_BLOCK_DISCARDS  2u
#define ABI_BLOCK_FLUSHES   4u
#define ABI_BLOCK_RANDOM    8u  /* MANY: pseudo-random sectors instead of a step */
#define ABI_BLOCK_WRITES    16u /* MANY: writes instead of reads */

struct abi_block {
    uint32_t device;
    uint32_t flags;
    uint64_t va, bytes, sector, sectors;
    uint64_t count, depth, step;
    uint64_t ticks;  /* MANY: time stamp counter from the first kick to the last completion */
    uint64_t done;   /* requests completed, errors not counted */
    uint64_t errors; /* requests the device failed */
    uint64_t protocol_errors; /* ids, lengths or indices from the device that cannot be */
};

#define ABI_EIO       5
#define ABI_EBUSY     16
#define ABI_ENODEV    19
#define ABI_EROFS     30
#define ABI_EPROTO    71 /* the device broke the rules */
#define ABI_ETIMEDOUT 110

#endif
