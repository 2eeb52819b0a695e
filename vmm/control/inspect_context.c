#include "vmm/control/inspect_context.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "devices/core/board.h"
#include "vmm/base/monotonic.h"
#include "vmm/control/inspector.h"

#define CR0_PG   (1ull << 31)
#define EFER_LMA (1ull << 10)

void inspect_fail(struct inspect_context *context, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(context->error, sizeof(context->error), format, args);
    va_end(args);
}

void inspect_set(struct inspect_context *context, const char *name, json_t *value)
{
    json_object_set_new(context->reply, name, value);
}

void inspect_resume(struct inspect_context *context)
{
    if (context->stopped)
        return;
    vm_resume(context->vm, NULL);
    context->pause_ns += monotonic_ns() - context->paused_at_ns;
}

bool inspect_pause(struct inspect_context *context)
{
    struct space_cpu cpus[VM_CPUS_MAX] = { 0 };
    struct vm *vm = context->vm;

    context->paused_at_ns = monotonic_ns();
    if (!context->stopped)
        vm_pause(vm, NULL);
    for (unsigned i = 0; i < vm->ncpus; i++) {
        const struct kvm_sregs *sregs = &context->sregs[i];

        if (vcpu_registers(&vm->vcpus[i], &context->regs[i], &context->sregs[i])) {
            inspect_resume(context);
            inspect_fail(context, "the registers of vCPU %u cannot be read", i);
            return false;
        }
        cpus[i] = (struct space_cpu){ sregs->cr0, sregs->cr3, sregs->cr4, sregs->efer };
    }
    spaces_find(&context->spaces, &vm->memory, cpus, vm->ncpus, context->in->kernel_va);
    return true;
}

/* ---- Virtual addresses ---------------------------------------------------- */

static bool inspect_find_register(const struct kvm_regs *regs, const struct kvm_sregs *sregs,
                                  const char *name, uint64_t *value)
{
    /* Outside of 64-bit mode code lies from its segment's base on. */
    uint64_t code = sregs->efer & EFER_LMA && sregs->cs.l ? 0 : sregs->cs.base;
    const struct {
        const char *name;
        uint64_t value;
    } table[] = {
        { "rip", code + regs->rip }, { "rsp", regs->rsp },     { "rbp", regs->rbp },
        { "rax", regs->rax },        { "rbx", regs->rbx },     { "rcx", regs->rcx },
        { "rdx", regs->rdx },        { "rsi", regs->rsi },     { "rdi", regs->rdi },
        { "r8", regs->r8 },          { "r9", regs->r9 },       { "r10", regs->r10 },
        { "r11", regs->r11 },        { "r12", regs->r12 },     { "r13", regs->r13 },
        { "r14", regs->r14 },        { "r15", regs->r15 },     { "cr2", sregs->cr2 },
        { "fs", sregs->fs.base },    { "gs", sregs->gs.base }, { "gdt", sregs->gdt.base },
        { "idt", sregs->idt.base },  { "tr", sregs->tr.base },
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (!strcasecmp(table[i].name, name)) {
            *value = table[i].value;
            return true;
        }
    }
    return false;
}

bool inspect_va(struct inspect_context *context, uint64_t *va)
{
    const struct kvm_regs *regs = &context->regs[context->request.vcpu];
    const struct kvm_sregs *sregs = &context->sregs[context->request.vcpu];
    const char *text = context->request.va;
    char base[INSPECT_VA_BYTES];
    const char *plus = strchr(text, '+');
    uint64_t offset = 0;

    snprintf(base, sizeof(base), "%.*s", plus ? (int)(plus - text) : (int)strlen(text), text);
    if (plus && inspect_number(plus + 1, &offset)) {
        inspect_fail(context, "%s: what is behind the + is no number", text);
        return false;
    }
    if (inspect_number(base, va) && !inspect_find_register(regs, sregs, base, va) &&
        symbols_find(&context->in->symbols, base, va)) {
        inspect_fail(context, "%s: not a number, a register%s", text,
                     context->in->symbols.n ? " or a symbol of the bundled guest"
                                            : "; symbols are known of the bundled guest only");
        return false;
    }
    *va += offset;
    return true;
}

bool inspect_view(struct inspect_context *context, struct inspect_view *view)
{
    const struct kvm_sregs *sregs = &context->sregs[context->request.vcpu];
    const struct space *space;

    *view = (struct inspect_view){ .space = -1 };
    if (context->request.pid) {
        space = spaces_of_pid(&context->spaces, context->request.pid);
        if (!space) {
            inspect_fail(context, "--pid %" PRIu32 ": no such process%s", context->request.pid,
                         context->spaces.bundled ? "; strata inspect maps shows which there are"
                         : context->in->kernel_va
                             ? "; the guest does not say (yet) which there are"
                             : "; processes are known of the bundled guest only");
            return false;
        }
        *view = (struct inspect_view){ space->format, space->root,
                                       (int)(space - context->spaces.space) };
        return true;
    }
    if (!(sregs->cr0 & CR0_PG))
        return true;
    view->format = paging_format_of(sregs->cr0, sregs->cr4, sregs->efer);
    if (!view->format) {
        inspect_fail(context, "vCPU %u uses 32-bit paging, which strata does not walk",
                     context->request.vcpu);
        return false;
    }
    view->root = sregs->cr3 & view->format->root;
    for (unsigned i = 0; i < context->spaces.n; i++) {
        if (context->spaces.space[i].cpus >> context->request.vcpu & 1)
            view->space = (int)i;
    }
    return true;
}

int inspect_translate(const struct inspect_context *context, const struct inspect_view *view,
                      const struct host_pages *pages, uint64_t va, struct translation *out)
{
    if (!view->format)
        return translate_gpa(&context->vm->memory, pages, va, out);
    return translate_gva(view->format, &context->vm->memory, pages, view->root, va, out);
}

json_t *inspect_symbol(const struct inspect_context *context, uint64_t va)
{
    uint64_t offset;
    const char *name = symbols_at(&context->in->symbols, va, &offset);

    if (!name)
        return json_null();
    return offset ? json_sprintf("%s+0x%" PRIx64, name, offset) : json_string(name);
}

bool inspect_count(struct inspect_context *context, struct frame_map *map)
{
    if (frame_map_create(map, &context->vm->memory)) {
        inspect_fail(context, "no memory for a table of all frames");
        return false;
    }
    if (!inspect_pause(context)) {
        frame_map_destroy(map);
        return false;
    }
    frame_map_count(map, &context->spaces, board_iommu(context->in->board), &context->budget);
    return true;
}
