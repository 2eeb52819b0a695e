/*
 * The board: every device of a machine, created in one function, and what there is
 * to say about each in a device tree.
 */
#ifndef STRATA_CORE_BOARD_H
#define STRATA_CORE_BOARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/core/device.h"
#include "devices/core/hypercall_port.h"
#include "devices/core/io_thread.h"
#include "devices/iommu/iommu.h"
#include "devices/legacy/acpi_pm.h"
#include "devices/legacy/debug_exit.h"
#include "devices/legacy/i8042.h"
#include "devices/legacy/pit.h"
#include "devices/legacy/pvpanic.h"
#include "devices/legacy/rtc.h"
#include "devices/legacy/serial.h"

#define BOARD_NODES_MAX   40 /* memory-mapped devices, and those on ports */
#define BOARD_FIXED_MAX   4
#define BOARD_ERROR_BYTES 320

struct vm;

struct board_config {
    const struct device_config *devices; /* in the order of their windows and GSIs */
    unsigned ndevices;                   /* at most ABI_MMIO_DEVICES_MAX, one less with an IOMMU */
    bool iommu;                          /* an IOMMU before all of them; it gets the first window */
    struct iommu_config iommu_config;
    bool pc;            /* what kernels expect of a PC: clock, timer, ACPI registers, pvpanic */
    bool io_thread;     /* disks, networks and virtio-consoles are notified on a thread */
    int console_out_fd; /* gets what the guest sends to its consoles; < 0: dropped */
    int console_input_ready_fd; /* eventfd, see board_input; < 0: none */
    uint16_t debug_exit_port;   /* 0: there is no such device */
    hypercall_port_callback *checkpoint;
    void *checkpoint_owner;
};

struct board_slot; /* one memory-mapped device, with its window, line and dma handle */

struct board {
    struct vm *vm;
    struct serial serial;
    struct hypercall_port hypercall_port;
    struct i8042 i8042;
    bool pc; /* the next four exist */
    struct rtc rtc;
    struct pit pit;
    struct acpi_pm acpi_pm;
    struct pvpanic pvpanic;
    struct debug_exit debug_exit;
    struct vm_thread input; /* the event loop, while it hands in what was typed */
    struct io_thread io;
    struct device fixed[BOARD_FIXED_MAX]; /* those above that operations are for */
    unsigned nfixed;
    struct iommu *iommu;      /* NULL: none */
    struct board_slot *slots; /* by window, the IOMMU's own device first; NULL: there are none */
    unsigned nslots;
    char error[BOARD_ERROR_BYTES]; /* one line for the user, where board_create knew one; or "" */
};

/*
 * Creates all devices on the VM's buses; the VM must not run yet. The file descriptors
 * stay the caller's and outlive the board. 0, or -errno with nothing left behind but
 * the bus entries: destroy the VM then. -E2BIG: too many devices; -EINVAL: one of no kind
 * that there is; else what the devices' own functions say.
 */
int board_create(struct board *board, struct vm *vm, const struct board_config *config);

/* After the VM has ended. When it returns, nothing touches guest memory any more. */
void board_destroy(struct board *board);

/*
 * Console input, from any thread: how many bytes were taken; the rest is to be offered
 * again when console_input_ready_fd is readable. It goes to the first virtio-console whose
 * driver takes input, else to the serial port: no guest is left deaf.
 */
size_t board_input(struct board *board, const uint8_t *bytes, size_t count);

/*
 * The terminal that the consoles' output goes to has this size from now on. From any thread.
 * False: the VM is paused; to be said again when console_input_ready_fd is readable.
 */
bool board_resize(struct board *board, uint16_t columns, uint16_t rows);

/* ---- The device with this index in board_config's list ---- */

struct dma *board_dma(const struct board *board, unsigned device); /* NULL: no such device */

/*
 * For who has business with one kind of device: its model (struct virtio_blk of virtio_blk_ops,
 * ...); NULL: it is no such device. BOARD_IOMMU_DEVICE is that by which the IOMMU is programmed.
 */
void *board_model(const struct board *board, unsigned device, const struct device_ops *ops);

#define BOARD_IOMMU_DEVICE (~0u)

/* What is to be told of one memory-mapped device after a run. */
struct board_report {
    struct device *device; /* whose operations tell the rest */
    uint64_t gpa;
    bool translated; /* its DMA went through the IOMMU, as `endpoint` */
    uint32_t endpoint;
    uint64_t dma_faults; /* accesses to memory that were refused */
    struct device_counts counts;
};

/* The window-th device, the IOMMU's own first; false: no such. While no vCPU runs. */
bool board_report(const struct board *board, unsigned window, struct board_report *report);

struct iommu *board_iommu(const struct board *board); /* NULL: there is none */

/* Fills in at most `max` nodes and returns how many. */
unsigned board_describe(const struct board *board, struct device_node *nodes, unsigned max);

#endif
