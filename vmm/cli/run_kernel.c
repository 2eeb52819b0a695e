#include "vmm/cli/run_kernel.h"

#include <stdio.h>

#include "vmm/cli/run_options.h"
#include "vmm/launch/config_kernel.h"
#include "vmm/machine/kvm.h"

/* Linux where KVM interprets the guest's kernel: what it will stumble over (host_quirks.c). */
static int check_linux(const struct run_options *options)
{
    struct kvm_detection input = kvm_gather();
    struct kvm_host host = { .fd = -1 };

    kvm_identify(&host, &input);
    if (options->force || !kvm_interprets_kernel_code(&host))
        return STATUS_OK;
    fprintf(stderr,
            "strata run: %s: Linux cannot work on this host's KVM, which interprets kernel code: "
            "int3, cmpxchg16b and xrstor end in KVM_EXIT_INTERNAL_ERROR, and syscall does not "
            "change the privilege level; use scripts/emuhost npt -- strata run ..., or --force to "
            "try all the same\n",
            options->config.kernel_path);
    return STATUS_NO_KVM;
}

static int run_kernel_look(struct run_options *options, struct config_kernel *kernel)
{
    struct vm_config *config = &options->config;
    struct error error;

    if (config_resolve(config, kernel, &error)) {
        run_report(options, &error);
        return STATUS_USAGE;
    }
    if (options->exec && (kernel->is_linux || kernel->format != KERNEL_PVH)) {
        fprintf(stderr,
                "strata run: --exec: is for the bundled guest, and %s is another kernel; leave it "
                "out, or give --append\n",
                config->kernel_path);
        return STATUS_USAGE;
    }
    return STATUS_OK;
}

int run_kernel_resolve(struct run_options *options)
{
    struct config_kernel kernel;

    return run_kernel_look(options, &kernel);
}

int run_kernel_check(struct run_options *options)
{
    struct config_kernel kernel;
    int status = run_kernel_look(options, &kernel);

    return !status && kernel.is_linux ? check_linux(options) : status;
}
