#include "vmm/control/inspector_balloon.h"

#include <inttypes.h>
#include <unistd.h>

#include "devices/core/board.h"
#include "devices/virtio/balloon.h"
#include "vmm/base/monotonic.h"
#include "vmm/control/inspect_context.h"
#include "vmm/control/inspector.h"
#include "vmm/inspect/resident.h"
#include "vmm/report/device_json.h"

#define PAGE_BYTES 4096ull /* virtio 1.2, 5.5.6: always */
/* How long a driver has to tell its statistics, and how often they are looked for. */
#define PATIENCE_NS   1000000000ull
#define LOOK_AGAIN_US 1000

static struct virtio_balloon *inspector_balloon_find(const struct board *board)
{
    struct virtio_balloon *balloon = NULL;

    for (unsigned i = 0; i < board->nslots && !balloon; i++)
        balloon = board_model(board, i, &virtio_balloon_ops);
    return balloon;
}

/*
 * True: the statistics in *view are of after the call. A driver that was asked before, and
 * has not answered yet, is not asked twice.
 */
static bool inspector_balloon_look_afresh(const struct inspect_context *context,
                                          struct virtio_balloon *balloon,
                                          struct virtio_balloon_view *view)
{
    uint64_t start = monotonic_ns(), before;

    virtio_balloon_view(balloon, view);
    before = view->counts.stats_updates;
    /* While the world stands still, the driver cannot answer. */
    if (context->stopped || !view->driven || !view->tells_stats)
        return false;
    (void)virtio_balloon_ask_stats(balloon);
    while (view->counts.stats_updates == before) {
        if (monotonic_ns() - start > PATIENCE_NS || atomic_load(context->in->stopping))
            return false;
        usleep(LOOK_AGAIN_US);
        virtio_balloon_view(balloon, view);
    }
    return true;
}

void inspector_balloon(struct inspect_context *context)
{
    struct virtio_balloon *balloon = inspector_balloon_find(context->in->board);
    const struct inspect_request *request = &context->request;
    struct virtio_balloon_view view;
    struct resident resident;
    bool fresh;

    if (!balloon) {
        inspect_fail(context, "the machine has no balloon; give --balloon to strata run");
        return;
    }
    if (request->has_size && request->bytes >= context->vm->memory.bytes) {
        inspect_fail(context, "balloon: as much as there is memory; give less than %" PRIu64 "M",
                     context->vm->memory.bytes >> 20);
        return;
    }
    if (request->has_size)
        virtio_balloon_set_target(balloon, (uint32_t)(request->bytes / PAGE_BYTES));
    fresh = inspector_balloon_look_afresh(context, balloon, &view);
    inspect_set(context, "ram_bytes", json_integer((json_int_t)context->vm->memory.bytes));
    inspect_set(context, "rss_bytes",
                resident_read(&context->vm->memory, &resident)
                    ? json_null()
                    : json_integer((json_int_t)resident.rss_bytes));
    inspect_set(context, "driven", json_boolean(view.driven));
    inspect_set(context, "tells_stats", json_boolean(view.tells_stats));
    inspect_set(context, "fresh_stats", json_boolean(fresh));
    inspect_set(context, "balloon", device_json_stats(&virtio_balloon_ops, balloon));
}
