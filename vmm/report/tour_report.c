#include "vmm/report/tour_report.h"

#include "vmm/tour/check.h"

bool tour_control_failed(const struct tour_entry *entry)
{
    return entry->has_control && tour_refuted(&entry->control);
}

bool tour_entry_ok(const struct tour *tour, const struct tour_entry *entry)
{
    return tour_ok(&entry->run) && (tour->broken || tour_control_failed(entry));
}

size_t tour_count_passed(const struct tour_run *run)
{
    size_t passed = 0;

    for (size_t i = 0; i < run->nchecks; i++)
        passed += run->checks[i].ok;
    return passed;
}

const char *tour_control_words(const struct tour *tour, const struct tour_entry *entry)
{
    if (tour->broken)
        return "broken on purpose";
    return tour_control_failed(entry) ? "control fails, as it should" : "CONTROL DID NOT FAIL";
}
