#include "vmm/doctor/doctor_json.h"

#include "vmm/doctor/host_facts.h"
#include "vmm/doctor/kvm_remedy.h"
#include "vmm/machine/cpuid_quirks.h"
#include "vmm/report/json.h"

static json_t *answer_json(enum answer answer)
{
    return answer == ANSWER_UNKNOWN ? json_null() : json_boolean(answer == ANSWER_YES);
}

static json_t *host_json(const struct host_facts *facts)
{
    return json_pack("{s:s, s:i, s:I, s:s, s:b, s:s}", "cpu", facts->cpu, "cpus", (int)facts->cpus,
                     "memory_bytes", (json_int_t)facts->memory_bytes, "kernel", facts->kernel,
                     "is_vm", facts->is_vm, "vm_vendor", facts->vm_vendor);
}

static json_t *kvm_json(const struct host_facts *facts)
{
    json_t *capabilities = json_object();

    for (unsigned i = 0; i < facts->ncapabilities; i++)
        json_object_set_new(capabilities, facts->capabilities[i].name,
                            json_integer(facts->capabilities[i].value));
    return json_pack("{s:s, s:s, s:s, s:s, s:i, s:I, s:b, s:o}", "backend",
                     kvm_backend_name(facts->kvm.backend), "module", facts->kvm.module,
                     "recognised_by", facts->kvm.how, "second_stage", facts->second_stage,
                     "api_version", facts->api_version, "kernel_instruction_ns",
                     (json_int_t)facts->instruction_ns, "interprets_kernel_code",
                     kvm_interprets_kernel_code(&facts->kvm), "capabilities", capabilities);
}

static json_t *pages_json(const struct host_facts *facts)
{
    json_t *pools = json_array();

    for (unsigned i = 0; i < facts->npools; i++)
        json_array_append_new(pools, json_pack("{s:I, s:I, s:I}", "page_bytes",
                                               (json_int_t)facts->pools[i].page_bytes, "pages",
                                               (json_int_t)facts->pools[i].pages, "free_pages",
                                               (json_int_t)facts->pools[i].free_pages));
    return json_pack("{s:{s:b, s:o, s:o}, s:{s:b, s:b, s:o}, s:s, s:o}", "second_stage", "4k", 1,
                     "2m", answer_json(facts->second_stage_2m), "1g",
                     answer_json(facts->second_stage_1g), "guest", "4k", 1, "2m", 1, "1g",
                     answer_json(facts->guest_1g_pages), "transparent_huge", facts->thp, "hugetlb",
                     pools);
}

static json_t *quirks_json(const struct host_facts *facts)
{
    json_t *quirks = json_array();

    for (unsigned i = 0; i < facts->nquirks; i++) {
        const struct host_quirk *quirk = &facts->quirks[i];

        json_array_append_new(quirks,
                              json_pack("{s:s, s:s, s:s, s:b, s:s}", "name", quirk->name, "what",
                                        quirk->what, "advice", quirk->advice, "probed",
                                        quirk->probed, "observed", quirk->observed));
    }
    return quirks;
}

json_t *doctor_json(const struct host_facts *facts)
{
    json_t *result = json_result("strata.doctor", 1);
    bool opened = facts->kvm.fd >= 0;

    json_object_set_new(result, "usable", json_boolean(!facts->error));
    json_object_set_new(result, "remedy",
                        facts->error ? json_string(kvm_remedy(facts->error)) : json_null());
    json_object_set_new(result, "host", host_json(facts));
    json_object_set_new(result, "kvm", opened ? kvm_json(facts) : json_null());
    json_object_set_new(result, "pages", pages_json(facts));
    json_object_set_new(result, "permissions",
                        json_pack("{s:b, s:b, s:b}", "kvm", facts->device_readable, "frame_numbers",
                                  facts->frame_numbers, "userfaultfd", facts->user_faults));
    json_object_set_new(result, "io_uring",
                        json_pack("{s:b, s:s?}", "usable", facts->uring, "lack",
                                  facts->uring ? NULL : facts->uring_lack));
    json_object_set_new(result, "cpuid_template",
                        facts->cpuid ? json_string(facts->cpuid->template) : json_null());
    json_object_set_new(result, "quirks", quirks_json(facts));
    return result;
}
