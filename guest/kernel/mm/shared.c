#include "guest/kernel/mm/shared.h"

#include <stdbool.h>

#include "guest/abi/syscall.h"
#include "guest/kernel/mm/frame.h"

#define OBJECTS_MAX 16
/* The frame numbers of an object fill one frame. */
#define PAGES_MAX (ABI_PAGE_BYTES / sizeof(uint64_t))

struct shared {
    uint32_t holders; /* mappings, and the number; 0: slot unused */
    bool dropped;
    uint32_t owner; /* pid */
    uint64_t pages;
    uint64_t table; /* frame that holds the frame numbers */
};

static struct shared objects[OBJECTS_MAX];

int64_t shared_create(uint32_t owner, uint64_t bytes)
{
    if (bytes == 0 || bytes > PAGES_MAX * ABI_PAGE_BYTES)
        return -ABI_EINVAL;
    for (unsigned i = 0; i < OBJECTS_MAX; i++) {
        struct shared *object = &objects[i];

        if (object->holders)
            continue;
        object->table = frame_alloc(ABI_FRAME_KERNEL, true);
        if (!object->table)
            return -ABI_ENOMEM;
        object->holders = 1;
        object->dropped = false;
        object->owner = owner;
        object->pages = (bytes + ABI_PAGE_BYTES - 1) / ABI_PAGE_BYTES;
        return i;
    }
    return -ABI_ENOMEM;
}

struct shared *shared_of(uint64_t number)
{
    if (number >= OBJECTS_MAX || !objects[number].holders || objects[number].dropped)
        return NULL;
    return &objects[number];
}

uint64_t shared_pages(const struct shared *object)
{
    return object->pages;
}

void shared_get(struct shared *object)
{
    object->holders++;
}

void shared_put(struct shared *object)
{
    uint64_t *frame = frame_va(object->table);

    if (--object->holders)
        return;
    for (uint64_t page = 0; page < object->pages; page++) {
        if (frame[page])
            frame_put(frame[page], false);
        frame[page] = 0;
    }
    frame_put(object->table, true);
}

int64_t shared_drop(uint64_t number)
{
    struct shared *object = shared_of(number);

    if (!object)
        return -ABI_ENOENT;
    object->dropped = true;
    shared_put(object);
    return 0;
}

void shared_drop_owned(uint32_t owner)
{
    for (unsigned i = 0; i < OBJECTS_MAX; i++) {
        if (objects[i].owner == owner)
            shared_drop(i);
    }
}

uint64_t shared_frame(struct shared *object, uint64_t page)
{
    uint64_t *frame = frame_va(object->table);

    if (!frame[page])
        frame[page] = frame_alloc(ABI_FRAME_USER, true);
    if (frame[page])
        frame_get(frame[page]);
    return frame[page];
}
