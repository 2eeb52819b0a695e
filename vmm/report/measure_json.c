#include "vmm/report/measure_json.h"

#include "vmm/measure/measure.h"
#include "vmm/report/json.h"
#include "vmm/report/measure_text.h"

static const char *measure_json_kind_name(enum measure_kind kind)
{
    switch (kind) {
    case MEASURE_DISTRIBUTION: return "distribution";
    case MEASURE_VALUE: return "value";
    case MEASURE_COUNT: return "count";
    case MEASURE_UNAVAILABLE: return "lack";
    }
    return "?";
}

/* [[low_ns, how many], ...] of the buckets that have any. */
static json_t *measure_json_describe_histogram(const struct measure_figure *figure)
{
    json_t *buckets = json_array();

    for (unsigned i = 0; i < ABI_HISTOGRAM_BUCKETS; i++) {
        if (figure->histogram->bucket[i])
            json_array_append_new(
                buckets, json_pack("[f, I]", (double)abi_histogram_low(i) * figure->ns_per_tick,
                                   (json_int_t)figure->histogram->bucket[i]));
    }
    return buckets;
}

static json_t *measure_json_describe_figure(const struct measure_figure *figure)
{
    json_t *json = json_pack("{s:s, s:s}", "name", figure->name, "kind",
                             measure_json_kind_name(figure->kind));

    switch (figure->kind) {
    case MEASURE_DISTRIBUTION:
        json_object_set_new(json, "count", json_integer((json_int_t)figure->count));
        json_object_set_new(json, "min", json_number_or_null(figure->min));
        json_object_set_new(json, "p50", json_number_or_null(figure->value));
        json_object_set_new(json, "low", json_number_or_null(figure->low));
        json_object_set_new(json, "high", json_number_or_null(figure->high));
        json_object_set_new(json, "p99", json_number_or_null(figure->p99));
        json_object_set_new(json, "p999", json_number_or_null(figure->p999));
        json_object_set_new(json, "max", json_number_or_null(figure->max));
        if (figure->histogram)
            json_object_set_new(json, "histogram_ns", measure_json_describe_histogram(figure));
        break;
    case MEASURE_VALUE:
        json_object_set_new(json, "value", json_number_or_null(figure->value));
        json_object_set_new(json, "low", json_number_or_null(figure->low));
        json_object_set_new(json, "high", json_number_or_null(figure->high));
        json_object_set_new(json, "count", json_integer((json_int_t)figure->count));
        break;
    case MEASURE_COUNT:
        json_object_set_new(json, "value", json_integer((json_int_t)figure->value));
        break;
    case MEASURE_UNAVAILABLE: json_object_set_new(json, "why", json_string(figure->text)); break;
    }
    return json;
}

static json_t *measure_json_describe_run(const struct measure_run *run)
{
    json_t *figures = json_array();

    for (size_t i = 0; i < run->nfigures; i++)
        json_array_append_new(figures, measure_json_describe_figure(&run->figures[i]));
    return json_pack("{s:s, s:s, s:s, s:s?, s:o, s:s, s:I}", "name", run->experiment->name, "shows",
                     run->experiment->shows, "method", run->experiment->method, "error",
                     run->error[0] ? run->error : NULL, "figures", figures, "meaning", run->meaning,
                     "elapsed_ns", (json_int_t)run->elapsed_ns);
}

json_t *measure_json(const struct measure_host *host, const struct measure_run *runs, size_t n,
                     bool quick)
{
    json_t *json = json_result("strata.measure", 1), *experiments = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(experiments, measure_json_describe_run(&runs[i]));
    json_object_set_new(json, "host",
                        json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:b, s:b}", "kvm",
                                  kvm_backend_name(host->kvm->backend), "module", host->kvm->module,
                                  "paging", measure_paging(host), "cpu", host->cpu, "kernel",
                                  host->kernel, "cpus", (int)host->cpus, "interprets_kernel_code",
                                  host->interprets, "virtual_machine", host->virtual_machine));
    json_object_set_new(json, "quick", json_boolean(quick));
    json_object_set_new(json, "seed", json_integer(n ? (json_int_t)runs[0].seed : 0));
    json_object_set_new(json, "experiments", experiments);
    return json;
}
