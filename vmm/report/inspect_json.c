#include "vmm/report/inspect_json.h"

#include <inttypes.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>

#include "vmm/machine/memory.h"

#define CPUS_SHOWN 64

json_t *json_hex(uint64_t number)
{
    char text[24];

    snprintf(text, sizeof(text), "0x%" PRIx64, number);
    return json_string(text);
}

json_t *json_registers(const struct kvm_regs *r, const struct kvm_sregs *s)
{
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

static json_t *inspect_json_integer(uint64_t number)
{
    return json_integer((json_int_t)number);
}

json_t *json_space(const struct spaces *spaces, unsigned index)
{
    const struct space *space = &spaces->space[index];
    json_t *cpus = json_array();

    for (unsigned i = 0; i < CPUS_SHOWN; i++) {
        if (space->cpus >> i & 1)
            json_array_append_new(cpus, json_integer(i));
    }
    return json_pack("{s:I, s:s, s:o, s:s, s:o}", "pid", (json_int_t)space->pid, "name",
                     space->name, "root", json_hex(space->root), "format", space->format->name,
                     "cpus", cpus);
}

static json_t *inspect_json_rights(bool writable, bool nx, bool user)
{
    char text[5] = "r--k";

    if (writable)
        text[1] = 'w';
    if (!nx)
        text[2] = 'x';
    if (user)
        text[3] = 'u';
    return json_string(text);
}

static json_t *inspect_json_range(const struct map_range *range)
{
    return json_pack("{s:o, s:o, s:o, s:b, s:I, s:I, s:I, s:I, s:o, s:s}", "first",
                     json_hex(range->first), "last", json_hex(range->last), "gpa",
                     json_hex(range->gpa), "contiguous", range->contiguous, "pages",
                     (json_int_t)range->pages, "page_bytes", (json_int_t)range->page_bytes,
                     "accessed", (json_int_t)range->accessed, "dirty", (json_int_t)range->dirty,
                     "rights", inspect_json_rights(range->writable, range->nx, range->user),
                     "sharing", map_sharing_name(range->sharing));
}

/* What there may be beyond the address spaces that are known. */
static void inspect_json_add_knowledge(json_t *reply, const struct spaces *spaces)
{
    json_object_set_new(reply, "bundled", json_boolean(spaces->bundled));
    json_object_set_new(reply, "cpus_without_paging", inspect_json_integer(spaces->unpaged_cpus));
    json_object_set_new(reply, "cpus_in_32_bit_paging",
                        inspect_json_integer(spaces->unwalked_cpus));
}

void json_add_maps(json_t *reply, const struct spaces *spaces, const struct maps *maps)
{
    json_t *list = json_array();
    size_t range = 0;

    for (unsigned i = 0; i < spaces->n; i++) {
        json_t *space = json_space(spaces, i), *ranges = json_array();

        for (; range < maps->end[i]; range++)
            json_array_append_new(ranges, inspect_json_range(&maps->range[range]));
        json_object_set_new(space, "upper_as", inspect_json_integer(spaces->space[i].upper_as));
        json_object_set_new(space, "ranges", ranges);
        json_array_append_new(list, space);
    }
    inspect_json_add_knowledge(reply, spaces);
    json_object_set_new(reply, "complete", json_boolean(maps->complete && !spaces->left_out));
    json_object_set_new(reply, "spaces", list);
}

/* The bits of an entry by their letters. */
static json_t *inspect_json_entry_bits(const struct paging_format *format, uint64_t entry,
                                       bool leaf, bool bundled)
{
    char text[48] = "";

    if (!(entry & format->present))
        return json_string("not present");
    strcat(text, "P");
    strcat(text, entry & format->writable ? " W" : "");
    strcat(text, entry & format->user ? " U" : "");
    strcat(text, entry & format->accessed ? " A" : "");
    strcat(text, leaf && entry & format->dirty ? " D" : "");
    strcat(text, leaf && entry & format->global ? " G" : "");
    strcat(text, entry & format->nx ? " NX" : "");
    strcat(text, leaf && bundled && entry & ABI_PTE_COW ? " COW" : "");
    return json_string(text);
}

static json_t *inspect_json_host(const struct host_page *host)
{
    return json_pack("{s:b, s:b, s:b, s:b, s:o, s:s?, s:I, s:s?}", "present", host->present,
                     "swapped", host->swapped, "file_or_shared", host->file_or_shared, "exclusive",
                     host->exclusive, "pfn", host->pfn ? json_hex(host->pfn) : json_null(),
                     "pfn_unknown", host->pfn_unknown, "page_bytes", (json_int_t)host->bytes,
                     "page_bytes_unknown", host->size_unknown);
}

void json_add_walk(json_t *reply, const struct translation *t, bool bundled)
{
    const struct paging_walk *walk = &t->walk;
    json_t *levels = json_array();

    for (unsigned i = 0; i < walk->nsteps; i++) {
        const struct paging_step *step = &walk->step[i];
        bool last = i + 1 == walk->nsteps;
        /* Then there was nothing to read the entry from. */
        bool outside = last && walk->status == PAGING_OUTSIDE_MEMORY;

        json_array_append_new(
            levels, json_pack("{s:i, s:s, s:o, s:i, s:o, s:o}", "level", (int)step->level, "name",
                              walk->format->level[i].name, "table", json_hex(step->table), "index",
                              (int)step->index, "entry", json_hex(step->entry), "bits",
                              outside ? json_string("no memory there")
                                      : inspect_json_entry_bits(walk->format, step->entry,
                                                                t->mapped && last, bundled)));
    }
    json_object_set_new(reply, "levels", levels);
    json_object_set_new(reply, "mapped", json_boolean(t->mapped));
    json_object_set_new(
        reply, "status",
        json_string(walk->format ? paging_status_name(walk->status) : "paging is off"));
    if (!t->mapped)
        return;
    if (walk->format) {
        json_object_set_new(reply, "page_bytes", inspect_json_integer(walk->leaf.page_bytes));
        json_object_set_new(
            reply, "rights",
            inspect_json_rights(walk->leaf.writable, walk->leaf.nx, walk->leaf.user));
    }
    json_object_set_new(reply, "gpa", json_hex(t->gpa));
    json_add_place(reply, t);
}

void json_add_place(json_t *reply, const struct translation *t)
{
    if (!t->slot)
        return;
    json_object_set_new(reply, "slot",
                        json_pack("{s:I, s:o, s:I, s:o}", "id", (json_int_t)t->slot->id, "gpa",
                                  json_hex(t->slot->gpa), "bytes", (json_int_t)t->slot->bytes,
                                  "hva", json_hex((uintptr_t)t->slot->hva)));
    json_object_set_new(reply, "hva", json_hex((uintptr_t)t->hva));
    json_object_set_new(reply, "host", inspect_json_host(&t->host));
}

void json_add_totals(json_t *reply, const struct spaces *spaces, const struct frame_map *map,
                     const struct frame_totals *totals)
{
    json_t *kinds = json_object(), *mapped = json_array();

    for (unsigned kind = 0; kind < FRAME_KINDS; kind++) {
        bool says = spaces->bundled
                        ? kind != FRAME_UNKNOWN
                        : kind == FRAME_UNKNOWN || kind == FRAME_USER || kind == FRAME_TABLE;

        if (says)
            json_object_set_new(kinds, frame_kind_name((enum frame_kind)kind),
                                inspect_json_integer(totals->kind[kind]));
    }
    for (unsigned i = 0; i <= FRAMES_SHARED_MAX; i++)
        json_array_append_new(mapped, inspect_json_integer(totals->mapped_by[i]));
    inspect_json_add_knowledge(reply, spaces);
    json_object_set_new(reply, "complete", json_boolean(map->complete && !spaces->left_out));
    json_object_set_new(reply, "spaces", inspect_json_integer(spaces->n));
    json_object_set_new(reply, "ram_pages", inspect_json_integer(totals->ram));
    json_object_set_new(reply, "pages_by_kind", kinds);
    json_object_set_new(reply, "user_pages_by_mappings", mapped);
    json_object_set_new(reply, "cow_pages", inspect_json_integer(totals->cow));
    json_object_set_new(reply, "saved_by_sharing_bytes", inspect_json_integer(totals->saved_bytes));
    json_object_set_new(
        reply, "guest_tables",
        json_pack("{s:I, s:I, s:I}", "user_pages", (json_int_t)map->user_tables, "kernel_pages",
                  (json_int_t)map->kernel_tables, "bytes",
                  (json_int_t)((map->user_tables + map->kernel_tables) * MEMORY_PAGE_BYTES)));
    json_object_set_new(reply, "dma_pinned_frames", inspect_json_integer(totals->pinned));
    json_object_set_new(reply, "disagreements",
                        spaces->bundled
                            ? json_pack("{s:I, s:I, s:I, s:I}", "free_but_mapped",
                                        (json_int_t)totals->free_but_mapped, "tables_not_seen",
                                        (json_int_t)totals->table_not_seen, "tables_not_claimed",
                                        (json_int_t)totals->seen_not_table,
                                        "fewer_references_than_mappings",
                                        (json_int_t)totals->refs_unlike)
                            : json_null());
    json_object_set_new(reply, "broken_entries", inspect_json_integer(map->broken));
    json_object_set_new(reply, "mapped_outside_ram", inspect_json_integer(map->outside));
}

void json_add_shared(json_t *reply, const struct spaces *spaces, const struct shared_list *list)
{
    json_t *runs = json_array();
    uint64_t frames = 0;

    for (size_t i = 0; i < list->n; i++) {
        const struct shared_run *run = &list->run[i];
        json_t *sharers = json_array();

        for (unsigned n = 0; n < run->nsharers; n++) {
            const struct space *space = &spaces->space[run->sharer[n].space];

            json_array_append_new(
                sharers, json_pack("{s:I, s:s, s:o, s:o, s:b, s:b}", "pid", (json_int_t)space->pid,
                                   "name", space->name, "root", json_hex(space->root), "va",
                                   json_hex(run->sharer[n].va), "writable", run->sharer[n].writable,
                                   "cow", run->sharer[n].cow));
        }
        json_array_append_new(runs, json_pack("{s:o, s:I, s:I, s:o}", "gpa", json_hex(run->gpa),
                                              "pages", (json_int_t)run->frames, "mappings",
                                              (json_int_t)run->mappings, "mapped_by", sharers));
        frames += run->frames;
    }
    inspect_json_add_knowledge(reply, spaces);
    json_object_set_new(reply, "complete", json_boolean(list->complete && !spaces->left_out));
    json_object_set_new(reply, "spaces", inspect_json_integer(spaces->n));
    json_object_set_new(reply, "shared_pages", inspect_json_integer(frames));
    json_object_set_new(reply, "shared", runs);
}

void json_add_find(json_t *reply, const struct spaces *spaces, const struct find *find)
{
    json_t *hits = json_array();

    for (size_t i = 0; i < find->n; i++) {
        const struct find_hit *hit = &find->hit[i];
        json_t *places = json_array();

        for (unsigned n = 0; n < hit->nplaces; n++) {
            const struct space *space = &spaces->space[hit->place[n].space];

            json_array_append_new(
                places, json_pack("{s:o, s:I, s:s, s:o, s:b}", "va", json_hex(hit->place[n].va),
                                  "pid", (json_int_t)space->pid, "name", space->name, "root",
                                  json_hex(space->root), "user", hit->place[n].user));
        }
        json_array_append_new(hits, json_pack("{s:o, s:o, s:I}", "gpa", json_hex(hit->gpa),
                                              "mapped_by", places, "more", (json_int_t)hit->more));
    }
    inspect_json_add_knowledge(reply, spaces);
    json_object_set_new(reply, "searched_bytes", inspect_json_integer(find->searched_bytes));
    json_object_set_new(reply, "stopped", json_boolean(find->stopped));
    json_object_set_new(reply, "untouched_too", json_boolean(find->untouched_too));
    json_object_set_new(reply, "hits", hits);
}
