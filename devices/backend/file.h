/*
 * A disk in a file or on a block device of the host, through its page cache.
 *
 * Reads, writes and flushes go through io_uring: they start on the thread that kicks, and
 * those that the page cache serves are done right there; one thread waits for the others.
 * Where the host has no io_uring, that thread does all of it with preadv(2) and the like.
 * What lies in the host's memory anyway (tmpfs) is copied by whoever kicks.
 */
#ifndef STRATA_BACKEND_FILE_H
#define STRATA_BACKEND_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "devices/backend/block.h"

struct file_info {
    bool uring;            /* false: by system calls on the thread, `why_not` says why */
    const char *why_not;   /* "io_uring: not permitted here", …; NULL with io_uring */
    uint64_t bytes;        /* of the file */
    uint64_t unused_bytes; /* at its end: less than a sector, nobody can reach them */
};

struct vm;

struct file_options {
    bool read_only;
    bool without_uring; /* as on a host that has none */
    unsigned depth;     /* requests under way at once, 1 to 1024 */
    struct vm *vm;      /* whose memory requests read and write; NULL: none that is ever paused */
};

/*
 * Opens the file and locks it against other machines (an advisory lock on the open file:
 * shared for a read-only disk, else exclusive). 0, with a block to be destroyed, or
 * -errno and one line that says what is wrong with the path: -ENOENT, -EACCES, -EISDIR,
 * -EINVAL (neither file nor block device; smaller than a sector), -EBUSY (another
 * machine has it), …
 */
int file_open(struct block **block, const char *path, const struct file_options *options,
              char *error, size_t error_bytes);

/* Whether this host has an io_uring to use; if not, `why` says why. Costs a ring. */
bool file_has_uring(char *why, size_t why_bytes);

/* What is worth a line in a report. */
void file_info(const struct block *block, struct file_info *info);

#endif
