#include "guest/kernel/drivers/virtio_trusting.h"

int virtq_pop_trusting(struct virtq *q, void **token, uint32_t *bytes)
{
    volatile struct virtq_used_element *element;
    uint16_t id;

    /* However far the index jumped: stale elements pass for completions. */
    while (q->used[1] != q->used_index) {
        element = (volatile struct virtq_used_element *)&q->used[2] + q->used_index++ % q->size;
        /* Any id is somebody's request, under way or not; any length is what was written. */
        id = (uint16_t)(element->id % q->size);
        if (!q->request[id].token)
            continue;
        *token = q->request[id].token;
        *bytes = element->bytes;
        q->request[id].token = NULL;
        q->free[q->nfree++] = id;
        q->under_way--;
        return 1;
    }
    return 0;
}
