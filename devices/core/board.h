/*
 * The board: every device of a machine, created in one function, and what there is
 * to say about each in a device tree.
 */
#ifndef STRATA_CORE_BOARD_H
#define STRATA_CORE_BOARD_H

#include "devices/core/doorbell.h"
#include "devices/iommu/iommu.h"
#include "devices/legacy/i8042.h"
#include "devices/legacy/serial.h"

#define BOARD_NODES_MAX 16

struct vm;

enum board_kind {
    BOARD_PROBE, /* the DMA probe */
    BOARD_BLK,
    BOARD_RNG,
    BOARD_CONSOLE,
};

/* One memory-mapped device; they get windows and GSIs in the order of the list. */
struct board_device {
    enum board_kind kind;
    uint32_t endpoint; /* its id for the IOMMU; no two the same */
    const char *path;  /* BOARD_BLK: the disk's file */
    bool read_only;
};

struct board_config {
    const struct board_device *devices;
    unsigned ndevices; /* at most ABI_MMIO_DEVICES_MAX, one less with an IOMMU */
    bool iommu;        /* an IOMMU before all of them; it gets the first window */
    struct iommu_config iommu_config;
    int console_out_fd;  /* gets what the guest sends to COM1; < 0: dropped */
    int console_room_fd; /* eventfd, see serial.h; < 0: none */
    doorbell_callback *checkpoint;
    void *checkpoint_owner;
};

struct board {
    struct vm *vm;
    struct serial serial;
    struct doorbell doorbell;
    struct i8042 i8042;
};

/* One device as a device tree describes it. */
struct board_node {
    const char *name;       /* without the unit address */
    const char *compatible; /* Devicetree binding */
    uint64_t port;
    uint64_t bytes;
    int gsi;        /* < 0: no interrupt */
    unsigned sense; /* 0: edge rising, as the IOAPIC's binding numbers them */
};

/*
 * Creates all devices on the VM's buses; the VM must not run yet. The file descriptors
 * stay the caller's and outlive the board. 0, or -errno with nothing left behind but
 * the bus entries: destroy the VM then.
 */
int board_create(struct board *board, struct vm *vm, const struct board_config *config);

/* After the VM has ended. */
void board_destroy(struct board *board);

/* Fills in at most `max` nodes and returns how many. */
unsigned board_describe(const struct board *board, struct board_node *nodes, unsigned max);

#endif
