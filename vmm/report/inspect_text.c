#include "vmm/report/inspect_text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/size.h"
#include "vmm/report/reply.h"

#define HITS_SHOWN 40
#define RUNS_SHOWN 40

static void inspect_text_print_cpus(FILE *out, const json_t *space)
{
    json_t *cpu;
    size_t i;

    for (i = 0; (cpu = json_array_get(json_object_get(space, "cpus"), i)); i++)
        fprintf(out, "%s%" JSON_INTEGER_FORMAT, i ? ", " : " on vCPU ", json_integer_value(cpu));
}

static void inspect_text_print_pause(FILE *out, const json_t *reply)
{
    fprintf(out, "guest paused for %.3f ms\n", (double)reply_number(reply, "pause_ns") / 1e6);
}

static void inspect_text_print_incomplete(FILE *out, const json_t *reply)
{
    if (!reply_yes(reply, "complete"))
        fprintf(out, "not complete: the guest's tables do not end within the limit\n");
}

/* vCPUs whose translations are not among those shown. */
static void inspect_text_print_apart(FILE *out, const json_t *reply)
{
    uint64_t unpaged = reply_number(reply, "cpus_without_paging");
    uint64_t unwalked = reply_number(reply, "cpus_in_32_bit_paging");

    if (unpaged)
        fprintf(out, "%" PRIu64 " vCPU%s paging off: addresses there are guest-physical\n", unpaged,
                unpaged == 1 ? " has" : "s have");
    if (unwalked)
        fprintf(out,
                "%" PRIu64 " vCPU%s 32-bit paging, which strata does not walk: what %s is not "
                "counted\n",
                unwalked, unwalked == 1 ? " uses" : "s use",
                unwalked == 1 ? "it maps" : "they map");
}

/* ---- maps ----------------------------------------------------------------- */

static void inspect_text_print_maps(FILE *out, const json_t *reply)
{
    json_t *spaces = json_object_get(reply, "spaces"), *space, *range;
    bool bundled = reply_yes(reply, "bundled");
    size_t i, n;

    for (i = 0; (space = json_array_get(spaces, i)); i++) {
        uint64_t upper = reply_number(space, "upper_as");

        fprintf(out, "%s, root %s", SPACE_TEXT(space), reply_text(space, "root"));
        if (strcmp(reply_text(space, "format"), "x86-64 4-level"))
            fprintf(out, ", %s", reply_text(space, "format"));
        inspect_text_print_cpus(out, space);
        if (upper != i)
            fprintf(out, "; upper half as %s", SPACE_TEXT(json_array_get(spaces, upper)));
        fputc('\n', out);
        for (n = 0; (range = json_array_get(json_object_get(space, "ranges"), n)); n++) {
            fprintf(out, "  %016" PRIx64 "-%016" PRIx64 " %6s %s %3s %-7s",
                    reply_address(range, "first"), reply_address(range, "last"),
                    SIZE_TEXT(reply_number(range, "pages") * reply_number(range, "page_bytes")),
                    reply_text(range, "rights"), SIZE_TEXT(reply_number(range, "page_bytes")),
                    !bundled && !strcmp(reply_text(range, "sharing"), "private")
                        ? "once"
                        : reply_text(range, "sharing"));
            fprintf(out, " gpa %s%s\n", reply_text(range, "gpa"),
                    reply_yes(range, "contiguous") ? "" : " ...");
        }
    }
    inspect_text_print_apart(out, reply);
    if (!bundled)
        fprintf(out,
                "%s: only the address spaces that vCPUs have loaded are known, and sharing among "
                "them\n",
                reply_yes(reply, "runs_bundled")
                    ? "the bundled guest does not say (yet) which processes it has"
                    : "not the bundled guest");
    inspect_text_print_incomplete(out, reply);
}

/* ---- walk ----------------------------------------------------------------- */

