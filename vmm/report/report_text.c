#include "vmm/report/report_text.h"

#include <inttypes.h>
#include <string.h>

#include "vmm/report/reply.h"

#define CONSOLE_LINES_SHOWN 16

static void report_text_print_code(FILE *out, const json_t *vcpu, bool all)
{
    const json_t *code = json_object_get(vcpu, "code"), *instruction;

    if (!json_array_size(code))
        fprintf(out, "  rip %016" PRIx64 ": there is no memory to read code from\n",
                reply_address(json_object_get(vcpu, "registers"), "rip"));
    for (size_t i = 0; (instruction = json_array_get(code, i)); i++) {
        bool current = reply_yes(instruction, "current");

        if (current || all)
            fprintf(out, "  %s %016" PRIx64 "  %-30s  %s\n", current ? "rip" : "   ",
                    reply_address(instruction, "rip"), reply_text(instruction, "bytes"),
                    reply_text(instruction, "text"));
    }
}

static void report_text_print_registers(FILE *out, const json_t *registers)
{
    static const char *const rows[][4] = {
        { "rax", "rbx", "rcx", "rdx" },       { "rsi", "rdi", "rbp", "rsp" },
        { "r8", "r9", "r10", "r11" },         { "r12", "r13", "r14", "r15" },
        { "cr0", "cr2", "cr3", "cr4" },       { "efer", "rflags", "gdt", "idt" },
        { "fs_base", "gs_base", "cs", "ss" },
    };

    for (size_t row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
        for (unsigned i = 0; i < 4; i++)
            fprintf(out, "  %-7s %016" PRIx64 "%s", rows[row][i],
                    reply_address(registers, rows[row][i]), i < 3 ? "" : "\n");
    }
}

static void report_text_print_walk(FILE *out, const char *name, const json_t *walk)
{
    const json_t *levels = json_object_get(walk, "levels"), *level;
    bool mapped = reply_yes(walk, "mapped");

    fprintf(out, "  walk of %s %016" PRIx64 ":", name, reply_address(walk, "va"));
    for (size_t i = 0; (level = json_array_get(levels, i)); i++)
        fprintf(out, "\n    %-4s [%3" PRIu64 "] at gpa %#-12" PRIx64 " = %016" PRIx64 "  %s",
                reply_text(level, "name"), reply_number(level, "index"),
                reply_address(level, "table") + 8 * reply_number(level, "index"),
                reply_address(level, "entry"), reply_text(level, "bits"));
    fprintf(out, "%s", json_array_size(levels) ? "\n    " : " ");
    if (mapped)
        fprintf(out, "gpa %s%s%s", reply_text(walk, "gpa"), *reply_text(walk, "rights") ? ", " : "",
                reply_text(walk, "rights"));
    if (!mapped || strcmp(reply_text(walk, "status"), "mapped") != 0)
        fprintf(out, "%s%s%s", mapped ? " (" : "not mapped: ", reply_text(walk, "status"),
                mapped ? ")" : "");
    fprintf(out, "%s\n", mapped && !json_object_get(walk, "slot") ? ", where there is no RAM" : "");
}

static void report_text_print_exits(FILE *out, const json_t *exits)
{
    const json_t *exit;

    if (!json_array_size(exits))
        return;
    fprintf(out, "  last exits:");
    for (size_t i = 0; (exit = json_array_get(exits, i)); i++)
        fprintf(out, "%s %s %s %" PRIx64 "/%" PRIu64, i ? "," : "", reply_text(exit, "reason"),
                reply_text(exit, "direction"), reply_address(exit, "address"),
                reply_number(exit, "bytes"));
    fputc('\n', out);
}

static void report_text_print_vcpu(FILE *out, const json_t *vcpu, bool all)
{
    fprintf(out, "vCPU %" PRIu64 ": %s", reply_number(vcpu, "vcpu"), reply_text(vcpu, "state"));
    if (!json_object_get(vcpu, "registers")) {
        fputc('\n', out);
        return;
    }
    fprintf(out, ", interrupts %s, %" PRIu64 "-bit, CPL %" PRIu64 "\n",
            reply_yes(vcpu, "interrupts_enabled") ? "on" : "off", reply_number(vcpu, "mode_bits"),
            reply_number(vcpu, "cpl"));
    if (*reply_text(vcpu, "note"))
        fprintf(out, "  %s\n", reply_text(vcpu, "note"));
    report_text_print_code(out, vcpu, all);
    report_text_print_registers(out, json_object_get(vcpu, "registers"));
    if (!all)
        return;
    report_text_print_walk(out, "rip", json_object_get(vcpu, "rip_walk"));
    report_text_print_walk(out, "rsp", json_object_get(vcpu, "rsp_walk"));
    report_text_print_exits(out, json_object_get(vcpu, "last_exits"));
}

static void report_text_print_console(FILE *out, const char *console)
{
    const char *from = console + strlen(console);
    unsigned lines = 0;

    if (!*console) {
        fprintf(out, "the console was silent\n");
        return;
    }
    while (from > console && from[-1] == '\n')
        from--;
    for (; from > console; from--) {
        if (from[-1] == '\n' && ++lines == CONSOLE_LINES_SHOWN)
            break;
    }
    fprintf(out, "last console lines:\n");
    while (*from) {
        size_t length = strcspn(from, "\n");

        fprintf(out, "  | %.*s\n", (int)length, from);
        from += length + (from[length] == '\n');
    }
}

void report_text_print(FILE *out, const json_t *report)
{
    const json_t *internal = json_object_get(report, "internal_error"), *vcpu;
    const json_t *culprit = json_object_get(report, "vcpu"), *word;

    fprintf(out, "strata: %s\n", reply_text(report, "why"));
    if (*reply_text(internal, "instruction_bytes"))
        fprintf(out, "  KVM had fetched: %s\n", reply_text(internal, "instruction_bytes"));
    else if (json_array_size(json_object_get(internal, "data"))) {
        fprintf(out, "  KVM says:");
        for (size_t i = 0; (word = json_array_get(json_object_get(internal, "data"), i)); i++)
            fprintf(out, " %s", json_string_value(word));
        fputc('\n', out);
    }
    for (size_t i = 0; (vcpu = json_array_get(json_object_get(report, "vcpus"), i)); i++) {
        bool dead = !reply_yes(vcpu, "interrupts_enabled");

        report_text_print_vcpu(out, vcpu,
                               json_is_integer(culprit) ? reply_number(vcpu, "vcpu") ==
                                                              (uint64_t)json_integer_value(culprit)
                                                        : dead);
    }
    report_text_print_console(out, reply_text(report, "console"));
}
