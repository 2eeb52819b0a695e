#include "vmm/monitor/rss_trim.h"

#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#define PAGE_BYTES 4096ul

/* Only what cannot have been written to: a private page that was would be lost. */
static int rss_trim_object(struct dl_phdr_info *object, size_t bytes, void *arg)
{
    (void)bytes;
    (void)arg;
    for (unsigned i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *phdr = &object->dlpi_phdr[i];
        uintptr_t start = object->dlpi_addr + phdr->p_vaddr;

        if (phdr->p_type != PT_LOAD || phdr->p_flags & PF_W)
            continue;
        /* Best effort: without it, nothing but a little memory is lost. */
        madvise((void *)(start & ~(PAGE_BYTES - 1)), phdr->p_memsz + start % PAGE_BYTES,
                MADV_DONTNEED);
    }
    return 1; /* the program comes first, and nothing after it matters */
}

void rss_trim(void)
{
    dl_iterate_phdr(rss_trim_object, NULL);
}
