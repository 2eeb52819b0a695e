#include "vmm/control/inspector.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/core/board.h"
#include "vmm/base/monotonic.h"
#include "vmm/boot/bundled.h"
#include "vmm/control/inspect_context.h"
#include "vmm/control/inspector_balloon.h"
#include "vmm/control/inspector_report.h"
#include "vmm/inspect/cpu.h"
#include "vmm/inspect/disasm.h"
#include "vmm/inspect/resident.h"
#include "vmm/inspect/shared_list.h"
#include "vmm/machine/stats.h"
#include "vmm/report/inspect_json.h"
#include "vmm/report/json.h"

#define DUMP_PIECE_BYTES (16ull << 20)

#define ERROR_LINE(text) \
    "{\"schema\":\"" INSPECT_REPLY_SCHEMA "\",\"version\":1,\"error\":\"" text "\"}\n"

const char inspector_busy[] = ERROR_LINE("busy: 8 clients are connected already; try again");
const char inspector_too_long[] = ERROR_LINE("a request is one line of at most 4096 bytes");

/* ---- The commands --------------------------------------------------------- */

static void inspector_answer_maps(struct inspect_context *context)
{
    struct frame_map map;
    struct maps maps;
    int err;

    if (!inspect_count(context, &map))
        return;
    err = maps_make(&maps, &context->spaces, &map, &context->budget);
    inspect_resume(context);
    if (err)
        inspect_fail(context, "no memory for the ranges");
    else
        json_add_maps(context->reply, &context->spaces, &maps);
    /* It may not have come so far as to say which processes it has. */
    inspect_set(context, "runs_bundled", json_boolean(context->in->kernel_va != 0));
    maps_destroy(&maps);
    frame_map_destroy(&map);
}

static void inspector_answer_walk(struct inspect_context *context)
{
    struct host_pages pages;
    struct translation t;
    struct inspect_view view;
    uint64_t va = 0;
    bool ok;

    host_pages_open(&pages);
    ok = inspect_pause(context);
    if (ok) {
        ok = inspect_va(context, &va) && inspect_view(context, &view);
        if (ok)
            inspect_translate(context, &view, &pages, va, &t);
        inspect_resume(context);
    }
    host_pages_close(&pages);
    if (!ok)
        return;
    inspect_set(context, "va", json_hex(va));
    inspect_set(context, "symbol", inspect_symbol(context, va));
    inspect_set(context, "space",
                view.space < 0 ? json_null() : json_space(&context->spaces, (unsigned)view.space));
    json_add_walk(context->reply, &t, context->spaces.bundled);
}

