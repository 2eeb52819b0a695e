#include "vmm/cli/run_cpuid.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/kvm.h>

#include "vmm/base/nearest.h"
#include "vmm/machine/cpu_template.h"
#include "vmm/machine/vm.h"

void run_cpuid_parse(struct run_cpuid *cpuid, const struct command_line *line, char *list)
{
    bool first = !cpuid->asked;

    if (!list[strspn(list, ",")])
        usage_error(line, "--cpuid: empty; say for example x86-64-v2, or -avx512f,-rdrand");
    cpuid->asked = true;
    for (char *item = strtok(list, ","); item; item = strtok(NULL, ","), first = false) {
        bool template = *item != '+' && *item != '-';
        const char *name = template ? item : item + 1;
        const char *const *names, *nearest;
        unsigned count;

        if (template && !first)
            usage_error(line,
                        "--cpuid %s: a template comes first; to show or hide a feature say "
                        "+NAME or -NAME",
                        item);
        if (cpuid_mask_add(&cpuid->mask, item))
            continue;
        names = cpuid_mask_names(&count);
        nearest = nearest_word(name, names, count);
        if (template && !strcmp(name, nearest))
            usage_error(line, "--cpuid %s: show it or hide it? say +%s or -%s", item, name, name);
        usage_error(line, "--cpuid %s: no such %s; \"%s\" is the nearest there is", item,
                    template ? "template" : "feature", nearest);
    }
}

int run_cpuid_check(const struct run_cpuid *cpuid, struct kvm_host *host)
{
    struct cpuid_mask mask = cpuid->mask;
    struct kvm_detection input;
    struct cpuid_table *table;
    const char *missing;
    int err;

    if (!cpuid->asked)
        return STATUS_OK;
    input = kvm_gather();
    kvm_identify(host, &input);
    if (host->backend == KVM_BACKEND_SOFTWARE) {
        fprintf(stderr,
                "strata run: --cpuid: not available here, because this KVM (%s) shows a "
                "guest what the host's CPU has, whatever is hidden; leave it out, or use "
                "scripts/emuhost\n",
                host->module);
        return STATUS_USAGE;
    }
    table = malloc(sizeof(*table));
    err = table ? cpuid_fetch(host->fd, table) : -ENOMEM;
    if (!err)
        err = cpuid_shape(table, 2, kvm_capability(host, KVM_CAP_TSC_DEADLINE_TIMER));
    (void)cpu_template_apply(&mask);
    missing = err ? NULL : cpuid_mask_apply(&mask, table);
    free(table);
    if (err) {
        fprintf(stderr, "strata run: --cpuid: KVM does not say what it supports: %s\n",
                strerror(-err));
        return STATUS_NO_KVM;
    }
    if (missing) {
        fprintf(stderr,
                "strata run: --cpuid +%s: this host's KVM cannot show it to a guest, or "
                "something it needs is hidden; leave it out\n",
                missing);
        return STATUS_USAGE;
    }
    return STATUS_OK;
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
