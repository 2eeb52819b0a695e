#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include "devices/core/board.h"
#include "devices/virtio/balloon.h"
#include "devices/virtio/blk.h"
#include "devices/virtio/iommu.h"
#include "guest/abi/machine.h"
#include "vmm/boot/boot.h"
#include "vmm/boot/layout.h"
#include "vmm/cli/commands.h"
#include "vmm/cli/control.h"
#include "vmm/cli/inspector.h"
#include "vmm/cli/json.h"
#include "vmm/cli/keeper.h"
#include "vmm/cli/kvm_access.h"
#include "vmm/cli/options.h"
#include "vmm/cli/report.h"

enum {
    OPT_KERNEL,
    OPT_APPEND,
    OPT_MEMORY,
    OPT_CPUS,
    OPT_PAGES,
    OPT_DISK,
    OPT_RNG,
    OPT_VIRTIO_CONSOLE,
    OPT_BALLOON,
    OPT_DMA_PROBE,
    OPT_IOMMU,
    OPT_EXEC,
    OPT_CONTROL,
    OPT_JSON
};

static const struct option_entry option_entries[] = {
    [OPT_KERNEL] = { "kernel", "FILE",
                     "an ELF kernel with a PVH entry instead of the bundled guest" },
    [OPT_APPEND] = { "append", "TEXT", "boot arguments" },
    [OPT_MEMORY] = { "memory", "SIZE", "guest memory, e.g. 256M (the default) or 2G" },
    [OPT_CPUS] = { "cpus", "N", "virtual CPUs (default 2)" },
    [OPT_PAGES] = { "pages", "KIND", "host pages behind guest memory: 4k (default), thp, hugetlb" },
    [OPT_DISK] = { "disk", "FILE[,ro]",
                   "a disk with the contents of FILE, read-only with ,ro; may be repeated" },
    [OPT_RNG] = { "rng", NULL, "an entropy device" },
    [OPT_VIRTIO_CONSOLE] = { "virtio-console", NULL,
                             "a second console, beside the serial port; it gets the input\n"
                             "while a driver reads from it" },
    [OPT_BALLOON] = { "balloon", "SIZE",
                      "a balloon: the guest gives free memory back to the host, and does without\n"
                      "SIZE of it altogether (0: without nothing)" },
    [OPT_DMA_PROBE] = { "dma-probe", NULL, "a device that can be told to misbehave" },
    [OPT_IOMMU] = { "iommu", "MODE",
                    "how devices reach memory: off (directly, the default), or through an\n"
                    "IOMMU that the guest puts to bypass, strict or lazy" },
    [OPT_EXEC] = { "exec", "COMMAND",
                   "let the bundled guest run one command and halt with its status" },
    [OPT_CONTROL] = { "control", "SOCK",
                      "make a socket through which strata inspect looks at the machine" },
    [OPT_JSON] = { "json", "FILE",
                   "write how the run ended to FILE (- for standard output;\n"
                   "the console then goes to standard error)" },
};

static const struct command_line run_line = {
    .command = "run",
    .summary = "Starts a virtual machine with its console on standard input and output. The exit\n"
               "status is the guest's; 1 after a crash, with a report on standard error.",
    .options = option_entries,
    .noptions = sizeof(option_entries) / sizeof(option_entries[0]),
};

struct run_options {
    struct vm_config config;
    struct board_device devices[ABI_MMIO_DEVICES_MAX];
    const char *append, *exec, *json, *control;
    char *boot_args; /* owned */
};

static uint64_t host_memory_bytes(void)
{
    struct sysinfo info;

    return sysinfo(&info) == 0 ? (uint64_t)info.totalram * info.mem_unit : UINT64_MAX;
}

static uint64_t parse_memory(const char *text)
{
    uint64_t host = host_memory_bytes(), bytes;
    int err = parse_size(text, &bytes);

    if (err == -EINVAL)
        usage_error(&run_line, "--memory %s: not a size; say for example 256M or 1G", text);
    if (err || bytes > host)
        usage_error(&run_line, "--memory %s: more than the host's %llu MiB; give less", text,
                    (unsigned long long)(host >> 20));
    if (bytes < LAYOUT_MEMORY_BYTES_MIN)
        usage_error(&run_line, "--memory %s: too little to boot; give %lluM or more", text,
                    LAYOUT_MEMORY_BYTES_MIN >> 20);
    if (bytes % MEMORY_PAGE_BYTES)
        usage_error(&run_line, "--memory %s: not a multiple of 4K; round it", text);
    return bytes;
}

