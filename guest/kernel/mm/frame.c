#include "guest/kernel/mm/frame.h"

#include "guest/abi/machine.h"
#include "guest/kernel/kernel.h"
#include "guest/kernel/kstring.h"

struct abi_frame *frames;

/* Heads of the free lists, linked by frame number. Idle ones: */
static uint32_t clean, dirty, huge, clean_huge;
static uint64_t idle;
/* What the host has back, or never had to give: zero; and what it has taken and not said so. */
static uint32_t given, given_huge, unknown;

void (*frame_many_idle)(void);
enum abi_zeroing frame_zeroing;

static void push(uint32_t *list, uint64_t frame)
{
    frames[frame].link = *list;
    *list = (uint32_t)frame;
}

static uint64_t pop(uint32_t *list)
{
    uint64_t frame = *list;

    if (frame)
        *list = frames[frame].link;
    return frame;
}

static void push_idle(uint32_t *list, uint64_t frame, uint64_t count)
{
    bool few = idle < FRAMES_MANY;

    push(list, frame);
    idle += count;
    if (few && idle >= FRAMES_MANY && frame_many_idle)
        frame_many_idle();
}

static uint64_t pop_idle(uint32_t *list, uint64_t count)
{
    uint64_t frame = pop(list);

    if (frame)
        idle -= count;
    return frame;
}

static void push_given(uint64_t frame)
{
    push(&given, frame);
    kernel_info.given_frames++;
}

static uint64_t pop_given(void)
{
    uint64_t frame = given ? 0 : pop(&given_huge);

    for (unsigned i = 0; frame && i < HUGE_FRAMES; i++)
        push(&given, frame + i);
    frame = pop(&given);
    if (frame)
        kernel_info.given_frames--;
    return frame;
}

static uint64_t pop_given_huge(void)
{
    uint64_t frame = pop(&given_huge);

    if (frame)
        kernel_info.given_frames -= HUGE_FRAMES;
    return frame;
}

void frame_setup(uint64_t first_free, uint64_t low, uint64_t high)
{
    uint64_t high_start = ABI_RAM_HIGH_START >> PAGE_SHIFT;

    kernel_info.first_frame = first_free;
    kernel_info.nframes = high ? high_start + high : low;
    kernel_info.fresh[0] = (struct abi_range){ first_free, low };
    kernel_info.fresh[1] = (struct abi_range){ high_start, high_start + high };
    kernel_info.free_frames = low - first_free + high;
}

static uint64_t pop_fresh(void)
{
    for (unsigned i = 0; i < ABI_FRESH_MAX; i++) {
        struct abi_range *fresh = &kernel_info.fresh[i];

        if (fresh->start < fresh->end)
            return fresh->start++;
    }
    return 0;
}

/* Breaks a free huge page up into dirty frames. */
static void split_huge(void)
{
    uint64_t frame = pop(huge ? &huge : &clean_huge);

    for (unsigned i = 0; frame && i < HUGE_FRAMES; i++)
        push(&dirty, frame + i);
}

uint64_t frame_alloc(enum abi_frame_kind kind, bool zeroed)
{
    bool on_alloc = frame_zeroing == ABI_ZERO_ON_ALLOC;
    uint64_t frame = zeroed && !on_alloc ? 0 : pop_idle(&dirty, 1);

    if (frame && on_alloc)
        memset(frame_va(frame), 0, ABI_PAGE_BYTES);
    if (!frame)
        frame = pop_idle(&clean, 1);
    if (!frame)
        frame = pop_given();
    if (!frame)
        frame = pop_fresh();
    if (!frame) {
        if (!dirty)
            split_huge();
        frame = pop_idle(&dirty, 1);
        if (!frame)
            frame = pop(&unknown);
        if (!frame)
            return 0;
        if (zeroed || on_alloc)
            memset(frame_va(frame), 0, ABI_PAGE_BYTES);
    }
    frames[frame] = (struct abi_frame){ .refs = 1, .kind = (uint8_t)kind };
    kernel_info.free_frames--;
    return frame;
}

/* Taken from the end of a range, so that nothing is left over where it is aligned. */
static uint64_t pop_fresh_huge(void)
{
    for (unsigned i = 0; i < ABI_FRESH_MAX; i++) {
        struct abi_range *fresh = &kernel_info.fresh[i];
        uint64_t end = fresh->end & ~(uint64_t)(HUGE_FRAMES - 1);

        if (end < fresh->start + HUGE_FRAMES)
            continue;
        while (fresh->end > end)
            push_given(--fresh->end);
        fresh->end -= HUGE_FRAMES;
        return fresh->end;
    }
    return 0;
}

uint64_t frame_alloc_huge(bool zeroed)
{
    uint64_t frame = pop_idle(&clean_huge, HUGE_FRAMES);

    if (!frame)
        frame = pop_given_huge();
    if (!frame)
        frame = pop_fresh_huge();
    if (!frame) {
        frame = pop_idle(&huge, HUGE_FRAMES);
        if (!frame)
            return 0;
        if (zeroed || frame_zeroing == ABI_ZERO_ON_ALLOC)
            memset(frame_va(frame), 0, ABI_HUGE_BYTES);
    }
    frames[frame] = (struct abi_frame){ .refs = 1, .kind = ABI_FRAME_HUGE };
    kernel_info.free_frames -= HUGE_FRAMES;
    return frame;
}

