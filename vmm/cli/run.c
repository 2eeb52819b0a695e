#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/core/board.h"
#include "devices/virtio/blk.h"
#include "vmm/base/monotonic.h"
#include "vmm/boot/boot.h"
#include "vmm/cli/commands.h"
#include "vmm/cli/kvm_access.h"
#include "vmm/cli/results.h"
#include "vmm/cli/run_kernel.h"
#include "vmm/cli/run_options.h"
#include "vmm/cli/run_status.h"
#include "vmm/control/control.h"
#include "vmm/control/inspector.h"
#include "vmm/doctor/kvm_remedy.h"
#include "vmm/monitor/event_loop.h"
#include "vmm/monitor/watchdog.h"
#include "vmm/report/report.h"
#include "vmm/report/report_text.h"
#include "vmm/report/run_json.h"

/* A VM that cannot be made: usage if the options asked for too much, else KVM's fault. */
static int explain_create(const struct kvm_host *host, const struct vm_config *config, int err)
{
    int max = kvm_capability(host, KVM_CAP_MAX_VCPUS);

    if (config->huge_pages == MEMORY_HUGETLB_1G && err == -ENOMEM) {
        fprintf(stderr,
                "strata run: --pages hugetlb-1g: too few free pages of 1 GiB for %llu MiB; reserve "
                "them with hugepagesz=1G hugepages=%llu on the host kernel's command line\n",
                (unsigned long long)(config->memory_bytes >> 20),
                (unsigned long long)(config->memory_bytes / MEMORY_GIANT_BYTES));
        return STATUS_USAGE;
    }
    if (config->huge_pages == MEMORY_HUGETLB && err == -ENOMEM) {
        fprintf(stderr,
                "strata run: --pages hugetlb: too few free huge pages for %llu MiB; reserve them "
                "with sysctl vm.nr_hugepages=%llu\n",
                (unsigned long long)(config->memory_bytes >> 20),
                (unsigned long long)(config->memory_bytes / MEMORY_HUGE_BYTES));
        return STATUS_USAGE;
    }
    if (config->vcpu_count > 1 && max > 0 && config->vcpu_count > (unsigned)max) {
        fprintf(stderr, "strata run: --cpus %u: this KVM allows %d; give less\n",
                config->vcpu_count, max);
        return STATUS_USAGE;
    }
    if (err == -ENOMEM) {
        fprintf(stderr, "strata run: no room for a machine with %llu MiB; give less --memory\n",
                (unsigned long long)(config->memory_bytes >> 20));
        return STATUS_USAGE;
    }
    fprintf(stderr, "strata run: cannot create a virtual machine: %s; %s\n", strerror(-err),
            kvm_remedy(err));
    return err == -EMFILE || err == -ENFILE ? STATUS_FAILED : STATUS_NO_KVM;
}

