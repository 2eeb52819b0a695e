#include "vmm/control/look.h"

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

void look_fail(struct look *look, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(look->error, sizeof(look->error), format, args);
    va_end(args);
}

void look_set(struct look *look, const char *name, json_t *value)
{
    json_object_set_new(look->reply, name, value);
}

void look_go_on(struct look *look)
{
    if (look->stopped)
        return;
    vm_resume(look->vm, NULL);
    look->pause_ns += monotonic_ns() - look->paused_at_ns;
}

bool look_stop(struct look *look)
{
    struct space_cpu cpus[VM_CPUS_MAX] = { 0 };
    struct vm *vm = look->vm;

    look->paused_at_ns = monotonic_ns();
    if (!look->stopped)
        vm_pause(vm, NULL);
    for (unsigned i = 0; i < vm->ncpus; i++) {
        const struct kvm_sregs *sregs = &look->sregs[i];

        if (vcpu_registers(&vm->vcpus[i], &look->regs[i], &look->sregs[i])) {
            look_go_on(look);
            look_fail(look, "the registers of vCPU %u cannot be read", i);
            return false;
        }
        cpus[i] = (struct space_cpu){ sregs->cr0, sregs->cr3, sregs->cr4, sregs->efer };
    }
    spaces_find(&look->spaces, &vm->memory, cpus, vm->ncpus, look->in->kernel_va);
    return true;
}

/* ---- Virtual addresses ---------------------------------------------------- */

static bool find_register(const struct kvm_regs *regs, const struct kvm_sregs *sregs,
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

bool look_va(struct look *look, uint64_t *va)
{
    const struct kvm_regs *regs = &look->regs[look->request.vcpu];
    const struct kvm_sregs *sregs = &look->sregs[look->request.vcpu];
    const char *text = look->request.va;
    char base[INSPECT_VA_BYTES];
    const char *plus = strchr(text, '+');
    uint64_t offset = 0;

    snprintf(base, sizeof(base), "%.*s", plus ? (int)(plus - text) : (int)strlen(text), text);
    if (plus && inspect_number(plus + 1, &offset)) {
        look_fail(look, "%s: what is behind the + is no number", text);
        return false;
    }
    if (inspect_number(base, va) && !find_register(regs, sregs, base, va) &&
        symbols_find(&look->in->symbols, base, va)) {
        look_fail(look, "%s: not a number, a register%s", text,
                  look->in->symbols.n ? " or a symbol of the bundled guest"
                                      : "; symbols are known of the bundled guest only");
        return false;
    }
    *va += offset;
    return true;
}

bool look_view(struct look *look, struct look_view *view)
{
    const struct kvm_sregs *sregs = &look->sregs[look->request.vcpu];
    const struct space *space;

    *view = (struct look_view){ .space = -1 };
    if (look->request.pid) {
        space = spaces_of_pid(&look->spaces, look->request.pid);
        if (!space) {
            look_fail(look, "--pid %" PRIu32 ": no such process%s", look->request.pid,
                      look->spaces.bundled  ? "; strata inspect maps shows which there are"
                      : look->in->kernel_va ? "; the guest does not say (yet) which there are"
                                            : "; processes are known of the bundled guest only");
            return false;
        }
        *view = (struct look_view){ space->format, space->root, (int)(space - look->spaces.space) };
        return true;
    }
    if (!(sregs->cr0 & CR0_PG))
        return true;
    view->format = paging_format_of(sregs->cr0, sregs->cr4, sregs->efer);
    if (!view->format) {
        look_fail(look, "vCPU %u uses 32-bit paging, which strata does not walk",
                  look->request.vcpu);
        return false;
    }
    view->root = sregs->cr3 & view->format->root;
    for (unsigned i = 0; i < look->spaces.n; i++) {
        if (look->spaces.space[i].cpus >> look->request.vcpu & 1)
            view->space = (int)i;
    }
    return true;
}

int look_translate(const struct look *look, const struct look_view *view,
                   const struct host_pages *pages, uint64_t va, struct translation *out)
{
    if (!view->format)
        return translate_gpa(&look->vm->memory, pages, va, out);
    return translate_gva(view->format, &look->vm->memory, pages, view->root, va, out);
}

json_t *look_symbol(const struct look *look, uint64_t va)
{
    uint64_t offset;
    const char *name = symbols_at(&look->in->symbols, va, &offset);

    if (!name)
        return json_null();
    return offset ? json_sprintf("%s+0x%" PRIx64, name, offset) : json_string(name);
}

bool look_count(struct look *look, struct frame_map *map)
{
    if (frame_map_create(map, &look->vm->memory)) {
        look_fail(look, "no memory for a table of all frames");
        return false;
    }
    if (!look_stop(look)) {
        frame_map_destroy(map);
        return false;
    }
    frame_map_count(map, &look->spaces, board_iommu(look->in->board), &look->budget);
    return true;
}