static unsigned parse_cpus(const char *text)
{
    unsigned count;
    int err = parse_count(text, VM_CPUS_MAX, &count);

    if (err == -EINVAL)
        usage_error(&run_line, "--cpus %s: not a number; say for example 2", text);
    if (err)
        usage_error(&run_line, "--cpus %s: more than %u; give less", text, VM_CPUS_MAX);
    if (!count)
        usage_error(&run_line, "--cpus 0: a machine needs a CPU; give 1 or more");
    return count;
}

static void add_device(struct run_options *options, struct board_device device)
{
    unsigned *count = &options->config.ndevices;

    if (*count == ABI_MMIO_DEVICES_MAX)
        usage_error(&run_line, "more than %d devices; give fewer --disk, --rng, --virtio-console",
                    ABI_MMIO_DEVICES_MAX);
    options->devices[(*count)++] = device;
}

/* FILE, or FILE,ro; the text stays where it is, but for the comma. */
static void add_disk(struct run_options *options, char *text)
{
    char *comma = strrchr(text, ',');
    struct board_device disk = { .kind = BOARD_BLK, .path = text };

    if (comma && !strcmp(comma, ",ro")) {
        *comma = 0;
        disk.read_only = true;
    }
    if (access(text, disk.read_only ? R_OK : R_OK | W_OK)) {
        if (errno == EACCES || errno == EROFS)
            usage_error(&run_line, "--disk %s: %s; %s", text, strerror(errno),
                        access(text, R_OK) ? "make the file readable" : "say --disk FILE,ro");
        usage_error(&run_line, "--disk %s: %s; give a file that exists", text, strerror(errno));
    }
    add_device(options, disk);
}

/* Checked against --memory when that is known. */
static void add_balloon(struct run_options *options, const char *text)
{
    struct board_device balloon = { .kind = BOARD_BALLOON };

    if (strcmp(text, "0") && parse_size(text, &balloon.bytes))
        usage_error(&run_line, "--balloon %s: not a size; say for example 64M, or 0", text);
    for (unsigned i = 0; i < options->config.ndevices; i++) {
        if (options->devices[i].kind == BOARD_BALLOON)
            usage_error(&run_line, "--balloon twice: a machine has one; give one of them");
    }
    add_device(options, balloon);
}

static void check_balloon(const struct run_options *options)
{
    for (unsigned i = 0; i < options->config.ndevices; i++) {
        if (options->devices[i].bytes >= options->config.memory_bytes)
            usage_error(&run_line, "--balloon: as much as there is memory; give less than %lluM",
                        (unsigned long long)(options->config.memory_bytes >> 20));
    }
}

/* As the guest's kernel is told (guest/abi/machine.h). */
static const char *parse_iommu(const char *text)
{
    static const char *const modes[][2] = {
        { "off", "off" }, { "bypass", "identity" }, { "strict", "DMA" }, { "lazy", "DMA-FQ" }
    };

    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        if (!strcmp(text, modes[i][0]))
            return modes[i][1];
    }
    usage_error(&run_line, "--iommu %s: unknown; say off, bypass, strict or lazy", text);
}

/* The number of a device's window is its endpoint. */
static void number_devices(struct run_options *options)
{
    struct vm_config *config = &options->config;
    unsigned first = boot_board(config).iommu ? 1 : 0;

    if (first + config->ndevices > ABI_MMIO_DEVICES_MAX)
        usage_error(&run_line,
                    "more than %d devices beside the IOMMU; give fewer --disk, --rng, "
                    "--virtio-console",
                    ABI_MMIO_DEVICES_MAX - 1);
    for (unsigned i = 0; i < config->ndevices; i++)
        options->devices[i].endpoint = first + i;
}

