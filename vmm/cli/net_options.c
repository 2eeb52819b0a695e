#include "vmm/cli/net_options.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/cli/run_options.h"

int parse_mac(const char *text, uint8_t mac[NET_MAC_BYTES])
{
    uint8_t bytes[NET_MAC_BYTES], any = 0;

    for (unsigned i = 0; i < NET_MAC_BYTES; i++, text += 3) {
        char end = i + 1 < NET_MAC_BYTES ? ':' : 0;
        unsigned byte;

        if (!isxdigit((unsigned char)text[0]) || !isxdigit((unsigned char)text[1]) ||
            text[2] != end || sscanf(text, "%2x", &byte) != 1)
            return -EINVAL;
        bytes[i] = (uint8_t)byte;
        any |= bytes[i];
    }
    /* A group of devices, or nobody at all. */
    if (bytes[0] & 1 || !any)
        return -EINVAL;
    memcpy(mac, bytes, sizeof(bytes));
    return 0;
}

void net_options_parse(struct config_device *net, char *text)
{
    char *kind = strsep(&text, ","), *part;
    bool mac = false;

    if (!strncmp(kind, "tap=", 4))
        net->tap = kind + 4;
    else if (strcmp(kind, "user"))
        usage_error(&run_line, "--net %s: unknown; say user or tap=INTERFACE", kind);
    while ((part = strsep(&text, ","))) {
        if (!strncmp(part, "mac=", 4)) {
            if (mac)
                usage_error(&run_line, "--net: mac= twice; give one of them");
            if (parse_mac(part + 4, net->mac))
                usage_error(&run_line,
                            "--net: mac=%s: no address for a device; say for example "
                            "mac=02:00:00:00:00:01",
                            part + 4);
            mac = true;
        } else if (!strncmp(part, "hostfwd=", 8)) {
            if (net->tap)
                usage_error(&run_line, "--net tap=%s: hostfwd= is for --net user; leave it out",
                            net->tap);
            if (net->nforwards == NET_FORWARDS_MAX)
                usage_error(&run_line, "--net: more than %d times hostfwd=; give fewer",
                            NET_FORWARDS_MAX);
            net->forwards[net->nforwards++] = part + 8;
        } else {
            usage_error(&run_line, "--net %s: %s: unknown; say mac=ADDRESS%s", kind, part,
                        net->tap ? "" : " or hostfwd=tcp:PORT:GUESTPORT");
        }
    }
}
