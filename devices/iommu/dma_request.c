#include "devices/iommu/dma_request.h"

#include <errno.h>
#include <string.h>

#include "devices/iommu/route.h"
#include "vmm/machine/irq.h"
#include "vmm/machine/vm.h"

#define PAGE_BYTES 4096ull

/* Message data (Intel SDM vol. 3A, 11.11.2): the vector, and how it is delivered. */
#define MESSAGE_BYTES    4
#define MESSAGE_VECTOR   0xffu
#define MESSAGE_DELIVERY (7u << 8)
#define MESSAGE_FIXED    (0u << 8)
#define MESSAGE_LOWEST   (1u << 8)

/* The part of a request that lies in one page. */
struct piece {
    const struct dma_request *request;
    struct dma *door; /* of the identity that it has, or got away with */
    uint64_t iova, gpa, len;
    uint8_t *data;
    bool translated; /* gpa is a translation, not just iova */
};

static void fail(struct dma_outcome *outcome, int error)
{
    if (!outcome->error)
        outcome->error = error;
}

static void done(struct dma_outcome *outcome, enum dma_target target, uint64_t bytes)
{
    outcome->target = target;
    outcome->done += bytes;
}

/* A fault that is found here, not by the tables. With the door's lock. */
static void refuse(const struct dma_request *request, struct dma *door, uint64_t iova,
                   uint32_t endpoint, enum iommu_fault_reason reason, struct dma_outcome *outcome)
{
    outcome->fault = (struct iommu_fault){
        .reason = reason,
        .access = request->direction,
        .endpoint = endpoint,
        .iova = iova,
    };
    outcome->faulted = true;
    fail(outcome, -EFAULT);
    dma_report(door, &outcome->fault);
}

static bool in_message_window(uint64_t address)
{
    return address >= IOMMU_MSI_FIRST && address <= IOMMU_MSI_LAST;
}

/* One that does not make itself an NMI, SMI or INIT, which know no vector. */
static bool message_allowed(const struct piece *piece)
{
    uint32_t data;

    if (piece->request->direction != DMA_WRITE || piece->request->len != MESSAGE_BYTES ||
        piece->iova % MESSAGE_BYTES)
        return false;
    if (dma_without(piece->door, IOMMU_WITHOUT_MSI))
        return true;
    memcpy(&data, piece->data, sizeof(data));
    if ((data & MESSAGE_DELIVERY) != MESSAGE_FIXED && (data & MESSAGE_DELIVERY) != MESSAGE_LOWEST)
        return false;
    return dma_vector_allowed(piece->door, data & MESSAGE_VECTOR);
}

/*
 * Finds out where the piece goes: 0, or -EFAULT with the fault in *outcome. With the lock
 * of the piece's door.
 */
static int resolve(struct piece *piece, struct dma_outcome *outcome)
{
    const struct dma_request *request = piece->request;
    struct dma *door = piece->door;
    int err;

    piece->gpa = piece->iova;
    piece->translated = false;
    if (dma_reach(door) == DMA_REACH_ALL ||
        (request->translated && dma_without(door, IOMMU_WITHOUT_TRANSLATED)))
        return 0;
    piece->translated = true;
    if (dma_reach(door) == DMA_REACH_MAPPED && in_message_window(piece->iova) &&
        message_allowed(piece))
        return 0;
    err = dma_route(door, piece->iova, piece->len, request->direction, &piece->gpa,
                    &outcome->fault);
    if (err) {
        outcome->faulted = true;
        fail(outcome, err);
        return err;
    }
    if (!dma_physical(door, piece->gpa, piece->len) && !dma_without(door, IOMMU_WITHOUT_PEER)) {
        refuse(request, door, piece->iova, door->id, IOMMU_FAULT_MAPPING, outcome);
        return -EFAULT;
    }
    return 0;
}

/* Whether the piece lies in RAM, and then it is done. With the lock of the piece's door. */
static bool move_ram(const struct piece *piece)
{
    void *host = dma_physical(piece->door, piece->gpa, piece->len);

    if (!host)
        return false;
    if (piece->request->direction == DMA_WRITE)
        memcpy(host, piece->data, piece->len);
    else
        memcpy(piece->data, host, piece->len);
    return true;
}

