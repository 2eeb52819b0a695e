#include "vmm/cli/net_options.h"

#include <string.h>

#include "vmm/cli/run_options.h"
#include "vmm/launch/config_fields.h"

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
            if (config_parse_mac(part + 4, net->mac))
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
