/*
 * The floor of the bench: the least code that does what `strata run` must do. It
 * makes a VM with the same objects (a memory slot of the same size, TSS address,
 * interrupt chip, one vCPU) by bare ioctls in the best order (KVM_SET_USER_MEMORY_
 * REGION waits for a grace period once there is an interrupt chip), runs one of
 * the bench's guests in it, and passes its bytes on COM1 to stdout.
 *
 *   floor first|exits MEMORY-MIB
 *
 * It checks nothing that a virtual machine monitor has to check.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest/abi/machine.h"

#define LOAD_GPA 0x100000u
#define TSS_GPA  0xfffbd000u

extern const unsigned char first_start[], first_end[], exits_start[], exits_end[];

static int or_die(int ret, const char *what)
{
    if (ret < 0)
        err(1, "%s", what);
    return ret;
}

/* Flat 32-bit protected mode: the state in which PVH enters a kernel. */
static void enter_flat(int vcpu)
{
    struct kvm_segment flat = { .limit = UINT32_MAX, .present = 1, .s = 1, .g = 1, .db = 1 };
    struct kvm_regs regs = { .rip = LOAD_GPA, .rflags = 2 };
    struct kvm_sregs sregs;

    or_die(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
    flat.type = 3;
    flat.selector = 0x18;
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat;
    flat.type = 11;
    flat.selector = 0x10;
    sregs.cs = flat;
    sregs.cr0 |= 1;
    or_die(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
    or_die(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

int main(int argc, char **argv)
{
    const unsigned char *code = first_start, *end = first_end;
    size_t bytes;
    int kvm, vm, vcpu, run_bytes;

    if (argc != 3)
        errx(2, "usage: floor first|exits MEMORY-MIB");
    if (strcmp(argv[1], "exits") == 0)
        code = exits_start, end = exits_end;
    bytes = strtoul(argv[2], NULL, 10) << 20;

    kvm = or_die(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
    do
        vm = ioctl(kvm, KVM_CREATE_VM, 0);
    while (vm < 0 && errno == EINTR);
    or_die(vm, "KVM_CREATE_VM");

    unsigned char *ram = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (ram == MAP_FAILED)
        err(1, "guest memory");
    struct kvm_userspace_memory_region slot = { .memory_size = bytes,
                                                .userspace_addr = (uintptr_t)ram };

    or_die(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot), "KVM_SET_USER_MEMORY_REGION");
    or_die(ioctl(vm, KVM_SET_TSS_ADDR, TSS_GPA), "KVM_SET_TSS_ADDR");
    or_die(ioctl(vm, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
    vcpu = or_die(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
    run_bytes = or_die(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");

    struct kvm_run *run = mmap(NULL, run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);

    if (run == MAP_FAILED)
        err(1, "kvm_run");
    memcpy(ram + LOAD_GPA, code, end - code);
    enter_flat(vcpu);

    for (;;) {
        uint32_t magic = ABI_HYPERCALL_MAGIC;

        or_die(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
        if (run->exit_reason != KVM_EXIT_IO)
            errx(1, "exit reason %u", run->exit_reason);
        unsigned char *data = (unsigned char *)run + run->io.data_offset;

        if (run->io.port == ABI_HYPERCALL_PORT)
            memcpy(data, &magic, sizeof(magic));
        else if (run->io.port == ABI_SERIAL_PORT)
            or_die(write(STDOUT_FILENO, data, 1), "stdout");
        else
            return 0;
    }
}
