/*
 * A network device's backend that is a tap interface of the host.
 */
#ifndef STRATA_BACKEND_NET_TAP_H
#define STRATA_BACKEND_NET_TAP_H

#include <stddef.h>

struct net;

/* Opens the interface of this name: 0, or -errno and one line for the user. */
int net_tap_open(struct net *net, const char *interface, char *error, size_t error_bytes);

#endif