static void inspect_text_print_host(FILE *out, const json_t *reply)
{
    const json_t *slot = json_object_get(reply, "slot"), *host = json_object_get(reply, "host");

    if (!slot) {
        fprintf(out, "slot   none: no RAM there\n");
        return;
    }
    fprintf(out, "slot   %" PRIu64 ": gpa %s, %s, at hva %s\n", reply_number(slot, "id"),
            reply_text(slot, "gpa"), SIZE_TEXT(reply_number(slot, "bytes")),
            reply_text(slot, "hva"));
    fprintf(out, "HVA    %s\n", reply_text(reply, "hva"));
    if (*reply_text(host, "pfn"))
        fprintf(out, "PFN    %s", reply_text(host, "pfn"));
    else
        fprintf(out, "PFN    not available here, because: %s", reply_text(host, "pfn_unknown"));
    if (reply_yes(host, "present"))
        fprintf(out, ", %s",
                reply_yes(host, "exclusive") ? "mapped here only" : "shared on the host");
    fputc('\n', out);
    if (*reply_text(host, "page_bytes_unknown"))
        fprintf(out, "       host page size not available here, because: %s\n",
                reply_text(host, "page_bytes_unknown"));
    else
        fprintf(out, "       host page of %s\n", SIZE_TEXT(reply_number(host, "page_bytes")));
}

static void inspect_text_print_walk(FILE *out, const json_t *reply)
{
    const json_t *space = json_object_get(reply, "space");
    json_t *level;
    size_t i;

    fprintf(out, "GVA    %s", reply_text(reply, "va"));
    if (*reply_text(reply, "symbol"))
        fprintf(out, " (%s)", reply_text(reply, "symbol"));
    if (json_is_object(space))
        fprintf(out, " in %s, %s, root %s", SPACE_TEXT(space), reply_text(space, "format"),
                reply_text(space, "root"));
    fputc('\n', out);
    for (i = 0; (level = json_array_get(json_object_get(reply, "levels"), i)); i++)
        fprintf(out, "  %-4s [%3" PRIu64 "] at gpa %#-12" PRIx64 " = %016" PRIx64 "  %s\n",
                reply_text(level, "name"), reply_number(level, "index"),
                reply_address(level, "table") + 8 * reply_number(level, "index"),
                reply_address(level, "entry"), reply_text(level, "bits"));
    if (!reply_yes(reply, "mapped")) {
        fprintf(out, "not mapped: %s\n", reply_text(reply, "status"));
        return;
    }
    fprintf(out, "GPA    %s", reply_text(reply, "gpa"));
    if (*reply_text(reply, "rights"))
        fprintf(out, ", guest page of %s, %s\n", SIZE_TEXT(reply_number(reply, "page_bytes")),
                reply_text(reply, "rights"));
    else
        fprintf(out, ", paging is off\n");
    inspect_text_print_host(out, reply);
}

/* ---- pages ---------------------------------------------------------------- */

static void inspect_text_print_kinds(FILE *out, const json_t *reply)
{
    static const struct {
        const char *kind, *text;
    } kinds[] = {
        { "free", "free" },
        { "image", "kernel image and tables" },
        { "program", "bundled programs" },
        { "kernel", "kernel data" },
        { "table", "page tables" },
        { "user", "user memory" },
        { "unknown", "not known: this guest does not say" },
    };
    json_t *counts = json_object_get(reply, "pages_by_kind");
    json_t *mapped = json_object_get(reply, "user_pages_by_mappings");

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (json_object_get(counts, kinds[i].kind))
            fprintf(out, "  %9" PRIu64 " pages %7s  %s\n", reply_number(counts, kinds[i].kind),
                    SIZE_TEXT(reply_number(counts, kinds[i].kind) * 4096), kinds[i].text);
    }
    fprintf(out, "user pages by mappings:");
    for (size_t i = 0; i < json_array_size(mapped); i++) {
        uint64_t count = (uint64_t)json_integer_value(json_array_get(mapped, i));

        if (count && i == 0)
            fprintf(out, " %" PRIu64 " unmapped,", count);
        else if (count && i == 1)
            fprintf(out, " %" PRIu64 " private,", count);
        else if (count)
            fprintf(out, " %" PRIu64 " shared by %zu%s,", count, i,
                    i + 1 == json_array_size(mapped) ? " or more" : "");
    }
    fprintf(out, " %" PRIu64 " copy-on-write; sharing saves %s\n", reply_number(reply, "cow_pages"),
            SIZE_TEXT(reply_number(reply, "saved_by_sharing_bytes")));
}

