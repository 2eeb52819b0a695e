#include "vmm/cli/inspector.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "devices/core/board.h"
#include "vmm/boot/bundled.h"
#include "vmm/cli/inspect_json.h"
#include "vmm/cli/inspect_request.h"
#include "vmm/cli/json.h"
#include "vmm/inspect/disasm.h"
#include "vmm/inspect/resident.h"
#include "vmm/machine/stats.h"
#include "vmm/machine/vm.h"

#define DUMP_PIECE_BYTES (16ull << 20)
#define CR0_PG           (1ull << 31)
#define EFER_LMA         (1ull << 10)

#define ERROR_LINE(text) \
    "{\"schema\":\"" INSPECT_REPLY_SCHEMA "\",\"version\":1,\"error\":\"" text "\"}\n"

const char inspector_busy[] = ERROR_LINE("busy: 8 clients are connected already; try again");
const char inspector_too_long[] = ERROR_LINE("a request is one line of at most 4096 bytes");

/* One request being answered. */
struct look {
    struct inspector *in;
    struct vm *vm;
    struct inspect_request request;
    json_t *reply;
    char error[256]; /* "" as long as all is well */
    uint64_t budget;
    uint64_t paused_at_ns, pause_ns; /* while paused; the sum of all pauses */
    char *payload;
    size_t payload_bytes;
    /* Filled in by stop(). */
    struct kvm_regs regs[VM_CPUS_MAX];
    struct kvm_sregs sregs[VM_CPUS_MAX];
    struct spaces spaces;
};

