/* Ends with a status of its own. */
#include "tests/guests/pvh.h"

PVH_KERNEL status_start

status_start:
    SAY status
    END 42