static json_t *inspector_second_stage(const struct inspect_context *context)
{
    static const char *const names[] = { "pages_4k", "pages_2m", "pages_1g" };
    struct kvm_host host = *context->vm->host;
    struct kvm_detection input = kvm_gather();
    uint64_t value[3], all;
    json_t *json;
    int err;

    kvm_identify(&host, &input);
    json = json_pack("{s:s}", "kind", kvm_backend_name(host.backend));
    err = stats_read(context->vm->fd, names, value, 3);
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

static json_t *inspector_dma(const struct inspect_context *context)
{
    struct iommu *iommu = board_iommu(context->in->board);
    struct iommu_counts counts;

    if (!iommu)
        return json_null();
    iommu_count(iommu, &counts);
    return json_pack("{s:I, s:I, s:I}", "pinned_pages", (json_int_t)counts.pinned_pages, "mappings",
                     (json_int_t)counts.mappings, "table_bytes", (json_int_t)counts.table_bytes);
}

void inspect_set_pages(struct inspect_context *context, const struct frame_map *map,
                       const struct frame_totals *totals)
{
    struct resident resident;
    int err;

    json_add_totals(context->reply, &context->spaces, map, totals);
    inspect_set(context, "ram_bytes", json_integer((json_int_t)context->vm->memory.bytes));
    inspect_set(context, "dma", inspector_dma(context));
    inspect_set(context, "second_stage", inspector_second_stage(context));
    err = resident_read(&context->vm->memory, &resident);
    inspect_set(context, "resident",
                err ? json_null()
                    : json_pack("{s:I, s:I, s:I, s:I}", "rss_bytes", (json_int_t)resident.rss_bytes,
                                "huge_bytes", (json_int_t)resident.huge_bytes, "swap_bytes",
                                (json_int_t)resident.swap_bytes, "process_table_bytes",
                                (json_int_t)resident.table_bytes));
}

static void inspector_answer_pages(struct inspect_context *context)
{
    struct frame_totals totals;
    struct frame_map map;

    if (!inspect_count(context, &map))
        return;
    frame_map_total(&map, &context->spaces, &totals);
    inspect_resume(context);
    inspect_set_pages(context, &map, &totals);
    frame_map_destroy(&map);
}

static void inspector_answer_shared(struct inspect_context *context)
{
    struct shared_list list;
    struct frame_map map;
    int err;

    if (!inspect_count(context, &map))
        return;
    err = shared_list_make(&list, &map, &context->spaces, 2, &context->budget);
    inspect_resume(context);
    if (err)
        inspect_fail(context, "no memory for the list of shared frames");
    else
        json_add_shared(context->reply, &context->spaces, &list);
    shared_list_destroy(&list);
    frame_map_destroy(&map);
}

static bool inspector_is_stopping(void *owner)
{
    const struct inspect_context *context = owner;

    return atomic_load(context->in->stopping);
}

static void inspector_answer_find(struct inspect_context *context)
{
    uint64_t start = monotonic_ns(), elapsed;
    struct find find;

    if (find_create(&find, &context->vm->memory, context->request.pattern,
                    context->request.pattern_bytes)) {
        inspect_fail(context, "no memory for what is found");
        return;
    }
    find_scan(&find, inspector_is_stopping, context);
    elapsed = monotonic_ns() - start;
    if (inspect_pause(context)) {
        bool complete;

        find_check(&find);
        complete = !find_places(&find, &context->spaces, &context->budget);
        inspect_resume(context);
        json_add_find(context->reply, &context->spaces, &find);
        inspect_set(context, "elapsed_ns", json_integer((json_int_t)elapsed));
        inspect_set(context, "complete", json_boolean(complete && !context->spaces.left_out));
    }
    find_destroy(&find);
}

/* Guest code from va on, page by page, as far as it is mapped. */
static size_t inspector_read_code(const struct inspect_context *context,
                                  const struct inspect_view *view, uint64_t va, uint8_t *code,
                                  size_t bytes)
{
    size_t done = 0;

    while (done < bytes) {
        size_t chunk = MEMORY_PAGE_BYTES - (va + done) % MEMORY_PAGE_BYTES;
        struct translation t;
        const void *from;

        if (chunk > bytes - done)
            chunk = bytes - done;
        if (inspect_translate(context, view, NULL, va + done, &t))
            break;
        from = memory_at(&context->vm->memory, t.gpa, chunk);
        if (!from)
            break;
        memcpy(code + done, from, chunk);
        done += chunk;
    }
    return done;
}

static json_t *inspector_disassemble(const struct inspect_context *context, const uint8_t *code,
                                     size_t bytes, uint64_t va, unsigned bits)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < context->request.count && bytes; i++) {
        char text[DISASM_TEXT_BYTES], hex[3 * DISASM_CODE_BYTES + 1] = "";
        int length = disasm_one(code, bytes, va, bits, text, sizeof(text));
        size_t step = length > 0 ? (size_t)length : 1;

        for (size_t n = 0; n < step; n++)
            sprintf(hex + 3 * n, "%02x%s", code[n], n + 1 < step ? " " : "");
        json_array_append_new(list,
                              json_pack("{s:o, s:s, s:s, s:o}", "va", json_hex(va), "bytes", hex,
                                        "text", text, "symbol", inspect_symbol(context, va)));
        code += step;
        va += step;
        bytes -= step;
    }
    return list;
}

static void inspector_answer_disasm(struct inspect_context *context)
{
    static const size_t room = (size_t)INSPECT_INSTRUCTIONS_MAX * DISASM_CODE_BYTES;
    size_t wanted = (size_t)context->request.count * DISASM_CODE_BYTES, bytes = 0;
    uint8_t *code = malloc(room);
    struct inspect_view view;
    uint64_t va = 0;
    unsigned bits;
    bool ok;

    if (!code) {
        inspect_fail(context, "no memory for the code");
        return;
    }
    if (inspect_pause(context)) {
        ok = inspect_va(context, &va) && inspect_view(context, &view);
        if (ok)
            bytes = inspector_read_code(context, &view, va, code, wanted);
        inspect_resume(context);
        if (ok && !bytes) {
            inspect_fail(context,
                         "0x%" PRIx64 " is not mapped; strata inspect walk tells where it ends",
                         va);
        } else if (ok) {
            bits = context->request.pid ? 64
                                        : cpu_mode_bits(&context->sregs[context->request.vcpu]);
            inspect_set(context, "va", json_hex(va));
            inspect_set(context, "mode_bits", json_integer(bits));
            inspect_set(context, "instructions",
                        inspector_disassemble(context, code, bytes, va, bits));
        }
    }
    free(code);
}

static void inspector_answer_regs(struct inspect_context *context)
{
    json_t *vcpus = json_array();

    if (!inspect_pause(context)) {
        json_decref(vcpus);
        return;
    }
    inspect_resume(context);
    for (unsigned i = 0; i < context->vm->ncpus; i++) {
        json_t *space = json_null();

        for (unsigned n = 0; n < context->spaces.n; n++) {
            if (context->spaces.space[n].cpus >> i & 1) {
                json_decref(space);
                space = json_space(&context->spaces, n);
            }
        }
        json_array_append_new(
            vcpus,
            json_pack("{s:i, s:i, s:i, s:o, s:o, s:o}", "vcpu", (int)i, "mode_bits",
                      (int)cpu_mode_bits(&context->sregs[i]), "cpl", (int)context->sregs[i].ss.dpl,
                      "symbol", inspect_symbol(context, context->regs[i].rip), "space", space,
                      "registers", json_registers(&context->regs[i], &context->sregs[i])));
    }
    inspect_set(context, "vcpus", vcpus);
}

