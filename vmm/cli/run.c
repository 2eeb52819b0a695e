#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/core/board.h"
#include "devices/virtio/blk.h"
#include "vmm/base/monotonic.h"
#include "vmm/cli/commands.h"
#include "vmm/cli/kvm_access.h"
#include "vmm/cli/results.h"
#include "vmm/cli/run_cpuid.h"
#include "vmm/cli/run_kernel.h"
#include "vmm/cli/run_options.h"
#include "vmm/cli/run_status.h"
#include "vmm/control/control.h"
#include "vmm/control/inspector.h"
#include "vmm/doctor/kvm_remedy.h"
#include "vmm/launch/config_json.h"
#include "vmm/launch/machine.h"
#include "vmm/monitor/event_loop.h"
#include "vmm/monitor/watchdog.h"
#include "vmm/report/report.h"
#include "vmm/report/report_text.h"
#include "vmm/report/run_json.h"

/* Why the machine was not made or started: the exit status, after a line. */
static int explain(const struct run_options *options, const struct machine *machine,
                   const struct error *error)
{
    bool asked = error->field[0] || machine->step == MACHINE_STEP_BOOT;

    if (machine->step == MACHINE_STEP_DEVICES) {
        /* A disk that cannot be used is for the user to mend; the rest is not. */
        run_report(options, error);
        return machine->board.error[0] ? STATUS_USAGE : STATUS_FAILED;
    }
    if (asked) {
        run_report(options, error);
        return STATUS_USAGE;
    }
    fprintf(stderr, "strata run: %s; %s\n", error->text, kvm_remedy(error->code));
    return error->code == -EMFILE || error->code == -ENFILE ? STATUS_FAILED : STATUS_NO_KVM;
}

/* A reader that closed its end has seen what it wanted; anything else is worth a line. */
static void report_lost_output(const struct console *console)
{
    unsigned long long dropped = atomic_load(&console->dropped);
    int error = atomic_load(&console->error);

    if (dropped && error != -EPIPE)
        fprintf(stderr, "strata run: %llu bytes of console output were lost: %s\n", dropped,
                error ? strerror(-error) : "nobody read them");
}

/* What somebody who gave a disk would not expect of it. The board has config's devices in order. */
static void report_disks(const struct board *board, const struct vm_config *config)
{
    for (unsigned i = 0; i < config->ndevices; i++) {
        const struct virtio_blk *disk = board_model(board, i, &virtio_blk_ops);
        const struct file_info *file = disk ? &disk->file : NULL;

        if (!file)
            continue;
        if (!file->uring)
            fprintf(stderr, "strata run: disks work by system calls, which is slower: %s\n",
                    file->why_not);
        if (file->unused_bytes)
            fprintf(stderr,
                    "strata run: %s is not whole sectors of 512 bytes: the guest does not see its "
                    "last %u bytes; truncate -s %%512 makes it whole\n",
                    config->devices[i].path, (unsigned)file->unused_bytes);
    }
}

/* A machine that runs, or did, and what is to be said of it. */
struct running {
    struct vm *vm;
    struct board *board;
    struct kvm_host *host;
    struct results *results;
    struct watchdog *watchdog; /* NULL: none */
    bool bundled;
    uint64_t started_ns;
};

/* After the VM has ended: the report, the result, the exit status. */
static int conclude(const struct running *running)
{
    const struct vm *vm = running->vm;
    int status = run_status(&vm->end, running->bundled);
    struct kvm_detection input;
    json_t *report = NULL, *result = NULL;
    bool written;

    if (report_wanted(&vm->end)) {
        report = report_json(vm, &running->board->serial.console,
                             running->watchdog ? running->watchdog->why : NULL);
        report_text_print(stderr, report);
    } else if (vm->end.reason == VM_END_HOST_STOP) {
        report_stopped(stderr, vm);
    }
    if (running->results->json_path) {
        input = kvm_gather();
        kvm_identify(running->host, &input);
        result = run_json(vm, running->board, kvm_backend_name(running->host->backend), status,
                          report, monotonic_ns() - running->started_ns);
    }
    json_decref(report);
    written = results_write(running->results, result, NULL, NULL);
    return written || status ? status : STATUS_FAILED;
}

/* Where a vCPU does not come back, and nothing can be taken apart. */
static void conclude_and_exit(void *owner)
{
    _exit(conclude(owner));
}

/* What goes on beside the boot CPU: the event loop, and the control socket if there is one. */
struct beside {
    struct event_loop *loop;
    struct control *control; /* NULL: none */
    struct inspector *inspector;
};

static void run_beside(void *arg)
{
    struct beside *beside = arg;
    int err = beside->control ? control_start(beside->control, inspector_answer, beside->inspector)
                              : 0;

    if (err)
        fprintf(stderr, "strata run: --control: no thread for it: %s\n", strerror(-err));
    event_loop_run(beside->loop);
}