/* Everything after exec= to the end of the string is the command, so it comes last. */
static char *join_boot_args(const char *append, const char *exec)
{
    char *joined;

    if (asprintf(&joined, "%s%s%s%s", append ? append : "", append && exec ? " " : "",
                 exec ? "exec=" : "", exec ? exec : "") < 0)
        return NULL;
    return joined;
}

static void parse_options(struct run_options *options, int argc, char **argv)
{
    struct vm_config *config = &options->config;
    const char *value;
    int option;

    *options = (struct run_options){ .config = { .memory_bytes = VM_CONFIG_MEMORY_BYTES,
                                                 .vcpu_count = VM_CONFIG_CPUS } };

    while ((option = options_next(&run_line, argc, argv, &value)) >= 0) {
        switch (option) {
        case OPT_KERNEL: config->kernel_path = value; break;
        case OPT_APPEND: options->append = value; break;
        case OPT_MEMORY: config->memory_bytes = parse_memory(value); break;
        case OPT_CPUS: config->vcpu_count = parse_cpus(value); break;
        case OPT_DISK: add_disk(options, optarg); break;
        case OPT_RNG: add_device(options, (struct board_device){ .kind = BOARD_RNG }); break;
        case OPT_DMA_PROBE:
            add_device(options, (struct board_device){ .kind = BOARD_PROBE });
            break;
        case OPT_VIRTIO_CONSOLE:
            add_device(options, (struct board_device){ .kind = BOARD_CONSOLE });
            break;
        case OPT_BALLOON: add_balloon(options, value); break;
        case OPT_IOMMU: config->dma_mode = parse_iommu(value); break;
        case OPT_EXEC: options->exec = value; break;
        case OPT_CONTROL: options->control = value; break;
        case OPT_JSON: options->json = value; break;
        case OPT_PAGES:
            if (parse_backing(value, &config->huge_pages))
                usage_error(&run_line, "--pages %s: unknown; say 4k, thp or hugetlb", value);
            break;
        default: break;
        }
    }
    if (config->huge_pages == MEMORY_HUGETLB && config->memory_bytes % MEMORY_HUGE_BYTES)
        usage_error(&run_line, "--pages hugetlb: --memory must be a multiple of 2M; round it");
    check_balloon(options);
    number_devices(options);
    config->devices = options->devices;
    options->boot_args = join_boot_args(options->append, options->exec);
    config->boot_args = options->boot_args;
}

/* A VM that cannot be made: usage if the options asked for too much, else KVM's fault. */
static int explain_create(const struct kvm_host *host, const struct vm_config *config, int err)
{
    int max = kvm_capability(host, KVM_CAP_MAX_VCPUS);

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
    return STATUS_NO_KVM;
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

static json_t *describe_disk(const struct virtio_blk *disk)
{
    const struct virtio_blk_counts *counts = &disk->counts;

    return json_pack("{s:I, s:I, s:b, s:s?, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "sectors",
                     (json_int_t)disk->block->sectors, "unused_bytes",
                     (json_int_t)disk->file.unused_bytes, "io_uring", disk->file.uring, "lack",
                     disk->file.why_not, "reads", (json_int_t)counts->reads, "read_bytes",
                     (json_int_t)counts->read_bytes, "writes", (json_int_t)counts->writes,
                     "write_bytes", (json_int_t)counts->write_bytes, "flushes",
                     (json_int_t)counts->flushes, "failed", (json_int_t)counts->failed,
                     "unreachable", (json_int_t)counts->unreachable);
}

/* What the guest's driver did to the IOMMU: `refused` and the two after it mean mistakes. */
static json_t *describe_driver(struct virtio_iommu *iommu)
{
    struct virtio_iommu_counts counts;
    uint64_t refused = 0;

    virtio_iommu_count(iommu, &counts);
    for (unsigned i = 1; i < VIRTIO_IOMMU_STATUSES; i++)
        refused += counts.answered[i];
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "requests", (json_int_t)counts.answered[0],
                     "refused", (json_int_t)refused, "unanswered", (json_int_t)counts.unanswered,
                     "careless", (json_int_t)counts.careless, "events", (json_int_t)counts.events,
                     "short_event_buffers", (json_int_t)counts.short_buffers);
}

