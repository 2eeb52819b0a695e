#include "vmm/report/run_json.h"

#include <stdio.h>
#include <string.h>

#include "devices/core/board.h"
#include "devices/virtio/balloon.h"
#include "devices/virtio/blk.h"
#include "devices/virtio/console.h"
#include "devices/virtio/console_ports.h"
#include "devices/virtio/iommu.h"
#include "devices/virtio/net.h"
#include "devices/virtio/vsock.h"
#include "vmm/machine/vm.h"
#include "vmm/report/balloon_json.h"
#include "vmm/report/json.h"

static json_t *run_json_describe_disk(const struct virtio_blk *disk)
{
    const struct virtio_blk_counts *counts = &disk->counts;

    return json_pack(
        "{s:I, s:I, s:b, s:s?, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "sectors",
        (json_int_t)disk->block->sectors, "unused_bytes", (json_int_t)disk->file.unused_bytes,
        "io_uring", disk->file.uring, "lack", disk->file.why_not, "reads",
        (json_int_t)counts->reads, "read_bytes", (json_int_t)counts->read_bytes, "writes",
        (json_int_t)counts->writes, "write_bytes", (json_int_t)counts->write_bytes, "flushes",
        (json_int_t)counts->flushes, "failed", (json_int_t)counts->failed, "unreachable",
        (json_int_t)counts->unreachable, "latency_ns", (json_int_t)disk->latency_ns, "shortest_ns",
        (json_int_t)counts->shortest_ns, "longest_ns", (json_int_t)counts->longest_ns);
}

/* What the guest's driver did to the IOMMU: `refused` and the two after it mean mistakes. */
static json_t *run_json_describe_driver(struct virtio_iommu *iommu)
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

static json_t *run_json_describe_balloon(struct virtio_balloon *balloon)
{
    struct virtio_balloon_view view;

    virtio_balloon_view(balloon, &view);
    return balloon_json(&view);
}

static json_t *run_json_describe_net(struct virtio_net *net)
{
    bool link;
    struct virtio_net_counts counts = virtio_net_count(net, &link);
    char mac[3 * NET_MAC_BYTES];

    for (unsigned i = 0; i < NET_MAC_BYTES; i++)
        snprintf(mac + 3 * i, 4, "%02x%s", net->mac[i], i + 1 < NET_MAC_BYTES ? ":" : "");
    return json_pack(
        "{s:s, s:b, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "guest_mac", mac, "link", link,
        "mtu", net->net.mtu, "received_frames", (json_int_t)counts.received, "received_bytes",
        (json_int_t)counts.received_bytes, "sent_frames", (json_int_t)counts.sent, "sent_bytes",
        (json_int_t)counts.sent_bytes, "filtered_frames", (json_int_t)counts.filtered,
        "receive_failed", (json_int_t)counts.receive_failed, "send_failed",
        (json_int_t)counts.send_failed, "stalls", (json_int_t)counts.stalls);
}

static json_t *run_json_describe_vsock(struct virtio_vsock *vsock)
{
    unsigned open;
    struct virtio_vsock_counts counts = virtio_vsock_count(vsock, &open);
    json_t *path = json_string(vsock->path);

    /* A path need not be text; then it is null. */
    return json_pack("{s:I, s:o, s:i, s:I, s:I, s:I, s:I, s:I, s:I}", "guest_cid",
                     (json_int_t)vsock->state.guest_cid, "uds_path", path ? path : json_null(),
                     "open", (int)open, "from_guest", (json_int_t)counts.from_guest, "to_guest",
                     (json_int_t)counts.to_guest, "refused", (json_int_t)counts.refused,
                     "received_bytes", (json_int_t)counts.received_bytes, "sent_bytes",
                     (json_int_t)counts.sent_bytes, "bad_packets", (json_int_t)counts.bad_packets);
}

static json_t *run_json_describe_ports(struct virtio_console *console)
{
    struct console_port_counts counts;
    json_t *ports = json_array();
    const char *name;

    for (unsigned id = 1; (name = console_ports_count(console, id, &counts)); id++)
        json_array_append_new(ports, json_pack("{s:s, s:I, s:I, s:I}", "name", name, "connections",
                                               (json_int_t)counts.connections, "received_bytes",
                                               (json_int_t)counts.received_bytes, "sent_bytes",
                                               (json_int_t)counts.sent_bytes));
    return ports;
}

static json_t *run_json_describe_device(const struct board_report *report)
{
    return json_pack(
        "{s:s, s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:s?, s:o, s:o, s:o, s:o, s:o, s:o}", "name",
        report->name, "gpa", (json_int_t)report->gpa, "endpoint",
        report->translated ? json_integer(report->endpoint) : json_null(), "kicks",
        (json_int_t)report->kicks, "interrupts", (json_int_t)report->interrupts, "bad_accesses",
        (json_int_t)report->bad_accesses, "dma_faults", (json_int_t)report->dma_faults,
        "needed_resets", (json_int_t)report->needed_resets, "needed_reset", report->needed_reset,
        "disk", report->disk ? run_json_describe_disk(report->disk) : json_null(), "driver",
        report->iommu ? run_json_describe_driver(report->iommu) : json_null(), "balloon",
        report->balloon ? run_json_describe_balloon(report->balloon) : json_null(), "net",
        report->net ? run_json_describe_net(report->net) : json_null(), "vsock",
        report->vsock ? run_json_describe_vsock(report->vsock) : json_null(), "ports",
        report->ports ? run_json_describe_ports(report->ports) : json_null());
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
