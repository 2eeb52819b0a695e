#include "vmm/measure/bare.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest/abi/measure.h"

/* Guest-physical memory: tables, code, samples; the rest of the 2M is not used. */
#define MEMORY_BYTES    (2ul << 20)
#define PML4_GPA        0x1000u
#define PDPT_GPA        0x2000u
#define LOW_GPA         0x3000u     /* page directory of the first GiB */
#define HIGH_GPA        0x4000u     /* and of the fourth, */
#define DEVICE_GPA      0xd0000000u /* where nothing is */
#define CODE_GPA        0x5000u
#define SAMPLES_GPA     0x6000u
#define EVENT_PORT      0x5c0u
#define END_PORT        0x80u
#define EVENT_ANSWER    0x45524142u
#define PRESENT_WRITE   0x3u
#define HUGE            0x80u
#define CPUID_ENTRIES   256u

#define STRING_OF(text) #text
#define STRING(macro)   STRING_OF(macro)

/*
 * The clock read as guest/kernel/arch/measure.c does it: what takes r11d to eax and edx, as an
 * event's operands, belongs to both. rdi is the device's address, rsi the next sample.
 */
#define SAMPLE(action)                               \
    "lfence; rdtsc; lfence\n"                        \
    "mov %eax, %r8d; mov %edx, %r9d\n"               \
    "mov %r11d, %eax; mov %r11d, %edx\n" action "\n" \
    "mov %eax, %r10d\n"                              \
    "lfence; rdtsc; lfence\n"                        \
    "shl $32, %rdx; or %rdx, %rax\n"                 \
    "shl $32, %r9; or %r9, %r8\n"                    \
    "sub %r8, %rax\n"                                \
    "mov %rax, (%rsi)\n"                             \
    "add $8, %rsi\n"

/* One loop for each event; rbp is how many pairs of samples are left. */
#define LOOP(name, action)                                             \
    "bare_" name ":\n" SAMPLE("") SAMPLE(action) "dec %rbp\n"          \
                                                 "jnz bare_" name "\n" \
                                                 "out %al, $0x80\n"

__asm__(".pushsection .rodata\n"
        ".globl bare_code, bare_code_end, bare_pio, bare_mmio, bare_cpuid\n"
        "bare_code:\n" LOOP("pio", "inl %dx, %eax") LOOP("mmio", "movl (%rdi), %eax")
            LOOP("cpuid",
                 ".rept " STRING(ABI_MEASURE_CPUIDS) "\n"
                                                     "xor %eax, %eax; xor %ecx, %ecx; cpuid\n"
                                                     ".endr") "bare_code_end:\n"
                                                              ".popsection");

extern const char bare_code[], bare_code_end[], bare_pio[], bare_mmio[], bare_cpuid[];

static void bare_fill_memory(char *memory)
{
    uint64_t *pml4 = (uint64_t *)(memory + PML4_GPA), *pdpt = (uint64_t *)(memory + PDPT_GPA);
    uint64_t *low = (uint64_t *)(memory + LOW_GPA), *high = (uint64_t *)(memory + HIGH_GPA);

    pml4[0] = PDPT_GPA | PRESENT_WRITE;
    pdpt[0] = LOW_GPA | PRESENT_WRITE;
    pdpt[DEVICE_GPA >> 30] = HIGH_GPA | PRESENT_WRITE;
    low[0] = PRESENT_WRITE | HUGE;
    high[DEVICE_GPA >> 21 & 511] = DEVICE_GPA | PRESENT_WRITE | HUGE;
    memcpy(memory + CODE_GPA, bare_code, (size_t)(bare_code_end - bare_code));
}

/* CPUID as KVM offers it: without a table it answers by another way. */
static int bare_set_cpuid(const struct bare *bare, int kvm_fd)
{
    struct {
        uint32_t nent, padding;
        struct kvm_cpuid_entry2 entries[CPUID_ENTRIES];
    } table = { .nent = CPUID_ENTRIES };

    if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, &table) < 0 ||
        ioctl(bare->vcpu, KVM_SET_CPUID2, &table) < 0)
        return -errno;
    return 0;
}

/*
 * A 64-bit kernel has its system calls set up, and KVM then exchanges these registers at each
 * way to user space and back, which is an eighth of it.
 */
static int bare_set_syscall(const struct bare *bare)
{
    struct {
        uint32_t nmsrs, padding;
        struct kvm_msr_entry entries[3];
    } msrs = {
        .nmsrs = 3,
        .entries = { { .index = 0xc0000081, .data = 0x0013000800000000 }, /* STAR */
                     { .index = 0xc0000082, .data = CODE_GPA },           /* LSTAR */
                     { .index = 0xc0000084, .data = 0x47700 } },          /* FMASK */
    };
    int done = ioctl(bare->vcpu, KVM_SET_MSRS, &msrs);

    return done < 0 ? -errno : done < (int)msrs.nmsrs ? -EINVAL : 0;
}

