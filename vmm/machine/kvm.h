/*
 * The host's KVM: the open /dev/kvm, what kind of second-stage translation stands
 * behind it, and its capabilities. Kernel documentation: virt/kvm/api.rst.
 */
#ifndef STRATA_MACHINE_KVM_H
#define STRATA_MACHINE_KVM_H

#include <stdbool.h>
#include <stddef.h>

enum kvm_backend {
    KVM_BACKEND_EPT,      /* kvm_intel, two-dimensional walks through EPT */
    KVM_BACKEND_NPT,      /* kvm_amd, two-dimensional walks through nested paging */
    KVM_BACKEND_SHADOW,   /* VMX or SVM, but KVM shadows the guest's page tables */
    KVM_BACKEND_SOFTWARE, /* neither VMX nor SVM: shadow paging, kernel code interpreted */
};

/* What the CPU says it can do, and the loaded modules: the detection input for the backend. */
struct kvm_detection {
    const char *modules; /* directory laid out like /sys/module */
    bool vmx;
    bool svm;
};

struct kvm_host {
    int fd;                   /* /dev/kvm, close-on-exec */
    size_t run_bytes;         /* size of one vCPU's struct kvm_run mapping */
    enum kvm_backend backend; /* set by kvm_identify, as is all below */
    char module[16];          /* module behind it: "kvm_intel", "kvm_amd", "kvm_pvm", or "kvm" */
    char how[96];             /* how it was recognised, for people */
};

/*
 * Opens /dev/kvm and identifies the backend. 0, or -errno: -ENOENT no device,
 * -EACCES no permission, -EPROTO an API version other than 12.
 */
int kvm_open(struct kvm_host *host);

/* The same without identification, for the path to the first guest instruction. */
int kvm_open_device(struct kvm_host *host);
void kvm_close(struct kvm_host *host);

/* Sets backend, module and how from the detection input; kvm_gather takes it from this machine. */
void kvm_identify(struct kvm_host *host, const struct kvm_detection *input);
struct kvm_detection kvm_gather(void);

/* "ept", "npt", "shadow" or "software". */
const char *kvm_backend_name(enum kvm_backend backend);

/* Whether guest CPL0 goes through KVM's instruction emulator (about 1 µs an instruction). */
bool kvm_interprets_kernel_code(const struct kvm_host *host);

/* KVM_CHECK_EXTENSION: 0 when the capability is missing, else its value. */
int kvm_capability(const struct kvm_host *host, int capability);

/* A new VM's file descriptor, or -errno. */
int kvm_create_vm(const struct kvm_host *host);

#endif
