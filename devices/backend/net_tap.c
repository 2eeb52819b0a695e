/* A tap interface of the host, which somebody with the right to do so has made before. */
#include "devices/backend/net_tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/backend/net.h"

#define MTU_DEFAULT 1500
#define MTU_MIN     68 /* virtio 1.2, 5.1.4.1 */

/* 0: there is no such interface. */
static unsigned mtu_of(const char *interface)
{
    struct ifreq request = { .ifr_mtu = 0 };
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), err;

    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", interface);
    err = fd < 0 ? errno : ioctl(fd, SIOCGIFMTU, &request) ? errno : 0;
    if (fd >= 0)
        close(fd);
    if (err)
        return err == ENODEV ? 0 : MTU_DEFAULT;
    return request.ifr_mtu >= MTU_MIN && request.ifr_mtu <= UINT16_MAX ? (unsigned)request.ifr_mtu
                                                                       : MTU_DEFAULT;
}

static int attach(struct net *net, const char *interface)
{
    struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
    int header = NET_HEADER_BYTES, one = 1;

    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", interface);
    if (ioctl(net->fd, TUNSETIFF, &request) || ioctl(net->fd, TUNSETVNETHDRSZ, &header) ||
        ioctl(net->fd, TUNSETVNETLE, &one))
        return -errno;
    return net_accept(net, 0);
}

int net_tap_open(struct net *net, const char *interface, char *error, size_t error_bytes)
{
    const char *why;
    unsigned mtu;
    int err;

    if (!*interface || strlen(interface) >= IFNAMSIZ || strchr(interface, '%')) {
        snprintf(error, error_bytes,
                 "--net tap=%s: no interface has such a name; give 1 to %d "
                 "characters",
                 interface, IFNAMSIZ - 1);
        return -EINVAL;
    }
    /* Asked first: for who may, TUNSETIFF would make it, and it would be of no use. */
    mtu = mtu_of(interface);
    if (!mtu) {
        snprintf(error, error_bytes,
                 "--net tap=%s: there is no such interface; make it with: ip tuntap add %s mode "
                 "tap user $USER",
                 interface, interface);
        return -ENODEV;
    }
    net->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (net->fd < 0) {
        err = -errno;
        snprintf(
            error, error_bytes, "--net tap=%s: /dev/net/tun: %s; %s", interface, strerror(-err),
            err == -ENOENT ? "load the module tun" : "you need the right to read and write it");
        return err;
    }
    net->header = true;
    net->mtu = (uint16_t)mtu;
    err = attach(net, interface);
    if (!err)
        return 0;
    switch (err) {
    case -EBUSY: why = "in use by another program; end that, or give another interface"; break;
    case -EPERM: why = "not yours to use; make it with: ip tuntap add … mode tap user $USER"; break;
    case -EINVAL: why = "no tap interface, or one with multi_queue; see ip tuntap"; break;
    default: why = strerror(-err); break;
    }
    snprintf(error, error_bytes, "--net tap=%s: %s", interface, why);
    net_close(net);
    return err;
}
