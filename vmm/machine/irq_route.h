/*
 * Messages (MSI) that KVM sends when an eventfd is signalled, without a system call on a
 * vCPU's way: each has a GSI of its own beyond the IOAPIC's lines, and a route (Linux,
 * Documentation/virt/kvm/api.rst, KVM_SET_GSI_ROUTING and KVM_IRQFD).
 */
#ifndef STRATA_MACHINE_IRQ_ROUTE_H
#define STRATA_MACHINE_IRQ_ROUTE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct vm;

#define IRQ_ROUTES_MAX 512 /* messages of one VM; KVM takes thousands */

struct irq_route {
    bool used;
    uint64_t address;
    uint32_t data;
};

/* Of one VM; zero is as good as new. */
struct irq_routes {
    pthread_mutex_t lock;
    struct irq_route *route; /* IRQ_ROUTES_MAX, of the GSIs from IRQ_LINES on; NULL: none yet */
};

/*
 * From now on a signal of fd, which stays the caller's, is the message `data` to `address`
 * (as irq_msi), until irq_route_remove or the VM's end. Its GSI; or -ENOSPC, -ENOMEM, or
 * what KVM says. From any thread, also while the guest runs; the lines keep their routes.
 */
int irq_route_add(struct vm *vm, int fd, uint64_t address, uint32_t data);

/* Signals of the GSI's eventfd are another message from now on. 0 or -errno. */
int irq_route_set(struct vm *vm, unsigned gsi, uint64_t address, uint32_t data);

/* Signals of fd, the GSI's, do nothing any more; the GSI may be given to others. 0 or -errno. */
int irq_route_remove(struct vm *vm, unsigned gsi, int fd);

/* When the VM is destroyed. */
void irq_routes_destroy(struct irq_routes *routes);

#endif