static uint64_t now_ns(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void fail(struct look *look, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void fail(struct look *look, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(look->error, sizeof(look->error), format, args);
    va_end(args);
}

static void set(struct look *look, const char *name, json_t *value)
{
    json_object_set_new(look->reply, name, value);
}

static void go_on(struct look *look)
{
    vm_resume(look->vm, NULL);
    look->pause_ns += now_ns() - look->paused_at_ns;
}

/* Stops the world and finds registers and address spaces. False: nothing is held. */
static bool stop(struct look *look)
{
    struct space_cpu cpus[VM_CPUS_MAX] = { 0 };
    struct vm *vm = look->vm;

    look->paused_at_ns = now_ns();
    vm_pause(vm, NULL);
    for (unsigned i = 0; i < vm->ncpus; i++) {
        const struct kvm_sregs *sregs = &look->sregs[i];

        if (vcpu_registers(&vm->vcpus[i], &look->regs[i], &look->sregs[i])) {
            go_on(look);
            fail(look, "the registers of vCPU %u cannot be read", i);
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

/* A number, a register or a symbol, and any of them with +NUMBER behind it. */
static bool find_va(struct look *look, uint64_t *va)
{
    const struct kvm_regs *regs = &look->regs[look->request.vcpu];
    const struct kvm_sregs *sregs = &look->sregs[look->request.vcpu];
    const char *text = look->request.va;
    char base[INSPECT_VA_BYTES];
    const char *plus = strchr(text, '+');
    uint64_t offset = 0;

    snprintf(base, sizeof(base), "%.*s", plus ? (int)(plus - text) : (int)strlen(text), text);
    if (plus && inspect_number(plus + 1, &offset)) {
        fail(look, "%s: what is behind the + is no number", text);
        return false;
    }
    if (inspect_number(base, va) && !find_register(regs, sregs, base, va) &&
        symbols_find(&look->in->symbols, base, va)) {
        fail(look, "%s: not a number, a register%s", text,
             look->in->symbols.n ? " or a symbol of the bundled guest"
                                 : "; symbols are known of the bundled guest only");
        return false;
    }
    *va += offset;
    return true;
}

/* Page tables that a virtual address is meant in; format NULL: paging is off. */
struct view {
    const struct paging_format *format;
    uint64_t root;
    int space; /* < 0: none */
};

static bool find_view(struct look *look, struct view *view)
{
    const struct kvm_sregs *sregs = &look->sregs[look->request.vcpu];
    const struct space *space;

    *view = (struct view){ .space = -1 };
    if (look->request.pid) {
        space = spaces_of_pid(&look->spaces, look->request.pid);
        if (!space) {
            fail(look, "--pid %" PRIu32 ": no such process%s", look->request.pid,
                 look->spaces.bundled ? "; strata inspect maps shows which there are"
                                      : "; processes are known of the bundled guest only");
            return false;
        }
        *view = (struct view){ space->format, space->root, (int)(space - look->spaces.space) };
        return true;
    }
    if (!(sregs->cr0 & CR0_PG))
        return true;
    view->format = paging_format_of(sregs->cr0, sregs->cr4, sregs->efer);
    if (!view->format) {
        fail(look, "vCPU %u uses 32-bit paging, which strata does not walk", look->request.vcpu);
        return false;
    }
    view->root = sregs->cr3 & view->format->root;
    for (unsigned i = 0; i < look->spaces.n; i++) {
        if (look->spaces.space[i].cpus >> look->request.vcpu & 1)
            view->space = (int)i;
    }
    return true;
}

static int translate(const struct look *look, const struct view *view,
                     const struct host_pages *pages, uint64_t va, struct translation *out)
{
    if (!view->format)
        return translate_gpa(&look->vm->memory, pages, va, out);
    return translate_gva(view->format, &look->vm->memory, pages, view->root, va, out);
}

/* "name+0x12", or NULL. */
static json_t *symbol_text(const struct look *look, uint64_t va)
{
    uint64_t offset;
    const char *name = symbols_at(&look->in->symbols, va, &offset);

    if (!name)
        return json_null();
    return offset ? json_sprintf("%s+0x%" PRIx64, name, offset) : json_string(name);
}

/* ---- The commands --------------------------------------------------------- */

/* Counts all frames, with the world stopped on return: room is made before. */
static bool stop_and_count(struct look *look, struct frame_map *map)
{
    if (frame_map_create(map, &look->vm->memory)) {
        fail(look, "no memory for a table of all frames");
        return false;
    }
    if (!stop(look)) {
        frame_map_destroy(map);
        return false;
    }
    frame_map_count(map, &look->spaces, board_iommu(look->in->board), &look->budget);
    return true;
}

static void answer_maps(struct look *look)
{
    struct frame_map map;
    struct maps maps;
    int err;

    if (!stop_and_count(look, &map))
        return;
    err = maps_make(&maps, &look->spaces, &map, &look->budget);
    go_on(look);
    if (err)
        fail(look, "no memory for the ranges");
    else
        json_add_maps(look->reply, &look->spaces, &maps);
    maps_destroy(&maps);
    frame_map_destroy(&map);
}

static void answer_walk(struct look *look)
{
    struct host_pages pages;
    struct translation t;
    struct view view;
    uint64_t va = 0;
    bool ok;

    host_pages_open(&pages);
    ok = stop(look);
    if (ok) {
        ok = find_va(look, &va) && find_view(look, &view);
        if (ok)
            translate(look, &view, &pages, va, &t);
        go_on(look);
    }
    host_pages_close(&pages);
    if (!ok)
        return;
    set(look, "va", json_hex(va));
    set(look, "symbol", symbol_text(look, va));
    set(look, "space",
        view.space < 0 ? json_null() : json_space(&look->spaces, (unsigned)view.space));
    json_add_walk(look->reply, &t, look->spaces.bundled);
}

static json_t *second_stage(const struct look *look)
{
    static const char *const names[] = { "pages_4k", "pages_2m", "pages_1g" };
    struct kvm_host host = *look->vm->host;
    struct kvm_evidence evidence = kvm_gather();
    uint64_t value[3], all;
    json_t *json;
    int err;

    kvm_identify(&host, &evidence);
    json = json_pack("{s:s}", "kind", kvm_backend_name(host.backend));
    err = stats_read(look->vm->fd, names, value, 3);
    if (err || value[0] == UINT64_MAX || value[1] == UINT64_MAX || value[2] == UINT64_MAX) {
        json_object_set_new(json, "unknown",
                            json_string(err ? "this KVM has no statistics"
                                            : "this KVM does not count its mappings"));
    } else {
        for (unsigned i = 0; i < 3; i++)
            json_object_set_new(json, names[i], json_integer((json_int_t)value[i]));
        /* So many entries fill at least so many tables of 512. */
        json_object_set_new(json, "least_table_bytes",
                            json_integer((json_int_t)((value[0] + 511) / 512 * 4096 +
                                                      (value[1] + 511) / 512 * 4096 +
                                                      (value[2] + 511) / 512 * 4096)));
    }
    json_object_set_new(json, "all_vms_table_bytes",
                        resident_second_stage(&all) ? json_null() : json_integer((json_int_t)all));
    return json;
}

static json_t *dma(const struct look *look)
{
    struct iommu *iommu = board_iommu(look->in->board);
    struct iommu_counts counts;

    if (!iommu)
        return json_null();
    iommu_count(iommu, &counts);
    return json_pack("{s:I, s:I, s:I}", "pinned_pages", (json_int_t)counts.pinned_pages, "mappings",
                     (json_int_t)counts.mappings, "table_bytes", (json_int_t)counts.table_bytes);
}

static void answer_pages(struct look *look)
{
    struct resident resident;
    struct frame_totals totals;
    struct frame_map map;
    int err;

    if (!stop_and_count(look, &map))
        return;
    frame_map_total(&map, &look->spaces, &totals);
    go_on(look);
    json_add_totals(look->reply, &look->spaces, &map, &totals);
    frame_map_destroy(&map);
    set(look, "ram_bytes", json_integer((json_int_t)look->vm->memory.bytes));
    set(look, "dma", dma(look));
    set(look, "second_stage", second_stage(look));
    err = resident_look(&look->vm->memory, &resident);
    set(look, "resident",
        err ? json_null()
            : json_pack("{s:I, s:I, s:I, s:I}", "rss_bytes", (json_int_t)resident.rss_bytes,
                        "huge_bytes", (json_int_t)resident.huge_bytes, "swap_bytes",
                        (json_int_t)resident.swap_bytes, "process_table_bytes",
                        (json_int_t)resident.table_bytes));
}

static void answer_shared(struct look *look)
{
    struct shared_list list;
    struct frame_map map;
    int err;

    if (!stop_and_count(look, &map))
        return;
    err = shared_list_make(&list, &map, &look->spaces, &look->budget);
    go_on(look);
    if (err)
        fail(look, "no memory for the list of shared frames");
    else
        json_add_shared(look->reply, &look->spaces, &list);
    shared_list_destroy(&list);
    frame_map_destroy(&map);
}

static bool is_stopping(void *owner)
{
    const struct look *look = owner;

    return atomic_load(look->in->stopping);
}

static void answer_find(struct look *look)
{
    uint64_t start = now_ns(), elapsed;
    struct find find;

    if (find_create(&find, &look->vm->memory, look->request.pattern, look->request.pattern_bytes)) {
        fail(look, "no memory for what is found");
        return;
    }
    find_scan(&find, is_stopping, look);
    elapsed = now_ns() - start;
    if (stop(look)) {
        bool complete;

        find_check(&find);
        complete = !find_places(&find, &look->spaces, &look->budget);
        go_on(look);
        json_add_find(look->reply, &look->spaces, &find);
        set(look, "elapsed_ns", json_integer((json_int_t)elapsed));
        set(look, "complete", json_boolean(complete && !look->spaces.left_out));
    }
    find_destroy(&find);
}

/* Guest code from va on, page by page, as far as it is mapped. */
static size_t read_code(const struct look *look, const struct view *view, uint64_t va,
                        uint8_t *code, size_t bytes)
{
    size_t done = 0;

    while (done < bytes) {
        size_t chunk = MEMORY_PAGE_BYTES - (va + done) % MEMORY_PAGE_BYTES;
        struct translation t;
        const void *from;

        if (chunk > bytes - done)
            chunk = bytes - done;
        if (translate(look, view, NULL, va + done, &t))
            break;
        from = memory_at(&look->vm->memory, t.gpa, chunk);
        if (!from)
            break;
        memcpy(code + done, from, chunk);
        done += chunk;
    }
    return done;
}

static json_t *disassemble(const struct look *look, const uint8_t *code, size_t bytes, uint64_t va,
                           unsigned bits)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < look->request.count && bytes; i++) {
        char text[DISASM_TEXT_BYTES], hex[3 * DISASM_CODE_BYTES + 1] = "";
        int length = disasm_one(code, bytes, va, bits, text, sizeof(text));
        size_t step = length > 0 ? (size_t)length : 1;

        for (size_t n = 0; n < step; n++)
            sprintf(hex + 3 * n, "%02x%s", code[n], n + 1 < step ? " " : "");
        json_array_append_new(list, json_pack("{s:o, s:s, s:s, s:o}", "va", json_hex(va), "bytes",
                                              hex, "text", text, "symbol", symbol_text(look, va)));
        code += step;
        va += step;
        bytes -= step;
    }
    return list;
}

static unsigned mode_bits(const struct kvm_sregs *sregs)
{
    if (sregs->efer & EFER_LMA && sregs->cs.l)
        return 64;
    return sregs->cs.db ? 32 : 16;
}

static void answer_disasm(struct look *look)
{
    static const size_t room = (size_t)INSPECT_INSTRUCTIONS_MAX * DISASM_CODE_BYTES;
    size_t wanted = (size_t)look->request.count * DISASM_CODE_BYTES, bytes = 0;
    uint8_t *code = malloc(room);
    struct view view;
    uint64_t va = 0;
    unsigned bits;
    bool ok;

    if (!code) {
        fail(look, "no memory for the code");
        return;
    }
    if (stop(look)) {
        ok = find_va(look, &va) && find_view(look, &view);
        if (ok)
            bytes = read_code(look, &view, va, code, wanted);
        go_on(look);
        if (ok && !bytes) {
            fail(look, "0x%" PRIx64 " is not mapped; strata inspect walk tells where it ends", va);
        } else if (ok) {
            bits = look->request.pid ? 64 : mode_bits(&look->sregs[look->request.vcpu]);
            set(look, "va", json_hex(va));
            set(look, "mode_bits", json_integer(bits));
            set(look, "instructions", disassemble(look, code, bytes, va, bits));
        }
    }
    free(code);
}

static json_t *registers(const struct look *look, unsigned vcpu)
{
    const struct kvm_regs *r = &look->regs[vcpu];
    const struct kvm_sregs *s = &look->sregs[vcpu];
    const struct {
        const char *name;
        uint64_t value;
    } table[] = {
        { "rax", r->rax },         { "rbx", r->rbx },        { "rcx", r->rcx },
        { "rdx", r->rdx },         { "rsi", r->rsi },        { "rdi", r->rdi },
        { "rbp", r->rbp },         { "rsp", r->rsp },        { "r8", r->r8 },
        { "r9", r->r9 },           { "r10", r->r10 },        { "r11", r->r11 },
        { "r12", r->r12 },         { "r13", r->r13 },        { "r14", r->r14 },
        { "r15", r->r15 },         { "rip", r->rip },        { "rflags", r->rflags },
        { "cr0", s->cr0 },         { "cr2", s->cr2 },        { "cr3", s->cr3 },
        { "cr4", s->cr4 },         { "efer", s->efer },      { "fs_base", s->fs.base },
        { "gs_base", s->gs.base }, { "gdt", s->gdt.base },   { "idt", s->idt.base },
        { "cs", s->cs.selector },  { "ss", s->ss.selector }, { "tr", s->tr.selector },
    };
    json_t *json = json_object();

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        json_object_set_new(json, table[i].name, json_hex(table[i].value));
    return json;
}

static void answer_regs(struct look *look)
{
    json_t *vcpus = json_array();

    if (!stop(look)) {
        json_decref(vcpus);
        return;
    }
    go_on(look);
    for (unsigned i = 0; i < look->vm->ncpus; i++) {
        json_t *space = json_null();

        for (unsigned n = 0; n < look->spaces.n; n++) {
            if (look->spaces.space[n].cpus >> i & 1) {
                json_decref(space);
                space = json_space(&look->spaces, n);
            }
        }
        json_array_append_new(vcpus, json_pack("{s:i, s:i, s:i, s:o, s:o, s:o}", "vcpu", (int)i,
                                               "mode_bits", (int)mode_bits(&look->sregs[i]), "cpl",
                                               (int)look->sregs[i].ss.dpl, "symbol",
                                               symbol_text(look, look->regs[i].rip), "space", space,
                                               "registers", registers(look, i)));
    }
    set(look, "vcpus", vcpus);
}

static void answer_dump(struct look *look)
{
    const struct inspect_request *r = &look->request;
    const struct memory *memory = &look->vm->memory;
    const char *from = memory_at(memory, r->gpa, r->bytes);
    uint64_t bytes;

    if (!from) {
        char ram[96] = "";

        for (unsigned i = 0; i < memory->nslots && i < 2; i++)
            snprintf(ram + strlen(ram), sizeof(ram) - strlen(ram), "%s0x%" PRIx64 " to 0x%" PRIx64,
                     i ? ", " : "", memory->slots[i].gpa,
                     memory->slots[i].gpa + memory->slots[i].bytes - 1);
        fail(look, "not all of 0x%" PRIx64 " bytes from 0x%" PRIx64 " on is RAM, which is %s",
             r->bytes, r->gpa, ram);
        return;
    }
    if (r->offset >= r->bytes) {
        fail(look, "offset: beyond the last byte");
        return;
    }
    bytes = r->bytes - r->offset < DUMP_PIECE_BYTES ? r->bytes - r->offset : DUMP_PIECE_BYTES;
    look->payload = malloc(bytes);
    if (!look->payload) {
        fail(look, "no memory for a copy");
        return;
    }
    if (!stop(look))
        return;
    memcpy(look->payload, from + r->offset, bytes);
    go_on(look);
    look->payload_bytes = bytes;
    set(look, "payload_bytes", json_integer((json_int_t)bytes));
}

static void (*const commands[INSPECT_COMMANDS])(struct look *) = {
    [INSPECT_MAPS] = answer_maps,   [INSPECT_WALK] = answer_walk,
    [INSPECT_PAGES] = answer_pages, [INSPECT_SHARED] = answer_shared,
    [INSPECT_FIND] = answer_find,   [INSPECT_DISASM] = answer_disasm,
    [INSPECT_REGS] = answer_regs,   [INSPECT_DUMP] = answer_dump,
};

static void carry_out(struct look *look, const char *line, size_t n)
{
    if (inspect_request_parse(line, n, &look->request, look->error, sizeof(look->error)))
        return;
    if (look->request.vcpu >= look->vm->ncpus) {
        fail(look, "--vcpu %u: the VM has %u, from 0 on", look->request.vcpu, look->vm->ncpus);
        return;
    }
    set(look, "command", json_string(inspect_command_name(look->request.command)));
    commands[look->request.command](look);
    set(look, "pause_ns", json_integer((json_int_t)look->pause_ns));
}

/* The reply's line, and the payload behind it. */
static void put_together(const struct look *look, struct control_answer *answer)
{
    char *text = json_dumps(look->reply, JSON_COMPACT);
    size_t n = text ? strlen(text) : 0;

    if (!text)
        return;
    answer->bytes = malloc(n + 1 + look->payload_bytes);
    if (answer->bytes) {
        memcpy(answer->bytes, text, n);
        answer->bytes[n] = '\n';
        if (look->payload_bytes)
            memcpy(answer->bytes + n + 1, look->payload, look->payload_bytes);
        answer->n = n + 1 + look->payload_bytes;
    }
    free(text);
}

void inspector_answer(void *owner, const char *line, size_t n, struct control_answer *answer)
{
    struct inspector *inspector = owner;
    struct look *look = calloc(1, sizeof(*look));

    *answer = (struct control_answer){ 0 };
    if (!look)
        return;
    look->in = inspector;
    look->vm = inspector->vm;
    look->budget = SPACES_BUDGET;
    look->reply = json_result(INSPECT_REPLY_SCHEMA, INSPECT_VERSION);
    carry_out(look, line, n);
    if (look->error[0]) {
        json_object_clear(look->reply);
        set(look, "schema", json_string(INSPECT_REPLY_SCHEMA));
        set(look, "version", json_integer(INSPECT_VERSION));
        set(look, "error", json_string(look->error));
        look->payload_bytes = 0;
    }
    put_together(look, answer);
    json_decref(look->reply);
    free(look->payload);
    free(look);
}

void inspector_init(struct inspector *inspector, struct vm *vm, struct board *board, bool bundled,
                    const atomic_bool *stopping)
{
    *inspector = (struct inspector){ .vm = vm, .board = board, .stopping = stopping };
    if (!bundled)
        return;
    if (symbols_open(&inspector->symbols, bundled_kernel,
                     (size_t)(bundled_kernel_end - bundled_kernel)) ||
        symbols_find(&inspector->symbols, "kernel_info", &inspector->kernel_va))
        inspector->kernel_va = 0;
}