static void inspect_text_print_tables(FILE *out, const json_t *reply)
{
    const json_t *tables = json_object_get(reply, "guest_tables");
    const json_t *second = json_object_get(reply, "second_stage");

    fprintf(out,
            "table memory: guest %s (%" PRIu64 " pages of processes, %" PRIu64 " of the kernel)\n",
            SIZE_TEXT(reply_number(tables, "bytes")), reply_number(tables, "user_pages"),
            reply_number(tables, "kernel_pages"));
    fprintf(out, "  second stage (%s): ", reply_text(second, "kind"));
    if (*reply_text(second, "unknown"))
        fprintf(out, "not available here, because: %s\n", reply_text(second, "unknown"));
    else
        fprintf(
            out,
            "at least %s for %" PRIu64 " mappings of 4K, %" PRIu64 " of 2M, %" PRIu64 " of 1G%s\n",
            SIZE_TEXT(reply_number(second, "least_table_bytes")), reply_number(second, "pages_4k"),
            reply_number(second, "pages_2m"), reply_number(second, "pages_1g"),
            strcmp(reply_text(second, "kind"), "ept") && strcmp(reply_text(second, "kind"), "npt")
                ? " (shadow tables: of guest-virtual addresses)"
                : "");
    if (json_is_integer(json_object_get(second, "all_vms_table_bytes")))
        fprintf(out, "  all second-stage tables of this host: %s\n",
                SIZE_TEXT(reply_number(second, "all_vms_table_bytes")));
}

static void inspect_text_print_agreement(FILE *out, const json_t *reply)
{
    static const struct {
        const char *name, *text;
    } ways[] = {
        { "free_but_mapped", "free but mapped" },
        { "tables_not_seen", "page tables that no walk met" },
        { "tables_not_claimed", "page tables that it does not have as such" },
        { "fewer_references_than_mappings", "with more mappings than references" },
    };
    const json_t *found = json_object_get(reply, "disagreements");
    uint64_t sum = 0;

    if (!json_is_object(found))
        return;
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        uint64_t count = reply_number(found, ways[i].name);

        if (count)
            fprintf(out,
                    "DISAGREEMENT of the guest's frame table with the walks: %" PRIu64
                    " frames %s\n",
                    count, ways[i].text);
        sum += count;
    }
    if (sum)
        fprintf(out, "(the kernel may have been stopped in the middle of a change; look again)\n");
    else
        fprintf(out,
                "the guest's frame table agrees with the walks of its %" PRIu64 " address spaces\n",
                reply_number(reply, "spaces"));
}

static void inspect_text_print_pages(FILE *out, const json_t *reply)
{
    const json_t *resident = json_object_get(reply, "resident"),
                 *dma = json_object_get(reply, "dma");

    fprintf(out, "guest RAM %s", SIZE_TEXT(reply_number(reply, "ram_bytes")));
    if (json_is_object(resident))
        fprintf(out, ", of which the host has %s resident, %s in huge pages, %s swapped\n",
                SIZE_TEXT(reply_number(resident, "rss_bytes")),
                SIZE_TEXT(reply_number(resident, "huge_bytes")),
                SIZE_TEXT(reply_number(resident, "swap_bytes")));
    else
        fprintf(out, "; resident: not available here, because /proc cannot be read\n");
    inspect_text_print_kinds(out, reply);
    if (json_is_object(dma))
        fprintf(out,
                "pinned for DMA: %" PRIu64 " pages under %" PRIu64 " mappings, IOMMU tables %s\n",
                reply_number(dma, "pinned_pages"), reply_number(dma, "mappings"),
                SIZE_TEXT(reply_number(dma, "table_bytes")));
    else
        fprintf(out, "pinned for DMA: not available, because there is no IOMMU\n");
    inspect_text_print_tables(out, reply);
    if (reply_number(reply, "broken_entries"))
        fprintf(out, "%" PRIu64 " broken page-table entries\n",
                reply_number(reply, "broken_entries"));
    inspect_text_print_agreement(out, reply);
    inspect_text_print_apart(out, reply);
    inspect_text_print_incomplete(out, reply);
}

/* ---- shared, find, disasm, regs ------------------------------------------- */

