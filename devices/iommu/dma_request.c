#include "devices/iommu/dma_request.h"

#include <errno.h>
#include <string.h>

#include "devices/iommu/dma_segment.h"
#include "vmm/machine/irq.h"
#include "vmm/machine/vm.h"

/* Message data (Intel SDM vol. 3A, 11.11.2): the vector, and how it is delivered. */
#define MESSAGE_BYTES    4
#define MESSAGE_VECTOR   0xffu
#define MESSAGE_DELIVERY (7u << 8)
#define MESSAGE_FIXED    (0u << 8)
#define MESSAGE_LOWEST   (1u << 8)

/* The part of a request that lies in one page. */
struct piece {
    const struct dma_request *request;
    uint64_t iova;
    uint8_t *data;
    struct dma_segment span;
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

/* A fault that is found here, not by the tables. With the dma handle's lock. */
static int refuse(struct dma *requester_dma, const struct dma_request *request, uint64_t iova,
                  enum iommu_fault_code code, struct dma_outcome *outcome)
{
    outcome->fault = (struct iommu_fault){ code, .access = request->direction, .iova = iova };
    dma_fault(requester_dma, &outcome->fault);
    return -EFAULT;
}

static bool is_message(const struct piece *piece)
{
    return piece->request->direction == DMA_WRITE && piece->request->len == MESSAGE_BYTES &&
           piece->iova % MESSAGE_BYTES == 0;
}

/* Not one that makes itself an NMI, SMI or INIT, whatever its vector. */
static bool may_signal(const struct dma *requester_dma, const struct piece *piece)
{
    uint32_t data, delivery;

    if (!is_message(piece))
        return false;
    if (!dma_checks(requester_dma, IOMMU_CHECK_MSI))
        return true;
    memcpy(&data, piece->data, sizeof(data));
    delivery = data & MESSAGE_DELIVERY;
    return (delivery == MESSAGE_FIXED || delivery == MESSAGE_LOWEST) &&
           dma_may_signal(requester_dma, data & MESSAGE_VECTOR);
}

/*
 * Finds out where the next piece goes, and moves it if that is RAM, under one lock: 0, or
 * -EFAULT with the record in *outcome.
 */
static int enter(struct dma *requester_dma, struct piece *piece, uint64_t left,
                 struct dma_outcome *outcome)
{
    const struct dma_request *request = piece->request;
    struct dma_segment *span = &piece->span;
    int err;

    dma_lock(requester_dma);
    err = dma_resolve(requester_dma, piece->iova, request->direction, request->translated, span,
                      &outcome->fault);
    if (!err && span->translated && span->message && !may_signal(requester_dma, piece))
        err = refuse(requester_dma, request, piece->iova, IOMMU_FAULT_MESSAGE, outcome);
    if (span->len > left)
        span->len = left;
    if (!err && span->host) {
        if (request->direction == DMA_WRITE)
            memcpy(span->host, piece->data, span->len);
        else
            memcpy(piece->data, span->host, span->len);
    }
    dma_unlock(requester_dma);
    return err;
}

static void send_message(const struct piece *piece, struct vm *vm, struct dma_outcome *outcome)
{
    uint32_t data;
    int err;

    if (!is_message(piece)) {
        fail(outcome, -EINVAL);
        return;
    }
    memcpy(&data, piece->data, sizeof(data));
    err = vm ? irq_msi(vm, piece->span.gpa, data) : -ENXIO;
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

    while (at < piece->span.len) {
        unsigned size = access_bytes(piece->span.gpa + at, piece->span.len - at);
        const struct bus_region *peer = vm ? bus_find(&vm->mmio, piece->span.gpa + at, size) : NULL;

        if (!peer) {
            if (piece->request->direction == DMA_READ)
                memset(piece->data + at, 0xff, size);
            fail(outcome, -ENXIO);
        } else {
            if (piece->request->direction == DMA_READ)
                bus_read(&vm->mmio, NULL, piece->span.gpa + at, piece->data + at, size, 1);
            else
                bus_write(&vm->mmio, NULL, piece->span.gpa + at, piece->data + at, size, 1);
            done(outcome, DMA_PEER, size);
        }
        at += size;
    }
}

/* What can be said before any page is looked at: the dma handle to take, or NULL for a fault. */
static struct dma *admit(struct dma *dma, const struct dma_request *request,
                         struct dma_outcome *outcome)
{
    bool wraps = request->iova + (request->len - 1) < request->iova;
    struct dma *requester_dma = dma;

    if (!dma->iommu)
        return dma;
    if (request->claims)
        requester_dma = dma_of_requester(dma, request->requester);
    if (requester_dma && (!wraps || !dma_checks(dma, IOMMU_CHECK_WRAP)))
        return requester_dma;
    dma_lock(dma);
    refuse(dma, request, request->iova, requester_dma ? IOMMU_FAULT_WRAP : IOMMU_FAULT_REQUESTER,
           outcome);
    dma_unlock(dma);
    return NULL;
}

void dma_perform(struct dma *dma, const struct dma_request *request, struct dma_outcome *outcome)
{
    struct piece piece = { .request = request };
    struct dma *requester_dma;
    uint64_t at = 0;

    *outcome = (struct dma_outcome){ 0 };
    if (!request->len)
        return;
    requester_dma = admit(dma, request, outcome);
    while (requester_dma && at < request->len) {
        piece.iova = request->iova + at;
        piece.data = (uint8_t *)request->data + at;
        if (enter(requester_dma, &piece, request->len - at, outcome))
            break;
        if (piece.span.host)
            done(outcome, DMA_RAM, piece.span.len);
        else if (piece.span.message && request->direction == DMA_WRITE)
            send_message(&piece, dma->vm, outcome);
        else
            move_peer(&piece, dma->vm, outcome);
        at += piece.span.len;
    }
    /* Only a fault ends it early; elsewhere a bus goes on behind what nobody answered. */
    outcome->faulted = at < request->len;
    if (outcome->faulted)
        fail(outcome, -EFAULT);
}
