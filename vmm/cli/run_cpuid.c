#include "vmm/cli/run_cpuid.h"

#include <errno.h>
#include <stdio.h>

#include "vmm/cli/run_options.h"
#include "vmm/launch/config_cpuid.h"
#include "vmm/machine/cpu_template.h"
#include "vmm/machine/vm.h"

int run_cpuid_check(const struct run_options *options, struct kvm_host *host)
{
    const struct vm_config *config = &options->config;
    struct error error;
    int err = config->cpuid ? config_cpuid_check(&config->cpuid_mask, host, &error) : 0;

    if (!err)
        return STATUS_OK;
    run_report(options, &error);
    return err == -EINVAL ? STATUS_USAGE : STATUS_NO_KVM;
}

void run_cpuid_explain(const struct vm *vm)
{
    char text[512];

    if (!vm->cpu_template)
        return;
    /* The guest waits: fprintf to a stream without a buffer has 8 KiB on the stack for it. */
    snprintf(text, sizeof(text),
             "strata run: --cpuid %s, chosen because %s; --cpuid host would show all\n",
             vm->cpu_template->template, vm->cpu_template->why);
    fputs(text, stderr);
}