static void inspector_answer_dump(struct inspect_context *context)
{
    const struct inspect_request *r = &context->request;
    const struct memory *memory = &context->vm->memory;
    const char *from = memory_at(memory, r->gpa, r->bytes);
    uint64_t bytes;

    if (!from) {
        char ram[96] = "";

        for (unsigned i = 0; i < memory->nslots && i < 2; i++)
            snprintf(ram + strlen(ram), sizeof(ram) - strlen(ram), "%s0x%" PRIx64 " to 0x%" PRIx64,
                     i ? ", " : "", memory->slots[i].gpa,
                     memory->slots[i].gpa + memory->slots[i].bytes - 1);
        inspect_fail(context,
                     "not all of 0x%" PRIx64 " bytes from 0x%" PRIx64 " on is RAM, which is %s",
                     r->bytes, r->gpa, ram);
        return;
    }
    if (r->offset >= r->bytes) {
        inspect_fail(context, "offset: beyond the last byte");
        return;
    }
    bytes = r->bytes - r->offset < DUMP_PIECE_BYTES ? r->bytes - r->offset : DUMP_PIECE_BYTES;
    context->payload = malloc(bytes);
    if (!context->payload) {
        inspect_fail(context, "no memory for a copy");
        return;
    }
    if (!inspect_pause(context))
        return;
    memcpy(context->payload, from + r->offset, bytes);
    inspect_resume(context);
    context->payload_bytes = bytes;
    inspect_set(context, "payload_bytes", json_integer((json_int_t)bytes));
}

static void (*const commands[INSPECT_COMMANDS])(struct inspect_context *) = {
    [INSPECT_MAPS] = inspector_answer_maps,   [INSPECT_WALK] = inspector_answer_walk,
    [INSPECT_PAGES] = inspector_answer_pages, [INSPECT_SHARED] = inspector_answer_shared,
    [INSPECT_FIND] = inspector_answer_find,   [INSPECT_DISASM] = inspector_answer_disasm,
    [INSPECT_REGS] = inspector_answer_regs,   [INSPECT_DUMP] = inspector_answer_dump,
    [INSPECT_REPORT] = inspector_report,      [INSPECT_BALLOON] = inspector_balloon,
};

static void inspector_carry_out(struct inspect_context *context)
{
    if (context->request.vcpu >= context->vm->ncpus) {
        inspect_fail(context, "--vcpu %u: the VM has %u, from 0 on", context->request.vcpu,
                     context->vm->ncpus);
        return;
    }
    inspect_set(context, "command", json_string(inspect_command_name(context->request.command)));
    commands[context->request.command](context);
    inspect_set(context, "pause_ns", json_integer((json_int_t)context->pause_ns));
}

static struct inspect_context *inspector_create_context(struct inspector *inspector)
{
    struct inspect_context *context = calloc(1, sizeof(*context));

    if (!context)
        return NULL;
    context->in = inspector;
    context->vm = inspector->vm;
    context->budget = SPACES_BUDGET;
    context->reply = json_result(INSPECT_REPLY_SCHEMA, INSPECT_VERSION);
    return context;
}

/* Where all went wrong, that is all that is told. */
static void inspector_tell_error(struct inspect_context *context)
{
    if (!context->error[0])
        return;
    json_object_clear(context->reply);
    inspect_set(context, "schema", json_string(INSPECT_REPLY_SCHEMA));
    inspect_set(context, "version", json_integer(INSPECT_VERSION));
    inspect_set(context, "error", json_string(context->error));
    context->payload_bytes = 0;
}

json_t *inspector_look(struct inspector *inspector, const struct inspect_request *request)
{
    struct inspect_context *context = inspector_create_context(inspector);
    json_t *reply;

    if (!context)
        return NULL;
    context->request = *request;
    context->stopped = true;
    inspector_carry_out(context);
    inspector_tell_error(context);
    reply = context->reply;
    free(context->payload);
    free(context);
    return reply;
}

/* The reply's line, and the payload behind it. */
static void inspector_put_together(const struct inspect_context *context,
                                   struct control_answer *answer)
{
    char *text = json_dumps(context->reply, JSON_COMPACT);
    size_t n = text ? strlen(text) : 0;

    if (!text)
        return;
    answer->bytes = malloc(n + 1 + context->payload_bytes);
    if (answer->bytes) {
        memcpy(answer->bytes, text, n);
        answer->bytes[n] = '\n';
        if (context->payload_bytes)
            memcpy(answer->bytes + n + 1, context->payload, context->payload_bytes);
        answer->n = n + 1 + context->payload_bytes;
    }
    free(text);
}

void inspector_answer(void *owner, const char *line, size_t n, struct control_answer *answer)
{
    struct inspector *inspector = owner;
    struct inspect_context *context = inspector_create_context(inspector);

    *answer = (struct control_answer){ 0 };
    if (!context)
        return;
    if (!inspect_request_parse(line, n, &context->request, context->error, sizeof(context->error)))
        inspector_carry_out(context);
    inspector_tell_error(context);
    inspector_put_together(context, answer);
    json_decref(context->reply);
    free(context->payload);
    free(context);
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
