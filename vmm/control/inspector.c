#include "vmm/control/inspector.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/core/board.h"
#include "vmm/base/monotonic.h"
#include "vmm/boot/bundled.h"
#include "vmm/control/inspector_balloon.h"
#include "vmm/control/inspector_report.h"
#include "vmm/control/look.h"
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

static void answer_maps(struct look *look)
{
    struct frame_map map;
    struct maps maps;
    int err;

    if (!look_count(look, &map))
        return;
    err = maps_make(&maps, &look->spaces, &map, &look->budget);
    look_go_on(look);
    if (err)
        look_fail(look, "no memory for the ranges");
    else
        json_add_maps(look->reply, &look->spaces, &maps);
    /* It may not have come so far as to say which processes it has. */
    look_set(look, "runs_bundled", json_boolean(look->in->kernel_va != 0));
    maps_destroy(&maps);
    frame_map_destroy(&map);
}

static void answer_walk(struct look *look)
{
    struct host_pages pages;
    struct translation t;
    struct look_view view;
    uint64_t va = 0;
    bool ok;

    host_pages_open(&pages);
    ok = look_stop(look);
    if (ok) {
        ok = look_va(look, &va) && look_view(look, &view);
        if (ok)
            look_translate(look, &view, &pages, va, &t);
        look_go_on(look);
    }
    host_pages_close(&pages);
    if (!ok)
        return;
    look_set(look, "va", json_hex(va));
    look_set(look, "symbol", look_symbol(look, va));
    look_set(look, "space",
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

void look_set_pages(struct look *look, const struct frame_map *map,
                    const struct frame_totals *totals)
{
    struct resident resident;
    int err;

    json_add_totals(look->reply, &look->spaces, map, totals);
    look_set(look, "ram_bytes", json_integer((json_int_t)look->vm->memory.bytes));
    look_set(look, "dma", dma(look));
    look_set(look, "second_stage", second_stage(look));
    err = resident_look(&look->vm->memory, &resident);
    look_set(look, "resident",
             err ? json_null()
                 : json_pack("{s:I, s:I, s:I, s:I}", "rss_bytes", (json_int_t)resident.rss_bytes,
                             "huge_bytes", (json_int_t)resident.huge_bytes, "swap_bytes",
                             (json_int_t)resident.swap_bytes, "process_table_bytes",
                             (json_int_t)resident.table_bytes));
}

static void answer_pages(struct look *look)
{
    struct frame_totals totals;
    struct frame_map map;

    if (!look_count(look, &map))
        return;
    frame_map_total(&map, &look->spaces, &totals);
    look_go_on(look);
    look_set_pages(look, &map, &totals);
    frame_map_destroy(&map);
}

static void answer_shared(struct look *look)
{
    struct shared_list list;
    struct frame_map map;
    int err;

    if (!look_count(look, &map))
        return;
    err = shared_list_make(&list, &map, &look->spaces, 2, &look->budget);
    look_go_on(look);
    if (err)
        look_fail(look, "no memory for the list of shared frames");
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
    uint64_t start = monotonic_ns(), elapsed;
    struct find find;

    if (find_create(&find, &look->vm->memory, look->request.pattern, look->request.pattern_bytes)) {
        look_fail(look, "no memory for what is found");
        return;
    }
    find_scan(&find, is_stopping, look);
    elapsed = monotonic_ns() - start;
    if (look_stop(look)) {
        bool complete;

        find_check(&find);
        complete = !find_places(&find, &look->spaces, &look->budget);
        look_go_on(look);
        json_add_find(look->reply, &look->spaces, &find);
        look_set(look, "elapsed_ns", json_integer((json_int_t)elapsed));
        look_set(look, "complete", json_boolean(complete && !look->spaces.left_out));
    }
    find_destroy(&find);
}

/* Guest code from va on, page by page, as far as it is mapped. */
static size_t read_code(const struct look *look, const struct look_view *view, uint64_t va,
                        uint8_t *code, size_t bytes)
{
    size_t done = 0;

    while (done < bytes) {
        size_t chunk = MEMORY_PAGE_BYTES - (va + done) % MEMORY_PAGE_BYTES;
        struct translation t;
        const void *from;

        if (chunk > bytes - done)
            chunk = bytes - done;
        if (look_translate(look, view, NULL, va + done, &t))
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
                                              hex, "text", text, "symbol", look_symbol(look, va)));
        code += step;
        va += step;
        bytes -= step;
    }
    return list;
}

