#include "vmm/doctor/doctor_json.h"

#include "vmm/doctor/host_info.h"
#include "vmm/doctor/kvm_remedy.h"
#include "vmm/machine/cpu_template.h"
#include "vmm/report/json.h"

static json_t *doctor_json_answer(enum answer answer)
{
    return answer == ANSWER_UNKNOWN ? json_null() : json_boolean(answer == ANSWER_YES);
}

static json_t *doctor_json_host(const struct host_info *info)
{
    return json_pack("{s:s, s:i, s:I, s:s, s:b, s:s}", "cpu", info->cpu, "cpus", (int)info->cpus,
                     "memory_bytes", (json_int_t)info->memory_bytes, "kernel", info->kernel,
                     "is_vm", info->is_vm, "vm_vendor", info->vm_vendor);
}

static json_t *doctor_json_kvm(const struct host_info *info)
{
    json_t *capabilities = json_object();

    for (unsigned i = 0; i < info->ncapabilities; i++)
        json_object_set_new(capabilities, info->capabilities[i].name,
                            json_integer(info->capabilities[i].value));
    return json_pack("{s:s, s:s, s:s, s:s, s:i, s:I, s:b, s:o}", "backend",
                     kvm_backend_name(info->kvm.backend), "module", info->kvm.module,
                     "recognised_by", info->kvm.how, "second_stage", info->second_stage,
                     "api_version", info->api_version, "kernel_instruction_ns",
                     (json_int_t)info->instruction_ns, "interprets_kernel_code",
                     kvm_interprets_kernel_code(&info->kvm), "capabilities", capabilities);
}

static json_t *doctor_json_pages(const struct host_info *info)
{
    json_t *pools = json_array();

    for (unsigned i = 0; i < info->npools; i++)
        json_array_append_new(pools, json_pack("{s:I, s:I, s:I}", "page_bytes",
                                               (json_int_t)info->pools[i].page_bytes, "pages",
                                               (json_int_t)info->pools[i].pages, "free_pages",
                                               (json_int_t)info->pools[i].free_pages));
    return json_pack("{s:{s:b, s:o, s:o}, s:{s:b, s:b, s:o}, s:s, s:o}", "second_stage", "4k", 1,
                     "2m", doctor_json_answer(info->second_stage_2m), "1g",
                     doctor_json_answer(info->second_stage_1g), "guest", "4k", 1, "2m", 1, "1g",
                     doctor_json_answer(info->guest_1g_pages), "transparent_huge", info->thp,
                     "hugetlb", pools);
}

static json_t *doctor_json_quirks(const struct host_info *info)
{
    json_t *quirks = json_array();

    for (unsigned i = 0; i < info->nquirks; i++) {
        const struct host_quirk *quirk = &info->quirks[i];

        json_array_append_new(quirks,
                              json_pack("{s:s, s:s, s:s, s:b, s:s}", "name", quirk->name, "what",
                                        quirk->what, "advice", quirk->advice, "probed",
                                        quirk->probed, "observed", quirk->observed));
    }
    return quirks;
}

json_t *doctor_json(const struct host_info *info)
{
    json_t *result = json_result("strata.doctor", 1);
    bool opened = info->kvm.fd >= 0;

    json_object_set_new(result, "usable", json_boolean(!info->error));
    json_object_set_new(result, "remedy",
                        info->error ? json_string(kvm_remedy(info->error)) : json_null());
    json_object_set_new(result, "host", doctor_json_host(info));
    json_object_set_new(result, "kvm", opened ? doctor_json_kvm(info) : json_null());
    json_object_set_new(result, "pages", doctor_json_pages(info));
    json_object_set_new(result, "permissions",
                        json_pack("{s:b, s:b, s:b}", "kvm", info->device_readable, "frame_numbers",
                                  info->frame_numbers, "userfaultfd", info->user_faults));
    json_object_set_new(result, "io_uring",
                        json_pack("{s:b, s:s?}", "usable", info->uring, "lack",
                                  info->uring ? NULL : info->uring_lack));
    json_object_set_new(result, "cpuid_template",
                        info->cpuid ? json_string(info->cpuid->template) : json_null());
    json_object_set_new(result, "quirks", doctor_json_quirks(info));
    return result;
}
