/*
 * The board: every device of a machine, created in one function, and what there is
 * to say about each in a device tree.
 */
#ifndef STRATA_CORE_BOARD_H
#define STRATA_CORE_BOARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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
#define BOARD_ERROR_BYTES 320

struct console_port_config;
struct dma;
struct net_config;
struct probe;
struct virtio_balloon;
struct virtio_blk;
struct virtio_console;
struct virtio_iommu;
struct virtio_net;
struct virtio_vsock;
struct vm;

enum board_kind {
    BOARD_PROBE, /* the DMA probe */
    BOARD_BLK,
    BOARD_RNG,
    BOARD_CONSOLE,
    BOARD_NET,
    BOARD_VSOCK,
    BOARD_BALLOON, /* bypasses the IOMMU (balloon.h), which its endpoint then is unknown to */
};

/* One memory-mapped device; they get windows and GSIs in the order of the list. */
struct board_device {
    enum board_kind kind;
    uint32_t endpoint; /* its id for the IOMMU; no two the same */
    const char *path;  /* BOARD_BLK: the disk's file; BOARD_VSOCK: the socket */
    bool read_only;
    uint64_t latency_ns;          /* BOARD_BLK: of each request, at least; 0: the file's own */
    uint64_t bytes;               /* BOARD_BALLOON: what the guest should do without, at first */
    uint64_t guest_cid;           /* BOARD_VSOCK */
    const struct net_config *net; /* BOARD_NET: what it is connected to; outlives the board */
    /* BOARD_CONSOLE: its ports beyond the console, which outlive the board. */
    const struct console_port_config *ports;
    unsigned nports;
    bool ports_only; /* it is no console to drivers that know of ports */
};

struct board_config {
    const struct board_device *devices;
    unsigned ndevices; /* at most ABI_MMIO_DEVICES_MAX, one less with an IOMMU */
    bool iommu;        /* an IOMMU before all of them; it gets the first window */
    struct iommu_config iommu_config;
    bool pc;            /* what kernels expect of a PC: clock, timer, ACPI registers, pvpanic */
    bool io_thread;     /* disks, networks and virtio-consoles are notified on a thread */
    int console_out_fd; /* gets what the guest sends to its consoles; < 0: dropped */
    int console_input_ready_fd; /* eventfd, see board_input; < 0: none */
    uint16_t debug_exit_port;   /* 0: there is no such device */
    hypercall_port_callback *checkpoint;
    void *checkpoint_owner;
};

struct board_slot; /* one memory-mapped device */

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
    struct iommu *iommu;      /* NULL: none */
    struct board_slot *slots; /* by window, the IOMMU's own device first; NULL: there are none */
    unsigned nslots;
    char error[BOARD_ERROR_BYTES]; /* one line for the user, where board_create knew one; or "" */
};

/* One device as a device tree or ACPI describes it. */
struct board_node {
    const char *name;       /* without the unit address */
    const char *compatible; /* Devicetree binding; NULL: it is not in a device tree */
    const char *hid;        /* ACPI's hardware id; NULL: it is not in ACPI's namespace */
    uint64_t port;
    uint64_t gpa; /* of a memory-mapped device; 0: it is at `port` */
    uint64_t bytes;
    int gsi;        /* < 0: no interrupt */
    unsigned sense; /* as the IOAPIC's binding numbers them: BOARD_EDGE_RISING, BOARD_LEVEL_HIGH */
    bool is_iommu;
    bool translated; /* its DMA goes through the IOMMU, as `endpoint` */
    uint32_t endpoint;
};

#define BOARD_EDGE_RISING 0
#define BOARD_LEVEL_HIGH  2

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

/* The terminal that the consoles' output goes to has this size from now on. From any thread. */
void board_resize(struct board *board, uint16_t columns, uint16_t rows);

/* ---- The device with this index in board_config's list ---- */

struct dma *board_dma(const struct board *board, unsigned device);        /* NULL: no such device */
struct probe *board_probe(const struct board *board, unsigned device);    /* NULL: not a probe */
struct virtio_blk *board_blk(const struct board *board, unsigned device); /* NULL: not a disk */

struct virtio_balloon *board_balloon(const struct board *board, unsigned device); /* NULL: none */

/* What there is to tell of one memory-mapped device after a run. */
struct board_report {
    const char *name; /* "virtio-blk", ... */
    uint64_t gpa;
    bool translated; /* its DMA went through the IOMMU, as `endpoint` */
    uint32_t endpoint;
    uint64_t kicks, interrupts, bad_accesses;
    uint64_t dma_faults;            /* accesses to memory that were refused */
    uint64_t needed_resets;         /* how often DEVICE_NEEDS_RESET was set */
    const char *needed_reset;       /* why, the last time; NULL: never */
    const struct virtio_blk *disk;  /* NULL: it is none */
    struct virtio_iommu *iommu;     /* NULL: it is none */
    struct virtio_balloon *balloon; /* NULL: it is none */
    struct virtio_console *ports;   /* NULL: no console, or of one port */
    struct virtio_net *net;         /* NULL: it is none */
    struct virtio_vsock *vsock;     /* NULL: it is none */
};

/* The window-th device, the IOMMU's own first; false: no such. While no vCPU runs. */
bool board_report(const struct board *board, unsigned window, struct board_report *report);

struct iommu *board_iommu(const struct board *board); /* NULL: there is none */

/* Fills in at most `max` nodes and returns how many. */
unsigned board_describe(const struct board *board, struct board_node *nodes, unsigned max);

#endif