static json_t *describe_balloon(const struct virtio_balloon *balloon)
{
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I}", "target_pages", (json_int_t)balloon->state.target_pages,
        "actual_pages", (json_int_t)balloon->state.actual_pages, "reported_bytes",
        (json_int_t)balloon->reported_bytes, "inflated_bytes", (json_int_t)balloon->inflated_bytes,
        "pinned_pages", (json_int_t)balloon->pinned_pages, "bad_ranges",
        (json_int_t)balloon->bad_ranges);
}

static json_t *describe_device(const struct board_report *report)
{
    return json_pack("{s:s, s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:s?, s:o, s:o, s:o}", "name",
                     report->name, "gpa", (json_int_t)report->gpa, "endpoint",
                     report->translated ? json_integer(report->endpoint) : json_null(), "kicks",
                     (json_int_t)report->kicks, "interrupts", (json_int_t)report->interrupts,
                     "bad_accesses", (json_int_t)report->bad_accesses, "dma_faults",
                     (json_int_t)report->dma_faults, "needed_resets",
                     (json_int_t)report->needed_resets, "needed_reset", report->needed_reset,
                     "disk", report->disk ? describe_disk(report->disk) : json_null(), "driver",
                     report->iommu ? describe_driver(report->iommu) : json_null(), "balloon",
                     report->balloon ? describe_balloon(report->balloon) : json_null());
}

static json_t *describe_devices(const struct board *board)
{
    json_t *devices = json_array();
    struct board_report report;

    for (unsigned i = 0; board_report(board, i, &report); i++)
        json_array_append_new(devices, describe_device(&report));
    return devices;
}

static json_t *describe_iommu(const struct board *board)
{
    struct iommu_counts counts;

    if (!board_iommu(board))
        return json_null();
    iommu_count(board_iommu(board), &counts);
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "faults",
                     (json_int_t)counts.faults, "faults_dropped", (json_int_t)counts.faults_dropped,
                     "maps", (json_int_t)counts.maps, "unmaps", (json_int_t)counts.unmaps,
                     "invalidations", (json_int_t)counts.invalidations, "tlb_hits",
                     (json_int_t)counts.tlb_hits, "tlb_misses", (json_int_t)counts.tlb_misses,
                     "domains", (json_int_t)counts.domains, "mappings", (json_int_t)counts.mappings,
                     "table_bytes", (json_int_t)counts.table_bytes, "pinned_pages",
                     (json_int_t)counts.pinned_pages);
}

static json_t *describe_run(const struct vm *vm, const struct board *board, const char *backend,
                            uint64_t elapsed_ns)
{
    json_t *result = json_result("strata.run", 1), *exits = json_object();

    for (unsigned reason = 0; reason < VCPU_EXIT_REASONS; reason++) {
        uint64_t count = 0;

        for (unsigned i = 0; i < vm->ncpus; i++)
            count += vm->vcpus[i].exits[reason];
        if (count)
            json_object_set_new(exits, vcpu_exit_name(reason), json_integer((json_int_t)count));
    }
    json_object_set_new(result, "host", json_pack("{s:s}", "kvm", backend));
    json_object_set_new(
        result, "end",
        json_pack("{s:s, s:i, s:o}", "reason", vm_end_name(vm->end.reason), "status",
                  vm->end.status, "vcpu",
                  vm->end.vcpu == VM_NO_VCPU ? json_null() : json_integer(vm->end.vcpu)));
    json_object_set_new(result, "memory_bytes", json_integer((json_int_t)vm->memory.bytes));
    json_object_set_new(result, "cpus", json_integer(vm->ncpus));
    json_object_set_new(result, "exits", exits);
    json_object_set_new(result, "devices", describe_devices(board));
    json_object_set_new(result, "iommu", describe_iommu(board));
    json_object_set_new(result, "elapsed_ns", json_integer((json_int_t)elapsed_ns));
    return result;
}

