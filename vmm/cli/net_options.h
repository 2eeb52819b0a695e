/*
 * What --net says: user[,hostfwd=…], or tap=INTERFACE; with either, mac=ADDRESS.
 */
#ifndef STRATA_CLI_NET_OPTIONS_H
#define STRATA_CLI_NET_OPTIONS_H

#include "vmm/launch/config.h"

/*
 * Reads the text, which is cut up in place and stays in use.
 * Does not return where it is wrong.
 */
void net_options_parse(struct config_device *net, char *text);

#endif
