/*
 * Every kind of memory-mapped device that a machine can have: one row each, of its name in
 * enum device_kind and its operations, which its own file defines. A new device is its file
 * and a row here.
 */
#ifndef STRATA_CORE_DEVICE_LIST_H
#define STRATA_CORE_DEVICE_LIST_H

#define DEVICE_LIST(ROW)                                                               \
    ROW(DEVICE_IOMMU, virtio_iommu_ops) /* the board's own: no configuration has it */ \
    ROW(DEVICE_PROBE, probe_ops)        /* the DMA probe */                            \
    ROW(DEVICE_BLK, virtio_blk_ops)                                                    \
    ROW(DEVICE_RNG, virtio_rng_ops)                                                    \
    ROW(DEVICE_CONSOLE, virtio_console_ops)                                            \
    ROW(DEVICE_NET, virtio_net_ops)                                                    \
    ROW(DEVICE_VSOCK, virtio_vsock_ops)                                                \
    ROW(DEVICE_BALLOON, virtio_balloon_ops)

#endif