/* Boots the machine, which has its devices, and runs it until its end: the exit status. */
static int boot_and_run(struct running *running, const struct run_options *options,
                        struct machine *machine, struct event_loop *loop, struct control *control)
{
    struct vm *vm = &machine->vm;
    struct inspector inspector;
    struct beside beside = { loop, control, &inspector };
    struct error error;
    int err = machine_boot(machine, &error);

    if (err)
        return explain(options, machine, &error);
    running->started_ns = monotonic_ns();
    if (control)
        inspector_init(&inspector, vm, &machine->board, running->bundled, &control->stopping);
    /* What is to be said of its CPUs comes before what the guest says. */
    err = running->bundled ? 0 : machine_configure(machine, &error);
    if (!err && !running->bundled)
        run_cpuid_explain(vm);
    if (!err)
        err = machine_run(machine, run_beside, &beside, &error);
    /* Nobody may look at a VM that is taken apart. */
    if (control)
        control_close(control);
    if (err)
        return explain(options, machine, &error);
    report_lost_output(&machine->board.serial.console);
    return conclude(running);
}

static int run(struct kvm_host *host, const struct run_options *options, struct results *results,
               struct control *control)
{
    struct event_loop loop;
    struct watchdog watchdog;
    struct machine machine;
    struct machine_hooks hooks = MACHINE_NO_HOOKS;
    struct error error;
    struct running running = { .vm = &machine.vm,
                               .board = &machine.board,
                               .host = host,
                               .results = results,
                               .bundled = !options->config.kernel_path };
    int status, err;

    err = event_loop_create(&loop, options->config.kernel_path != NULL);
    if (err) {
        fprintf(stderr, "strata run: cannot watch the console: %s\n", strerror(-err));
        return STATUS_FAILED;
    }
    loop.vm = &machine.vm;
    loop.board = &machine.board;
    loop.final_report = conclude_and_exit;
    loop.owner = &running;
    if (options->watchdog_seconds) {
        err = watchdog_create(&watchdog, &machine.vm, options->config.vcpu_count);
        if (err) {
            fprintf(stderr, "strata run: --watchdog: %s\n", strerror(-err));
            status = STATUS_FAILED;
            goto destroy_event_loop;
        }
        running.watchdog = loop.watchdog = &watchdog;
        loop.watchdog_seconds = options->watchdog_seconds;
    }
    hooks.console_out_fd = fileno(results->out);
    hooks.console_input_ready_fd = loop.input_ready_fd;
    err = machine_create(&machine, host, &options->config, &hooks, &error);
    if (err) {
        status = explain(options, &machine, &error);
        goto destroy_event_loop;
    }
    report_disks(&machine.board, &options->config);
    status = boot_and_run(&running, options, &machine, &loop, control);
    machine_destroy(&machine);

destroy_event_loop:
    if (running.watchdog)
        watchdog_destroy(running.watchdog);
    event_loop_destroy(&loop);
    return status;
}

/* The socket, before there is a machine; NULL after saying why not. Owned. */
static struct control *open_control(const char *path)
{
    struct control *control = malloc(sizeof(*control));
    char error[CONTROL_ERROR_BYTES] = "no memory";

    if (control && control_open(control, path, error) == 0) {
        control->busy = inspector_busy;
        control->too_long = inspector_too_long;
        return control;
    }
    fprintf(stderr, "strata run: --control: %s\n", error);
    free(control);
    return NULL;
}

static int print_config(struct vm_config *config)
{
    char *text = config_json_write(config);
    bool written = text && fputs(text, stdout) >= 0 && fflush(stdout) == 0;

    free(text);
    if (!written)
        fprintf(stderr, "strata run: --print-config: %s\n", strerror(errno));
    return written ? STATUS_OK : STATUS_FAILED;
}

int cmd_run(int argc, char **argv)
{
    struct run_options options;
    struct control *control;
    struct results results = { 0 };
    struct kvm_host host;
    int status;

    run_options_parse(&options, argc, argv);
    if (options.print_config) {
        status = run_kernel_resolve(&options);
        if (!status)
            status = print_config(&options.config);
        run_options_free(&options);
        return status;
    }
    results.json_path = options.json;
    results_open(&results, &run_line);
    status = run_kernel_check(&options);
    if (status) {
        results_close(&results);
        run_options_free(&options);
        return status;
    }
    kvm_open_or_exit(&host, false);
    status = run_cpuid_check(&options, &host);
    if (status)
        goto close_kvm;
    control = options.control ? open_control(options.control) : NULL;
    status = options.control && !control ? STATUS_USAGE : run(&host, &options, &results, control);
    if (control)
        control_close(control);
    free(control);
close_kvm:
    kvm_close(&host);
    results_close(&results);
    run_options_free(&options);
    return status;
}
