#include "vmm/cli/run_kernel.h"

#include <stdio.h>

#include "devices/legacy/debug_exit.h"
#include "vmm/boot/kernel.h"
#include "vmm/cli/run_options.h"
#include "vmm/machine/kvm.h"

/* A smaller kernel is read before a thread has started. */
#define EARLY_BYTES_MIN (1u << 20)

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

/*
 * Linux touches so much while it starts that huge pages pay: fewer faults on both sides, and
 * 10 to 20 % more memory in use. A balloon is for giving memory back, of which a huge page
 * must be given back whole.
 */
static enum memory_backing linux_backing(const struct vm_config *config)
{
    for (unsigned i = 0; i < config->ndevices; i++) {
        if (config->devices[i].kind == BOARD_BALLOON)
            return MEMORY_4K;
    }
    return MEMORY_THP;
}

int run_kernel_check(struct run_options *options)
{
    struct vm_config *config = &options->config;
    struct boot_error error;
    struct kernel kernel;
    bool automatic = config->debug_exit_port == RUN_DEBUG_EXIT_AUTO, ends_by_port, is_linux;

    if (automatic)
        config->debug_exit_port = 0;
    if (!config->kernel_path)
        return STATUS_OK;
    if (kernel_open(&kernel, config, &error)) {
        fprintf(stderr, "strata run: %s\n", error.text);
        return STATUS_USAGE;
    }
    ends_by_port = kernel.format == KERNEL_MULTIBOOT || kernel.format == KERNEL_FLAT;
    is_linux = kernel.is_linux;
    options->load_early = kernel.image.size >= EARLY_BYTES_MIN;
    kernel_close(&kernel);
    if (options->exec && (is_linux || kernel.format != KERNEL_PVH)) {
        fprintf(stderr,
                "strata run: --exec: is for the bundled guest, and %s is another kernel; leave it "
                "out, or give --append\n",
                config->kernel_path);
        return STATUS_USAGE;
    }
    if (automatic && ends_by_port)
        config->debug_exit_port = DEBUG_EXIT_PORT;
    if (is_linux && !options->pages_asked)
        config->huge_pages = linux_backing(config);
    return is_linux ? check_linux(options) : STATUS_OK;
}
