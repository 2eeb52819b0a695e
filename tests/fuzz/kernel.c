/*
 * libFuzzer: a kernel file of whatever kind, by the way that every one takes: recognised,
 * loaded, given its command line and what goes along, entered. Sizes are of files without
 * contents. Whatever they are, all stays inside the files and a small memory; what is refused
 * is refused with a line, and what is loaded lies in memory.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/boot/kernel.h"
#include "vmm/boot/layout.h"
#include "vmm/boot/source.h"
#include "vmm/machine/vm.h"
#include "vmm/machine/vm_setup.h"

#define MEMORY_BYTES (4ull << 20)
#define GUARD_BYTES  (1ull << 20)
#define CMDLINE_MAX  131072u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The head of an input; then the kernel's file. */
struct plan {
    uint8_t bits;         /* of plain code: 16, 32, 64; anything else: it is not */
    uint8_t along;        /* bit 0 an initrd, 1 and 2 modules */
    uint16_t cmdline;     /* its length, doubled */
    uint64_t along_bytes; /* of each */
    uint64_t more;        /* what the kernel's file has behind its contents */
    uint64_t gpa, entry;  /* of plain code */
};

/* A machine without KVM: its boot CPU cannot be set up, which is as far as it goes. */
static const struct kvm_host host = { .fd = -1 };
static struct vm vm = {
    .host = &host, .fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER
};
static uint8_t *guarded;
static int kernel_fd, along_fd;
static char kernel_path[32], along_path[32];
static char cmdline[CMDLINE_MAX + 1];

static int make_file(const char *name, char *path, size_t room)
{
    int fd = memfd_create(name, MFD_CLOEXEC);

    if (fd < 0)
        abort();
    snprintf(path, room, "/proc/self/fd/%d", fd);
    return fd;
}

static void open_world(void)
{
    guarded = mmap(NULL, MEMORY_BYTES + 2 * GUARD_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                   0);
    if (guarded == MAP_FAILED)
        abort();
    if (vm_setup_start(&vm))
        abort();
    vm_setup_reached(&vm, VM_STAGE_BOOT_CPU);
    kernel_fd = make_file("kernel", kernel_path, sizeof(kernel_path));
    along_fd = make_file("along", along_path, sizeof(along_path));
    memset(cmdline, 'x', CMDLINE_MAX);
}

/* Fresh, as a machine's is. */
static void *fresh_ram(void)
{
    uint8_t *ram = mmap(guarded + GUARD_BYTES, MEMORY_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

    if (ram == MAP_FAILED)
        abort();
    return ram;
}

static int start(const struct boot_source *source, struct memory *memory, struct error *error)
{
    const struct kernel_info info = { .fdt_bytes = 64, .rsdp_gpa = LAYOUT_ACPI_GPA };
    struct vcpu vcpu = { .vm = &vm, .fd = -1 };
    struct kernel kernel;
    int err = kernel_open(&kernel, source, error);

    if (err)
        return err;
    err = kernel_load(&kernel, memory, error);
    if (!err && (kernel.start >= kernel.end || kernel.end > MEMORY_BYTES))
        abort();
    if (!err)
        err = kernel_start(&kernel, memory, &vcpu, &info, error);
    if (!err)
        abort();
    kernel_close(&kernel);
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct memory memory = { .vm_fd = -1, .bytes = MEMORY_BYTES, .nslots = 1 };
    const char *const modules[] = { along_path, along_path };
    struct error error = { .text = "" };
    struct boot_source source = { .boot_args = cmdline };
    struct plan plan;
    uint64_t file_bytes;

    if (size < sizeof(plan))
        return -1;
    if (!guarded)
        open_world();
    memcpy(&plan, data, sizeof(plan));
    size -= sizeof(plan);
    source.kernel_path = kernel_path;
    file_bytes = size + plan.more % (1ull << 44);
    if (ftruncate(kernel_fd, 0) || pwrite(kernel_fd, data + sizeof(plan), size, 0) < 0 ||
        ftruncate(kernel_fd, (off_t)file_bytes) ||
        ftruncate(along_fd, (off_t)(plan.along_bytes % (1ull << 44))))
        abort();
    if (plan.bits == 16 || plan.bits == 32 || plan.bits == 64)
        source.flat = (struct boot_flat){ plan.bits, plan.gpa, plan.entry };
    if (plan.along & 1)
        source.initrd_path = along_path;
    source.modules = modules;
    source.nmodules = plan.along >> 1 & 3;
    if (source.nmodules > 2)
        source.nmodules = 2;
    memory.slots[0] = (struct memory_slot){ .bytes = MEMORY_BYTES, .hva = fresh_ram() };
    cmdline[2u * plan.cmdline] = 0;
    if (start(&source, &memory, &error) > 0 || !error.text[0] || strchr(error.text, '\n'))
        abort();
    cmdline[2u * plan.cmdline] = 'x';
    return 0;
}
