/*
 * What `strata doctor` finds out about the host, as data.
 */
#ifndef STRATA_DOCTOR_HOST_INFO_H
#define STRATA_DOCTOR_HOST_INFO_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/machine/kvm.h"

#define HOST_CAPABILITIES_MAX 32
#define HOST_QUIRKS_MAX       24
#define HOST_POOLS_MAX        4
#define HOST_WORD_BYTES       96

struct cpu_template;

enum answer { ANSWER_NO, ANSWER_YES, ANSWER_UNKNOWN };

struct host_capability {
    const char *name;
    const char *meaning;
    int value;        /* of KVM_CHECK_EXTENSION; 0: missing */
    bool is_number;   /* the value is a count, not a yes */
    bool expected;    /* strata relies on it */
    const char *lack; /* what to do without; NULL: nothing is lost yet */
};

/* Where this host is unlike the textbook, and what to do about it. */
struct host_quirk {
    const char *name;
    const char *what;
    const char *advice;
    bool probed;        /* seen just now; otherwise known of this kind of backend */
    char observed[128]; /* what the probe saw, or empty */
};

struct host_pool {
    uint64_t page_bytes;
    uint64_t pages, free_pages;
};

struct host_info {
    int error; /* -errno: KVM cannot be used, `failed` tells what went wrong */
    const char *failed;
    struct kvm_host kvm; /* fd < 0 if it could not be opened */
    int api_version;
    bool is_vm; /* the hypervisor bit of CPUID */
    char vm_vendor[16];
    char cpu[HOST_WORD_BYTES];
    char kernel[HOST_WORD_BYTES];
    unsigned cpus;
    uint64_t memory_bytes;
    const char *second_stage;
    char tdp_mmu; /* 'Y', 'N', or 0: no such parameter */
    enum answer second_stage_2m, second_stage_1g;
    enum answer guest_1g_pages;
    const char *guest_1g_how;
    uint64_t instruction_ns; /* kernel code of the guest, about; 0: not measured */
    char thp[16];            /* always, madvise, never, or empty */
    unsigned npools;
    struct host_pool pools[HOST_POOLS_MAX];
    unsigned ncapabilities;
    struct host_capability capabilities[HOST_CAPABILITIES_MAX];
    const struct cpu_template *cpuid; /* what run hides from kernels unasked; NULL: nothing */
    unsigned nquirks;
    struct host_quirk quirks[HOST_QUIRKS_MAX];
    bool device_present, device_readable;
    unsigned device_mode;
    bool frame_numbers;               /* /proc/self/pagemap tells physical frames */
    bool user_faults;                 /* userfaultfd may be used, kernel faults included */
    bool uring;                       /* io_uring may be used */
    char uring_lack[HOST_WORD_BYTES]; /* else why not */
};

/* Finds out all of it: runs a few instructions on throw-away VMs, some 50 ms. */
void host_info_gather(struct host_info *info);

/* Closes what it left open. */
void host_info_release(struct host_info *info);

#endif
