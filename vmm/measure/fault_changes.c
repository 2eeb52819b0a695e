#include "vmm/measure/fault_changes.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/measure/clock.h"
#include "vmm/measure/fault_kinds.h"
#include "vmm/measure/histogram.h"
#include "vmm/measure/native.h"

static const struct change {
    const char *name;
    bool unmaps;
} changes[] = { { "mprotect", false }, { "munmap", true } };

static const unsigned cpu_counts[] = { 1, 2, 4 };

static uint64_t fault_changes_repetitions(const struct faults *faults, bool huge)
{
    return huge ? 4 : faults->run->quick ? 24 : 400;
}

static struct abi_command fault_changes_command_of(const struct faults *faults,
                                                   const struct change *change, bool huge,
                                                   unsigned others)
{
    return (struct abi_command){ .kind = ABI_COMMAND_CHANGE,
                                 .page = huge ? ABI_PAGE_2M : ABI_PAGE_4K,
                                 .count = fault_changes_repetitions(faults, huge),
                                 .arg = { change->unmaps, others } };
}

/* With the other vCPUs idle, or (shared) spinning in the same address space. */
static int fault_changes_on_guest(struct faults *faults, struct session *session,
                                  const struct change *change, bool huge, bool shared)
{
    unsigned cpus = session->machine.vm.ncpus;
    const struct abi_command command = fault_changes_command_of(faults, change, huge,
                                                                shared ? cpus - 1 : 0);
    uint64_t before = session->program.view.kernel.shootdowns;
    char prefix[MEASURE_NAME_BYTES / 2];
    struct abi_reply reply;
    int err = test_region_command(session, &command, &reply, "change its memory");

    if (err)
        return err;
    snprintf(prefix, sizeof(prefix), "faults/vm/guest-%s/cpus-%u/%s-%s",
             fault_kinds_page_name(huge), cpus, change->name, shared ? "shared" : "alone");
    measure_distribution(faults->run, &reply.histogram, faults->ns_per_tick, faults->floor, "%s/ns",
                         prefix);
    measure_count(faults->run, session->program.view.kernel.shootdowns - before, "%s/shootdowns",
                  prefix);
    return 0;
}

static int fault_changes_on_guest_of(struct faults *faults, unsigned cpus)
{
    const struct session_params params = { .memory_bytes = 64u << 20, .cpus = cpus };
    struct measure_run *run = faults->run;
    struct session session;
    int err = session_open(&session, run->host->kvm, &params, run->error, sizeof(run->error));

    if (err)
        return err;
    for (unsigned i = 0; i < 2 * 2 * 2 && !err; i++) {
        bool huge = i & 4, shared = i & 1;

        if (!shared || cpus > 1)
            err = fault_changes_on_guest(faults, &session, &changes[i >> 1 & 1], huge, shared);
    }
    if (err && !run->error[0])
        snprintf(run->error, sizeof(run->error), "%u vCPUs: %s", cpus, session.program.failure);
    session_close(&session);
    return err;
}

int fault_changes(struct faults *faults)
{
    int err = 0;

    for (unsigned i = 0; i < sizeof(cpu_counts) / sizeof(cpu_counts[0]) && !err; i++) {
        measure_progress(faults->run, 0.7 + 0.08 * i, "mprotect and munmap");
        err = fault_changes_on_guest_of(faults, cpu_counts[i]);
    }
    if (!err && faults->run->host->cpus < 4)
        measure_remark(
            faults->run,
            "Where there are more vCPUs than host CPUs (%u), a shootdown also waits until "
            "the host runs the vCPU that must forget: that is the host's scheduler.",
            faults->run->host->cpus);
    return err;
}

int fault_changes_native(struct faults *faults)
{
    for (unsigned i = 0; i < sizeof(cpu_counts) / sizeof(cpu_counts[0]); i++) {
        for (unsigned j = 0; j < 2; j++) {
            struct abi_command command = fault_changes_command_of(faults, &changes[j], false,
                                                                  cpu_counts[i] - 1);
            struct abi_reply reply;

            native_command(&command, &reply);
            if (reply.status)
                return -EIO;
            measure_distribution(faults->run, &reply.histogram, faults->ns_per_tick,
                                 faults->native_floor, "faults/native/host-4k/threads-%u/%s/ns",
                                 cpu_counts[i], changes[j].name);
        }
    }
    return 0;
}
