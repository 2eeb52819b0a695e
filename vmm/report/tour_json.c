#include "vmm/report/tour_json.h"

#include <math.h>

#include "vmm/machine/kvm.h"
#include "vmm/report/json.h"

static json_t *describe_checks(const struct tour_run *run)
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

static json_t *describe_figures(const struct tour_run *run)
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

static json_t *describe_stop(const struct tour *tour, const struct stop *stop)
{
    json_t *json = json_pack("{s:s, s:b, s:s, s:s, s:o, s:o, s:I}", "name", stop->exercise->name,
                             "ok", tour_stop_ok(tour, stop), "shows", stop->exercise->shows,
                             "guest_command", stop->run.command, "checks",
                             describe_checks(&stop->run), "figures", describe_figures(&stop->run),
                             "elapsed_ns", (json_int_t)stop->run.elapsed_ns);

    json_object_set_new(json, "control_failed_as_it_should",
                        stop->has_control ? json_boolean(tour_control_failed(stop)) : json_null());
    if (stop->has_control)
        json_object_set_new(json, "control",
                            json_pack("{s:s, s:o, s:I}", "breaks", stop->exercise->breaks, "checks",
                                      describe_checks(&stop->control), "elapsed_ns",
                                      (json_int_t)stop->control.elapsed_ns));
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
    for (size_t i = 0; i < tour->nstops; i++) {
        if (tour->stops[i].has_run)
            json_array_append_new(exercises, describe_stop(tour, &tour->stops[i]));
    }
    json_object_set_new(json, "exercises", exercises);
    return json;
}
