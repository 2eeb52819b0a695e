#include "guest/kernel/dma/region.h"

#include "guest/kernel/kernel.h"
#include "guest/kernel/mm/frame.h"

/* First frame of each, 0 where there is none (yet). */
static uint64_t first[ABI_POLICY_REGIONS_MAX];

static const struct abi_policy_region *region_of(uint32_t region)
{
    return region < boot_info.policy.nregions ? &boot_info.policy.region[region] : NULL;
}

void region_setup(void)
{
    for (uint32_t i = 0; i < boot_info.policy.nregions; i++) {
        const struct abi_policy_region *region = region_of(i);

        if (region->kind == ABI_REGION_RESERVED_IOVA || !region->gpa)
            continue;
        if (region->gpa % ABI_PAGE_BYTES == 0 &&
            frame_reserve(region->gpa >> PAGE_SHIFT, region_pages(i)))
            first[i] = region->gpa >> PAGE_SHIFT;
        else
            printk("reserved memory %s: 0x%lx is not free memory\n", region->name, region->gpa);
    }
}

/* The next pages of a 2M page that regions share. */
static uint64_t pages_alloc(uint64_t pages)
{
    static uint64_t next, end;
    uint64_t frame;

    while (end - next < pages) {
        uint64_t more = frame_alloc_huge(true);

        if (!more)
            return 0;
        frames[more] = (struct abi_frame){ .refs = 0 };
        /* Fresh 2M pages come from the end of RAM down. */
        if (more + HUGE_FRAMES == next)
            next = more;
        else
            next = more, end = more + HUGE_FRAMES;
    }
    frame = next;
    next += pages;
    for (uint64_t i = 0; i < pages; i++)
        frames[frame + i] = (struct abi_frame){ .refs = 1, .kind = ABI_FRAME_USER, .pins = 1 };
    return frame;
}

uint64_t region_frame(uint32_t region)
{
    const struct abi_policy_region *r = region_of(region);

    if (r && !first[region] && !r->gpa && r->kind != ABI_REGION_RESERVED_IOVA)
        first[region] = pages_alloc(region_pages(region));
    return r ? first[region] : 0;
}

uint64_t region_pages(uint32_t region)
{
    const struct abi_policy_region *r = region_of(region);

    return r ? (r->bytes + ABI_PAGE_BYTES - 1) / ABI_PAGE_BYTES : 0;
}

uint64_t region_iova(uint32_t region)
{
    const struct abi_policy_region *r = region_of(region);

    if (!r)
        return 0;
    return r->iova ? r->iova : region_frame(region) << PAGE_SHIFT;
}
