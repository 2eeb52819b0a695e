#include "vmm/monitor/watchdog.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/machine/vm.h"

#define NEIGHBOURHOOD    256u
#define PAUSE_TIMEOUT_MS 1000

int watchdog_create(struct watchdog *watchdog, struct vm *vm, unsigned ncpus)
{
    *watchdog = (struct watchdog){ .vm = vm, .ncpus = ncpus };
    watchdog->last = calloc(ncpus, sizeof(*watchdog->last));
    watchdog->spins = calloc(ncpus, sizeof(*watchdog->spins));
    if (watchdog->last && watchdog->spins)
        return 0;
    watchdog_destroy(watchdog);
    return -ENOMEM;
}

void watchdog_destroy(struct watchdog *watchdog)
{
    free(watchdog->last);
    free(watchdog->spins);
    watchdog->last = NULL;
    watchdog->spins = NULL;
}

static bool watchdog_near(uint64_t a, uint64_t b)
{
    return (a > b ? a - b : b - a) < NEIGHBOURHOOD;
}

static bool watchdog_spins(const struct vcpu_sample *now, const struct vcpu_sample *before)
{
    return now->started && !now->halted && !now->interrupts && now->exits == before->exits &&
           watchdog_near(now->rip, before->rip) && now->rsp == before->rsp &&
           now->rsi == before->rsi && now->rdi == before->rdi;
}

bool watchdog_verdict(struct watchdog *watchdog, const struct vcpu_sample *cpus)
{
    unsigned started = 0, dead = 0;
    bool hung = false;

    for (unsigned i = 0; i < watchdog->ncpus; i++) {
        const struct vcpu_sample *cpu = &cpus[i];

        started += cpu->started;
        dead += cpu->halted && !cpu->interrupts;
        /* Against the first look of the row, so that it cannot wander off step by step. */
        if (!watchdog_spins(cpu, &watchdog->last[i])) {
            watchdog->last[i] = *cpu;
            watchdog->spins[i] = 0;
        } else if (++watchdog->spins[i] >= WATCHDOG_CHECKS && !hung) {
            hung = true;
            snprintf(watchdog->why, sizeof(watchdog->why),
                     "vCPU %u spins with interrupts off near 0x%llx", i,
                     (unsigned long long)cpu->rip);
        }
    }
    watchdog->halts = started && dead == started ? watchdog->halts + 1 : 0;
    if (watchdog->halts > WATCHDOG_CHECKS && !hung) {
        hung = true;
        snprintf(watchdog->why, sizeof(watchdog->why), "%s halted with interrupts off",
                 started > 1 ? "all vCPUs are" : "the vCPU is");
    }
    return hung;
}

bool watchdog_check(struct watchdog *watchdog)
{
    struct vcpu_sample cpus[VM_CPUS_MAX];
    char stuck[VM_THREAD_NAME_BYTES];
    int err = vm_pause_within(watchdog->vm, PAUSE_TIMEOUT_MS, stuck);

    if (err) {
        /* Where another thread has the VM paused for so long, that is no hang. */
        watchdog->stuck = stuck[0] ? watchdog->stuck + 1 : 0;
        snprintf(watchdog->why, sizeof(watchdog->why), "%s does not stand still", stuck);
        return watchdog->stuck >= WATCHDOG_CHECKS;
    }
    watchdog->stuck = 0;
    for (unsigned i = 0; i < watchdog->ncpus && !err; i++)
        err = vcpu_sample(&watchdog->vm->vcpus[i], &cpus[i]);
    vm_resume(watchdog->vm, NULL);
    return !err && watchdog_verdict(watchdog, cpus);
}
