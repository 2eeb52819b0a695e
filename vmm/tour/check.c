#include "vmm/tour/check.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "vmm/machine/vm.h"

static struct tour_check *check_new(struct tour_run *run, const char *name, va_list args)
{
    struct tour_check *check;

    if (run->nchecks == TOUR_CHECKS_MAX) {
        run->dropped++;
        return NULL;
    }
    check = &run->checks[run->nchecks++];
    vsnprintf(check->name, sizeof(check->name), name, args);
    return check;
}

void check_equal(struct tour_run *run, uint64_t expected, uint64_t observed, const char *name, ...)
{
    struct tour_check *check;
    va_list args;

    va_start(args, name);
    check = check_new(run, name, args);
    va_end(args);
    if (!check)
        return;
    check->ok = expected == observed;
    snprintf(check->expected, sizeof(check->expected), "%" PRIu64, expected);
    snprintf(check->observed, sizeof(check->observed), "%" PRIu64, observed);
}

void check_hex(struct tour_run *run, uint64_t expected, uint64_t observed, const char *name, ...)
{
    struct tour_check *check;
    va_list args;

    va_start(args, name);
    check = check_new(run, name, args);
    va_end(args);
    if (!check)
        return;
    check->ok = expected == observed;
    snprintf(check->expected, sizeof(check->expected), "0x%" PRIx64, expected);
    snprintf(check->observed, sizeof(check->observed), "0x%" PRIx64, observed);
}

static void check_fill(struct tour_check *check, bool ok, const char *expected,
                       const char *observed)
{
    check->ok = ok;
    snprintf(check->expected, sizeof(check->expected), "%s", expected);
    snprintf(check->observed, sizeof(check->observed), "%s", observed);
}

void check_true(struct tour_run *run, bool ok, const char *expected, const char *observed,
                const char *name, ...)
{
    struct tour_check *check;
    va_list args;

    va_start(args, name);
    check = check_new(run, name, args);
    va_end(args);
    if (!check)
        return;
    check_fill(check, ok, expected, observed);
}

void check_course(struct tour_run *run, bool ok, const char *expected, const char *observed,
                  const char *name, ...)
{
    struct tour_check *check;
    va_list args;

    va_start(args, name);
    check = check_new(run, name, args);
    va_end(args);
    if (!check)
        return;
    check_fill(check, ok, expected, observed);
    check->course = true;
}

void check_add_figure(struct tour_run *run, double value, const char *name, ...)
{
    struct tour_figure *new;
    va_list args;

    if (run->nfigures == TOUR_FIGURES_MAX)
        return;
    new = &run->figures[run->nfigures++];
    new->value = value;
    va_start(args, name);
    vsnprintf(new->name, sizeof(new->name), name, args);
    va_end(args);
}

double check_figure(const struct tour_run *run, const char *name)
{
    for (size_t i = 0; i < run->nfigures; i++) {
        if (!strcmp(run->figures[i].name, name))
            return run->figures[i].value;
    }
    return NAN;
}

bool tour_ok(const struct tour_run *run)
{
    for (size_t i = 0; i < run->nchecks; i++) {
        if (!run->checks[i].ok)
            return false;
    }
    return run->nchecks > 0 && !run->dropped;
}

bool tour_refuted(const struct tour_run *run)
{
    for (size_t i = 0; i < run->nchecks; i++) {
        if (!run->checks[i].ok && !run->checks[i].course)
            return true;
    }
    return false;
}

void check_audit(struct tour_run *run, const struct guest_view *view, uint64_t held,
                 const char *when, struct guest_audit *audit)
{
    int err = guest_audit(view, audit);

    check_true(run, !err, "an end", err ? strerror(-err) : "an end",
               "%s: all page tables can be walked", when);
    check_equal(run, held, audit->unexplained, "%s: frame references without a mapping", when);
    check_equal(run, 0, audit->missing, "%s: mappings without a frame reference", when);
    check_equal(run, audit->claimed_tables, audit->tables,
                "%s: page-table frames, counted by walking", when);
    check_equal(run, 0, audit->broken, "%s: broken page-table entries", when);
    check_equal(run, 0, audit->kernel_open, "%s: kernel pages open to user code", when);
    check_equal(run, 0, audit->kernel_wx, "%s: kernel pages writable and executable", when);
}

double check_ticks_to_ns(const struct tour_run *run, uint64_t ticks)
{
    return run->tsc_hz ? (double)ticks * 1e9 / (double)run->tsc_hz : NAN;
}

uint64_t check_vcpu_root(const struct tour_run *run, unsigned index)
{
    struct kvm_regs regs;
    struct kvm_sregs sregs;

    if (index >= run->vm->ncpus || vcpu_registers(&run->vm->vcpus[index], &regs, &sregs))
        return 0;
    return sregs.cr3 & paging_x86_4level.root;
}