static void inspect_text_print_shared(FILE *out, const json_t *reply)
{
    json_t *runs = json_object_get(reply, "shared"), *run, *sharer;
    size_t i, n;

    for (i = 0; (run = json_array_get(runs, i)); i++) {
        json_t *sharers = json_object_get(run, "mapped_by");

        if (i == RUNS_SHOWN) {
            fprintf(out, "... and %zu more; --json has all\n", json_array_size(runs) - i);
            break;
        }
        fprintf(out,
                "gpa %-10s %4" PRIu64 " pages, mapped %" PRIu64 " times:", reply_text(run, "gpa"),
                reply_number(run, "pages"), reply_number(run, "mappings"));
        for (n = 0; (sharer = json_array_get(sharers, n)); n++)
            fprintf(out, "%s %s at %s %s", n ? "," : "", SPACE_TEXT(sharer),
                    reply_text(sharer, "va"),
                    reply_yes(sharer, "cow")        ? "cow"
                    : reply_yes(sharer, "writable") ? "rw"
                                                    : "ro");
        fprintf(out, "%s\n",
                reply_number(run, "mappings") > json_array_size(sharers) ? ", ..." : "");
    }
    fprintf(out, "%" PRIu64 " pages of user memory are shared among %" PRIu64 " address spaces\n",
            reply_number(reply, "shared_pages"), reply_number(reply, "spaces"));
    inspect_text_print_apart(out, reply);
    inspect_text_print_incomplete(out, reply);
}

static void inspect_text_print_find(FILE *out, const json_t *reply)
{
    json_t *hits = json_object_get(reply, "hits"), *hit, *place;
    double seconds = (double)reply_number(reply, "elapsed_ns") / 1e9;
    size_t i, n;

    for (i = 0; (hit = json_array_get(hits, i)); i++) {
        json_t *places = json_object_get(hit, "mapped_by");

        if (i == HITS_SHOWN) {
            fprintf(out, "... and %zu more; --json has all\n", json_array_size(hits) - i);
            break;
        }
        fprintf(out, "gpa %s%s", reply_text(hit, "gpa"),
                json_array_size(places)       ? ":"
                : reply_yes(reply, "bundled") ? ": not mapped"
                                              : ": mapped nowhere that is known");
        for (n = 0; (place = json_array_get(places, n)); n++)
            fprintf(out, "%s %s %s", n ? "," : "",
                    reply_yes(place, "user") ? SPACE_TEXT(place) : "kernel",
                    reply_text(place, "va"));
        if (reply_number(hit, "more"))
            fprintf(out, ", %" PRIu64 " more", reply_number(hit, "more"));
        fputc('\n', out);
    }
    fprintf(out, "%zu found%s %s that the host has, at %.1f GB/s%s\n", json_array_size(hits),
            reply_yes(reply, "stopped") ? ", then stopped, in the first" : " in",
            SIZE_TEXT(reply_number(reply, "searched_bytes")),
            seconds > 0 ? (double)reply_number(reply, "searched_bytes") / seconds / 1e9 : 0,
            reply_yes(reply, "untouched_too") ? " (pages never touched too)" : "");
    inspect_text_print_apart(out, reply);
    inspect_text_print_incomplete(out, reply);
}

static void inspect_text_print_disasm(FILE *out, const json_t *reply)
{
    json_t *instruction;
    size_t i;

    for (i = 0; (instruction = json_array_get(json_object_get(reply, "instructions"), i)); i++)
        fprintf(out, "%016" PRIx64 "  %-30s  %-40s %s\n", reply_address(instruction, "va"),
                reply_text(instruction, "bytes"), reply_text(instruction, "text"),
                reply_text(instruction, "symbol"));
}

static void inspect_text_print_regs(FILE *out, const json_t *reply)
{
    static const char *const rows[][4] = {
        { "rax", "rbx", "rcx", "rdx" },
        { "rsi", "rdi", "rbp", "rsp" },
        { "r8", "r9", "r10", "r11" },
        { "r12", "r13", "r14", "r15" },
        { "rip", "rflags", "fs_base", "gs_base" },
        { "cr0", "cr2", "cr3", "cr4" },
        { "efer", "gdt", "idt", "cs" },
    };
    json_t *vcpu;
    size_t i;

    for (i = 0; (vcpu = json_array_get(json_object_get(reply, "vcpus"), i)); i++) {
        const json_t *registers = json_object_get(vcpu, "registers");
        const json_t *space = json_object_get(vcpu, "space");

        fprintf(out, "vCPU %" PRIu64 ": %" PRIu64 "-bit, CPL %" PRIu64, reply_number(vcpu, "vcpu"),
                reply_number(vcpu, "mode_bits"), reply_number(vcpu, "cpl"));
        if (json_is_object(space))
            fprintf(out, ", %s", SPACE_TEXT(space));
        fprintf(out, "%s%s\n", *reply_text(vcpu, "symbol") ? ", in " : "",
                reply_text(vcpu, "symbol"));
        for (size_t row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
            for (unsigned n = 0; n < 4; n++)
                fprintf(out, "%s%-7s %016" PRIx64, n ? "  " : "  ", rows[row][n],
                        reply_address(registers, rows[row][n]));
            fputc('\n', out);
        }
    }
}

