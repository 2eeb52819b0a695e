#include "vmm/machine/dirty.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "vmm/machine/vm.h"

int dirty_log(struct memory *memory, unsigned slot, bool on)
{
    struct memory_slot *at = &memory->slots[slot];
    uint32_t flags = (at->flags & ~KVM_MEM_LOG_DIRTY_PAGES) | (on ? KVM_MEM_LOG_DIRTY_PAGES : 0);
    struct kvm_userspace_memory_region region = {
        .slot = at->id,
        .flags = flags,
        .guest_phys_addr = at->gpa,
        .memory_size = at->bytes,
        .userspace_addr = (uintptr_t)at->hva,
    };

    if (ioctl(memory->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
        return -errno;
    at->flags = flags;
    return 0;
}

int dirty_bitmap(const struct memory *memory, unsigned slot, uint64_t gpa, uint64_t bytes,
                 uint64_t *pages)
{
    const struct memory_slot *at = &memory->slots[slot];
    uint64_t first = (gpa - at->gpa) / MEMORY_PAGE_BYTES, end = first + bytes / MEMORY_PAGE_BYTES;
    uint64_t words = (at->bytes / MEMORY_PAGE_BYTES + 63) / 64;
    uint64_t *bitmap = calloc(words, sizeof(*bitmap));
    struct kvm_dirty_log log = { .slot = at->id, .dirty_bitmap = bitmap };
    int err = 0;

    if (!bitmap)
        return -ENOMEM;
    if (ioctl(memory->vm_fd, KVM_GET_DIRTY_LOG, &log) < 0)
        err = -errno;
    *pages = 0;
    for (uint64_t page = first; page < end; page++)
        *pages += bitmap[page / 64] >> page % 64 & 1;
    free(bitmap);
    return err;
}

int dirty_ring_open(struct dirty_ring *ring, const struct vcpu *vcpu, uint32_t bytes)
{
    void *entries = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd,
                         KVM_DIRTY_LOG_PAGE_OFFSET * (off_t)MEMORY_PAGE_BYTES);

    if (entries == MAP_FAILED)
        return -errno;
    *ring = (struct dirty_ring){ .entries = entries,
                                 .count = bytes / (uint32_t)sizeof(struct kvm_dirty_gfn) };
    return 0;
}

void dirty_ring_close(struct dirty_ring *ring)
{
    munmap(ring->entries, ring->count * sizeof(*ring->entries));
}

int dirty_ring_harvest(struct dirty_ring *ring, const struct vm *vm, unsigned slot, uint64_t gpa,
                       uint64_t bytes, uint64_t *pages)
{
    const struct memory_slot *at = &vm->memory.slots[slot];

    *pages = 0;
    for (uint32_t taken = 0; taken < ring->count; taken++, ring->next++) {
        struct kvm_dirty_gfn *entry = &ring->entries[ring->next & (ring->count - 1)];
        uint64_t page;

        /* Pairs with KVM's release when it has written the entry (api.rst, 8.29). */
        if (__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) != KVM_DIRTY_GFN_F_DIRTY)
            break;
        page = at->gpa + entry->offset * MEMORY_PAGE_BYTES;
        *pages += entry->slot == at->id && page - gpa < bytes;
        __atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
    }
    return ioctl(vm->fd, KVM_RESET_DIRTY_RINGS) < 0 ? -errno : 0;
}