static void send_message(const struct piece *piece, struct vm *vm, struct dma_outcome *outcome)
{
    uint32_t data;
    int err;

    if (piece->request->len != MESSAGE_BYTES || piece->iova % MESSAGE_BYTES) {
        fail(outcome, -EINVAL);
        return;
    }
    memcpy(&data, piece->data, sizeof(data));
    err = vm ? irq_msi(vm, piece->gpa, data) : -ENXIO;
    if (err)
        fail(outcome, err);
    else
        done(outcome, DMA_MESSAGE, MESSAGE_BYTES);
}

/* The largest naturally aligned access at this address. */
static unsigned access_bytes(uint64_t address, uint64_t len)
{
    unsigned size = 8;

    while (address % size || size > len)
        size /= 2;
    return size;
}

/* Other devices' registers, or nobody. Their handlers get no vCPU: none made the access. */
static void move_peer(const struct piece *piece, struct vm *vm, struct dma_outcome *outcome)
{
    uint64_t at = 0;

    while (at < piece->len) {
        unsigned size = access_bytes(piece->gpa + at, piece->len - at);
        const struct bus_region *peer = vm ? bus_find(&vm->mmio, piece->gpa + at, size) : NULL;

        if (!peer) {
            if (piece->request->direction == DMA_READ)
                memset(piece->data + at, 0xff, size);
            fail(outcome, -ENXIO);
        } else {
            if (piece->request->direction == DMA_READ)
                bus_read(&vm->mmio, NULL, piece->gpa + at, piece->data + at, size, 1);
            else
                bus_write(&vm->mmio, NULL, piece->gpa + at, piece->data + at, size, 1);
            done(outcome, DMA_PEER, size);
        }
        at += size;
    }
}

/* False: a fault, which ends the request. */
static bool perform_piece(struct piece *piece, struct vm *vm, struct dma_outcome *outcome)
{
    bool ram;
    int err;

    dma_lock(piece->door);
    err = resolve(piece, outcome);
    ram = !err && move_ram(piece);
    dma_unlock(piece->door);
    if (err)
        return false;
    if (ram)
        done(outcome, DMA_RAM, piece->len);
    else if (in_message_window(piece->gpa) && piece->request->direction == DMA_WRITE)
        send_message(piece, vm, outcome);
    else
        move_peer(piece, vm, outcome);
    return true;
}

/* What can be said before any page is looked at: 0, or -EFAULT. */
static int admit(struct dma *dma, const struct dma_request *request, struct dma **door,
                 struct dma_outcome *outcome)
{
    bool wraps = request->iova + (request->len - 1) < request->iova;
    uint32_t endpoint = dma->id;

    *door = dma;
    if (!dma->iommu)
        return 0;
    if (request->claims && dma_without(dma, IOMMU_WITHOUT_REQUESTER)) {
        endpoint = request->requester;
        *door = dma_of(dma->iommu, endpoint);
    }
    if (*door && (!request->translated || dma_without(dma, IOMMU_WITHOUT_TRANSLATED)) &&
        (!wraps || dma_without(dma, IOMMU_WITHOUT_WRAP)))
        return 0;
    dma_lock(dma);
    refuse(request, dma, request->iova, endpoint, *door ? IOMMU_FAULT_UNKNOWN : IOMMU_FAULT_DOMAIN,
           outcome);
    dma_unlock(dma);
    return -EFAULT;
}

void dma_perform(struct dma *dma, const struct dma_request *request, struct dma_outcome *outcome)
{
    struct piece piece = { .request = request };
    uint64_t at = 0;

    *outcome = (struct dma_outcome){ 0 };
    if (!request->len || admit(dma, request, &piece.door, outcome))
        return;
    while (at < request->len) {
        piece.iova = request->iova + at;
        piece.data = (uint8_t *)request->data + at;
        piece.len = PAGE_BYTES - piece.iova % PAGE_BYTES;
        if (piece.len > request->len - at)
            piece.len = request->len - at;
        if (!perform_piece(&piece, dma->vm, outcome))
            return;
        at += piece.len;
    }
}