static uint64_t now_ns(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
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

/* What somebody who gave a disk would not expect of it. */
static void report_disks(const struct board *board)
{
    struct board_report report;

    for (unsigned i = 0; board_report(board, i, &report); i++) {
        const struct file_facts *file = report.disk ? &report.disk->file : NULL;

        if (file && !file->uring)
            fprintf(stderr, "strata run: disks work by system calls, which is slower: %s\n",
                    file->why_not);
        if (file && file->unused_bytes)
            fprintf(stderr,
                    "strata run: a disk image is not whole sectors of 512 bytes: its last %u "
                    "bytes are not used\n",
                    (unsigned)file->unused_bytes);
    }
}

/* After the VM has ended: the report, the result, the exit status. */
static int conclude(const struct vm *vm, const struct board *board, struct kvm_host *host,
                    struct json_output *json, uint64_t started_ns)
{
    struct kvm_evidence evidence;
    int status = vm->end.status, err;
    json_t *result;

    if (report_wanted(&vm->end))
        report_crash(stderr, vm);
    if (!json->path)
        return status;
    evidence = kvm_gather();
    kvm_identify(host, &evidence);
    result = describe_run(vm, board, kvm_backend_name(host->backend), now_ns() - started_ns);
    err = json_output_write(json, result);
    json_decref(result);
    if (err) {
        fprintf(stderr, "strata run: --json: %s\n", strerror(-err));
        return status ? status : STATUS_FAILED;
    }
    return status;
}

/* What goes on beside the boot CPU: the keeper, and the control socket if there is one. */
struct beside {
    struct keeper *keeper;
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
    keeper_watch(beside->keeper);
}

static int run(struct kvm_host *host, const struct run_options *options, struct json_output *json,
               struct control *control)
{
    struct vm_shape shape = boot_shape(&options->config);
    struct boot_error error;
    struct board_config board_config = boot_board(&options->config);
    struct inspector inspector;
    struct keeper keeper;
    struct beside beside = { &keeper, control, &inspector };
    struct board board;
    struct vm vm;
    uint64_t started_ns;
    int status, err;

    err = keeper_create(&keeper);
    if (err) {
        fprintf(stderr, "strata run: cannot watch the console: %s\n", strerror(-err));
        return STATUS_FAILED;
    }
    keeper.vm = &vm;
    keeper.board = &board;
    board_config.console_out_fd = json->fd == STDOUT_FILENO ? STDERR_FILENO : STDOUT_FILENO;
    board_config.console_room_fd = keeper.room_fd;
    err = vm_create(&vm, host, &shape);
    if (err) {
        status = explain_create(host, &options->config, err);
        goto destroy_keeper;
    }
    err = board_create(&board, &vm, &board_config);
    if (err) {
        status = explain_devices(&board, err);
        goto destroy_vm;
    }
    report_disks(&board);
    err = boot(&vm, &board, &options->config, &error);
    if (err) {
        fprintf(stderr, "strata run: %s\n", error.text);
        status = STATUS_USAGE;
        goto destroy_board;
    }
    started_ns = now_ns();
    if (control)
        inspector_init(&inspector, &vm, &board, !options->config.kernel_path, &control->stopping);
    err = vm_run(&vm, run_beside, &beside);
    /* Nobody may look at a VM that is taken apart. */
    if (control)
        control_close(control);
    if (err) {
        status = explain_create(host, &options->config, err);
        goto destroy_board;
    }
    report_lost_output(&board.serial.console);
    status = conclude(&vm, &board, host, json, started_ns);

destroy_board:
    board_destroy(&board);
destroy_vm:
    vm_destroy(&vm);
destroy_keeper:
    keeper_destroy(&keeper);
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
    struct json_output json;
    struct kvm_host host;
    int status, err;

    parse_options(&options, argc, argv);
    err = json_output_open(&json, options.json);
    if (err) {
        free(options.boot_args);
        usage_error(&run_line, "--json %s: %s; give a file that can be written", options.json,
                    strerror(-err));
    }
    kvm_open_or_exit(&host, false);
    control = options.control ? open_control(options.control) : NULL;
    status = options.control && !control ? STATUS_USAGE : run(&host, &options, &json, control);
    if (control)
        control_close(control);
    free(control);
    kvm_close(&host);
    json_output_close(&json);
    free(options.boot_args);
    return status;
}
