/*
 * What the guest's CPUID instruction answers: all that KVM supports on this host,
 * with each vCPU's own APIC id and a topology of one package, one thread a core.
 */
#ifndef STRATA_MACHINE_CPUID_H
#define STRATA_MACHINE_CPUID_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#define CPUID_ENTRIES_MAX 128

/* struct kvm_cpuid2 with room for its entries. */
struct cpuid_table {
    uint32_t nent;
    uint32_t padding;
    struct kvm_cpuid_entry2 entries[CPUID_ENTRIES_MAX];
};

/* Fills the table with KVM_GET_SUPPORTED_CPUID (0.3 ms where CPUID traps). 0 or -errno. */
int cpuid_fetch(int kvm_fd, struct cpuid_table *table);

/*
 * What is the same for every vCPU: the hypervisor bit, the TSC-deadline timer where
 * KVM has one (KVM reports it as a capability, not in the table), and the topology
 * leaves for ncpus CPUs. -ENOSPC: the table is full.
 */
int cpuid_prepare(struct cpuid_table *table, unsigned ncpus, bool tsc_deadline);

/*
 * Tells the guest how fast its TSC runs, so that it need not find out: leaf 0x40000010 as
 * VMware has it, and 0x15 where the CPU is new enough for it. 0: not known, no change.
 * -ENOSPC: the table is full.
 */
int cpuid_tell_tsc(struct cpuid_table *table, uint64_t tsc_hz);

/* Makes a copy of the shaped table that of the vCPU with this APIC id. */
void cpuid_for_vcpu(struct cpuid_table *table, unsigned apic_id);

#define CPUID_BRAND_BYTES 49

/* The processor's name (Intel SDM vol. 2, CPUID, leaves 80000002H to 80000004H); "": none. */
void cpuid_brand(char name[CPUID_BRAND_BYTES]);

#endif
