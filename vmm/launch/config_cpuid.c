#include "vmm/launch/config_cpuid.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <linux/kvm.h>

#include "vmm/base/nearest.h"
#include "vmm/machine/cpu_template.h"
#include "vmm/machine/cpuid.h"

static int config_cpuid_item(struct cpuid_mask *mask, const char *item, bool first,
                             struct error *error)
{
    bool template = *item != '+' && *item != '-';
    const char *name = template ? item : item + 1;
    const char *const *names, *nearest;
    unsigned count;

    if (template && !first)
        return error_field(error, -EINVAL, CONFIG_FIELD_CPUID,
                           "%s: a template comes first; to show or hide a feature say +NAME or "
                           "-NAME",
                           item);
    if (cpuid_mask_add(mask, item))
        return 0;
    names = cpuid_mask_names(&count);
    nearest = nearest_word(name, names, count);
    if (template && !strcmp(name, nearest))
        return error_field(error, -EINVAL, CONFIG_FIELD_CPUID,
                           "%s: show it or hide it? say +%s or -%s", item, name, name);
    return error_field(error, -EINVAL, CONFIG_FIELD_CPUID,
                       "%.60s: no such %s; \"%s\" is the nearest there is", item,
                       template ? "template" : "feature", nearest);
}

int config_cpuid_parse(struct cpuid_mask *mask, const char *list, struct error *error)
{
    char *copy, *rest;
    bool first = true;
    int err = 0;

    *mask = (struct cpuid_mask){ .template = false };
    if (!list[strspn(list, ",")])
        return error_field(error, -EINVAL, CONFIG_FIELD_CPUID,
                           "empty; say for example x86-64-v2, or -avx512f,-rdrand");
    copy = strdup(list);
    if (!copy)
        return error_set(error, -ENOMEM, "out of memory");
    for (char *item = strtok_r(copy, ",", &rest); item && !err;
         item = strtok_r(NULL, ",", &rest), first = false)
        err = config_cpuid_item(mask, item, first, error);
    free(copy);
    return err;
}

int config_cpuid_check(const struct cpuid_mask *mask, struct kvm_host *host, struct error *error)
{
    struct cpuid_mask wanted = *mask;
    struct kvm_detection input = kvm_gather();
    struct cpuid_table *table;
    const char *missing;
    int err;

    kvm_identify(host, &input);
    if (host->backend == KVM_BACKEND_SOFTWARE)
        return error_field(error, -EINVAL, CONFIG_FIELD_CPUID,
                           "not available here, because this KVM (%s) shows a guest what the "
                           "host's CPU has, whatever is hidden; leave it out, or use "
                           "scripts/emuhost",
                           host->module);
    table = malloc(sizeof(*table));
    err = table ? cpuid_fetch(host->fd, table) : -ENOMEM;
    if (!err)
        err = cpuid_prepare(table, 2, kvm_capability(host, KVM_CAP_TSC_DEADLINE_TIMER));
    (void)cpu_template_apply(&wanted);
    missing = err ? NULL : cpuid_mask_apply(&wanted, table);
    if (err)
        error_field(error, err, CONFIG_FIELD_CPUID, "KVM does not say what it supports: %s",
                    strerror(-err));
    else if (missing)
        err = error_field(error, -EINVAL, CONFIG_FIELD_CPUID,
                          "+%s: this host's KVM cannot show it to a guest, or something it needs "
                          "is hidden; leave it out",
                          missing);
    free(table);
    return err;
}
