#include "vmm/inspect/cpu.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/machine/vm.h"

#define CR0_PG      (1ull << 31)
#define EFER_LMA    (1ull << 10)
#define BEFORE_MAX  48u /* bytes */
#define FORWARD_MAX (CPU_INSTRUCTIONS_AFTER * DISASM_CODE_BYTES)

unsigned cpu_mode_bits(const struct kvm_sregs *sregs)
{
    if (sregs->efer & EFER_LMA && sregs->cs.l)
        return 64;
    return sregs->cs.db ? 32 : 16;
}

uint64_t cpu_linear(const struct kvm_sregs *sregs, const struct kvm_segment *segment,
                    uint64_t offset)
{
    return cpu_mode_bits(sregs) == 64 ? offset : (uint32_t)(segment->base + offset);
}

const char *cpu_translation_note(const struct kvm_sregs *sregs)
{
    if (!(sregs->cr0 & CR0_PG))
        return "paging is off";
    return paging_format_of(sregs->cr0, sregs->cr4, sregs->efer)
               ? NULL
               : "32-bit page tables, translated by KVM";
}

int cpu_translate(const struct vcpu *vcpu, const struct kvm_sregs *sregs, uint64_t linear,
                  struct translation *translation)
{
    const struct memory *memory = &vcpu->vm->memory;
    const struct paging_format *format = paging_format_of(sregs->cr0, sregs->cr4, sregs->efer);
    struct kvm_translation by_kvm = { .linear_address = linear };

    if (format)
        return translate_gva(format, memory, NULL, sregs->cr3, linear, translation);
    if (!(sregs->cr0 & CR0_PG))
        return translate_gpa(memory, NULL, linear, translation);
    *translation = (struct translation){ 0 };
    if (ioctl(vcpu->fd, KVM_TRANSLATE, &by_kvm) < 0 || !by_kvm.valid)
        return -EFAULT;
    return translate_gpa(memory, NULL, by_kvm.physical_address, translation);
}

/* Reads memory at a linear address, page by page: how many bytes there were. */
static size_t cpu_read_linear(const struct vcpu *vcpu, const struct kvm_sregs *sregs,
                              uint64_t linear, uint8_t *to, size_t bytes)
{
    size_t done = 0;

    while (done < bytes) {
        size_t chunk = MEMORY_PAGE_BYTES - (linear + done) % MEMORY_PAGE_BYTES;
        struct translation translation;
        const void *from = NULL;

        if (chunk > bytes - done)
            chunk = bytes - done;
        if (cpu_translate(vcpu, sregs, linear + done, &translation) == 0)
            from = memory_at(&vcpu->vm->memory, translation.gpa, chunk);
        if (!from)
            break;
        memcpy(to + done, from, chunk);
        done += chunk;
    }
    return done;
}

/* One instruction; where the bytes are none, one byte of them. */
static void cpu_decode(struct cpu_instruction *to, const uint8_t *code, size_t bytes, uint64_t rip,
                       unsigned bits)
{
    int length = disasm_one(code, bytes < DISASM_CODE_BYTES ? bytes : DISASM_CODE_BYTES, rip, bits,
                            to->text, sizeof(to->text));

    to->rip = rip;
    to->length = length > 0 ? (unsigned)length : 1;
    memcpy(to->bytes, code, to->length);
}

/*
 * The instructions before rip, of the `bytes` from `code` on. From wherever one begins to
 * read, one soon meets the true boundaries; so each place votes for those on its way to rip,
 * and the way back goes from one to the best of those before it.
 */
static unsigned cpu_decode_before(struct cpu_instruction list[CPU_INSTRUCTIONS_BEFORE],
                                  const uint8_t *code, size_t bytes, uint64_t rip, unsigned bits)
{
    struct cpu_instruction at[BEFORE_MAX + 1]; /* by bytes before rip; length 0: none is there */
    unsigned votes[BEFORE_MAX + 1] = { 0 }, count = 0;
    size_t way[CPU_INSTRUCTIONS_BEFORE + 1] = { 0 };

    at[0].length = 0;
    for (size_t i = 1; i <= bytes; i++) {
        cpu_decode(&at[i], code + bytes - i, i, rip - i, bits);
        if (!strcmp(at[i].text, "(bad)"))
            at[i].length = 0;
    }
    for (size_t start = 1; start <= bytes; start++) {
        size_t i = start;

        while (at[i].length)
            i -= at[i].length;
        for (size_t n = start; !i && n; n -= at[n].length)
            votes[n]++;
    }
    for (; count < CPU_INSTRUCTIONS_BEFORE; count++) {
        size_t from = way[count], best = 0;

        for (size_t i = from + 1; i <= bytes && i <= from + DISASM_CODE_BYTES; i++) {
            if (at[i].length == i - from && votes[i] > votes[best])
                best = i;
        }
        if (!best)
            break;
        way[count + 1] = best;
    }
    for (unsigned i = 0; i < count; i++)
        list[i] = at[way[count - i]];
    return count;
}

unsigned cpu_disassemble(const struct vcpu *vcpu, const struct kvm_regs *regs,
                         const struct kvm_sregs *sregs,
                         struct cpu_instruction list[CPU_INSTRUCTIONS], unsigned *at)
{
    uint64_t linear = cpu_linear(sregs, &sregs->cs, regs->rip);
    unsigned bits = cpu_mode_bits(sregs), count;
    uint8_t code[BEFORE_MAX + FORWARD_MAX];
    size_t before = BEFORE_MAX, after;

    *at = 0;
    after = cpu_read_linear(vcpu, sregs, linear, code + BEFORE_MAX, FORWARD_MAX);
    if (!after)
        return 0;
    /* Not across the start of memory, a page that is not there, or the start of the segment. */
    while (before &&
           (before > regs->rip || cpu_read_linear(vcpu, sregs, linear - before,
                                                  code + BEFORE_MAX - before, before) != before))
        before--;
    *at = count = cpu_decode_before(list, code + BEFORE_MAX - before, before, regs->rip, bits);
    for (size_t done = 0; done < after && count < *at + CPU_INSTRUCTIONS_AFTER; count++) {
        cpu_decode(&list[count], code + BEFORE_MAX + done, after - done, regs->rip + done, bits);
        done += list[count].length;
    }
    return count;
}
