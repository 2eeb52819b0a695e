/*
 * A device of a machine, of whatever kind: its model and the operations that the board, the
 * machine's descriptions and its reports know it by. The board (board.h) creates them all and
 * then uses nothing but these operations.
 *
 * There is none for a pause: a device's own threads are struct vm_thread, which vm_pause parks.
 */
#ifndef STRATA_CORE_DEVICE_H
#define STRATA_CORE_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/core/device_list.h"

struct console;
struct console_port_config;
struct dma;
struct iommu;
struct net_config;
struct virtio_device;
struct vm;

#define DEVICE_KIND(kind, ops) kind,
enum device_kind { DEVICE_LIST(DEVICE_KIND) DEVICE_KINDS };
#undef DEVICE_KIND

/* What a device is to be. Texts and what pointers lead to outlive it. */
struct device_config {
    enum device_kind kind;
    uint32_t endpoint; /* its id for the IOMMU; no two the same */
    const char *path;  /* DEVICE_BLK: the disk's file; DEVICE_VSOCK: the socket */
    bool read_only;
    uint64_t latency_ns;          /* DEVICE_BLK: of each request, at least; 0: the file's own */
    uint64_t bytes;               /* DEVICE_BALLOON: what the guest should do without, at first */
    uint64_t guest_cid;           /* DEVICE_VSOCK */
    const struct net_config *net; /* DEVICE_NET: what it is connected to */
    const struct console_port_config *ports; /* DEVICE_CONSOLE: those beyond the console */
    unsigned nports;
    bool ports_only; /* it is no console to drivers that know of ports */
};

/* Where the device is, and what it gets from the board. */
struct device_place {
    struct vm *vm;
    struct dma *dma;     /* its way to memory */
    struct iommu *iommu; /* NULL: there is none */
    uint64_t gpa;        /* its window */
    unsigned gsi;
    struct console *console_out;
    int console_input_ready_fd; /* eventfd; < 0: none */
    char *error;                /* for one line to the user, "" at first */
    size_t error_bytes;
};

/* One device as a device tree or ACPI describes it. */
struct device_node {
    const char *name;       /* without the unit address */
    const char *compatible; /* Devicetree binding; NULL: it is not in a device tree */
    const char *hid;        /* ACPI's hardware id; NULL: it is not in ACPI's namespace */
    uint64_t port;
    uint64_t gpa; /* of a memory-mapped device; 0: it is at `port` */
    uint64_t bytes;
    int gsi; /* < 0: no interrupt */
    unsigned
        sense; /* as the IOAPIC's binding numbers them: DEVICE_EDGE_RISING, DEVICE_LEVEL_HIGH */
    bool is_iommu;
    bool translated; /* its DMA goes through the IOMMU, as `endpoint` */
    uint32_t endpoint;
};

#define DEVICE_EDGE_RISING 0
#define DEVICE_LEVEL_HIGH  2

/* What any memory-mapped device has counted. */
struct device_counts {
    uint64_t kicks, interrupts, bad_accesses;
    uint64_t needed_resets;   /* how often DEVICE_NEEDS_RESET was set */
    const char *needed_reset; /* why, the last time; NULL: never */
};

/* Takes what a device tells of itself, one value at a time. */
struct device_stats {
    void (*number)(struct device_stats *stats, const char *name, uint64_t value);
    void (*flag)(struct device_stats *stats, const char *name, bool value);
    void (*text)(struct device_stats *stats, const char *name, const char *value); /* or NULL */
    /* What follows belongs to a part of this name, up to group(stats, NULL). */
    void (*group)(struct device_stats *stats, const char *name);
    /* What follows is of the next one of a list. */
    void (*item)(struct device_stats *stats);
};

struct device {
    const struct device_ops *ops; /* NULL: there is none */
    void *model;                  /* the kind's own struct, which the operations get */
    struct virtio_device *virtio; /* NULL: no virtio device; it has registers of its own */
};

/* What is not said to be always there may be NULL: the device has nothing to do then. */
struct device_ops {
    const char *name;       /* as in messages and reports: "virtio-blk". Always */
    const char *stats_name; /* the key of its stats in reports; NULL: it has none */
    bool stats_list;        /* they are a list of items */
    bool untranslated;      /* its addresses are guest-physical, whatever IOMMU there is */
    bool worth_a_thread;    /* its notifications mean work, for the I/O thread if there is one */

    /*
     * Makes the model, and a virtio device's `virtio`, to which the board adds the transport;
     * others put their registers on the bus. Starts its threads. 0; or -errno with nothing left
     * behind but bus entries, and maybe a line in place->error. Always, but for devices on ports.
     */
    int (*create)(struct device *device, const struct device_config *config,
                  const struct device_place *place);
    /* After the VM has ended. Nothing touches guest memory any more when it returns. */
    void (*destroy)(void *model);
    /*
     * Fills in what differs from a virtio-mmio device or, of one on ports, from a node that has
     * only its name. False: it is in no description.
     */
    bool (*describe)(const void *model, struct device_node *node);
    /* Of a device that is no virtio device. */
    void (*count)(const void *model, struct device_counts *counts);
    /* Tells of itself; false, and nothing, where there is nothing to tell. While no vCPU runs. */
    bool (*stats)(void *model, struct device_stats *stats);
    /* Console input, as board_input: how many bytes were taken; -EAGAIN: not this one. */
    int64_t (*input)(void *model, const uint8_t *bytes, size_t count);
    /* The terminal has this size from now on. */
    void (*resize)(void *model, uint16_t columns, uint16_t rows);
};

#define DEVICE_OPS(kind, ops) extern const struct device_ops ops;
DEVICE_LIST(DEVICE_OPS)
#undef DEVICE_OPS

#endif
