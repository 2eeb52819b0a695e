#include "vmm/report/dma_json.h"

#include <inttypes.h>

#include "vmm/dma/attacks/attack.h"
#include "vmm/report/json.h"

static json_t *dma_json_describe_effect(const struct harness_effect *effect)
{
    return json_pack("{s:b, s:b, s:I, s:I}", "applies", effect->applies, "succeeds",
                     effect->succeeds, "read_bytes", (json_int_t)effect->read_bytes, "write_bytes",
                     (json_int_t)effect->write_bytes);
}

static json_t *dma_json_describe_device(const struct policy *policy, unsigned d)
{
    const struct abi_policy_device *device = &policy->guest.device[d];
    json_t *uses = json_array();

    for (unsigned i = 0; i < device->nuses; i++)
        json_array_append_new(uses, json_pack("{s:s, s:b, s:b}", "region",
                                              policy->guest.region[device->use[i].region].name,
                                              "read", (device->use[i].rights & IOMMU_READ) != 0,
                                              "write", (device->use[i].rights & IOMMU_WRITE) != 0));
    return json_pack("{s:s, s:s, s:I, s:I, s:s, s:s, s:i, s:o}", "name", device->name, "kind",
                     dma_kind_name(device->kind), "endpoint", (json_int_t)device->endpoint,
                     "domain", (json_int_t)device->domain, "mode", dma_mode_name(device->mode),
                     "buffers", dma_buffers_name(device->buffers), "line",
                     (int)policy->device[d].line, "uses", uses);
}

/* Addresses are text, as everywhere: a reader's numbers may not hold 64 bits. */
static json_t *dma_json_address(uint64_t value)
{
    return json_sprintf("0x%" PRIx64, value);
}

static json_t *dma_json_describe_region(const struct abi_policy *guest, unsigned n)
{
    const struct abi_policy_region *region = &guest->region[n];
    json_t *json, *windows = json_array();

    for (unsigned d = 0; d < guest->ndevices; d++) {
        if (region->endpoints >> d & 1)
            json_array_append_new(windows, json_pack("{s:s, s:o}", "device", guest->device[d].name,
                                                     "iova", dma_json_address(region->iova)));
    }
    json = json_pack("{s:s, s:s, s:I, s:o}", "name", region->name, "kind",
                     dma_region_name(region->kind), "bytes", (json_int_t)region->bytes, "windows",
                     windows);
    if (region->gpa)
        json_object_set_new(json, "gpa", dma_json_address(region->gpa));
    return json;
}

static json_t *dma_json_describe_policy(const struct policy *policy, const char *path)
{
    json_t *json, *devices = json_array(), *regions = json_array();

    for (unsigned d = 0; d < policy->guest.ndevices; d++)
        json_array_append_new(devices, dma_json_describe_device(policy, d));
    for (unsigned i = 0; i < policy->guest.nregions; i++)
        json_array_append_new(regions, dma_json_describe_region(&policy->guest, i));
    json = json_pack("{s:s, s:s, s:b, s:o, s:o}", "name", policy->name, "description",
                     policy->description, "iommu", policy->iommu, "devices", devices, "regions",
                     regions);
    /* A path need not be text; then it is left out. */
    json_object_set_new(json, "file", json_string(path));
    return json;
}

json_t *dma_json_policy(const struct policy *policy, const char *path)
{
    json_t *json = json_result("strata.dma-policy", 1);

    if (json_object_update_new(json, json_pack("{s:b, s:o}", "valid", true, "policy",
                                               dma_json_describe_policy(policy, path))) == 0)
        return json;
    json_decref(json);
    return NULL;
}

static json_t *dma_json_describe_attacks(const struct dma_report *report)
{
    json_t *attacks = json_array();

    for (unsigned i = 0; i < ATTACK_COUNT; i++) {
        if (dma_attack_wanted(report, i))
            json_array_append_new(
                attacks, json_pack("{s:s, s:s, s:s, s:s}", "name", attack_table[i]->name,
                                   "mechanism", attack_table[i]->mechanism, "stopped_by",
                                   attack_table[i]->stopped_by, "source", attack_table[i]->source));
    }
    return attacks;
}

