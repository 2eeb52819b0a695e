/* What a page fault costs, by the side that it happens on. */
#include "vmm/measure/faults.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

#include "guest/abi/syscall.h"
#include "vmm/measure/clock.h"
#include "vmm/measure/experiments.h"
#include "vmm/measure/fault_changes.h"
#include "vmm/measure/fault_copies.h"
#include "vmm/measure/fault_kinds.h"
#include "vmm/measure/fault_logged.h"

/* Frames are zeroed when they are freed, so that no fault has to: all use the same ones. */
static int faults_zero_on_free(struct session *session)
{
    const struct abi_command command = { .kind = ABI_COMMAND_ZEROING, .count = ABI_ZERO_ON_FREE };
    struct abi_reply reply;

    return test_region_command(session, &command, &reply, "choose when frames are zeroed");
}

static void faults_choose_counts(struct faults *faults)
{
    const struct measure_run *run = faults->run;

    /* Interpreted, zeroing a 2M page takes the fifth part of a second. */
    faults->pages[0] = run->quick ? (run->host->interprets ? 32 : 128) : 511;
    faults->pages[1] = run->quick && run->host->interprets ? 1 : 4;
    faults->batches = run->quick ? 1 : 8;
    faults->warm_up = run->quick && run->host->interprets ? 0 : 1;
}

static int faults_in_session(struct faults *faults)
{
    int (*const parts[])(struct faults *) = { fault_kinds, fault_copies, fault_logged,
                                              fault_changes };
    int err = clock_floor(faults->session, &faults->floor);

    faults->ns_per_tick = 1e9 / (double)faults->session->tsc_hz;
    if (!err)
        err = faults_zero_on_free(faults->session);
    for (unsigned huge = 0; huge < 2 && !err; huge++)
        err = test_region_open(&faults->region[huge], faults->session,
                               huge ? ABI_PAGE_2M : ABI_PAGE_4K, faults->pages[huge],
                               faults->run->error, sizeof(faults->run->error));
    for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]) && !err; i++)
        err = parts[i](faults);
    return err;
}

static int faults_natively(struct faults *faults)
{
    int err;

    measure_progress(faults->run, 0.95, "native");
    err = fault_kinds_native(faults);
    if (!err)
        err = fault_copies_native(faults);
    return err ? err : fault_changes_native(faults);
}

static double faults_p50(const struct faults *faults, const char *name)
{
    const struct measure_figure *figure = measure_figure(faults->run, name);

    return figure ? figure->value / 1000 : NAN;
}

static void faults_say_numbers(const struct faults *faults)
{
    double guest = faults_p50(faults, "faults/vm/guest-4k/host-4k/guest/ns");
    double host = faults_p50(faults, "faults/vm/guest-4k/host-4k/kvm+host/ns");

    measure_remark(
        faults->run,
        "With 4K pages on both sides a fault takes (median) %.3g us in the guest alone, "
        "%.3g us where only KVM's entry is missing, %.3g us where the host's page is, too "
        "(discarded and touched again), and %.3g us where all is missing (%.3g us if it "
        "were the sum); natively %.3g us.",
        guest, faults_p50(faults, "faults/vm/guest-4k/host-4k/kvm/ns"), host,
        faults_p50(faults, "faults/vm/guest-4k/host-4k/guest+kvm+host/ns"), guest + host,
        faults_p50(faults, "faults/native/host-4k/host/ns"));
    if (faults->run->host->interprets)
        measure_remark(faults->run, "The guest's part is its kernel's code, which is interpreted "
                                    "here: it says nothing of other hosts.");
}

static int faults_run(struct measure_run *run)
{
    const struct session_params params = { .memory_bytes = 64u << 20, .cpus = 1 };
    struct session session;
    struct faults faults = { .run = run, .session = &session };
    int err = session_open(&session, run->host->kvm, &params, run->error, sizeof(run->error));

    if (err)
        return err;
    faults.shadow = run->host->kvm->backend == KVM_BACKEND_SHADOW ||
                    run->host->kvm->backend == KVM_BACKEND_SOFTWARE;
    faults.native_floor = clock_floor_native();
    faults_choose_counts(&faults);
    err = faults_in_session(&faults);
    if (err && !run->error[0] && session.program.failure[0])
        snprintf(run->error, sizeof(run->error), "%s", session.program.failure);
    session_close(&session);
    if (!err)
        err = faults_natively(&faults);
    if (!err)
        faults_say_numbers(&faults);
    return err;
}

static const struct measure_plot plots[] = {
    { "A store to a 4K page, by what is missing (ns)",
      "faults/=vm/=guest-4k/host-4k/*/ns faults/=native/host-4k/*/ns", NULL },
    { "mprotect and munmap of a 4K page, other vCPUs idle (alone) or running (shared) (ns)",
      "faults/vm/guest-4k/*/*/ns", NULL },
    { .title = NULL },
};

const struct measure_experiment measure_faults = {
    .name = "faults",
    .shows = "what a page fault costs, by the side it happens on: guest, KVM, host",
    .method =
        "Stores to pages of the measuring program, each timed by itself (lfence, rdtsc, lfence; "
        "store; rdtscp, lfence), less the least empty pair. The pages are 4K or 2M to the guest "
        "and, by madvise and found in /proc/kpageflags, 4K or 2M to the host, in blocks of guest "
        "memory that are nobody else's. Before each batch, with the guest at rest: all pages "
        "touched; guest: given back to the guest's kernel (madvise), which has zeroed the frames "
        "when it gets them back and takes the same ones again; kvm: mprotect to read-only and "
        "back, which has KVM drop its entries, and MADV_POPULATE_WRITE; host: MADV_DONTNEED, as "
        "a balloon does. Touches are as far apart as the largest page that is missing (8 pages "
        "for KVM's entries under shadow paging, which fills in neighbours). guest-faults is the "
        "guest kernel's own count, kvm-faults KVM's pf_fixed. sweep: all 4K in order, host pages "
        "missing. copy-in-guest: stores of a forked child; copy-on-host: stores after loads "
        "where a private mapping of a memfd is behind guest memory; logged: first store after "
        "dirty logging began or the log was fetched. mprotect (to read-only), munmap: of a page "
        "just stored to, the other vCPUs idle (alone) or spinning in the same address space "
        "(shared). One warm-up batch, then 1 (quick) or 8, all kinds by turns. native: the same "
        "code, in this process.",
    .run = faults_run,
    .plots = plots,
};