/* ---- balloon -------------------------------------------------------------- */

static void inspect_text_print_stats(FILE *out, const json_t *reply)
{
    json_t *stats = json_object_get(json_object_get(reply, "balloon"), "stats"), *value;
    const char *name;

    if (!reply_yes(reply, "tells_stats")) {
        fprintf(out, "its driver tells no statistics\n");
        return;
    }
    if (reply_yes(reply, "fresh_stats"))
        fprintf(out, "the guest says now:\n");
    else if (json_object_size(stats))
        fprintf(out, "the guest does not answer; what it said last:\n");
    else
        fprintf(out, "the guest does not answer, and has never told statistics\n");
    json_object_foreach (stats, name, value) {
        uint64_t number = (uint64_t)json_integer_value(value);
        const char *unit = strstr(name, "_bytes");

        if (unit)
            fprintf(out, "  %9s  ", SIZE_TEXT(number));
        else
            fprintf(out, "  %9" PRIu64 "  ", number);
        for (const char *c = name; c != unit && *c; c++)
            fputc(*c == '_' ? ' ' : *c, out);
        fputc('\n', out);
    }
}

static void inspect_text_print_balloon(FILE *out, const json_t *reply)
{
    const json_t *balloon = json_object_get(reply, "balloon");

    fprintf(out, "balloon: %s wanted, %s in it; guest RAM %s",
            SIZE_TEXT(reply_number(balloon, "target_pages") * 4096),
            SIZE_TEXT(reply_number(balloon, "actual_pages") * 4096),
            SIZE_TEXT(reply_number(reply, "ram_bytes")));
    if (json_is_integer(json_object_get(reply, "rss_bytes")))
        fprintf(out, ", of which the host has %s resident\n",
                SIZE_TEXT(reply_number(reply, "rss_bytes")));
    else
        fprintf(out, "; resident: not available here, because /proc cannot be read\n");
    fprintf(out, "given back so far: %s into the balloon, %s as free pages",
            SIZE_TEXT(reply_number(balloon, "inflated_bytes")),
            SIZE_TEXT(reply_number(balloon, "reported_bytes")));
    if (reply_number(balloon, "pinned_pages"))
        fprintf(out, "; not %" PRIu64 " pages that devices have",
                reply_number(balloon, "pinned_pages"));
    fputc('\n', out);
    if (reply_yes(reply, "driven"))
        inspect_text_print_stats(out, reply);
    else
        fprintf(out, "no driver of the guest runs it\n");
}

static void inspect_text_print_report(FILE *out, const json_t *reply)
{
    json_t *walk;
    size_t i;

    inspect_text_print_pages(out, reply);
    json_array_foreach (json_object_get(reply, "walks"), i, walk) {
        fprintf(out, "\n%s:\n", reply_text(walk, "what"));
        inspect_text_print_walk(out, walk);
    }
}

void inspect_print(FILE *out, const char *command, const json_t *reply)
{
    static const struct {
        const char *command;
        void (*print)(FILE *out, const json_t *reply);
    } printers[] = {
        { "maps", inspect_text_print_maps },       { "walk", inspect_text_print_walk },
        { "pages", inspect_text_print_pages },     { "shared", inspect_text_print_shared },
        { "find", inspect_text_print_find },       { "disasm", inspect_text_print_disasm },
        { "regs", inspect_text_print_regs },       { "report", inspect_text_print_report },
        { "balloon", inspect_text_print_balloon },
    };

    for (size_t i = 0; i < sizeof(printers) / sizeof(printers[0]); i++) {
        if (!strcmp(printers[i].command, command))
            printers[i].print(out, reply);
    }
    inspect_text_print_pause(out, reply);
}
