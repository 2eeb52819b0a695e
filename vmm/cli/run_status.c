#include "vmm/cli/run_status.h"

#include "vmm/cli/options.h"
#include "vmm/machine/vm.h"

int run_status(const struct vm_end *end, bool bundled)
{
    static const int statuses[] = {
        [VM_END_GUEST_RESET] = STATUS_GUEST_RESET,
        [VM_END_GUEST_PANIC] = STATUS_GUEST_PANIC,
        [VM_END_TRIPLE_FAULT] = STATUS_TRIPLE_FAULT,
        [VM_END_INTERNAL_ERROR] = STATUS_INTERNAL_ERROR,
        [VM_END_FAIL_ENTRY] = STATUS_FAIL_ENTRY,
        [VM_END_UNKNOWN_EXIT] = STATUS_UNKNOWN_EXIT,
        [VM_END_RUN_ERROR] = STATUS_RUN_ERROR,
        [VM_END_HUNG] = STATUS_HUNG,
    };

    switch (end->reason) {
    case VM_END_NONE: return STATUS_FAILED;
    case VM_END_GUEST_EXIT:
    case VM_END_HOST_STOP: return end->status;
    default: return bundled ? STATUS_FAILED : statuses[end->reason];
    }
}
