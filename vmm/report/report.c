#include "vmm/report/report.h"

#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>

#include "devices/backend/console.h"
#include "vmm/inspect/cpu.h"
#include "vmm/machine/vcpu_sample.h"
#include "vmm/report/inspect_json.h"

#define CR0_PE         1ull
#define RFLAGS_IF      0x200ull
#define RESET_RIP      0xfff0ull
#define WHY_BYTES      256
#define HEX_TEXT_BYTES (3 * DISASM_CODE_BYTES + 1)

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

static json_t *report_hex_bytes(const uint8_t *bytes, size_t count)
{
    char text[HEX_TEXT_BYTES] = "";

    for (size_t i = 0; i < count && i < DISASM_CODE_BYTES; i++)
        sprintf(text + 3 * i, "%02x ", bytes[i]);
    if (*text)
        text[strlen(text) - 1] = 0;
    return json_string(text);
}

/* ---- Why ---- */

static const char *report_internal_error_name(uint32_t suberror)
{
    switch (suberror) {
    case KVM_INTERNAL_ERROR_EMULATION: return "KVM cannot emulate this instruction";
    case KVM_INTERNAL_ERROR_SIMUL_EX: return "an exception while another was delivered";
    case KVM_INTERNAL_ERROR_DELIVERY_EV: return "an exit that KVM cannot handle, during delivery";
    case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON: return "an exit that KVM does not know";
    default: return "not a reason that strata knows";
    }
}

