#include "vmm/doctor/host_info.h"

#include <cpuid.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "devices/backend/file.h"
#include "vmm/base/host_cpus.h"
#include "vmm/doctor/host_quirks.h"
#include "vmm/machine/cpuid.h"

#ifndef KVM_CAP_PRE_FAULT_MEMORY
#define KVM_CAP_PRE_FAULT_MEMORY 236 /* Linux 6.11 */
#endif

#define POOLS                  "/sys/kernel/mm/hugepages"

#define CPUID_1_ECX_HYPERVISOR (1u << 31)
#define CPUID_HYPERVISOR       0x40000000u

static const struct host_capability known_capabilities[] = {
    { "irqchip", "interrupt controllers in the kernel", KVM_CAP_IRQCHIP, false, true,
      "strata cannot run without: update the kernel" },
    { "user_memory", "memory slots over user memory", KVM_CAP_USER_MEMORY, false, true,
      "strata cannot run without: update the kernel" },
    { "immediate_exit", "stopping a vCPU without a race", KVM_CAP_IMMEDIATE_EXIT, false, true,
      "strata cannot run without: update the kernel (4.13)" },
    { "max_vcpus", "virtual CPUs for each VM", KVM_CAP_MAX_VCPUS, true, true, NULL },
    { "memslots", "memory slots for each VM", KVM_CAP_NR_MEMSLOTS, true, true, NULL },
    { "ioeventfd", "a guest's write wakes an eventfd", KVM_CAP_IOEVENTFD, false, false,
      "--io thread is as --io exits: each notification is an exit" },
    { "irqfd", "an eventfd raises an interrupt", KVM_CAP_IRQFD, false, false,
      "interrupts go through ioctls" },
    { "readonly_mem", "read-only memory slots", KVM_CAP_READONLY_MEM, false, false,
      "no read-only slots" },
    { "dirty_log_ring", "dirty pages by a ring", KVM_CAP_DIRTY_LOG_RING, false, false,
      "dirty pages come from the bitmap" },
    { "dirty_log_manual", "dirty bitmap cleared by hand", KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, false,
      false, "reading the dirty bitmap clears all of it" },
    { "pre_fault", "filling second-stage tables ahead", KVM_CAP_PRE_FAULT_MEMORY, false, false,
      "touch the guest's memory from the host instead (Linux 6.11 has it)" },
    { "stats_fd", "binary statistics", KVM_CAP_BINARY_STATS_FD, false, false,
      "statistics from debugfs only, as root" },
    { "tsc_deadline", "TSC-deadline timer", KVM_CAP_TSC_DEADLINE_TIMER, false, false,
      "the guest uses the periodic local APIC timer" },
    { "tsc_control", "TSC scaling", KVM_CAP_TSC_CONTROL, false, false,
      "the guest's TSC runs at the host's rate" },
    { "sync_regs", "registers in the shared page", KVM_CAP_SYNC_REGS, false, false,
      "registers through ioctls" },
    { "nested_state", "guests that run VMs themselves", KVM_CAP_NESTED_STATE, false, false,
      "no VMs inside the guest" },
};

static void host_info_read_word(const char *path, char *word, size_t bytes)
{
    FILE *file = fopen(path, "re");

    word[0] = 0;
    if (!file)
        return;
    if (fgets(word, (int)bytes, file))
        word[strcspn(word, "\n")] = 0;
    fclose(file);
}

static uint64_t host_info_pool_number(unsigned long kilobytes, const char *name)
{
    char path[96], word[32];

    snprintf(path, sizeof(path), "%s/hugepages-%lukB/%s", POOLS, kilobytes, name);
    host_info_read_word(path, word, sizeof(word));
    return strtoull(word, NULL, 10);
}

/* Signatures that repeat themselves to fill their twelve bytes. */
static const char *host_info_vendor_name(const char *signature)
{
    static const struct {
        const char *signature, *name;
    } known[] = { { "KVMKVMKVM", "KVM" }, { "TCGTCGTCGTCG", "QEMU's TCG" } };

    for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (!strcmp(signature, known[i].signature))
            return known[i].name;
    }
    return signature;
}

static void host_info_gather_cpu(struct host_info *host)
{
    unsigned eax, ebx, ecx, edx;
    char signature[13] = "";

    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) && ecx & CPUID_1_ECX_HYPERVISOR) {
        host->is_vm = true;
        __cpuid(CPUID_HYPERVISOR, eax, ebx, ecx, edx);
        memcpy(signature, (unsigned[]){ ebx, ecx, edx }, 12);
        snprintf(host->vm_vendor, sizeof(host->vm_vendor), "%s", host_info_vendor_name(signature));
    }
    cpuid_brand(host->cpu);
}

static void host_info_gather_machine(struct host_info *host)
{
    struct utsname uname_result;
    struct sysinfo info;

    if (uname(&uname_result) == 0)
        snprintf(host->kernel, sizeof(host->kernel), "%.80s", uname_result.release);
    host->cpus = host_cpus();
    if (sysinfo(&info) == 0)
        host->memory_bytes = (uint64_t)info.totalram * info.mem_unit;
}

