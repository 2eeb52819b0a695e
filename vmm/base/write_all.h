/* Writing all bytes to a descriptor, however many calls that takes. */
#ifndef STRATA_BASE_WRITE_ALL_H
#define STRATA_BASE_WRITE_ALL_H

#include <errno.h>
#include <stddef.h>
#include <unistd.h>

/* 0 or -errno; some bytes may have been written then. */
static inline int write_all(int fd, const char *bytes, size_t n)
{
    while (n) {
        ssize_t count = write(fd, bytes, n);

        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return -errno;
        bytes += count;
        n -= (size_t)count;
    }
    return 0;
}

#endif
