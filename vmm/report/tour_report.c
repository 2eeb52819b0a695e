#include "vmm/report/tour_report.h"

bool tour_control_failed(const struct stop *stop)
{
    return stop->has_control && tour_refuted(&stop->control);
}

bool tour_stop_ok(const struct tour *tour, const struct stop *stop)
{
    return tour_ok(&stop->run) && (tour->broken || tour_control_failed(stop));
}

size_t tour_count_passed(const struct tour_run *run)
{
    size_t passed = 0;

    for (size_t i = 0; i < run->nchecks; i++)
        passed += run->checks[i].ok;
    return passed;
}

const char *tour_control_words(const struct tour *tour, const struct stop *stop)
{
    if (tour->broken)
        return "broken on purpose";
    return tour_control_failed(stop) ? "control fails, as it should" : "CONTROL DID NOT FAIL";
}
