/*
 * Connections of a vsock device: what each end has sent, may send and still owes the other. All of
 * it with the lock of the device's dma handle held.
 */
#ifndef STRATA_VIRTIO_VSOCK_CONNECTION_H
#define STRATA_VIRTIO_VSOCK_CONNECTION_H

#include <linux/virtio_vsock.h>
#include <stdbool.h>
#include <stdint.h>

struct virtio_vsock;
struct vsock_connection;

/* Closes without a word to the guest. */
void vsock_forget(struct vsock_connection *connection);

/* This packet of the guest gets an RST: at most one each, and none is taken while the table is
 * full. */
void vsock_owe_reset(struct virtio_vsock *vsock, const struct virtio_vsock_hdr *header);

/* A packet of the guest, with right addresses, its data in vsock->chain after the header. */
void vsock_take_packet(struct virtio_vsock *vsock, const struct virtio_vsock_hdr *header);

/* Takes the next of those who connect to the listener: false if there is none. */
bool vsock_accept(struct virtio_vsock *vsock);

/*
 * What to poll a connection's socket for, with POLLHUP, which always comes; 0: it is not to
 * be polled. And what to do when that has come.
 */
short vsock_interest(const struct vsock_connection *connection);
void vsock_ready(struct virtio_vsock *vsock, struct vsock_connection *connection, short events);

/* Whether it has a packet for the guest, or may have one. */
bool vsock_has_packet(const struct vsock_connection *connection);

/*
 * Makes its next packet, with data of `room` bytes at most behind the header, in vsock->piece:
 * false if there was none after all.
 */
bool vsock_next_packet(struct virtio_vsock *vsock, struct vsock_connection *connection,
                       uint32_t room);

/* A header for the guest in vsock->piece. */
struct virtio_vsock_hdr *vsock_header(struct virtio_vsock *vsock, uint32_t host_port,
                                      uint32_t guest_port, uint16_t op);

/* Ends it with an RST to the guest, if that knows of it. */
void vsock_abort(struct vsock_connection *connection);

#endif
