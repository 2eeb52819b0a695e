#include "vmm/report/balloon_json.h"

#include <linux/virtio_balloon.h>

#include "devices/virtio/balloon.h"

static json_t *balloon_json_stats(const struct virtio_balloon_counts *counts)
{
    static const char *const names[] = {
        [VIRTIO_BALLOON_S_SWAP_IN] = "swap_in_bytes",
        [VIRTIO_BALLOON_S_SWAP_OUT] = "swap_out_bytes",
        [VIRTIO_BALLOON_S_MAJFLT] = "major_faults",
        [VIRTIO_BALLOON_S_MINFLT] = "minor_faults",
        [VIRTIO_BALLOON_S_MEMFREE] = "free_memory_bytes",
        [VIRTIO_BALLOON_S_MEMTOT] = "total_memory_bytes",
        [VIRTIO_BALLOON_S_AVAIL] = "available_memory_bytes",
        [VIRTIO_BALLOON_S_CACHES] = "disk_caches_bytes",
        [VIRTIO_BALLOON_S_HTLB_PGALLOC] = "hugetlb_allocations",
        [VIRTIO_BALLOON_S_HTLB_PGFAIL] = "hugetlb_failures",
    };
    json_t *stats = json_object();

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (counts->stats_known >> i & 1)
            json_object_set_new(stats, names[i], json_integer((json_int_t)counts->stats[i]));
    }
    return stats;
}

json_t *balloon_json(const struct virtio_balloon_view *view)
{
    const struct virtio_balloon_counts *counts = &view->counts;

    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "target_pages",
        (json_int_t)view->state.target_pages, "actual_pages", (json_int_t)view->state.actual_pages,
        "reported_bytes", (json_int_t)counts->reported_bytes, "inflated_bytes",
        (json_int_t)counts->inflated_bytes, "pinned_pages", (json_int_t)counts->pinned_pages,
        "bad_ranges", (json_int_t)counts->bad_ranges, "stats_updates",
        (json_int_t)counts->stats_updates, "stats", balloon_json_stats(counts));
}
