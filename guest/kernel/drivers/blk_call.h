/*
 * SYS_BLOCK (guest/abi/dma.h). A call becomes a job; a job makes requests as long as it
 * has some to make and there is room, and goes on when requests end, by interrupt. The
 * process waits meanwhile, and its call, started again, finds the job done.
 */
#ifndef STRATA_KERNEL_DRIVERS_BLK_CALL_H
#define STRATA_KERNEL_DRIVERS_BLK_CALL_H

#include <stdint.h>

#include "guest/kernel/drivers/blk.h"
#include "guest/kernel/proc/process.h"

/*
 * The request has ended with 0 or -ABI_E*, and the device wrote so many bytes of it. Its
 * mapping is dropped by the next dma_commit.
 */
void blk_job_ended(struct blk *blk, struct blk_request *request, int result, uint64_t written);

/* Goes on with whatever is to be done, after ends: more requests, and who waits is woken. */
void blk_job_go_on(struct blk *blk);

void blk_job_drop_owned(struct blk *blk, struct process *p);

/* The call itself: a result or -ABI_E*. */
int64_t blk_call(struct process *p, uint32_t op, uint64_t va);

#endif
