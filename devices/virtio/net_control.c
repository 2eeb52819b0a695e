/* virtio-net's control queue and the filter of received frames (virtio 1.2, 5.1.6.5). */
#include "devices/virtio/net_control.h"

#include <string.h>

#include "devices/virtio/net.h"

/* A command: its class, itself, its data; the device writes one byte, VIRTIO_NET_OK or _ERR. */
struct command {
    struct virtio_net *net;
    const struct virtqueue_chain *chain;
    uint64_t at; /* of the data, the next byte to read */
};

static bool get(struct command *command, void *to, size_t bytes)
{
    if (virtqueue_read(&command->net->device.queues[VIRTIO_NET_CONTROL], command->chain,
                       command->at, to, bytes) != (int64_t)bytes)
        return false;
    command->at += bytes;
    return true;
}

static bool is_group(const uint8_t *mac)
{
    return mac[0] & 1;
}

static bool set_mode(struct command *command, uint8_t which)
{
    struct virtio_net_state *state = &command->net->state;
    uint8_t on;

    if (!get(command, &on, 1) || on > 1)
        return false;
    switch (which) {
    case VIRTIO_NET_CTRL_RX_PROMISC: state->promiscuous = on; return true;
    case VIRTIO_NET_CTRL_RX_ALLMULTI: state->all_multicast = on; return true;
    default: return false; /* CTRL_RX_EXTRA is not offered */
    }
}

/*
 * Two tables, of single addresses and of groups, each a number and as many addresses. What
 * does not fit is met by receiving everything (5.1.6.5.2: that may be more than the table says).
 */
static bool set_table(struct command *command)
{
    struct virtio_net_state table = command->net->state;

    table.nmacs = 0;
    for (unsigned group = 0; group < 2; group++) {
        uint32_t count;

        if (!get(command, &count, sizeof(count)) ||
            (command->chain->readable_bytes - command->at) / NET_MAC_BYTES < count)
            return false;
        table.overflow[group] = count > VIRTIO_NET_MACS_MAX - table.nmacs;
        for (; count; count--) {
            uint8_t *mac = table.macs[table.nmacs];

            if (table.overflow[group]) {
                command->at += (uint64_t)count * NET_MAC_BYTES;
                break;
            }
            if (!get(command, mac, NET_MAC_BYTES))
                return false;
            table.nmacs++;
        }
    }
    command->net->state = table;
    return true;
}

static bool set_mac(struct command *command)
{
    uint8_t mac[NET_MAC_BYTES];

    if (!get(command, mac, sizeof(mac)) || is_group(mac))
        return false;
    memcpy(command->net->state.mac, mac, sizeof(mac));
    return true;
}

static bool carry_out(struct command *command)
{
    struct virtio_net_ctrl_hdr header;

    if (!get(command, &header, sizeof(header)))
        return false;
    if (header.class == VIRTIO_NET_CTRL_RX)
        return virtio_device_has_feature(&command->net->device, VIRTIO_NET_F_CTRL_RX) &&
               set_mode(command, header.cmd);
    if (header.class != VIRTIO_NET_CTRL_MAC)
        return false;
    if (header.cmd == VIRTIO_NET_CTRL_MAC_TABLE_SET)
        return virtio_device_has_feature(&command->net->device, VIRTIO_NET_F_CTRL_RX) &&
               set_table(command);
    return header.cmd == VIRTIO_NET_CTRL_MAC_ADDR_SET &&
           virtio_device_has_feature(&command->net->device, VIRTIO_NET_F_CTRL_MAC_ADDR) &&
           set_mac(command);
}

uint32_t virtio_net_control(struct virtio_net *net, const struct virtqueue_chain *chain)
{
    struct command command = { .net = net, .chain = chain };
    uint8_t status = carry_out(&command) ? VIRTIO_NET_OK : VIRTIO_NET_ERR;

    return virtqueue_write(&net->device.queues[VIRTIO_NET_CONTROL], chain, 0, &status, 1) == 1;
}

void virtio_net_control_reset(struct virtio_net *net)
{
    bool link = net->state.link;

    net->state = (struct virtio_net_state){ .link = link };
    memcpy(net->state.mac, net->mac, NET_MAC_BYTES);
}

bool virtio_net_wanted(const struct virtio_net *net, const uint8_t *frame)
{
    static const uint8_t broadcast[NET_MAC_BYTES] = { 255, 255, 255, 255, 255, 255 };
    const struct virtio_net_state *state = &net->state;
    bool group = is_group(frame);

    /* A driver that cannot say what it wants sorts frames out itself. */
    if (!virtio_device_has_feature(&net->device, VIRTIO_NET_F_CTRL_RX) || state->promiscuous ||
        state->overflow[group] || (group && state->all_multicast) ||
        !memcmp(frame, group ? broadcast : state->mac, NET_MAC_BYTES))
        return true;
    for (unsigned i = 0; i < state->nmacs; i++) {
        if (!memcmp(frame, state->macs[i], NET_MAC_BYTES))
            return true;
    }
    return false;
}
