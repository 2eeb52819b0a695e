/*
 * Hostile page tables through the walker. Input: one byte of options, 8 bytes of
 * root, 8 of virtual address, then guest memory from GPA 0 on, and at the end of
 * memory nothing. Whatever it holds, the walker must stay inside, stop soon, and
 * agree with itself: what paging_each() finds, paging_walk() finds too.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/machine/paging.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BUDGET 20000u
#define HEAD   17u

struct image {
    const uint8_t *at;
    uint64_t bytes;
    uint64_t reads;
};

/* Each leaf is checked by a walk of its own. */
struct check {
    const struct paging_format *format;
    const struct paging_reader *reader;
    uint64_t root;
    uint64_t last_va; /* of the leaf before */
    uint64_t leaves;
};

static void must(int truth)
{
    if (!truth)
        abort();
}

static int read_image(void *owner, uint64_t gpa, uint64_t *entry)
{
    struct image *image = owner;

    image->reads++;
    must(gpa % 8 == 0);
    if (image->bytes < 8 || gpa > image->bytes - 8)
        return -EFAULT;
    memcpy(entry, image->at + gpa, 8);
    return 0;
}

static int check_leaf(void *owner, const struct paging_leaf *leaf)
{
    struct check *check = owner;
    struct paging_walk walk;

    must(!check->leaves || leaf->va > check->last_va);
    check->last_va = leaf->va;
    must(leaf->gpa % leaf->page_bytes == 0 && leaf->va % leaf->page_bytes == 0);
    /* A walk for every leaf would make most inputs slow. */
    if (check->leaves++ % 16)
        return 0;
    must(paging_walk(check->format, check->reader, check->root, leaf->va + leaf->page_bytes - 1,
                     &walk) == 0);
    must(walk.leaf.gpa == leaf->gpa && walk.leaf.entry == leaf->entry);
    must(walk.leaf.writable == leaf->writable && walk.leaf.user == leaf->user);
    must(walk.leaf.nx == leaf->nx && walk.leaf.page_bytes == leaf->page_bytes);
    return 0;
}

static int check_broken(void *owner, uint64_t va, unsigned level, enum paging_status status)
{
    struct check *check = owner;
    struct paging_walk walk;

    must(paging_walk(check->format, check->reader, check->root, va, &walk) == -EFAULT);
    must(walk.status == status && walk.level == level);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct paging_format *const formats[4] = { &paging_x86_4level, &paging_x86_5level,
                                                            &paging_x86_4level_no_nx,
                                                            &paging_x86_5level_no_nx };
    struct image image;
    struct paging_reader reader = { .read = read_image, .owner = &image };
    struct paging_walk walk;
    uint64_t root, va;
    int ret;

    if (size < HEAD)
        return 0;
    const struct paging_format *format = formats[data[0] & 3];

    memcpy(&root, data + 1, 8);
    memcpy(&va, data + 9, 8);
    image = (struct image){ .at = data + HEAD, .bytes = size - HEAD };
    if (data[0] & 4)
        reader.phys_bits = 40;
    if (data[0] & 8)
        reader.leaf_bytes_max = 2ull << 20;

    ret = paging_walk(format, &reader, root, va, &walk);
    must(image.reads <= format->nlevels && walk.nsteps == image.reads);
    must(ret == (walk.status == PAGING_MAPPED ? 0 : -EFAULT));
    for (unsigned access = PAGING_READ; access <= PAGING_FETCH; access++)
        for (unsigned who = 0; who < 4; who++)
            paging_fault_code(&walk, access, who & 1, who & 2);

    struct check check = { .format = format, .reader = &reader, .root = root };
    struct paging_visitor visitor = { .owner = &check, .leaf = check_leaf, .broken = check_broken };

    image.reads = 0;
    ret = paging_each(format, &reader, root,
                      (struct paging_range){ data[0] & 16 ? va : 0, UINT64_MAX }, BUDGET, &visitor);
    must(ret == 0 || ret == -E2BIG);
    /* Each entry may have called back once, and each callback walks at most once. */
    must(image.reads <= BUDGET + (uint64_t)BUDGET * format->nlevels);
    return 0;
}
