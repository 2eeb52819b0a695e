#include "vmm/machine/kvm.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define CPUID_1_ECX_VMX        (1u << 5)
#define CPUID_80000001_ECX_SVM (1u << 2)
#define CREATE_VM_TRIES        100

int kvm_open_device(struct kvm_host *host)
{
    int run_bytes, err;

    *host = (struct kvm_host){ .backend = KVM_BACKEND_SOFTWARE };
    host->fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (host->fd < 0)
        return -errno;
    /* Version 12 is the only one there ever was since Linux 2.6.22 (api.rst, 4.1). */
    if (ioctl(host->fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
        err = -EPROTO;
        goto close_device;
    }
    run_bytes = ioctl(host->fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (run_bytes < (int)sizeof(struct kvm_run)) {
        err = -EPROTO;
        goto close_device;
    }
    host->run_bytes = (size_t)run_bytes;
    return 0;

close_device:
    close(host->fd);
    host->fd = -1;
    return err;
}

int kvm_open(struct kvm_host *host)
{
    struct kvm_detection input = kvm_gather();
    int err = kvm_open_device(host);

    if (err)
        return err;
    kvm_identify(host, &input);
    return 0;
}

void kvm_close(struct kvm_host *host)
{
    if (host->fd >= 0)
        close(host->fd);
    host->fd = -1;
}

struct kvm_detection kvm_gather(void)
{
    struct kvm_detection input = { .modules = "/sys/module" };
    unsigned eax, ebx, ecx, edx;

    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx))
        input.vmx = ecx & CPUID_1_ECX_VMX;
    if (__get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx))
        input.svm = ecx & CPUID_80000001_ECX_SVM;
    return input;
}

/* The first character of a module's parameter, or 0 where there is no such file. */
static char parameter(const char *modules, const char *name)
{
    char path[256], value = 0;
    int fd;

    snprintf(path, sizeof(path), "%s/%s", modules, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    if (read(fd, &value, 1) != 1)
        value = 0;
    close(fd);
    return value;
}

static bool module_present(const char *modules, const char *name)
{
    char path[256];

    snprintf(path, sizeof(path), "%s/%s", modules, name);
    return access(path, F_OK) == 0;
}

/*
 * Both vendor modules may be built into one kernel, so a module's directory alone
 * says nothing: the CPU's own flag decides which of the two is in charge.
 */
void kvm_identify(struct kvm_host *host, const struct kvm_detection *input)
{
    static const struct {
        const char *module, *file, *flag;
        enum kvm_backend two_dimensional;
    } vendors[] = {
        { "kvm_intel", "kvm_intel/parameters/ept", "vmx", KVM_BACKEND_EPT },
        { "kvm_amd", "kvm_amd/parameters/npt", "svm", KVM_BACKEND_NPT },
    };

    for (unsigned i = 0; i < 2; i++) {
        bool flag = i == 0 ? input->vmx : input->svm;
        char value = parameter(input->modules, vendors[i].file);

        if (!flag || !value)
            continue;
        host->backend = value == 'Y' || value == '1' ? vendors[i].two_dimensional
                                                     : KVM_BACKEND_SHADOW;
        snprintf(host->module, sizeof(host->module), "%s", vendors[i].module);
        snprintf(host->how, sizeof(host->how), "CPU flag %s and %s = %c", vendors[i].flag,
                 vendors[i].file, value);
        return;
    }
    host->backend = KVM_BACKEND_SOFTWARE;
    snprintf(host->module, sizeof(host->module), "%s",
             module_present(input->modules, "kvm_pvm") ? "kvm_pvm" : "kvm");
    snprintf(host->how, sizeof(host->how), "%s; module %s",
             input->vmx || input->svm ? "neither kvm_intel nor kvm_amd in charge"
                                      : "no CPU flag vmx or svm",
             host->module);
}

const char *kvm_backend_name(enum kvm_backend backend)
{
    static const char *const names[] = {
        [KVM_BACKEND_EPT] = "ept",
        [KVM_BACKEND_NPT] = "npt",
        [KVM_BACKEND_SHADOW] = "shadow",
        [KVM_BACKEND_SOFTWARE] = "software",
    };
    return names[backend];
}

bool kvm_interprets_kernel_code(const struct kvm_host *host)
{
    return host->backend == KVM_BACKEND_SOFTWARE;
}

int kvm_capability(const struct kvm_host *host, int capability)
{
    int value = ioctl(host->fd, KVM_CHECK_EXTENSION, capability);

    return value < 0 ? 0 : value;
}

int kvm_create_vm(const struct kvm_host *host)
{
    /* A signal on its way makes KVM_CREATE_VM return EINTR; the next try goes through. */
    for (int i = 0; i < CREATE_VM_TRIES; i++) {
        int fd = ioctl(host->fd, KVM_CREATE_VM, 0);

        if (fd >= 0)
            return fd;
        if (errno != EINTR)
            return -errno;
    }
    return -EINTR;
}
