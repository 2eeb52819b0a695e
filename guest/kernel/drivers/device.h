/*
 * Memory-mapped devices: the list of what the device tree and the policy name, their
 * interrupts, their timeouts, and access to their registers.
 */
#ifndef STRATA_KERNEL_DRIVERS_DEVICE_H
#define STRATA_KERNEL_DRIVERS_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/abi/policy.h"

struct device;
struct dma_domain;
struct dma_mapping;
struct process;

/* What a driver does; a NULL is nothing to do. */
struct driver {
    /* Brings the device up, attached: 0 or -ABI_E*. */
    int (*start)(struct device *device);
    void (*interrupt)(struct device *device);
    /*
     * Stops the device: no DMA of its is under way any more, and what waits for it fails
     * with this -ABI_E*. It may be used again.
     */
    void (*reset)(struct device *device, int error);
    void (*timeout)(struct device *device);
    void (*drop_owned)(struct device *device, struct process *p);
};

struct device {
    char name[ABI_POLICY_NAME_BYTES];
    const struct driver *driver; /* NULL: none */
    void *state;                 /* the driver's */
    uint64_t registers;          /* virtual address */
    uint64_t gpa;
    uint32_t kind; /* enum abi_device_kind, 0: nothing the kernel knows */
    /* As the policy says, or as is usual. */
    uint32_t endpoint, domain_number;
    enum abi_dma_mode mode;
    uint32_t buffers, pool, flags, fault_action, timeout_ms;
    uint64_t regions; /* bit n: region n has it in `iommu-addresses` */
    /* dma/dma.c's. */
    struct dma_domain *domain; /* NULL: not attached */
    struct dma_mapping *mappings;
    uint64_t nmappings;
    struct bounce_pool *bounce;

    uint64_t errors;          /* of the device or the IOMMU, that the drivers met */
    uint64_t protocol_errors; /* things a device must not say */
    uint64_t deadline;        /* time stamp; 0: none */
    unsigned line;            /* of interrupts, see device_interrupt; others may share it */
    bool started;
    bool poll;   /* its interrupt handler has more to do (device_poll) */
    bool prompt; /* an IOMMU that needs no notification (ABI_FDT_IOMMU_PROMPT) */
};

extern struct device devices[];
extern unsigned device_count;

/* Attaches and starts everything but what the policy calls early. */
void device_start(void);

/* Attaches a device and starts its driver, if that has not been done. 0 or -ABI_E*. */
int device_attach(struct device *device);

/* The n-th, NULL past the last. */
struct device *device_at(uint64_t index);

/* One of the devices on this line may want something: asks all of them. */
void device_interrupt(uint64_t line);

/*
 * For an interrupt handler that has done enough for once: it is called again, after others
 * had their turn, programs included. It finds device->poll set.
 */
void device_poll(struct device *device);

/* Stops the device and takes away its mappings; what waits for it fails with `error`. */
void device_reset(struct device *device, int error);

/* The process is about to end: its mappings and waits go. */
void device_drop_owned(struct process *p);

/* ---- Time ----------------------------------------------------------------- */

/* The next moment somebody waits for, a time stamp; 0: none. */
extern uint64_t device_deadline;

/* Time stamp counts of so many microseconds. */
uint64_t device_ticks(uint64_t us);

/* device->timeout is called some time after this moment; 0: not any more. */
void device_set_deadline(struct device *device, uint64_t deadline);

/* Notes that there is something to do at this moment at the latest. */
void device_expect(uint64_t deadline);

void device_check_time(void);

/* Called often; costs nothing while nobody waits. */
static inline void device_tick(void)
{
    if (device_deadline)
        device_check_time();
}

/* ---- Registers: plain moves, which an interpreting host can decode --------- */

static inline uint32_t device_read32(const struct device *device, uint32_t offset)
{
    uint32_t value;

    __asm__ volatile("movl (%1), %0" : "=r"(value) : "r"(device->registers + offset) : "memory");
    return value;
}

static inline void device_write32(const struct device *device, uint32_t offset, uint32_t value)
{
    __asm__ volatile("movl %0, (%1)" : : "r"(value), "r"(device->registers + offset) : "memory");
}

/* Any size of 1, 2, 4, 8. */
uint64_t device_read(const struct device *device, uint32_t offset, unsigned bytes);
void device_write(const struct device *device, uint32_t offset, unsigned bytes, uint64_t value);

#endif
