#include "guest/kernel/proc/channel.h"

#include "guest/kernel/mm/frame.h"
#include "guest/kernel/mm/space.h"

#define CHANNELS_MAX 16

struct channel {
    uint64_t frame; /* 0: slot unused */
    uint32_t owner; /* pid */
    uint64_t sent, received;
};

static struct channel channels[CHANNELS_MAX];

static struct channel *channel_of(uint64_t number)
{
    return number < CHANNELS_MAX && channels[number].frame ? &channels[number] : NULL;
}

int64_t channel_create(const struct process *owner)
{
    for (unsigned i = 0; i < CHANNELS_MAX; i++) {
        if (channels[i].frame)
            continue;
        channels[i] = (struct channel){ .frame = frame_alloc(ABI_FRAME_KERNEL, false),
                                        .owner = owner->pub.pid };
        return channels[i].frame ? (int64_t)i : -ABI_ENOMEM;
    }
    return -ABI_ENOMEM;
}

int64_t channel_drop(uint64_t number)
{
    struct channel *channel = channel_of(number);

    if (!channel)
        return -ABI_ENOENT;
    frame_put(channel->frame, false);
    channel->frame = 0;
    process_wake(channel);
    return 0;
}

void channel_drop_owned(const struct process *owner)
{
    for (unsigned i = 0; i < CHANNELS_MAX; i++) {
        if (channels[i].frame && channels[i].owner == owner->pub.pid)
            channel_drop(i);
    }
}

/* Bytes from offset `at` of the stream that lie together in the buffer. */
static uint64_t run(uint64_t at, uint64_t most)
{
    uint64_t rest = ABI_PAGE_BYTES - at % ABI_PAGE_BYTES;

    return rest < most ? rest : most;
}

static char *buffer(const struct channel *channel, uint64_t at)
{
    return (char *)frame_va(channel->frame) + at % ABI_PAGE_BYTES;
}

int64_t channel_send(struct process *p, uint64_t number, uint64_t va, uint64_t len)
{
    struct channel *channel = channel_of(number);
    uint64_t at, first;

    if (!channel)
        return -ABI_ENOENT;
    if (len == 0 || len > ABI_PAGE_BYTES)
        return -ABI_EINVAL;
    at = channel->sent;
    if (ABI_PAGE_BYTES - (at - channel->received) < len)
        return process_block(p, channel);
    first = run(at, len);
    if (space_read(p, buffer(channel, at), va, first) ||
        space_read(p, buffer(channel, at + first), va + first, len - first))
        return -ABI_EFAULT;
    channel->sent += len;
    process_wake(channel);
    return (int64_t)len;
}

int64_t channel_recv(struct process *p, uint64_t number, uint64_t va, uint64_t len)
{
    struct channel *channel = channel_of(number);
    uint64_t at, first;

    if (!channel)
        return -ABI_ENOENT;
    if (len == 0 || len > ABI_PAGE_BYTES)
        return -ABI_EINVAL;
    at = channel->received;
    if (channel->sent - at < len)
        return process_block(p, channel);
    first = run(at, len);
    if (space_write(p, va, buffer(channel, at), first) ||
        space_write(p, va + first, buffer(channel, at + first), len - first))
        return -ABI_EFAULT;
    channel->received += len;
    process_wake(channel);
    return (int64_t)len;
}
