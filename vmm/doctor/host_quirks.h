/*
 * Where a KVM host behaves unlike the textbook: some of it is tried out on throw-away
 * VMs, some known of a kind of backend.
 */
#ifndef STRATA_DOCTOR_HOST_QUIRKS_H
#define STRATA_DOCTOR_HOST_QUIRKS_H

struct host_info;

/*
 * Fills in quirks, guest_1g_pages and instruction_ns. Sets error and failed where not
 * even one instruction runs.
 */
void host_quirks_gather(struct host_info *info);

#endif
