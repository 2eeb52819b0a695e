#include "guest/kernel/proc/program.h"

#include "guest/abi/elf.h"
#include "guest/kernel/kstring.h"
#include "guest/kernel/mm/frame.h"
#include "guest/kernel/mm/vma.h"

extern const struct program program_table[];
extern const uint64_t program_count;
extern const struct file file_table[];
extern const uint64_t file_count;
extern char gate_page[];

const struct file *file_of(const char *name)
{
    for (uint64_t i = 0; i < file_count; i++) {
        if (!strcmp(file_table[i].name, name))
            return &file_table[i];
    }
    return NULL;
}

const struct program *program_at(uint64_t index)
{
    return index < program_count ? &program_table[index] : NULL;
}

const struct program *program_of(const char *command_line)
{
    for (uint64_t i = 0; i < program_count; i++) {
        const char *name = program_table[i].name, *word = command_line;

        while (*name && *name == *word)
            name++, word++;
        if (!*name && (!*word || *word == ' '))
            return &program_table[i];
    }
    return NULL;
}

uint64_t program_entry(const struct program *program)
{
    return ((const struct elf_header *)program->image)->entry;
}

static uint8_t prot_of(uint32_t flags)
{
    return (uint8_t)((flags & PF_R ? ABI_PROT_READ : 0) | (flags & PF_W ? ABI_PROT_WRITE : 0) |
                     (flags & PF_X ? ABI_PROT_EXEC : 0));
}

static uint64_t page_up(uint64_t va)
{
    return (va + ABI_PAGE_BYTES - 1) & ~(ABI_PAGE_BYTES - 1);
}

/* The part that has file contents, and behind it pages that are zero at first. */
static int map_segment(struct process *p, const struct program *program,
                       const struct elf_segment *s)
{
    uint64_t skew = s->va % ABI_PAGE_BYTES;
    struct vma file = {
        .start = s->va - skew,
        .end = page_up(s->va + s->filesz),
        .prot = prot_of(s->flags),
        .kind = VMA_FILE,
        .file_frame = frame_of_image(program->image + s->offset - skew),
        .file_bytes = skew + s->filesz,
    };
    struct vma zero = {
        .start = s->filesz ? file.end : file.start,
        .end = page_up(s->va + s->memsz),
        .prot = file.prot,
        .kind = VMA_ZERO,
    };
    int result = s->filesz ? vma_add(p, &file) : 0;

    if (!result && zero.end > zero.start)
        result = vma_add(p, &zero);
    return result;
}

int program_map(struct process *p, const struct program *program)
{
    const struct elf_header *elf = (const struct elf_header *)program->image;
    const struct elf_segment *segment = (const struct elf_segment *)(program->image + elf->phoff);
    const struct vma stack = {
        .start = USER_STACK_TOP - USER_STACK_BYTES,
        .end = USER_STACK_TOP,
        .prot = ABI_PROT_READ | ABI_PROT_WRITE,
        .kind = VMA_ZERO,
    };
    const struct vma gate = {
        .start = ABI_GATE_VA,
        .end = ABI_GATE_VA + ABI_PAGE_BYTES,
        .prot = ABI_PROT_READ | ABI_PROT_EXEC,
        .kind = VMA_FILE,
        .file_frame = frame_of_image(gate_page),
        .file_bytes = ABI_PAGE_BYTES,
    };
    int result = 0;

    for (unsigned i = 0; !result && i < elf->phnum; i++) {
        if (segment[i].type == PT_LOAD && segment[i].memsz)
            result = map_segment(p, program, &segment[i]);
    }
    if (!result)
        result = vma_add(p, &stack);
    return result ? result : vma_add(p, &gate);
}