static json_t *dma_json_describe_cells(const struct harness_result *result)
{
    json_t *cells = json_array();

    for (size_t i = 0; i < result->ncells; i++) {
        const struct matrix_cell *cell = &result->cells[i];

        json_array_append_new(
            cells, json_pack("{s:s, s:s, s:s, s:b, s:o, s:o, s:s, s:i, s:i, s:s}", "device",
                             result->policy->guest.device[cell->device].name, "attack",
                             attack_table[cell->attack]->name, "region", cell->region, "ok",
                             cell->ok, "expected", dma_json_describe_effect(&cell->expected),
                             "observed", dma_json_describe_effect(&cell->observed), "because",
                             cell->because, "checks", (int)cell->checks, "failed_checks",
                             (int)cell->failed, "failure", cell->failure));
    }
    return cells;
}

static json_t *dma_json_describe_exposure(const struct harness_result *result)
{
    json_t *all = json_array();

    for (unsigned d = 0; d < result->policy->guest.ndevices; d++) {
        const struct harness_exposure *exposure = &result->exposure[d];

        json_array_append_new(all,
                              json_pack("{s:s, s:I, s:I, s:I, s:I}", "device",
                                        result->policy->guest.device[d].name, "read_bytes",
                                        (json_int_t)exposure->read_bytes, "needed_read_bytes",
                                        (json_int_t)exposure->needed_read_bytes, "write_bytes",
                                        (json_int_t)exposure->write_bytes, "needed_write_bytes",
                                        (json_int_t)exposure->needed_write_bytes));
    }
    return all;
}

static json_t *dma_json_describe_windows(const struct harness_result *result)
{
    json_t *all = json_array();

    for (unsigned d = 0; d < result->policy->guest.ndevices; d++) {
        const struct harness_window *window = &result->window[d];
        const char *name = result->policy->guest.device[d].name;

        if (window->measured)
            json_array_append_new(all,
                                  json_pack("{s:s, s:i, s:I, s:I, s:o, s:o, s:o}", "device", name,
                                            "samples", (int)window->samples, "accesses_median",
                                            (json_int_t)window->accesses_median, "accesses_max",
                                            (json_int_t)window->accesses_max, "median_ns",
                                            json_number_or_null(window->ns_median), "p99_ns",
                                            json_number_or_null(window->ns_p99), "max_ns",
                                            json_number_or_null(window->ns_max)));
    }
    return all;
}

json_t *dma_json(const struct dma_report *report)
{
    const struct harness_result *result = report->result;
    json_t *json = json_result("strata.dma-test", 1);

    /* A full set of members or none: json_object_update fails if one could not be made. */
    if (json_object_update_new(
            json,
            json_pack("{s:o, s:s, s:I, s:b, s:i, s:o, s:o, s:o, s:o, s:{s:I, s:I, s:s}, "
                      "s:{s:b, s:s}, s:I}",
                      "policy", dma_json_describe_policy(result->policy, report->path), "kvm",
                      report->backend, "seed", (json_int_t)result->seed, "ok", harness_ok(result),
                      "differing", (int)result->differing, "attacks",
                      dma_json_describe_attacks(report), "cells", dma_json_describe_cells(result),
                      "exposure", dma_json_describe_exposure(result), "unmap_windows",
                      dma_json_describe_windows(result), "random", "steps",
                      (json_int_t)result->random_steps, "failures",
                      (json_int_t)result->random_failures, "failure", result->random_failure,
                      "guest", "lives", result->guest_lives, "failure", result->guest_failure,
                      "elapsed_ns", (json_int_t)result->elapsed_ns)) == 0)
        return json;
    json_decref(json);
    return NULL;
}
