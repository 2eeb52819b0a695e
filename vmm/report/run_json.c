#include "vmm/report/run_json.h"

#include <string.h>

#include "devices/core/board.h"
#include "vmm/machine/vm.h"
#include "vmm/report/device_json.h"
#include "vmm/report/json.h"

#define STATS_NAME(kind, ops) (ops).stats_name,

/* Each kind's stats have a key of their own, which is null for devices of all other kinds. */
static void run_json_add_stats(json_t *object, const struct device *device)
{
    const char *const names[] = { DEVICE_LIST(STATS_NAME) };

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (names[i])
            json_object_set_new(object, names[i], json_null());
    }
    if (device->ops->stats_name)
        json_object_set_new(object, device->ops->stats_name,
                            device_json_stats(device->ops, device->model));
}

static json_t *run_json_describe_device(const struct board_report *report)
{
    const struct device_counts *counts = &report->counts;
    json_t *device = json_pack(
        "{s:s, s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:s?}", "name", report->device->ops->name, "gpa",
        (json_int_t)report->gpa, "endpoint",
        report->translated ? json_integer(report->endpoint) : json_null(), "kicks",
        (json_int_t)counts->kicks, "interrupts", (json_int_t)counts->interrupts, "bad_accesses",
        (json_int_t)counts->bad_accesses, "dma_faults", (json_int_t)report->dma_faults,
        "needed_resets", (json_int_t)counts->needed_resets, "needed_reset", counts->needed_reset);

    run_json_add_stats(device, report->device);
    return device;
}

static json_t *run_json_describe_devices(const struct board *board)
{
    json_t *devices = json_array();
    struct board_report report;

    for (unsigned i = 0; board_report(board, i, &report); i++)
        json_array_append_new(devices, run_json_describe_device(&report));
    return devices;
}

static json_t *run_json_describe_iommu(const struct board *board)
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

/* Of the I/O thread; null where nothing was notified on one. */
static json_t *run_json_describe_io(const struct board *board)
{
    const struct io_thread *io = &board->io;

    if (!io->nevents && !io->error)
        return json_null();
    return json_pack("{s:i, s:I, s:I, s:s?}", "queues", (int)io->nevents, "notifications",
                     (json_int_t)atomic_load(&io->signals), "wakeups",
                     (json_int_t)atomic_load(&io->wakeups), "error",
                     io->error ? strerror(-io->error) : NULL);
}

json_t *run_json(const struct vm *vm, const struct board *board, const char *backend, int status,
                 json_t *report, uint64_t elapsed_ns)
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
        json_pack("{s:s, s:i, s:o}", "reason", vm_end_name(vm->end.reason), "status", status,
                  "vcpu", vm->end.vcpu == VM_NO_VCPU ? json_null() : json_integer(vm->end.vcpu)));
    json_object_set_new(result, "report", report ? json_incref(report) : json_null());
    json_object_set_new(result, "memory_bytes", json_integer((json_int_t)vm->memory.bytes));
    json_object_set_new(result, "cpus", json_integer(vm->ncpus));
    json_object_set_new(result, "exits", exits);
    json_object_set_new(result, "devices", run_json_describe_devices(board));
    json_object_set_new(result, "iommu", run_json_describe_iommu(board));
    json_object_set_new(result, "io", run_json_describe_io(board));
    json_object_set_new(result, "elapsed_ns", json_integer((json_int_t)elapsed_ns));
    return result;
}
