#include "vmm/inspect/translate.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <unistd.h>

#include "vmm/machine/guest_memory.h"
#include "vmm/machine/memory.h"

/* pagemap.rst: bits of an entry of /proc/PID/pagemap … */
#define PM_PFN       ((1ull << 55) - 1)
#define PM_EXCLUSIVE (1ull << 56)
#define PM_FILE      (1ull << 61)
#define PM_SWAPPED   (1ull << 62)
#define PM_PRESENT   (1ull << 63)
/* … and of /proc/kpageflags (linux/kernel-page-flags.h). */
#define KPF_HEAD     (1ull << 15) /* first frame of a compound page */
#define KPF_HUGE     (1ull << 17) /* hugetlb */
#define KPF_THP      (1ull << 22)

#define HUGE_FRAMES  (MEMORY_HUGE_BYTES / MEMORY_PAGE_BYTES)
#define GIANT_FRAMES (MEMORY_GIANT_BYTES / MEMORY_PAGE_BYTES)

static int translate_open_or_errno(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

void host_pages_open(struct host_pages *pages)
{
    pages->pagemap = translate_open_or_errno("/proc/self/pagemap");
    pages->kpageflags = translate_open_or_errno("/proc/kpageflags");
}

void host_pages_close(struct host_pages *pages)
{
    if (pages->pagemap >= 0)
        close(pages->pagemap);
    if (pages->kpageflags >= 0)
        close(pages->kpageflags);
    pages->pagemap = pages->kpageflags = -EBADF;
}

static bool translate_read_word(int fd, uint64_t index, uint64_t *word)
{
    return fd >= 0 &&
           pread(fd, word, sizeof(*word), (off_t)(index * sizeof(*word))) == (ssize_t)sizeof(*word);
}

void host_pages_read(const struct host_pages *pages, const void *hva, struct host_page *out)
{
    uint64_t entry, flags;

    *out = (struct host_page){ .pfn_unknown = "no frame behind this page",
                               .size_unknown = "no frame behind this page" };
    if (!translate_read_word(pages->pagemap, (uintptr_t)hva / MEMORY_PAGE_BYTES, &entry)) {
        out->pfn_unknown = out->size_unknown = "cannot read /proc/self/pagemap";
        return;
    }
    out->present = entry & PM_PRESENT;
    out->swapped = entry & PM_SWAPPED;
    out->file_or_shared = entry & PM_FILE;
    out->exclusive = entry & PM_EXCLUSIVE;
    if (!out->present)
        return;

    /* Without CAP_SYS_ADMIN the kernel shows frame number 0. */
    out->pfn = entry & PM_PFN;
    if (!out->pfn) {
        out->pfn_unknown = out->size_unknown = "frame numbers need CAP_SYS_ADMIN";
        return;
    }
    out->pfn_unknown = NULL;

    if (!translate_read_word(pages->kpageflags, out->pfn, &flags)) {
        out->size_unknown = "cannot read /proc/kpageflags";
        return;
    }
    out->size_unknown = NULL;
    out->bytes = flags & (KPF_HUGE | KPF_THP) ? MEMORY_HUGE_BYTES : MEMORY_PAGE_BYTES;
    /* Only one of 1 GiB has no head at the second of its 2 MiB. */
    if (flags & KPF_HUGE &&
        translate_read_word(pages->kpageflags, (out->pfn & ~(GIANT_FRAMES - 1)) + HUGE_FRAMES,
                            &flags) &&
        (flags & (KPF_HUGE | KPF_HEAD)) == KPF_HUGE)
        out->bytes = MEMORY_GIANT_BYTES;
}

static const struct memory_slot *translate_slot_of(const struct memory *memory, uint64_t gpa)
{
    for (unsigned i = 0; i < memory->nslots; i++)
        if (gpa >= memory->slots[i].gpa && gpa - memory->slots[i].gpa < memory->slots[i].bytes)
            return &memory->slots[i];
    return NULL;
}

static int translate_below_gpa(const struct memory *memory, const struct host_pages *pages,
                               struct translation *out)
{
    out->hva = memory_at(memory, out->gpa, 1);
    if (!out->hva)
        return -ENXIO;
    out->slot = translate_slot_of(memory, out->gpa);
    if (pages)
        host_pages_read(pages, out->hva, &out->host);
    return 0;
}

int translate_gpa(const struct memory *memory, const struct host_pages *pages, uint64_t gpa,
                  struct translation *out)
{
    *out = (struct translation){ .mapped = true, .gpa = gpa };
    return translate_below_gpa(memory, pages, out);
}

int translate_gva(const struct paging_format *format, const struct memory *memory,
                  const struct host_pages *pages, uint64_t root, uint64_t gva,
                  struct translation *out)
{
    struct paging_reader reader = guest_memory_reader(memory);
    int err;

    *out = (struct translation){ 0 };
    err = paging_walk(format, &reader, root, gva, &out->walk);
    if (err < 0)
        return err;
    out->mapped = true;
    out->gpa = out->walk.gpa;
    return translate_below_gpa(memory, pages, out);
}
