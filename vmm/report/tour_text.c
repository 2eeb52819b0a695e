#include "vmm/report/tour_text.h"

#include "vmm/machine/kvm.h"
#include "vmm/tour/check.h"

static const char *tour_text_paint(const struct tour *tour, const char *sequence)
{
    return tour->colour ? sequence : "";
}

static void tour_text_print_failures(const struct tour *tour, const struct tour_run *run)
{
    for (size_t i = 0; i < run->nchecks; i++) {
        const struct tour_check *check = &run->checks[i];

        if (!check->ok)
            fprintf(tour->out, "        failed: %s: expected %s, observed %s\n", check->name,
                    check->expected, check->observed);
    }
    if (run->dropped)
        fprintf(tour->out, "        failed: %zu checks more than there is room for\n",
                run->dropped);
    if (run->console[0])
        fprintf(tour->out, "        the guest's last words: %s\n", run->console);
}

void tour_text_print_row(const struct tour *tour, const struct tour_entry *entry)
{
    const struct tour_run *run = &entry->run;
    bool ok = tour_entry_ok(tour, entry);

    fprintf(tour->out, "%s%-6s%s  %-20s  %3zu/%-3zu  %6.2f s  %-27s  %-55s  %s\n",
            tour_text_paint(tour, ok ? "\033[32m" : "\033[31m"), ok ? "ok" : "FAILED",
            tour_text_paint(tour, "\033[0m"), run->exercise->name, tour_count_passed(run),
            run->nchecks,
            (double)(run->elapsed_ns + (entry->has_control ? entry->control.elapsed_ns : 0)) / 1e9,
            tour_control_words(tour, entry), run->exercise->shows, run->key);
    if (!tour_ok(run))
        tour_text_print_failures(tour, run);
}

void tour_text_print_heading(const struct tour *tour)
{
    const struct kvm_host *kvm = tour->host.kvm;

    fprintf(tour->out, "strata tour on KVM backend %s (%s), %u host CPU%s, guest of %d MiB%s\n",
            kvm_backend_name(kvm->backend), kvm->how, tour->host.cpus,
            tour->host.cpus == 1 ? "" : "s", (int)(tour->host.memory_bytes >> 20),
            tour->host.interprets ? "; kernel code is interpreted here, so sizes are smaller" : "");
    fprintf(tour->out, "%s%-6s  %-20s  %-7s  %-8s  %-27s  %-55s  %s%s\n",
            tour_text_paint(tour, "\033[1m"), "result", "exercise", "checks", "time", "control",
            "shown", "key figures", tour_text_paint(tour, "\033[0m"));
    fflush(tour->out);
}
