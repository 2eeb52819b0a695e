#include "vmm/cli/report.h"

#include <inttypes.h>
#include <string.h>

#include "vmm/inspect/disasm.h"
#include "vmm/inspect/translate.h"

#define CR0_PG         (1ull << 31)
#define EFER_LMA       (1ull << 10)
#define INSN_LINES_MAX DISASM_CODE_BYTES

bool report_wanted(const struct vm_end *end)
{
    switch (end->reason) {
    case VM_END_NONE:
    case VM_END_GUEST_EXIT:
    case VM_END_GUEST_RESET:
    case VM_END_HOST_STOP: return false;
    default: return true;
    }
}

/* Reads guest code at a linear address, page by page; how many bytes there were. */
static size_t read_code(const struct vm *vm, const struct kvm_sregs *sregs, uint64_t linear,
                        uint8_t *code, size_t bytes)
{
    const struct paging_format *format = paging_format_of(sregs->cr0, sregs->cr4, sregs->efer);
    size_t done = 0;

    while (done < bytes) {
        uint64_t at = linear + done;
        size_t chunk = MEMORY_PAGE_BYTES - at % MEMORY_PAGE_BYTES;
        struct translation translation;
        const void *from;

        if (chunk > bytes - done)
            chunk = bytes - done;
        if (!(sregs->cr0 & CR0_PG)) {
            from = memory_at(&vm->memory, at, chunk);
        } else {
            if (!format || translate_gva(format, &vm->memory, NULL, sregs->cr3, at, &translation))
                break;
            from = memory_at(&vm->memory, translation.gpa, chunk);
        }
        if (!from)
            break;
        memcpy(code + done, from, chunk);
        done += chunk;
    }
    return done;
}

static unsigned mode_bits(const struct kvm_sregs *sregs)
{
    if (sregs->efer & EFER_LMA && sregs->cs.l)
        return 64;
    return sregs->cs.db ? 32 : 16;
}

/* What KVM already had in hand when its emulator gave up, else what lies in memory. */
static size_t faulting_code(const struct vcpu *vcpu, const struct kvm_sregs *sregs, uint64_t linear,
                            uint8_t *code)
{
    const struct kvm_run *run = vcpu->run;
    size_t bytes = 0;

    if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR &&
        run->emulation_failure.suberror == KVM_INTERNAL_ERROR_EMULATION &&
        run->emulation_failure.ndata >= 3 &&
        run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) {
        bytes = run->emulation_failure.insn_size;
        if (bytes > DISASM_CODE_BYTES)
            bytes = DISASM_CODE_BYTES;
        memcpy(code, run->emulation_failure.insn_bytes, bytes);
    }
    return bytes ? bytes : read_code(vcpu->vm, sregs, linear, code, DISASM_CODE_BYTES);
}

static void print_instruction(FILE *out, const struct vcpu *vcpu, const struct kvm_regs *regs,
                              const struct kvm_sregs *sregs)
{
    unsigned bits = mode_bits(sregs);
    uint64_t linear = bits == 64 ? regs->rip : sregs->cs.base + regs->rip;
    char text[DISASM_TEXT_BYTES] = "(not readable)";
    uint8_t code[DISASM_CODE_BYTES];
    size_t bytes = faulting_code(vcpu, sregs, linear, code);
    int length = bytes ? disasm_one(code, bytes, regs->rip, bits, text, sizeof(text)) : 0;

    fprintf(out, "  rip %016llx  %s  [", regs->rip, text);
    for (int i = 0; i < (length > 0 ? length : (int)bytes); i++)
        fprintf(out, "%s%02x", i ? " " : "", code[i]);
    fprintf(out, "]  %u-bit, CPL %u\n", bits, sregs->ss.dpl);
}

static void print_registers(FILE *out, const struct kvm_regs *regs, const struct kvm_sregs *sregs)
{
    fprintf(out,
            "  rax %016llx  rbx %016llx  rcx %016llx  rdx %016llx\n"
            "  rsi %016llx  rdi %016llx  rbp %016llx  rsp %016llx\n"
            "  r8  %016llx  r9  %016llx  r10 %016llx  r11 %016llx\n"
            "  r12 %016llx  r13 %016llx  r14 %016llx  r15 %016llx\n"
            "  cr0 %016llx  cr2 %016llx  cr3 %016llx  cr4 %016llx\n"
            "  efer %llx  rflags %llx  cs %x  ss %x  gdt %llx+%x  idt %llx+%x  tr %x\n",
            regs->rax, regs->rbx, regs->rcx, regs->rdx, regs->rsi, regs->rdi, regs->rbp, regs->rsp,
            regs->r8, regs->r9, regs->r10, regs->r11, regs->r12, regs->r13, regs->r14, regs->r15,
            sregs->cr0, sregs->cr2, sregs->cr3, sregs->cr4, sregs->efer, regs->rflags,
            sregs->cs.selector, sregs->ss.selector, sregs->gdt.base, sregs->gdt.limit,
            sregs->idt.base, sregs->idt.limit, sregs->tr.selector);
}

static void print_trail(FILE *out, const struct vcpu *vcpu)
{
    uint64_t first = vcpu->trail_next > VCPU_TRAIL ? vcpu->trail_next - VCPU_TRAIL : 0;

    if (first == vcpu->trail_next)
        return;
    fprintf(out, "  last exits:");
    for (uint64_t i = first; i < vcpu->trail_next; i++) {
        const struct vcpu_exit *exit = &vcpu->trail[i % VCPU_TRAIL];

        fprintf(out, " %s %s %" PRIx64 "/%u", vcpu_exit_name(exit->reason),
                exit->write ? "write" : "read", exit->address, exit->bytes);
        fprintf(out, "%s", i + 1 < vcpu->trail_next ? "," : "\n");
    }
}

static void print_why(FILE *out, const struct vm *vm, const struct kvm_run *run)
{
    fprintf(out, "strata: %s", vm_end_name(vm->end.reason));
    if (vm->end.vcpu != VM_NO_VCPU)
        fprintf(out, " on vCPU %u", vm->end.vcpu);
    switch (vm->end.reason) {
    case VM_END_INTERNAL_ERROR:
        fprintf(out, ": suberror %u%s", run->internal.suberror,
                run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION
                    ? ", KVM cannot emulate this instruction"
                    : "");
        if (run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION) {
            for (unsigned i = 0; i < run->internal.ndata && i < 16; i++)
                fprintf(out, " %llx", run->internal.data[i]);
        }
        break;
    case VM_END_FAIL_ENTRY:
        fprintf(out, ": hardware reason 0x%llx",
                (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
        break;
    case VM_END_UNKNOWN_EXIT:
        fprintf(out, ": KVM exit %u (%s)", run->exit_reason, vcpu_exit_name(run->exit_reason));
        break;
    case VM_END_RUN_ERROR: fprintf(out, ": %s", strerror(-vm->end.error)); break;
    default: break;
    }
    fputc('\n', out);
}

void report_crash(FILE *out, const struct vm *vm)
{
    const struct vcpu *vcpu = &vm->vcpus[vm->end.vcpu < vm->ncpus ? vm->end.vcpu : 0];
    struct kvm_sregs sregs;
    struct kvm_regs regs;

    print_why(out, vm, vcpu->run);
    if (vcpu_registers(vcpu, &regs, &sregs)) {
        fprintf(out, "  (registers cannot be read)\n");
        return;
    }
    print_instruction(out, vcpu, &regs, &sregs);
    print_registers(out, &regs, &sregs);
    print_trail(out, vcpu);
}
