/*
 * A network device's backend that is a user network: strata-net, a process of its own
 * (vmm/usernet).
 */
#ifndef STRATA_BACKEND_NET_USER_H
#define STRATA_BACKEND_NET_USER_H

#include <stddef.h>

struct net;
struct net_config;

/* Starts the helper, connected by a socket pair: 0, or -errno and one line for the user. */
int net_user_open(struct net *net, const struct net_config *config, char *error,
                  size_t error_bytes);

#endif
