#include "vmm/machine/memory.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/abi/machine.h"

/* Every KVM has had this many slots since Linux 2.6; beyond, it is asked. */
#define SLOTS_CERTAIN 4

static unsigned slots_limit(struct memory *memory)
{
    int limit;

    if (memory->vm_fd < 0)
        return MEMORY_SLOTS_MAX;
    if (!memory->slots_limit) {
        limit = ioctl(memory->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS);
        memory->slots_limit = limit > 0 ? (unsigned)limit : SLOTS_CERTAIN;
        if (memory->slots_limit > MEMORY_SLOTS_MAX)
            memory->slots_limit = MEMORY_SLOTS_MAX;
    }
    return memory->slots_limit;
}

static int tell_kvm(int vm_fd, const struct memory_slot *slot)
{
    struct kvm_userspace_memory_region region = {
        .slot = slot->id,
        .flags = slot->flags,
        .guest_phys_addr = slot->gpa,
        .memory_size = slot->bytes,
        .userspace_addr = (uintptr_t)slot->hva,
    };

    return ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0 ? -errno : 0;
}

int memory_add(struct memory *memory, uint64_t gpa, uint64_t bytes, void *hva, uint32_t flags)
{
    struct memory_slot *slot = &memory->slots[memory->nslots];
    int err;

    if (!bytes || (gpa | bytes | (uintptr_t)hva) % MEMORY_PAGE_BYTES || gpa + bytes < gpa)
        return -EINVAL;
    for (unsigned i = 0; i < memory->nslots; i++) {
        const struct memory_slot *other = &memory->slots[i];

        if (gpa < other->gpa + other->bytes && other->gpa < gpa + bytes)
            return -EEXIST;
    }
    if (memory->nslots >= SLOTS_CERTAIN && memory->nslots >= slots_limit(memory))
        return -ENOSPC;
    *slot = (struct memory_slot){
        .gpa = gpa, .bytes = bytes, .hva = hva, .id = memory->nslots, .flags = flags
    };
    err = memory->vm_fd < 0 ? 0 : tell_kvm(memory->vm_fd, slot);
    if (!err)
        memory->nslots++;
    return err;
}

uint64_t memory_page_bytes(enum memory_backing backing)
{
    return backing == MEMORY_HUGETLB_1G ? MEMORY_GIANT_BYTES
           : backing == MEMORY_HUGETLB  ? MEMORY_HUGE_BYTES
                                        : MEMORY_PAGE_BYTES;
}

int memory_attach(struct memory *memory, int vm_fd)
{
    int err = 0;

    for (unsigned i = 0; i < memory->nslots && !err; i++)
        err = tell_kvm(vm_fd, &memory->slots[i]);
    memory->vm_fd = vm_fd;
    return err;
}

/*
 * Both pieces of RAM start at a multiple of 2 MiB. The kernel aligns a large
 * anonymous mapping only sometimes, so 2 MiB more are reserved and the start is
 * rounded up; the rest is address space that nobody touches.
 */
static int map_anonymous(struct memory *memory, unsigned piece, uint64_t gpa, uint64_t bytes)
{
    bool hugetlb = memory->backing >= MEMORY_HUGETLB;
    int log2 = __builtin_ctzll(memory_page_bytes(memory->backing));
    /* A hugetlb mapping is aligned as it is, and must reserve: without, SIGBUS comes later. */
    int flags = MAP_PRIVATE | MAP_ANONYMOUS |
                (hugetlb ? MAP_HUGETLB | log2 << MAP_HUGE_SHIFT : MAP_NORESERVE);
    uint64_t reserve = hugetlb ? bytes : bytes + MEMORY_HUGE_BYTES;
    uintptr_t start;
    void *mapping = mmap(NULL, reserve, PROT_READ | PROT_WRITE, flags, -1, 0);

    if (mapping == MAP_FAILED)
        return -errno;
    memory->mapping[piece] = mapping;
    memory->mapping_bytes[piece] = reserve;
    start = ((uintptr_t)mapping + MEMORY_HUGE_BYTES - 1) & ~(uintptr_t)(MEMORY_HUGE_BYTES - 1);
    /*
     * Best effort, both: a kernel without THP has 4K pages only, one without names for
     * anonymous memory shows none in /proc/PID/maps. All of the mapping, to keep it one.
     */
    if (!hugetlb)
        madvise(mapping, reserve, memory->backing == MEMORY_THP ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, mapping, reserve, "strata guest RAM");
    return memory_add(memory, gpa, bytes, (void *)start, 0);
}

/*
 * RAM's bytes from `offset` on of a file, aligned as KVM wants it: address space is reserved
 * for a start at a multiple of the page size, and mapped over.
 */
