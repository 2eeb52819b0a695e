#include "vmm/tour/tour.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/core/board.h"
#include "vmm/base/monotonic.h"
#include "vmm/launch/machine.h"
#include "vmm/launch/program.h"
#include "vmm/tour/check.h"

#define STOP_TIMEOUT_MS 2000
#define TOUR_CPUS       2

static void take_memory_map(const struct tour_run *run, uint32_t step)
{
    const struct tour_memory_map *memory_map = &run->exercise->memory_map;

    if (run->host->memory_map && !run->control && step == memory_map->step &&
        run->reached[step] == memory_map->ring)
        run->host->memory_map(run->host->memory_map_owner, run);
}

/* The guest reached its checkpoint, and the world is stopped. */
static void tour_look(void *owner, struct program *program, struct vcpu *vcpu)
{
    struct tour_run *run = owner;

    run->vcpu = vcpu;
    run->reached[program->record.step]++;
    run->exercise->checkpoint(run, &program->record, &program->view);
    take_memory_map(run, program->record.step);
}

/* What must be so of any machine, once it has ended (or not). */
static void check_end(struct tour_run *run, int waited, const struct vm_end *end)
{
    char observed[TOUR_TEXT_BYTES];

    if (waited == -ETIMEDOUT)
        snprintf(observed, sizeof(observed), "still running after %u s", run->host->timeout_s);
    else
        snprintf(observed, sizeof(observed), "%s, status %d", vm_end_name(end->reason),
                 end->status);
    check_course(run, !waited && end->reason == VM_END_GUEST_EXIT && end->status == 0,
                 "guest exit, status 0", observed, "the guest's program ran to its end");
}

/* And of any run, after its last machine. */
static void check_steps(struct tour_run *run)
{
    for (uint32_t step = 1; step < run->exercise->steps; step++)
        check_course(run, run->reached[step] > 0, "reached",
                     run->reached[step] ? "reached" : "never reached", "checkpoint %" PRIu32, step);
}

/* The last lines the guest wrote, for people to see what went wrong. */
static void keep_console(struct tour_run *run, int console_fd)
{
    off_t end = lseek(console_fd, 0, SEEK_END);
    off_t room = sizeof(run->console) - 1;
    ssize_t n = pread(console_fd, run->console, (size_t)room, end > room ? end - room : 0);

    run->console[n > 0 ? n : 0] = 0;
}

/* Runs a machine that is booted, and checks its end. */
static int run_machine(struct tour_run *run, struct machine *machine, int console_fd,
                       struct error *error)
{
    int err = machine_start(machine, error), waited;

    if (err)
        return err;
    waited = machine_wait(machine, (int)run->host->timeout_s * 1000);
    if (waited) {
        machine_stop(machine, VM_END_HOST_STOP, 0);
        machine_wait(machine, STOP_TIMEOUT_MS);
    }
    check_end(run, waited, &machine->vm.end);
    if (!tour_ok(run))
        keep_console(run, console_fd);
    return 0;
}

static int run_vm(struct tour_run *run, int console_fd, struct error *error)
{
    const struct program_config program_config = { .exercise = run->exercise->id,
                                                   .first_step = 1,
                                                   .last_step = run->exercise->steps - 1,
                                                   .look = tour_look,
                                                   .owner = run };
    char boot_args[sizeof(run->command) + 8];
    struct machine_hooks hooks = MACHINE_NO_HOOKS;
    struct vm_config config;
    struct program program;
    struct machine machine;
    int err;

    snprintf(boot_args, sizeof(boot_args), "exec=%s", run->command);
    config_init(&config);
    config.boot_args = boot_args;
    config.memory_bytes = run->host->memory_bytes;
    config.vcpu_count = TOUR_CPUS;
    config.huge_pages = MEMORY_4K;
    if (run->exercise->machine)
        run->exercise->machine(run, &config);
    hooks.console_out_fd = console_fd;
    program_init(&program, &machine.vm, &program_config);
    hooks.checkpoint = program_checkpoint;
    hooks.checkpoint_owner = &program;
    run->vm = &machine.vm;
    run->board = &machine.board;
    err = machine_create(&machine, run->host->kvm, &config, &hooks, error);
    if (!err) {
        run->tsc_hz = vcpu_tsc_hz(&machine.vm.vcpus[0]);
        err = machine_boot(&machine, error);
        if (!err)
            err = run_machine(run, &machine, console_fd, error);
        machine_destroy(&machine);
    }
    program_destroy(&program);
    run->vm = NULL;
    run->board = NULL;
    return err;
}

int tour_run(struct tour_run *run, const struct tour_exercise *exercise,
             const struct tour_host *host, bool control, char *error, size_t error_bytes)
{
    uint64_t start = monotonic_ns();
    struct error failure;
    int console_fd, err;

    memset(run, 0, sizeof(*run));
    run->exercise = exercise;
    run->host = host;
    run->control = control;
    run->state = calloc(1, exercise->state_bytes ? exercise->state_bytes : 1);
    if (!run->state) {
        snprintf(error, error_bytes, "out of memory");
        return -ENOMEM;
    }
    exercise->command(host, control, run->command, sizeof(run->command));
    console_fd = memfd_create("strata-console", MFD_CLOEXEC);
    do
        err = run_vm(run, console_fd, &failure);
    while (!err && ++run->machine < exercise->machines);
    if (err)
        snprintf(error, error_bytes, "%s", failure.text);
    else
        check_steps(run);
    if (!err && exercise->conclude)
        exercise->conclude(run, run->key, sizeof(run->key));
    if (exercise->end)
        exercise->end(run);
    if (console_fd >= 0)
        close(console_fd);
    free(run->state);
    run->state = NULL;
    run->elapsed_ns = monotonic_ns() - start;
    return err;
}