static void host_info_gather_pages(struct host_info *host)
{
    char line[64];
    const char *chosen;
    struct dirent *entry;
    DIR *directory;

    /* "always [madvise] never" */
    host_info_read_word("/sys/kernel/mm/transparent_hugepage/enabled", line, sizeof(line));
    chosen = strchr(line, '[');
    if (chosen)
        snprintf(host->thp, sizeof(host->thp), "%.*s", (int)strcspn(chosen + 1, "]"), chosen + 1);

    directory = opendir(POOLS);
    while (directory && host->npools < HOST_POOLS_MAX && (entry = readdir(directory))) {
        struct host_pool *pool = &host->pools[host->npools];
        unsigned long kilobytes;

        if (sscanf(entry->d_name, "hugepages-%lukB", &kilobytes) != 1)
            continue;
        pool->page_bytes = (uint64_t)kilobytes << 10;
        pool->pages = host_info_pool_number(kilobytes, "nr_hugepages");
        pool->free_pages = host_info_pool_number(kilobytes, "free_hugepages");
        host->npools++;
    }
    if (directory)
        closedir(directory);
}

/* Whether /proc/cpuinfo has this word in its "flags" or "vmx flags" line. */
static bool host_info_cpuinfo_has(const char *word)
{
    FILE *file = fopen("/proc/cpuinfo", "re");
    size_t length = strlen(word), size = 0;
    char *line = NULL;
    bool found = false;

    /* The first CPU speaks for all: its block ends with an empty line. */
    while (file && !found && getline(&line, &size, file) > 1) {
        const char *at = strstr(line, word);

        found = strstr(line, "flags") && at && at[-1] == ' ' && strchr(" \n", at[length]);
    }
    free(line);
    if (file)
        fclose(file);
    return found;
}

/* 2M in the second stage needs a backing with huge pages; both kinds of table have it. */
static void host_info_gather_second_stage(struct host_info *host)
{
    char word[8];

    host_info_read_word("/sys/module/kvm/parameters/tdp_mmu", word, sizeof(word));
    host->tdp_mmu = word[0];
    host->second_stage_2m = ANSWER_YES;
    host->second_stage_1g = ANSWER_NO;
    switch (host->kvm.backend) {
    case KVM_BACKEND_EPT:
        host->second_stage = "extended page tables (Intel EPT), walked in two dimensions";
        host->second_stage_1g = host_info_cpuinfo_has("ept_1gb") ? ANSWER_YES : ANSWER_NO;
        break;
    case KVM_BACKEND_NPT:
        host->second_stage = "nested page tables (AMD NPT), walked in two dimensions";
        host->second_stage_1g = host_info_cpuinfo_has("pdpe1gb") ? ANSWER_YES : ANSWER_NO;
        break;
    case KVM_BACKEND_SHADOW:
        host->second_stage = "shadow page tables built by KVM, walked in one dimension";
        break;
    case KVM_BACKEND_SOFTWARE:
        host->second_stage = "shadow page tables built by KVM, walked in one dimension "
                             "(2M only where guest and host page are both 2M)";
        break;
    }
}

static void host_info_gather_permissions(struct host_info *host)
{
    struct stat status;
    uint64_t entry = 0;
    int fd;

    host->device_present = stat("/dev/kvm", &status) == 0;
    host->device_mode = host->device_present ? status.st_mode & 07777 : 0;
    host->device_readable = access("/dev/kvm", R_OK | W_OK) == 0;
    /* Without CAP_SYS_ADMIN the frame number (bits 0-54) of a present page reads 0. */
    fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        if (pread(fd, &entry, sizeof(entry), (off_t)((uintptr_t)&entry / 4096 * 8)) != 8)
            entry = 0;
        close(fd);
    }
    host->frame_numbers = entry & ((1ull << 55) - 1);
    fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    host->user_faults = fd >= 0;
    if (fd >= 0)
        close(fd);
    host->uring = file_has_uring(host->uring_lack, sizeof(host->uring_lack));
}

static void host_info_gather_capabilities(struct host_info *host)
{
    unsigned count = sizeof(known_capabilities) / sizeof(known_capabilities[0]);

    for (unsigned i = 0; i < count; i++) {
        struct host_capability *capability = &host->capabilities[host->ncapabilities++];

        *capability = known_capabilities[i];
        /* The table's value is the capability to ask for, ours is the answer. */
        capability->value = kvm_capability(&host->kvm, known_capabilities[i].value);
        if (capability->expected && !capability->value && !host->error) {
            host->error = -EOPNOTSUPP;
            host->failed = capability->lack;
        }
    }
}

void host_info_gather(struct host_info *host)
{
    int err;

    memset(host, 0, sizeof(*host));
    host_info_gather_cpu(host);
    host_info_gather_machine(host);
    host_info_gather_pages(host);
    host_info_gather_permissions(host);
    err = kvm_open(&host->kvm);
    if (err) {
        host->error = err;
        host->failed = "/dev/kvm";
        return;
    }
    host->api_version = ioctl(host->kvm.fd, KVM_GET_API_VERSION, 0);
    host_info_gather_second_stage(host);
    host_info_gather_capabilities(host);
    host_quirks_gather(host);
}

void host_info_release(struct host_info *host)
{
    if (host->kvm.fd >= 0)
        kvm_close(&host->kvm);
}
