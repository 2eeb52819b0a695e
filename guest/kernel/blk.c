#include "guest/kernel/blk.h"

#include "guest/abi/dma.h"

const struct driver blk_driver = { 0 };

int64_t blk_call(struct process *p, uint32_t op, uint64_t va)
{
    (void)p;
    (void)op;
    (void)va;
    return -ABI_ENOENT;
}
