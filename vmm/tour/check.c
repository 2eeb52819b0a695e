#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "vmm/machine/vm.h"
#include "vmm/tour/tour.h"

static struct tour_check *new_check(struct tour_run *run, const char *name, va_list args)
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

void expect_equal(struct tour_run *run, uint64_t expected, uint64_t observed, const char *name, ...)
{
    struct tour_check *check;
    va_list args;

    va_start(args, name);
    check = new_check(run, name, args);
    va_end(args);
    if (!check)
        return;
    check->ok = expected == observed;
    snprintf(check->expected, sizeof(check->expected), "%" PRIu64, expected);
    snprintf(check->observed, sizeof(check->observed), "%" PRIu64, observed);
}

void expect_hex(struct tour_run *run, uint64_t expected, uint64_t observed, const char *name, ...)
{
    struct tour_check *check;
    va_list args;

    va_start(args, name);
    check = new_check(run, name, args);
    va_end(args);
    if (!check)
        return;
    check->ok = expected == observed;
    snprintf(check->expected, sizeof(check->expected), "0x%" PRIx64, expected);
    snprintf(check->observed, sizeof(check->observed), "0x%" PRIx64, observed);
}

static void add_words(struct tour_run *run, bool ok, bool course, const char *expected,
                      const char *observed, const char *name, va_list args)
{
    struct tour_check *check = new_check(run, name, args);

    if (!check)
        return;
    check->ok = ok;
    check->course = course;
    snprintf(check->expected, sizeof(check->expected), "%s", expected);
    snprintf(check->observed, sizeof(check->observed), "%s", observed);
}

void expect_true(struct tour_run *run, bool ok, const char *expected, const char *observed,
                 const char *name, ...)
{
    va_list args;

    va_start(args, name);
    add_words(run, ok, false, expected, observed, name, args);
    va_end(args);
}

void expect_course(struct tour_run *run, bool ok, const char *expected, const char *observed,
                   const char *name, ...)
{
    va_list args;

    va_start(args, name);
    add_words(run, ok, true, expected, observed, name, args);
    va_end(args);
}

void add_figure(struct tour_run *run, double value, const char *name, ...)
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

double figure(const struct tour_run *run, const char *name)
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

void expect_audit(struct tour_run *run, const struct guest_view *view, uint64_t held,
                  const char *when, struct guest_audit *audit)
{
    int err = guest_audit(view, audit);

    expect_true(run, !err, "an end", err ? strerror(-err) : "an end",
                "%s: all page tables can be walked", when);
    expect_equal(run, held, audit->unexplained, "%s: frame references without a mapping", when);
    expect_equal(run, 0, audit->missing, "%s: mappings without a frame reference", when);
    expect_equal(run, audit->claimed_tables, audit->tables,
                 "%s: page-table frames, counted by walking", when);
    expect_equal(run, 0, audit->broken, "%s: broken page-table entries", when);
    expect_equal(run, 0, audit->kernel_open, "%s: kernel pages open to user code", when);
    expect_equal(run, 0, audit->kernel_wx, "%s: kernel pages writable and executable", when);
}

double ticks_to_ns(const struct tour_run *run, uint64_t ticks)
{
    return run->tsc_hz ? (double)ticks * 1e9 / (double)run->tsc_hz : NAN;
}

uint64_t vcpu_root(const struct tour_run *run, unsigned index)
{
    struct kvm_regs regs;
    struct kvm_sregs sregs;

    if (index >= run->vm->ncpus || vcpu_registers(&run->vm->vcpus[index], &regs, &sregs))
        return 0;
    return sregs.cr3 & paging_x86_4level.root;
}
