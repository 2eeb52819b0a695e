#include "vmm/usernet/forward.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PARTS_MAX 4

static bool port(const char *text, int *value)
{
    char *end;
    long number = strtol(text, &end, 10);

    *value = (int)number;
    return isdigit((unsigned char)*text) && !*end && number > 0 && number < 65536;
}

/* An empty one leaves what is there. */
static bool address(const char *text, struct in_addr *value)
{
    return !*text || inet_pton(AF_INET, text, value) == 1;
}

/* The parts between : and -, cut in place: their number, or 0 if there are more than `max`. */
static unsigned cut(char *text, char **parts, unsigned max)
{
    unsigned n = 0;

    for (parts[n++] = text; *text; text++) {
        if (*text != ':' && *text != '-')
            continue;
        if (n == max)
            return 0;
        *text = 0;
        parts[n++] = text + 1;
    }
    return n;
}

int forward_add(Slirp *slirp, const char *text, char *error, size_t error_bytes)
{
    struct in_addr host = { htonl(INADDR_LOOPBACK) }, guest = { 0 }; /* 0: whom DHCP serves */
    bool udp = !strncmp(text, "udp:", 4);
    char copy[128], *parts[PARTS_MAX];
    int host_port = 0, guest_port = 0;
    unsigned n = 0;

    if ((udp || !strncmp(text, "tcp:", 4)) && strlen(text) < sizeof(copy)) {
        strcpy(copy, text);
        n = cut(copy + 4, parts, PARTS_MAX);
    }
    if (n < 2 || !port(parts[n - 1], &guest_port) || !port(parts[n == 2 ? 0 : 1], &host_port) ||
        (n > 2 && !address(parts[0], &host)) || (n > 3 && !address(parts[2], &guest))) {
        snprintf(error, error_bytes,
                 "hostfwd=%.64s: say tcp:PORT:GUESTPORT, with an address before PORT for another "
                 "than 127.0.0.1",
                 text);
        return -EINVAL;
    }
    if (!slirp_add_hostfwd(slirp, udp, host, host_port, guest, guest_port))
        return 0;
    snprintf(error, error_bytes, "hostfwd=%.64s: port %d of the host: %s", text, host_port,
             strerror(errno));
    return errno ? -errno : -EADDRINUSE;
}
