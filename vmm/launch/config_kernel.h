/*
 * What a configuration leaves to its kernel: a look at the file, before there is a machine.
 */
#ifndef STRATA_LAUNCH_CONFIG_KERNEL_H
#define STRATA_LAUNCH_CONFIG_KERNEL_H

#include <stdbool.h>

#include "vmm/base/error.h"
#include "vmm/boot/kernel.h"
#include "vmm/launch/config.h"

struct config_kernel {
    enum kernel_format format;
    bool is_linux;
};

/*
 * Fills in host pages and the debug exit port where they are left open, and says what the
 * kernel is. 0, or -errno and an error: it is none that can be started.
 */
int config_resolve(struct vm_config *config, struct config_kernel *kernel, struct error *error);

#endif