/* A disk that cannot be used is for the user to mend; the rest is not. */
static int explain_devices(const struct board *board, int err)
{
    if (board->error[0]) {
        fprintf(stderr, "strata run: %s\n", board->error);
        return STATUS_USAGE;
    }
    fprintf(stderr, "strata run: cannot create the devices: %s\n", strerror(-err));
    return STATUS_FAILED;
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
    const struct board_device *device = config->devices;
    struct board_report report;

    for (unsigned i = 0; board_report(board, i, &report); i++) {
        const struct file_info *file = report.disk ? &report.disk->file : NULL;

        if (!file)
            continue;
        while (device->kind != BOARD_BLK)
            device++;
        if (!file->uring)
            fprintf(stderr, "strata run: disks work by system calls, which is slower: %s\n",
                    file->why_not);
        if (file->unused_bytes)
            fprintf(stderr,
                    "strata run: %s is not whole sectors of 512 bytes: the guest does not see its "
                    "last %u bytes; truncate -s %%512 makes it whole\n",
                    device->path, (unsigned)file->unused_bytes);
        device++;
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
                        struct boot_early *early, struct event_loop *loop, struct control *control)
{
    struct vm *vm = running->vm;
    struct inspector inspector;
    struct beside beside = { loop, control, &inspector };
    struct boot_error error;
    int err = options->load_early ? boot_early_finish(early, vm, running->board, &error)
                                  : boot(vm, running->board, &options->config, &error);

    if (err) {
        fprintf(stderr, "strata run: %s\n", error.text);
        return STATUS_USAGE;
    }
    running->started_ns = monotonic_ns();
    if (control)
        inspector_init(&inspector, vm, running->board, running->bundled, &control->stopping);
    /* What is to be said of its CPUs comes before what the guest says. */
    err = running->bundled ? 0 : vcpu_configure(&vm->vcpus[0]);
    if (!err && !running->bundled)
        run_cpuid_explain(vm);
    if (!err)
        err = vm_run(vm, run_beside, &beside);
    /* Nobody may look at a VM that is taken apart. */
    if (control)
        control_close(control);
    if (err)
        return explain_create(running->host, &options->config, err);
    report_lost_output(&running->board->serial.console);
    return conclude(running);
}

static int run(struct kvm_host *host, const struct run_options *options, struct results *results,
               struct control *control)
{
    struct vm_shape shape = boot_shape(&options->config);
    struct board_config board_config = boot_board(&options->config);
    struct event_loop loop;
    struct watchdog watchdog;
    struct boot_early early;
    struct board board;
    struct vm vm;
    struct running running = { .vm = &vm,
                               .board = &board,
                               .host = host,
                               .results = results,
                               .bundled = !options->config.kernel_path };
    int status, err;

    err = event_loop_create(&loop, options->config.kernel_path != NULL);
    if (err) {
        fprintf(stderr, "strata run: cannot watch the console: %s\n", strerror(-err));
        return STATUS_FAILED;
    }
    loop.vm = &vm;
    loop.board = &board;
    loop.final_report = conclude_and_exit;
    loop.owner = &running;
    if (options->watchdog_seconds) {
        err = watchdog_create(&watchdog, &vm, options->config.vcpu_count);
        if (err) {
            fprintf(stderr, "strata run: --watchdog: %s\n", strerror(-err));
            status = STATUS_FAILED;
            goto destroy_event_loop;
        }
        running.watchdog = loop.watchdog = &watchdog;
        loop.watchdog_seconds = options->watchdog_seconds;
    }
    board_config.console_out_fd = fileno(results->out);
    board_config.console_input_ready_fd = loop.input_ready_fd;
    if (options->load_early)
        boot_early(&early, &options->config, &shape);
    err = vm_create(&vm, host, &shape);
    if (err && options->load_early && early.error.text[0]) {
        fprintf(stderr, "strata run: %s\n", early.error.text);
        status = STATUS_USAGE;
        goto destroy_event_loop;
    }
    if (err) {
        status = explain_create(host, &options->config, err);
        goto drop_kernel;
    }
    err = board_create(&board, &vm, &board_config);
    if (err) {
        status = explain_devices(&board, err);
        goto destroy_vm;
    }
    report_disks(&board, &options->config);
    status = boot_and_run(&running, options, &early, &loop, control);
    board_destroy(&board);

destroy_vm:
    vm_destroy(&vm);
drop_kernel:
    if (options->load_early)
        boot_early_drop(&early);
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

int cmd_run(int argc, char **argv)
{
    struct run_options options;
    struct control *control;
    struct results results = { 0 };
    struct kvm_host host;
    int status;

    run_options_parse(&options, argc, argv);
    results.json_path = options.json;
    results_open(&results, &run_line);
    status = run_kernel_check(&options);
    if (status) {
        results_close(&results);
        run_options_free(&options);
        return status;
    }
    kvm_open_or_exit(&host, false);
    status = run_cpuid_check(&options.cpuid, &host);
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
