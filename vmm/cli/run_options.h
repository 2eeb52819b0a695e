/*
 * What `strata run` was asked for.
 */
#ifndef STRATA_CLI_RUN_OPTIONS_H
#define STRATA_CLI_RUN_OPTIONS_H

#include "devices/backend/net.h"
#include "devices/core/board.h"
#include "devices/virtio/console_ports.h"
#include "guest/abi/machine.h"
#include "vmm/boot/config.h"
#include "vmm/boot/multiboot.h"
#include "vmm/cli/options.h"
#include "vmm/cli/run_cpuid.h"

#define RUN_DEBUG_EXIT_AUTO (~0u) /* config.debug_exit_port, until the kernel is known */

struct run_options {
    struct vm_config config;
    const char *modules[MULTIBOOT_MODULES_MAX];
    bool force;       /* start a kernel that will not work here */
    bool pages_asked; /* else run_kernel_check chooses */
    bool load_early;  /* run_kernel_check: the kernel is so large that it pays */
    struct board_device devices[ABI_MMIO_DEVICES_MAX];
    struct net_config nets[ABI_MMIO_DEVICES_MAX]; /* of the network devices among them */
    unsigned nnets;
    struct console_port_config ports[CONSOLE_PORTS_MAX - 1]; /* of the first console */
    unsigned nports;
    const char *append, *exec, *json, *control;
    struct run_cpuid cpuid;
    unsigned watchdog_seconds; /* 0: none */
    char *boot_args;           /* owned */
};

extern const struct command_line run_line;

/*
 * Reads the command line; does not return where it is wrong, or asks for help. The
 * configuration then points into *options, which must stay where it is.
 */
void run_options_parse(struct run_options *options, int argc, char **argv);
void run_options_free(struct run_options *options);

#endif