static void report_say_why(char why[WHY_BYTES], const struct vm *vm, const struct kvm_run *run,
                           const char *hang)
{
    const struct vm_end *end = &vm->end;
    int n = snprintf(why, WHY_BYTES, "%s", vm_end_name(end->reason));

    if (end->vcpu != VM_NO_VCPU)
        n += snprintf(why + n, WHY_BYTES - (size_t)n, " on vCPU %u", end->vcpu);
    why += n;
    n = WHY_BYTES - n;
    switch (end->reason) {
    case VM_END_INTERNAL_ERROR:
        snprintf(why, (size_t)n, ": suberror %u, %s", run->internal.suberror,
                 report_internal_error_name(run->internal.suberror));
        break;
    case VM_END_FAIL_ENTRY:
        snprintf(why, (size_t)n, ": hardware reason 0x%llx",
                 (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
        break;
    case VM_END_UNKNOWN_EXIT:
        snprintf(why, (size_t)n, ": KVM exit %u (%s)", run->exit_reason,
                 vcpu_exit_name(run->exit_reason));
        break;
    case VM_END_RUN_ERROR: snprintf(why, (size_t)n, ": %s", strerror(-end->error)); break;
    case VM_END_HUNG: snprintf(why, (size_t)n, ": %s", hang ? hang : "the guest hangs"); break;
    default: break;
    }
}

/* What KVM had in hand when it gave up: the instruction, or words of which only it knows. */
static json_t *report_describe_internal_error(const struct kvm_run *run)
{
    json_t *json = json_pack("{s:i, s:s}", "suberror", (int)run->internal.suberror, "meaning",
                             report_internal_error_name(run->internal.suberror));
    json_t *data = json_array();

    if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION &&
        run->emulation_failure.ndata >= 3 &&
        run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)
        json_object_set_new(
            json, "instruction_bytes",
            report_hex_bytes(run->emulation_failure.insn_bytes, run->emulation_failure.insn_size));
    for (unsigned i = 0; i < run->internal.ndata && i < 16; i++)
        json_array_append_new(data, json_hex(run->internal.data[i]));
    json_object_set_new(json, "data", data);
    return json;
}

/* ---- One vCPU ---- */

static json_t *report_describe_code(const struct vcpu *vcpu, const struct kvm_regs *regs,
                                    const struct kvm_sregs *sregs)
{
    struct cpu_instruction list[CPU_INSTRUCTIONS];
    json_t *code = json_array();
    unsigned at, count = cpu_disassemble(vcpu, regs, sregs, list, &at);

    for (unsigned i = 0; i < count; i++)
        json_array_append_new(code,
                              json_pack("{s:o, s:o, s:s, s:b}", "rip", json_hex(list[i].rip),
                                        "bytes", report_hex_bytes(list[i].bytes, list[i].length),
                                        "text", list[i].text, "current", i == at));
    return code;
}

static json_t *report_describe_walk(const struct vcpu *vcpu, const struct kvm_sregs *sregs,
                                    uint64_t linear)
{
    json_t *walk = json_pack("{s:o}", "va", json_hex(linear));
    const char *note = cpu_translation_note(sregs);
    struct translation translation;

    (void)cpu_translate(vcpu, sregs, linear, &translation);
    json_add_walk(walk, &translation, false);
    json_object_del(walk, "host"); /* the host's frames tell nothing about a crash */
    if (note)
        json_object_set_new(walk, "status", json_string(note));
    return walk;
}

static json_t *report_describe_exits(const struct vcpu *vcpu)
{
    uint64_t first = vcpu->exit_log_next > VCPU_EXIT_LOG ? vcpu->exit_log_next - VCPU_EXIT_LOG : 0;
    json_t *exits = json_array();

    for (uint64_t i = first; i < vcpu->exit_log_next; i++) {
        const struct vcpu_exit *exit = &vcpu->exit_log[i % VCPU_EXIT_LOG];

        json_array_append_new(exits, json_pack("{s:s, s:s, s:o, s:i}", "reason",
                                               vcpu_exit_name(exit->reason), "direction",
                                               exit->write ? "write" : "read", "address",
                                               json_hex(exit->address), "bytes", (int)exit->bytes));
    }
    return exits;
}

static const char *report_state_name(const struct vcpu_sample *cpu)
{
    if (!cpu->started)
        return "waiting to be started";
    if (cpu->halted)
        return "halted";
    return "running";
}

static json_t *report_describe_vcpu(const struct vm *vm, const struct vcpu *vcpu)
{
    json_t *json = json_pack("{s:i}", "vcpu", (int)vcpu->index);
    struct vcpu_sample cpu;
    struct kvm_sregs sregs;
    struct kvm_regs regs;

    if (vcpu_is_running(vcpu)) {
        json_object_set_new(json, "state", json_string("does not come out of KVM"));
        return json;
    }
    if (vcpu_sample(vcpu, &cpu) || vcpu_registers(vcpu, &regs, &sregs)) {
        json_object_set_new(json, "state", json_string("its registers cannot be read"));
        return json;
    }
    json_object_set_new(json, "state", json_string(report_state_name(&cpu)));
    if (!cpu.started)
        return json;
    json_object_set_new(json, "interrupts_enabled", json_boolean(regs.rflags & RFLAGS_IF));
    json_object_set_new(json, "mode_bits", json_integer(cpu_mode_bits(&sregs)));
    json_object_set_new(json, "cpl", json_integer(sregs.ss.dpl));
    if (vm->end.reason == VM_END_TRIPLE_FAULT && vcpu->index == vm->end.vcpu &&
        regs.rip == RESET_RIP && !(sregs.cr0 & CR0_PE))
        json_object_set_new(
            json, "note",
            json_string("KVM on AMD resets a vCPU that triple-faults: what it had is lost"));
    json_object_set_new(json, "code", report_describe_code(vcpu, &regs, &sregs));
    json_object_set_new(json, "registers", json_registers(&regs, &sregs));
    json_object_set_new(
        json, "rip_walk",
        report_describe_walk(vcpu, &sregs, cpu_linear(&sregs, &sregs.cs, regs.rip)));
    json_object_set_new(
        json, "rsp_walk",
        report_describe_walk(vcpu, &sregs, cpu_linear(&sregs, &sregs.ss, regs.rsp)));
    json_object_set_new(json, "last_exits", report_describe_exits(vcpu));
    return json;
}

/* As text that no terminal takes for anything else, lines ended by a newline. */
static json_t *report_describe_console(const struct console *console)
{
    char tail[CONSOLE_TAIL_BYTES], text[CONSOLE_TAIL_BYTES + 1];
    size_t count = console_tail(console, tail), n = 0;

    for (size_t i = 0; i < count; i++) {
        char c = tail[i];

        if (c != '\r')
            text[n++] = c == '\n' || c == '\t' || (c >= ' ' && c <= '~') ? c : '?';
    }
    text[n] = 0;
    return json_string(text);
}

json_t *report_json(const struct vm *vm, const struct console *console, const char *hang)
{
    const struct vcpu *vcpu = &vm->vcpus[vm->end.vcpu < vm->ncpus ? vm->end.vcpu : 0];
    json_t *report = json_object(), *vcpus = json_array();
    char why[WHY_BYTES];

    report_say_why(why, vm, vcpu->run, hang);
    json_object_set_new(report, "why", json_string(why));
    json_object_set_new(report, "vcpu",
                        vm->end.vcpu < vm->ncpus ? json_integer(vm->end.vcpu) : json_null());
    if (vm->end.reason == VM_END_INTERNAL_ERROR)
        json_object_set_new(report, "internal_error", report_describe_internal_error(vcpu->run));
    for (unsigned i = 0; i < vm->ncpus; i++)
        json_array_append_new(vcpus, report_describe_vcpu(vm, &vm->vcpus[i]));
    json_object_set_new(report, "vcpus", vcpus);
    json_object_set_new(report, "console", report_describe_console(console));
    return report;
}

void report_stopped(FILE *out, const struct vm *vm)
{
    struct vcpu_sample cpu;
    bool any = false;

    for (unsigned i = 0; i < vm->ncpus; i++) {
        const struct vcpu *vcpu = &vm->vcpus[i];

        if (vcpu_is_running(vcpu) || vcpu_sample(vcpu, &cpu) || !cpu.started || cpu.interrupts)
            continue;
        fprintf(out, "%s vCPU %u was %s with interrupts off at rip 0x%" PRIx64,
                any ? ";" : "strata run:", i, report_state_name(&cpu), cpu.rip);
        any = true;
    }
    if (any)
        fprintf(out, "\n");
}
