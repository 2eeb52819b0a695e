/* Which side faults: the guest, KVM, the host, and several of them (faults.h). */
#ifndef STRATA_MEASURE_FAULT_KINDS_H
#define STRATA_MEASURE_FAULT_KINDS_H

#include "vmm/measure/faults.h"

/* One distribution, and what guest and KVM counted meanwhile. */
struct fault_case {
    struct abi_histogram histogram;
    uint64_t counts[TEST_REGION_COUNTS];
};

/* Commands timed touches of a test region, and adds what came of them. */
int fault_kinds_touch(struct test_region *region, uint64_t stride, uint32_t flags,
                      struct fault_case *result);

/* PREFIX/ns, PREFIX/guest-faults and PREFIX/kvm-faults. */
void fault_kinds_report(const struct faults *faults, const struct fault_case *result,
                        const char *format, ...) __attribute__((format(printf, 3, 4)));

#define FAULT_SIZE_UNKNOWN "the host does not tell the size of its pages; be root"

/* "4k" or "2m". */
const char *fault_kinds_page_name(bool huge);

int fault_kinds(struct faults *faults);
int fault_kinds_native(struct faults *faults);

#endif
