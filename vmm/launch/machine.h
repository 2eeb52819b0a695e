/*
 * The one lifecycle of a machine made from a configuration: create, boot, run or start,
 * pause and resume, stop, destroy.
 *
 * machine_create makes VM and devices, machine_boot reads the kernel and everything that it is
 * given, then machine_run has the boot CPU on the calling thread or machine_start every CPU on a
 * thread of its own. A large kernel is read already while KVM creates the VM. Threads: as vm.h
 * says of the functions behind these.
 */
#ifndef STRATA_LAUNCH_MACHINE_H
#define STRATA_LAUNCH_MACHINE_H

#include <stdbool.h>

#include "devices/core/board.h"
#include "vmm/base/error.h"
#include "vmm/boot/boot.h"
#include "vmm/launch/config.h"
#include "vmm/machine/vm.h"

/* What is not the guest's business: whom the machine is made for. */
struct machine_hooks {
    hypercall_port_callback *checkpoint; /* of the bundled guest; NULL: they are not looked at */
    void *checkpoint_owner;
    int console_out_fd;         /* gets the consoles' output, stays the caller's; < 0: dropped */
    int console_input_ready_fd; /* eventfd, see board_input; < 0: none */
};

#define MACHINE_NO_HOOKS                                   \
    {                                                      \
        .console_out_fd = -1, .console_input_ready_fd = -1 \
    }

/* Which step failed, for the exit status: what a user asked for, or what the host cannot do. */
enum machine_step {
    MACHINE_STEP_VM,
    MACHINE_STEP_DEVICES,
    MACHINE_STEP_BOOT,
    MACHINE_STEP_RUN,
};

struct machine {
    struct vm vm;
    struct board board;
    const struct vm_config *config;
    enum machine_step step; /* the last one begun */

    /* Only for machine.c */
    bool preloaded;
    struct boot_preload preload;
    struct boot_source source;
    char *boot_args; /* with what the configuration implies; NULL: nothing */
    struct device_config devices[ABI_MMIO_DEVICES_MAX];
    struct net_config nets[ABI_MMIO_DEVICES_MAX];
};

/*
 * Makes the VM and its devices from a configuration that config_check has nothing against.
 * Host and configuration must outlive the machine, which must stay where it is. 0, or -errno
 * with nothing left behind.
 */
int machine_create(struct machine *machine, const struct kvm_host *host,
                   const struct vm_config *config, const struct machine_hooks *hooks,
                   struct error *error);

/* Kernel, boot arguments and tables into guest memory, once: 0 or -errno. */
int machine_boot(struct machine *machine, struct error *error);

/* Waits until every CPU is made, and gives the boot CPU its features: 0 or -errno. */
int machine_configure(struct machine *machine, struct error *error);

/*
 * Runs it to its end, the boot CPU on the calling thread and meanwhile helper(arg) (NULL:
 * nothing) on another one; or starts it and returns. 0, or -errno with nothing running.
 */
int machine_run(struct machine *machine, void (*helper)(void *arg), void *arg, struct error *error);
int machine_start(struct machine *machine, struct error *error);

/* As vm_pause, vm_resume, vm_wait and vm_stop. */
void machine_pause(struct machine *machine, struct vcpu *self);
void machine_resume(struct machine *machine, struct vcpu *self);
int machine_wait(struct machine *machine, int timeout_ms);
void machine_stop(struct machine *machine, enum vm_end_reason reason, int status);

/* Stops it if it runs, and frees everything. No thread may be waiting in a checkpoint. */
void machine_destroy(struct machine *machine);

#endif
