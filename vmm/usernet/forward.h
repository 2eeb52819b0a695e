/*
 * Ports of the host that lead to the guest, as hostfwd= has them: PROTOCOL:[ADDRESS:]PORT:
 * GUESTPORT, or as QEMU's users write it, PROTOCOL:[ADDRESS]:PORT-[GUESTADDRESS]:GUESTPORT.
 * Without an address of the host it is 127.0.0.1: not for everybody.
 */
#ifndef STRATA_USERNET_FORWARD_H
#define STRATA_USERNET_FORWARD_H

#include <slirp/libslirp.h>
#include <stddef.h>

/* 0, or -errno and one line. */
int forward_add(Slirp *slirp, const char *text, char *error, size_t error_bytes);

#endif
