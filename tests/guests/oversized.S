/* Ends a GiB beyond its start, and is small in its file. */
#include "tests/guests/pvh.h"

PVH_KERNEL oversized_start

oversized_start:
    END 0

    .bss
    .skip 1 << 30