static void answer_disasm(struct look *look)
{
    static const size_t room = (size_t)INSPECT_INSTRUCTIONS_MAX * DISASM_CODE_BYTES;
    size_t wanted = (size_t)look->request.count * DISASM_CODE_BYTES, bytes = 0;
    uint8_t *code = malloc(room);
    struct look_view view;
    uint64_t va = 0;
    unsigned bits;
    bool ok;

    if (!code) {
        look_fail(look, "no memory for the code");
        return;
    }
    if (look_stop(look)) {
        ok = look_va(look, &va) && look_view(look, &view);
        if (ok)
            bytes = read_code(look, &view, va, code, wanted);
        look_go_on(look);
        if (ok && !bytes) {
            look_fail(look, "0x%" PRIx64 " is not mapped; strata inspect walk tells where it ends",
                      va);
        } else if (ok) {
            bits = look->request.pid ? 64 : cpu_mode_bits(&look->sregs[look->request.vcpu]);
            look_set(look, "va", json_hex(va));
            look_set(look, "mode_bits", json_integer(bits));
            look_set(look, "instructions", disassemble(look, code, bytes, va, bits));
        }
    }
    free(code);
}

static void answer_regs(struct look *look)
{
    json_t *vcpus = json_array();

    if (!look_stop(look)) {
        json_decref(vcpus);
        return;
    }
    look_go_on(look);
    for (unsigned i = 0; i < look->vm->ncpus; i++) {
        json_t *space = json_null();

        for (unsigned n = 0; n < look->spaces.n; n++) {
            if (look->spaces.space[n].cpus >> i & 1) {
                json_decref(space);
                space = json_space(&look->spaces, n);
            }
        }
        json_array_append_new(
            vcpus, json_pack("{s:i, s:i, s:i, s:o, s:o, s:o}", "vcpu", (int)i, "mode_bits",
                             (int)cpu_mode_bits(&look->sregs[i]), "cpl", (int)look->sregs[i].ss.dpl,
                             "symbol", look_symbol(look, look->regs[i].rip), "space", space,
                             "registers", json_registers(&look->regs[i], &look->sregs[i])));
    }
    look_set(look, "vcpus", vcpus);
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
        look_fail(look, "not all of 0x%" PRIx64 " bytes from 0x%" PRIx64 " on is RAM, which is %s",
                  r->bytes, r->gpa, ram);
        return;
    }
    if (r->offset >= r->bytes) {
        look_fail(look, "offset: beyond the last byte");
        return;
    }
    bytes = r->bytes - r->offset < DUMP_PIECE_BYTES ? r->bytes - r->offset : DUMP_PIECE_BYTES;
    look->payload = malloc(bytes);
    if (!look->payload) {
        look_fail(look, "no memory for a copy");
        return;
    }
    if (!look_stop(look))
        return;
    memcpy(look->payload, from + r->offset, bytes);
    look_go_on(look);
    look->payload_bytes = bytes;
    look_set(look, "payload_bytes", json_integer((json_int_t)bytes));
}

static void (*const commands[INSPECT_COMMANDS])(struct look *) = {
    [INSPECT_MAPS] = answer_maps,        [INSPECT_WALK] = answer_walk,
    [INSPECT_PAGES] = answer_pages,      [INSPECT_SHARED] = answer_shared,
    [INSPECT_FIND] = answer_find,        [INSPECT_DISASM] = answer_disasm,
    [INSPECT_REGS] = answer_regs,        [INSPECT_DUMP] = answer_dump,
    [INSPECT_REPORT] = inspector_report, [INSPECT_BALLOON] = inspector_balloon,
};

static void carry_out(struct look *look)
{
    if (look->request.vcpu >= look->vm->ncpus) {
        look_fail(look, "--vcpu %u: the VM has %u, from 0 on", look->request.vcpu, look->vm->ncpus);
        return;
    }
    look_set(look, "command", json_string(inspect_command_name(look->request.command)));
    commands[look->request.command](look);
    look_set(look, "pause_ns", json_integer((json_int_t)look->pause_ns));
}

static struct look *look_create(struct inspector *inspector)
{
    struct look *look = calloc(1, sizeof(*look));

    if (!look)
        return NULL;
    look->in = inspector;
    look->vm = inspector->vm;
    look->budget = SPACES_BUDGET;
    look->reply = json_result(INSPECT_REPLY_SCHEMA, INSPECT_VERSION);
    return look;
}

/* Where all went wrong, that is all that is told. */
static void tell_error(struct look *look)
{
    if (!look->error[0])
        return;
    json_object_clear(look->reply);
    look_set(look, "schema", json_string(INSPECT_REPLY_SCHEMA));
    look_set(look, "version", json_integer(INSPECT_VERSION));
    look_set(look, "error", json_string(look->error));
    look->payload_bytes = 0;
}

json_t *inspector_look(struct inspector *inspector, const struct inspect_request *request)
{
    struct look *look = look_create(inspector);
    json_t *reply;

    if (!look)
        return NULL;
    look->request = *request;
    look->stopped = true;
    carry_out(look);
    tell_error(look);
    reply = look->reply;
    free(look->payload);
    free(look);
    return reply;
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
    struct look *look = look_create(inspector);

    *answer = (struct control_answer){ 0 };
    if (!look)
        return;
    if (!inspect_request_parse(line, n, &look->request, look->error, sizeof(look->error)))
        carry_out(look);
    tell_error(look);
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
