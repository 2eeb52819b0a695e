#include "vmm/machine/irq_route.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "vmm/machine/irq_line.h"
#include "vmm/machine/vm.h"

#define PIC_PINS 8

/* struct kvm_irq_routing with room for its entries. */
struct irq_route_table {
    uint32_t nr, flags;
    struct kvm_irq_routing_entry entries[2 * PIC_PINS + IRQ_LINES + IRQ_ROUTES_MAX];
};

static void irq_route_add_pin(struct irq_route_table *table, uint32_t gsi, uint32_t chip,
                              uint32_t pin)
{
    table->entries[table->nr++] = (struct kvm_irq_routing_entry){
        .gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = { .irqchip = chip, .pin = pin }
    };
}

/* The lines as KVM_CREATE_IRQCHIP has them: a table replaces the one before. */
static void irq_route_add_lines(struct irq_route_table *table)
{
    for (uint32_t gsi = 0; gsi < IRQ_LINES; gsi++) {
        irq_route_add_pin(table, gsi, KVM_IRQCHIP_IOAPIC, gsi);
        if (gsi < 2 * PIC_PINS)
            irq_route_add_pin(table, gsi,
                              gsi < PIC_PINS ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE,
                              gsi % PIC_PINS);
    }
}

/* With the lock: tells KVM of all routes. */
static int irq_route_commit(struct vm *vm)
{
    struct irq_route_table *table = calloc(1, sizeof(*table));
    int err = 0;

    if (!table)
        return -ENOMEM;
    irq_route_add_lines(table);
    for (uint32_t i = 0; i < IRQ_ROUTES_MAX; i++) {
        const struct irq_route *route = &vm->irq_routes.route[i];

        if (route->used)
            table->entries[table->nr++] = (struct kvm_irq_routing_entry){
                .gsi = IRQ_LINES + i,
                .type = KVM_IRQ_ROUTING_MSI,
                .u.msi = { .address_lo = (uint32_t)route->address,
                           .address_hi = (uint32_t)(route->address >> 32),
                           .data = route->data },
            };
    }
    if (ioctl(vm->fd, KVM_SET_GSI_ROUTING, table) < 0)
        err = -errno;
    free(table);
    return err;
}

static int irq_route_bind(struct vm *vm, unsigned gsi, int fd, uint32_t flags)
{
    struct kvm_irqfd irqfd = { .fd = (uint32_t)fd, .gsi = gsi, .flags = flags };

    return ioctl(vm->fd, KVM_IRQFD, &irqfd) < 0 ? -errno : 0;
}

/* With the lock: the GSI of a route that is in use now, or -errno. */
static int irq_route_take(struct irq_routes *routes, uint64_t address, uint32_t data)
{
    if (!routes->route)
        routes->route = calloc(IRQ_ROUTES_MAX, sizeof(routes->route[0]));
    if (!routes->route)
        return -ENOMEM;
    for (int i = 0; i < IRQ_ROUTES_MAX; i++) {
        if (routes->route[i].used)
            continue;
        routes->route[i] = (struct irq_route){ .used = true, .address = address, .data = data };
        return IRQ_LINES + i;
    }
    return -ENOSPC;
}

/* With the lock: the route of a GSI that is in use; else NULL. */
static struct irq_route *irq_route_of(struct irq_routes *routes, unsigned gsi)
{
    struct irq_route *route;

    if (!routes->route || gsi < IRQ_LINES || gsi - IRQ_LINES >= IRQ_ROUTES_MAX)
        return NULL;
    route = &routes->route[gsi - IRQ_LINES];
    return route->used ? route : NULL;
}

int irq_route_add(struct vm *vm, int fd, uint64_t address, uint32_t data)
{
    struct irq_routes *routes = &vm->irq_routes;
    int gsi, err;

    pthread_mutex_lock(&routes->lock);
    gsi = irq_route_take(routes, address, data);
    err = gsi < 0 ? gsi : irq_route_commit(vm);
    if (!err)
        err = irq_route_bind(vm, (unsigned)gsi, fd, 0);
    if (err && gsi >= 0)
        routes->route[gsi - IRQ_LINES].used = false;
    pthread_mutex_unlock(&routes->lock);
    return err ? err : gsi;
}

int irq_route_set(struct vm *vm, unsigned gsi, uint64_t address, uint32_t data)
{
    struct irq_routes *routes = &vm->irq_routes;
    struct irq_route *route;
    int err = -EINVAL;

    pthread_mutex_lock(&routes->lock);
    route = irq_route_of(routes, gsi);
    if (route) {
        route->address = address;
        route->data = data;
        err = irq_route_commit(vm);
    }
    pthread_mutex_unlock(&routes->lock);
    return err;
}

int irq_route_remove(struct vm *vm, unsigned gsi, int fd)
{
    struct irq_routes *routes = &vm->irq_routes;
    struct irq_route *route;
    int err = -EINVAL;

    pthread_mutex_lock(&routes->lock);
    route = irq_route_of(routes, gsi);
    if (route)
        err = irq_route_bind(vm, gsi, fd, KVM_IRQFD_FLAG_DEASSIGN);
    if (!err) {
        route->used = false;
        err = irq_route_commit(vm);
    }
    pthread_mutex_unlock(&routes->lock);
    return err;
}

void irq_routes_destroy(struct irq_routes *routes)
{
    free(routes->route);
    routes->route = NULL;
}