static int bare_enter_long_mode(const struct bare *bare)
{
    struct kvm_segment code = { .limit = ~0u, .selector = 8, .type = 11, .present = 1, .s = 1 };
    struct kvm_segment data = { .limit = ~0u, .selector = 16, .type = 3, .present = 1, .s = 1 };
    struct kvm_sregs sregs;

    if (ioctl(bare->vcpu, KVM_GET_SREGS, &sregs) < 0)
        return -errno;
    code.g = data.g = 1;
    code.l = 1;
    data.db = 1;
    sregs.cs = code;
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
    sregs.cr0 |= 0x80000001; /* PG, PE */
    sregs.cr3 = PML4_GPA;
    sregs.cr4 |= 0x20;   /* PAE */
    sregs.efer |= 0x501; /* LMA, LME, SCE */
    return ioctl(bare->vcpu, KVM_SET_SREGS, &sregs) < 0 ? -errno : 0;
}

/* The memory and the vCPU; what there is of them is for bare_close. */
static int bare_set_up(struct bare *bare, int kvm_fd)
{
    struct kvm_userspace_memory_region slot = { .memory_size = MEMORY_BYTES };
    int bytes = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    int err;

    if (bytes < 0)
        return -errno;
    bare->memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                        0);
    if (bare->memory == MAP_FAILED)
        return -errno;
    bare_fill_memory(bare->memory);
    slot.userspace_addr = (uintptr_t)bare->memory;
    if (ioctl(bare->vm, KVM_SET_USER_MEMORY_REGION, &slot) < 0 ||
        ioctl(bare->vm, KVM_SET_TSS_ADDR, 0xfffbd000) < 0)
        return -errno;
    bare->vcpu = ioctl(bare->vm, KVM_CREATE_VCPU, 0);
    if (bare->vcpu < 0)
        return -errno;
    bare->run_bytes = (size_t)bytes;
    bare->run = mmap(NULL, bare->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bare->vcpu, 0);
    if (bare->run == MAP_FAILED)
        return -errno;
    err = bare_set_cpuid(bare, kvm_fd);
    if (!err)
        err = bare_enter_long_mode(bare);
    return err ? err : bare_set_syscall(bare);
}

int bare_open(struct bare *bare, int kvm_fd)
{
    int err;

    *bare = (struct bare){ .vcpu = -1, .run = MAP_FAILED, .memory = MAP_FAILED };
    do
        bare->vm = ioctl(kvm_fd, KVM_CREATE_VM, 0);
    while (bare->vm < 0 && errno == EINTR);
    if (bare->vm < 0)
        return -errno;
    err = bare_set_up(bare, kvm_fd);
    if (err)
        bare_close(bare);
    return err;
}

void bare_close(struct bare *bare)
{
    if (bare->run != MAP_FAILED)
        munmap(bare->run, bare->run_bytes);
    if (bare->vcpu >= 0)
        close(bare->vcpu);
    close(bare->vm);
    if (bare->memory != MAP_FAILED)
        munmap(bare->memory, MEMORY_BYTES);
    bare->vm = bare->vcpu = -1;
}

static int bare_start_at(const struct bare *bare, enum bare_event event)
{
    static const char *const entry[BARE_EVENTS] = {
        [BARE_PIO] = bare_pio,
        [BARE_MMIO] = bare_mmio,
        [BARE_CPUID] = bare_cpuid,
    };
    struct kvm_regs regs = { .rip = CODE_GPA + (uint64_t)(entry[event] - bare_code),
                             .rflags = 2,
                             .rdi = DEVICE_GPA,
                             .rsi = SAMPLES_GPA,
                             .rbp = BARE_SAMPLES / 2,
                             .r11 = event == BARE_PIO ? EVENT_PORT : 0 };

    return ioctl(bare->vcpu, KVM_SET_REGS, &regs) < 0 ? -errno : 0;
}

int bare_run(struct bare *bare, enum bare_event event, uint64_t ticks[BARE_SAMPLES],
             uint64_t *exits)
{
    const uint32_t reply = EVENT_ANSWER;
    struct kvm_run *run = bare->run;
    int err = bare_start_at(bare, event);

    *exits = 0;
    while (!err) {
        if (ioctl(bare->vcpu, KVM_RUN, 0) < 0) {
            err = errno == EINTR ? 0 : -errno;
            continue;
        }
        if (run->exit_reason == KVM_EXIT_IO && run->io.port == END_PORT)
            break;
        ++*exits;
        if (run->exit_reason == KVM_EXIT_IO && run->io.port == EVENT_PORT)
            memcpy((char *)run + run->io.data_offset, &reply, sizeof(reply));
        else if (run->exit_reason == KVM_EXIT_MMIO && run->mmio.phys_addr == DEVICE_GPA)
            memcpy(run->mmio.data, &reply, sizeof(reply));
        else
            err = -EPROTO;
    }
    if (!err)
        memcpy(ticks, (char *)bare->memory + SAMPLES_GPA, BARE_SAMPLES * sizeof(ticks[0]));
    return err;
}
