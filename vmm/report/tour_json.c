#include "vmm/report/tour_json.h"

#include <math.h>

#include "vmm/machine/kvm.h"
#include "vmm/report/json.h"

static json_t *tour_json_describe_checks(const struct tour_run *run)
{
    json_t *checks = json_array();

    for (size_t i = 0; i < run->nchecks; i++) {
        const struct tour_check *check = &run->checks[i];

        json_array_append_new(checks, json_pack("{s:s, s:b, s:s, s:s}", "name", check->name, "ok",
                                                check->ok, "expected", check->expected, "observed",
                                                check->observed));
    }
    return checks;
}

static json_t *tour_json_describe_figures(const struct tour_run *run)
{
    json_t *figures = json_object();

    for (size_t i = 0; i < run->nfigures; i++) {
        double value = run->figures[i].value;
        json_t *json = !isfinite(value)        ? json_null()
                       : value == floor(value) ? json_integer((json_int_t)value)
                                               : json_real(value);

        json_object_set_new(figures, run->figures[i].name, json);
    }
    return figures;
}

static json_t *tour_json_describe_stop(const struct tour *tour, const struct tour_entry *entry)
{
    json_t *json = json_pack(
        "{s:s, s:b, s:s, s:s, s:o, s:o, s:I}", "name", entry->exercise->name, "ok",
        tour_entry_ok(tour, entry), "shows", entry->exercise->shows, "guest_command",
        entry->run.command, "checks", tour_json_describe_checks(&entry->run), "figures",
        tour_json_describe_figures(&entry->run), "elapsed_ns", (json_int_t)entry->run.elapsed_ns);

    json_object_set_new(json, "control_failed_as_it_should",
                        entry->has_control ? json_boolean(tour_control_failed(entry))
                                           : json_null());
    if (entry->has_control)
        json_object_set_new(json, "control",
                            json_pack("{s:s, s:o, s:I}", "breaks", entry->exercise->breaks,
                                      "checks", tour_json_describe_checks(&entry->control),
                                      "elapsed_ns", (json_int_t)entry->control.elapsed_ns));
    return json;
}

json_t *tour_json(const struct tour *tour)
{
    json_t *json = json_result("strata.tour", 1), *exercises = json_array();

    json_object_set_new(json, "host",
                        json_pack("{s:s, s:s, s:i, s:b}", "kvm",
                                  kvm_backend_name(tour->host.kvm->backend), "module",
                                  tour->host.kvm->module, "cpus", (int)tour->host.cpus,
                                  "interprets_kernel_code", tour->host.interprets));
    json_object_set_new(json, "broken", json_boolean(tour->broken));
    for (size_t i = 0; i < tour->nentries; i++) {
        if (tour->entries[i].has_run)
            json_array_append_new(exercises, tour_json_describe_stop(tour, &tour->entries[i]));
    }
    json_object_set_new(json, "exercises", exercises);
    return json;
}
