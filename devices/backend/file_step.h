/*
 * Steps of a block request on a file: one system call or ring entry each. A request takes
 * another step where the first moved a part only, or where the file system cannot do it
 * the short way.
 */
#ifndef STRATA_BACKEND_FILE_STEP_H
#define STRATA_BACKEND_FILE_STEP_H

#include <stdbool.h>

#include "devices/backend/block.h"
#include "devices/backend/disk_image.h"

struct io_uring_sqe;

void file_step_begin(struct block_request *request);

/* Carries the next step out: its result, as file_step_over takes it. */
int file_step_call(const struct disk_image *image, struct block_request *request);

/* The same for io_uring, with the request as user data. Not a discard of a block device. */
void file_step_prepare(const struct disk_image *image, struct block_request *request,
                       struct io_uring_sqe *sqe);

/*
 * Takes a step's result in: a count or -errno. True: *result is the request's, which has
 * ended; false: another step follows, because nobody has cancelled it.
 */
bool file_step_over(struct block_request *request, int step, int *result);

#endif
