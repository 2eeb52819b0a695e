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
#include "vmm/boot/boot.h"
#include "vmm/machine/vm.h"
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

/* The guest reached its checkpoint: stop the world, see whose checkpoint it is, look. */
static int on_checkpoint(void *owner, struct vcpu *vcpu, uint32_t frame)
{
    struct tour_run *run = owner;
    struct abi_checkpoint record;
    struct guest_view view;
    int err;

    vm_pause(run->vm, vcpu);
    err = guest_checkpoint(&run->vm->memory, frame, &record);
    if (!err)
        err = guest_view_open(&view, &run->vm->memory, record.kernel);
    if (!err && (record.exercise != run->exercise->id || record.step == 0 ||
                 record.step >= run->exercise->steps))
        err = -EINVAL;
    if (!err) {
        run->vcpu = vcpu;
        run->reached[record.step]++;
        run->exercise->checkpoint(run, &record, &view);
        take_memory_map(run, record.step);
    }
    vm_resume(run->vm, vcpu);
    return err;
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

static int run_vm(struct tour_run *run, int console_fd, char *error, size_t error_bytes)
{
    char boot_args[sizeof(run->command) + 8];
    struct vm_config config = {
        .boot_args = boot_args,
        .memory_bytes = run->host->memory_bytes,
        .vcpu_count = TOUR_CPUS,
        .huge_pages = MEMORY_4K,
    };
    struct board_config board_config;
    struct vm_shape shape;
    struct boot_error boot_error;
    struct board board;
    struct vm vm;
    int err, waited;

    snprintf(boot_args, sizeof(boot_args), "exec=%s", run->command);
    if (run->exercise->machine)
        run->exercise->machine(run, &config);
    shape = boot_shape(&config);
    board_config = boot_board(&config);
    board_config.console_out_fd = console_fd;
    board_config.checkpoint = on_checkpoint;
    board_config.checkpoint_owner = run;
    err = vm_create(&vm, run->host->kvm, &shape);
    if (err) {
        snprintf(error, error_bytes, "cannot create a virtual machine: %s", strerror(-err));
        return err;
    }
    run->vm = &vm;
    run->board = &board;
    run->tsc_hz = vcpu_tsc_hz(&vm.vcpus[0]);
    err = board_create(&board, &vm, &board_config);
    if (err) {
        snprintf(error, error_bytes, "cannot create the devices: %s",
                 board.error[0] ? board.error : strerror(-err));
        goto destroy_vm;
    }
    err = boot(&vm, &board, &config, &boot_error);
    if (err) {
        snprintf(error, error_bytes, "%s", boot_error.text);
        goto destroy_board;
    }
    err = vm_start(&vm);
    if (err) {
        snprintf(error, error_bytes, "cannot start the CPUs' threads: %s", strerror(-err));
        goto destroy_board;
    }
    waited = vm_wait(&vm, (int)run->host->timeout_s * 1000);
    if (waited) {
        vm_stop(&vm, VM_END_HOST_STOP, 0);
        vm_wait(&vm, STOP_TIMEOUT_MS);
    }
    check_end(run, waited, &vm.end);
    if (!tour_ok(run))
        keep_console(run, console_fd);

destroy_board:
    vm_stop(&vm, VM_END_HOST_STOP, 0);
    vm_wait(&vm, -1);
    board_destroy(&board);
destroy_vm:
    vm_destroy(&vm);
    run->vm = NULL;
    run->board = NULL;
    return err;
}

int tour_run(struct tour_run *run, const struct tour_exercise *exercise,
             const struct tour_host *host, bool control, char *error, size_t error_bytes)
{
    uint64_t start = monotonic_ns();
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
        err = run_vm(run, console_fd, error, error_bytes);
    while (!err && ++run->machine < exercise->machines);
    if (!err)
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
