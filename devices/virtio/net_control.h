/*
 * What the control queue of a network device sets: receive modes, MAC filter, offloads (virtio 1.2,
 * 5.1.6.5). With the lock of the device's dma handle held.
 */
#ifndef STRATA_VIRTIO_NET_CONTROL_H
#define STRATA_VIRTIO_NET_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

struct virtio_net;
struct virtqueue_chain;

/* Back to what a reset leaves. */
void virtio_net_control_reset(struct virtio_net *net);
/* Carries out one command (5.1.6.5) that is in `chain`, and says what its used element holds. */
uint32_t virtio_net_control(struct virtio_net *net, const struct virtqueue_chain *chain);
/* Whether the driver wants this frame (without header). */
bool virtio_net_wanted(const struct virtio_net *net, const uint8_t *frame);

#endif