/* How many whole GiB are left in a range, and where the last of them ends. */
static uint64_t giants_in(const struct abi_range *fresh, uint64_t *end)
{
    uint64_t start = (fresh->start + GIANT_FRAMES - 1) & ~(GIANT_FRAMES - 1);

    *end = fresh->end & ~(GIANT_FRAMES - 1);
    return start < *end ? (*end - start) / GIANT_FRAMES : 0;
}

uint64_t frame_giant_free(void)
{
    uint64_t count = 0, end;

    for (unsigned i = 0; i < ABI_FRESH_MAX; i++)
        count += giants_in(&kernel_info.fresh[i], &end);
    return count;
}

uint64_t frame_alloc_giant(void)
{
    for (unsigned i = 0; i < ABI_FRESH_MAX; i++) {
        struct abi_range *fresh = &kernel_info.fresh[i];
        uint64_t end, first;

        if (!giants_in(fresh, &end))
            continue;
        first = end - GIANT_FRAMES;
        /* What lies behind it stays free: zero, as what the host has back. */
        if (fresh->end > end)
            frame_given(end, fresh->end - end, true);
        fresh->end = first;
        for (uint64_t head = first; head < end; head += HUGE_FRAMES)
            frames[head] = (struct abi_frame){ .refs = 1, .kind = ABI_FRAME_HUGE };
        kernel_info.free_frames -= GIANT_FRAMES;
        return first;
    }
    return 0;
}

void frame_get(uint64_t frame)
{
    if (++frames[frame].refs == 0)
        panic("frame %lx: too many references", frame);
}

void frame_put(uint64_t frame, bool is_clean)
{
    uint8_t kind = frames[frame].kind;

    if (frames[frame].refs == 0)
        panic("frame %lx: reference dropped twice", frame);
    if (--frames[frame].refs > 0 || frame < kernel_info.first_frame)
        return;
    frames[frame].kind = ABI_FRAME_FREE;
    if (frame_zeroing == ABI_ZERO_ON_FREE && !is_clean) {
        memset(frame_va(frame), 0, kind == ABI_FRAME_HUGE ? ABI_HUGE_BYTES : ABI_PAGE_BYTES);
        is_clean = true;
    }
    if (kind == ABI_FRAME_HUGE) {
        push_idle(is_clean ? &clean_huge : &huge, frame, HUGE_FRAMES);
        kernel_info.free_frames += HUGE_FRAMES;
    } else {
        push_idle(is_clean ? &clean : &dirty, frame, 1);
        kernel_info.free_frames++;
    }
}

uint64_t frame_free_count(void)
{
    return kernel_info.free_frames;
}

uint64_t frame_idle_count(void)
{
    return idle;
}

/* Neighbours often lie one behind the other on a list, up or down: freed in order. */
static uint64_t take_run(uint32_t *list, uint64_t most, uint64_t *first)
{
    uint64_t count = 1;

    *first = pop_idle(list, 1);
    if (!*first)
        return 0;
    while (count < most && *list && *list == *first - 1) {
        *first = pop_idle(list, 1);
        count++;
    }
    while (count < most && *list && *list == *first + count) {
        pop_idle(list, 1);
        count++;
    }
    return count;
}

uint64_t frame_take_idle(uint64_t most, uint64_t *first)
{
    uint64_t count;

    *first = pop_idle(huge ? &huge : &clean_huge, HUGE_FRAMES);
    if (*first)
        return HUGE_FRAMES;
    count = take_run(&dirty, most, first);
    return count ? count : take_run(&clean, most, first);
}

void frame_given(uint64_t first, uint64_t count, bool zero)
{
    for (uint64_t frame = first, end = first + count; frame < end;) {
        if (!zero) {
            push(&unknown, frame++);
        } else if (frame % HUGE_FRAMES || end - frame < HUGE_FRAMES) {
            push_given(frame++);
        } else {
            push(&given_huge, frame);
            kernel_info.given_frames += HUGE_FRAMES;
            frame += HUGE_FRAMES;
        }
    }
}

bool frame_reserve(uint64_t frame, uint64_t count)
{
    struct abi_range *fresh = kernel_info.fresh, *free_range = NULL, *around = NULL;

    for (unsigned i = 0; i < ABI_FRESH_MAX; i++) {
        if (fresh[i].start <= frame && frame < fresh[i].end && count <= fresh[i].end - frame)
            around = &fresh[i];
        else if (fresh[i].start >= fresh[i].end)
            free_range = &fresh[i];
    }
    if (!around || !free_range || !count)
        return false;
    *free_range = (struct abi_range){ frame + count, around->end };
    around->end = frame;
    kernel_info.free_frames -= count;
    for (; count--; frame++)
        frames[frame] = (struct abi_frame){ .refs = 1, .kind = ABI_FRAME_USER, .pins = 1 };
    return true;
}

bool frame_pin(uint64_t head)
{
    if (frames[head].pins == UINT8_MAX)
        return false;
    frames[head].pins++;
    frame_get(head);
    return true;
}

void frame_unpin(uint64_t head)
{
    if (frames[head].pins == 0)
        panic("frame %lx: unpinned twice", head);
    frames[head].pins--;
    frame_put(head, false);
}