static int map_file(struct memory *memory, unsigned piece, uint64_t gpa, uint64_t bytes, int fd)
{
    uint64_t unit = memory_page_bytes(memory->backing);
    uint64_t align = unit > MEMORY_HUGE_BYTES ? unit : MEMORY_HUGE_BYTES;
    int kind = memory->source == MEMORY_SHARED ? MAP_SHARED : MAP_PRIVATE | MAP_NORESERVE;
    off_t offset = piece ? (off_t)ABI_RAM_LOW_END : 0;
    uint64_t reserve = bytes + align;
    void *mapping = mmap(NULL, reserve, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                         0);
    uintptr_t start;

    if (mapping == MAP_FAILED)
        return -errno;
    memory->mapping[piece] = mapping;
    memory->mapping_bytes[piece] = reserve;
    start = ((uintptr_t)mapping + align - 1) & ~(uintptr_t)(align - 1);
    if (mmap((void *)start, bytes, PROT_READ | PROT_WRITE, kind | MAP_FIXED, fd, offset) ==
        MAP_FAILED)
        return -errno;
    /* Best effort: a kernel or a file system without huge pages has 4K pages only. */
    if (memory->backing < MEMORY_HUGETLB)
        madvise((void *)start, bytes,
                memory->backing == MEMORY_THP ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    return memory_add(memory, gpa, bytes, (void *)start, 0);
}

/* The memfd, or the file that was given; or -errno. */
static int open_source(struct memory *memory, const struct memory_params *params)
{
    unsigned log2 = (unsigned)__builtin_ctzll(memory_page_bytes(params->backing));
    unsigned flags = MFD_CLOEXEC;
    struct stat stat;

    if (params->source == MEMORY_FILE) {
        if (params->backing >= MEMORY_HUGETLB || fstat(params->file_fd, &stat) ||
            (uint64_t)stat.st_size < params->bytes)
            return -EINVAL;
        return params->file_fd;
    }
    if (params->backing >= MEMORY_HUGETLB)
        flags |= MFD_HUGETLB | log2 << MAP_HUGE_SHIFT;
    memory->fd = memfd_create("strata guest RAM", flags);
    if (memory->fd < 0)
        return -errno;
    return ftruncate(memory->fd, (off_t)params->bytes) ? -errno : memory->fd;
}

static int map_piece(struct memory *memory, unsigned piece, uint64_t gpa, uint64_t bytes, int fd)
{
    return memory->source == MEMORY_ANONYMOUS ? map_anonymous(memory, piece, gpa, bytes)
                                              : map_file(memory, piece, gpa, bytes, fd);
}

int memory_create_from(struct memory *memory, int vm_fd, const struct memory_params *params)
{
    uint64_t bytes = params->bytes, unit = memory_page_bytes(params->backing);
    uint64_t low = bytes < ABI_RAM_LOW_END ? bytes : ABI_RAM_LOW_END;
    int fd = -1, err = 0;

    *memory = (struct memory){ .vm_fd = vm_fd,
                               .backing = params->backing,
                               .source = params->source,
                               .fd = -1,
                               .bytes = bytes };
    /* 2^46 keeps the sums below from wrapping; no x86 host maps that much. */
    if (!bytes || bytes % unit || bytes > 1ull << 46)
        return -EINVAL;
    if (params->source != MEMORY_ANONYMOUS) {
        fd = open_source(memory, params);
        err = fd < 0 ? fd : 0;
    }
    if (!err)
        err = map_piece(memory, 0, 0, low, fd);
    if (!err && bytes > low)
        err = map_piece(memory, 1, ABI_RAM_HIGH_START, bytes - low, fd);
    if (err)
        memory_destroy(memory);
    return err;
}

int memory_create(struct memory *memory, int vm_fd, uint64_t bytes, enum memory_backing backing)
{
    return memory_create_from(memory, vm_fd,
                              &(struct memory_params){ .bytes = bytes, .backing = backing });
}

void memory_destroy(struct memory *memory)
{
    /* KVM's slots go with the VM's file descriptor, which is closed by now. */
    for (unsigned i = 0; i < 2; i++) {
        if (memory->mapping[i])
            munmap(memory->mapping[i], memory->mapping_bytes[i]);
        memory->mapping[i] = NULL;
    }
    if (memory->source == MEMORY_SHARED && memory->fd >= 0)
        close(memory->fd);
    memory->fd = -1;
    memory->nslots = 0;
}

void *memory_at(const struct memory *memory, uint64_t gpa, uint64_t len)
{
    for (unsigned i = 0; i < memory->nslots; i++) {
        const struct memory_slot *slot = &memory->slots[i];
        uint64_t offset = gpa - slot->gpa;

        /* Subtractions only: nothing here can overflow once gpa >= slot->gpa. */
        if (gpa < slot->gpa || offset >= slot->bytes)
            continue;
        return len && len <= slot->bytes - offset ? (char *)slot->hva + offset : NULL;
    }
    return NULL;
}

/* Whether memory_create made it: only then is a private page that is gone a page of zeroes. */
static bool is_own(const struct memory *memory, uintptr_t at)
{
    for (unsigned i = 0; i < 2; i++) {
        if (memory->mapping[i] && at - (uintptr_t)memory->mapping[i] < memory->mapping_bytes[i])
            return true;
    }
    return false;
}

/*
 * A shared page is freed in its memfd. A private page of a file would be the file's again, so
 * anonymous memory takes its place.
 */
static int discard_pages(const struct memory *memory, void *first, uint64_t bytes)
{
    switch (memory->source) {
    case MEMORY_ANONYMOUS: return madvise(first, bytes, MADV_DONTNEED);
    case MEMORY_SHARED: return madvise(first, bytes, MADV_REMOVE);
    case MEMORY_FILE:
        return mmap(first, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED
                   ? -1
                   : 0;
    }
    return 0;
}

int64_t memory_discard(const struct memory *memory, uint64_t gpa, uint64_t len)
{
    uint64_t page = memory_page_bytes(memory->backing);
    uintptr_t host = (uintptr_t)memory_at(memory, gpa, len), first, end;

    if (!host || !is_own(memory, host))
        return -EFAULT;
    first = (host + page - 1) & ~(page - 1);
    end = (host + len) & ~(page - 1);
    if (first >= end)
        return 0;
    if (discard_pages(memory, (void *)first, end - first))
        return -errno;
    return (int64_t)(end - first);
}

uint64_t memory_low_end(const struct memory *memory)
{
    return memory->bytes < ABI_RAM_LOW_END ? memory->bytes : ABI_RAM_LOW_END;
}
