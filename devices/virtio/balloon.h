/*
 * virtio-balloon (virtio 1.2, 5.5): memory that the guest does without goes back to the
 * host. Page reporting (5.5.6.7) tells of free pages, which the guest may use again at any
 * time and finds zero then; the balloon itself holds as many pages as the host asks for.
 *
 * All addresses are guest-physical, whatever IOMMU there is: page numbers could not be
 * anything else, and drivers (Linux's too) take the device as one that bypasses it. A page
 * that is mapped for another device is never given away, whatever the driver says.
 */
#ifndef STRATA_VIRTIO_BALLOON_H
#define STRATA_VIRTIO_BALLOON_H

#include <stdint.h>

#include "devices/core/virtio_device.h"
#include "vmm/machine/vm_thread.h"

/* Page numbers looked at in one buffer of the balloon; drivers send at most 256 or so. */
#define VIRTIO_BALLOON_PAGES_MAX 4096u
/* Buffers carried out before others get their turn. */
#define VIRTIO_BALLOON_TURN 16u
/* Statistics by tag (5.5.6.4); others are ignored. */
#define VIRTIO_BALLOON_STATS 16u

struct iommu;

/* What the guest can see or has set. */
struct virtio_balloon_state {
    uint32_t target_pages; /* num_pages: how many the host wants */
    uint32_t actual_pages; /* how many the driver says there are */
    bool stats_held;       /* a buffer of the statistics queue, until the host asks again */
    uint16_t stats_head;
};

struct virtio_balloon_counts {
    uint64_t reported_bytes; /* free pages given to the host; those of the balloon: */
    uint64_t inflated_bytes;
    uint64_t deflated_pages;
    uint64_t pinned_pages; /* kept, because a device has them */
    uint64_t bad_ranges;   /* not RAM */
    uint64_t stats[VIRTIO_BALLOON_STATS], stats_known, stats_updates; /* known: a bit for a tag */
};

struct virtio_balloon {
    struct virtio_device device;
    const struct iommu *iommu; /* whose mappings pin pages; NULL: none */
    struct virtio_balloon_state state;
    struct virtio_balloon_counts counts;
    struct virtqueue_chain chain;
    struct vm_thread host; /* any thread of the host, while it is in one of the functions below */
};

/* All that there is to tell of it at one moment. */
struct virtio_balloon_view {
    struct virtio_balloon_state state;
    struct virtio_balloon_counts counts;
    bool driven;      /* a driver runs it */
    bool tells_stats; /* and said that it would tell statistics */
};

struct balloon_config {
    struct dma *dma;           /* an untranslated one */
    const struct iommu *iommu; /* whose mappings pin pages; NULL: none */
    uint32_t target_pages;     /* how many the host wants at first */
};

/* All that the configuration says outlives the device. 0 or -ENOMEM. */
int virtio_balloon_create(struct virtio_balloon **balloon, const struct balloon_config *config);

/* After the VM has ended. */
void virtio_balloon_destroy(struct virtio_balloon *balloon);

/* Any thread, without the dma handle's lock; paused or not. */
void virtio_balloon_view(struct virtio_balloon *balloon, struct virtio_balloon_view *view);

/*
 * So many 4K pages should be in the balloon. Any thread, without the dma handle's lock;
 * it waits while another thread has the VM paused.
 */
void virtio_balloon_set_target(struct virtio_balloon *balloon, uint32_t pages);

/*
 * Asks the driver for new statistics, which are there when stats_updates has gone up:
 * 0, or -EAGAIN while it has not answered (or never offered a buffer). As above.
 */
int virtio_balloon_ask_stats(struct virtio_balloon *balloon);

#endif
