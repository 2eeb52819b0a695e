/*
 * A hostile guest under strata inspect: its page tables, process and frame tables are
 * what the input says. Input: two bytes of options, then 8 bytes each of CR3 for two
 * vCPUs and of the address of struct abi_kernel, then guest memory from GPA 0 on, in
 * whole pages, and behind it nothing. Whatever it holds, all of inspect stays inside of
 * it, ends within the budget, changes nothing, and agrees with itself.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/inspect/find.h"
#include "vmm/inspect/maps.h"
#include "vmm/inspect/shared_list.h"
#include "vmm/machine/memory.h"
#include "vmm/report/memory_map.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAD      26u
#define RAM_PAGES 16u
#define BUDGET    1200u

static void must(int truth)
{
    if (!truth)
        abort();
}

/* Guest RAM with no access behind it, and read-only while it is looked at. */
static uint8_t *guest_ram(void)
{
    static uint8_t *ram;
    size_t bytes = RAM_PAGES * MEMORY_PAGE_BYTES;

    if (!ram) {
        ram = mmap(NULL, bytes + MEMORY_PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        must(ram != MAP_FAILED);
    }
    must(mprotect(ram, bytes, PROT_READ | PROT_WRITE) == 0);
    return ram;
}

static void check_maps(const struct maps *maps, const struct spaces *spaces)
{
    size_t i = 0;

    for (unsigned space = 0; space < spaces->n; space++) {
        for (size_t first = i; i < maps->end[space]; i++) {
            const struct map_range *range = &maps->range[i];

            must(range->last - range->first + 1 == range->pages * range->page_bytes);
            must(range->accessed <= range->pages && range->dirty <= range->pages);
            must(i == first || range[-1].last < range->first);
        }
    }
    must(i == maps->n);
}

static void check_shared(const struct shared_list *list, const struct spaces *spaces)
{
    for (size_t i = 0; i < list->n; i++) {
        const struct shared_run *run = &list->run[i];

        must(run->gpa + run->frames * MEMORY_PAGE_BYTES <= RAM_PAGES * MEMORY_PAGE_BYTES);
        must(run->nsharers <= SHARERS_MAX && run->nsharers <= run->mappings);
        for (unsigned n = 0; n < run->nsharers; n++)
            must(run->sharer[n].space < spaces->n);
    }
}

/* Every frame is in the picture, once. */
static void draw(const struct memory *memory, const struct spaces *spaces)
{
    uint64_t budget = BUDGET, frames = 0;
    struct memory_map memory_map;
    json_t *map, *run;
    size_t i;

    must(memory_map_create(&memory_map, memory) == 0);
    must(memory_map_capture(&memory_map, spaces, NULL, &budget) == 0);
    map = memory_map_json(&memory_map, spaces);
    must(map != NULL);
    json_array_foreach (json_object_get(map, "runs"), i, run) {
        must(json_integer_value(json_array_get(run, 0)) == (json_int_t)frames);
        frames += (uint64_t)json_integer_value(json_array_get(run, 1));
    }
    must(frames == RAM_PAGES);
    json_decref(map);
    memory_map_destroy(&memory_map);
}

static void find_first_bytes(const struct memory *memory, const struct spaces *spaces)
{
    uint64_t budget = BUDGET;
    struct find find;

    must(find_create(&find, memory, memory->slots[0].hva, 3) == 0);
    find_scan(&find, NULL, NULL);
    find_check(&find);
    must(find.n >= 1 || find.stopped);
    find_places(&find, spaces, &budget);
    find_destroy(&find);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct space_cpu cpus[2] = { { .cr0 = 0x80000011, .cr4 = 0x20, .efer = 0xd00 } };
    struct memory memory = { .vm_fd = -1, .nslots = 1 };
    uint64_t budget = BUDGET, kernel_va, pages;
    struct frame_totals totals;
    struct shared_list list;
    struct spaces spaces;
    struct frame_map map;
    struct maps maps;
    uint8_t *ram;

    if (size < HEAD)
        return 0;
    ram = guest_ram();
    memset(ram, 0, RAM_PAGES * MEMORY_PAGE_BYTES);
    pages = 1 + data[1] % RAM_PAGES;
    memcpy(ram, data + HEAD,
           size - HEAD < pages * MEMORY_PAGE_BYTES ? size - HEAD : pages * MEMORY_PAGE_BYTES);
    must(mprotect(ram, RAM_PAGES * MEMORY_PAGE_BYTES, PROT_READ) == 0);
    memory.bytes = memory.slots[0].bytes = RAM_PAGES * MEMORY_PAGE_BYTES;
    memory.slots[0].hva = ram;
    cpus[0].cr4 |= data[0] & 1 ? 0x1000 : 0;
    cpus[1] = cpus[0];
    memcpy(&cpus[0].cr3, data + 2, 8);
    memcpy(&cpus[1].cr3, data + 10, 8);
    memcpy(&kernel_va, data + 18, 8);

    spaces_find(&spaces, &memory, cpus, 2, data[0] & 2 ? kernel_va : 0);
    must(spaces.n >= 1 && spaces.n <= SPACES_MAX);
    must(frame_map_create(&map, &memory) == 0);
    frame_map_count(&map, &spaces, NULL, &budget);
    must(budget <= BUDGET);
    frame_map_total(&map, &spaces, &totals);
    must(totals.ram == RAM_PAGES);
    budget = BUDGET;
    must(maps_make(&maps, &spaces, &map, &budget) == 0);
    check_maps(&maps, &spaces);
    budget = BUDGET;
    must(shared_list_make(&list, &map, &spaces, data[0] & 4 ? 1 : 2, &budget) == 0);
    check_shared(&list, &spaces);
    find_first_bytes(&memory, &spaces);
    draw(&memory, &spaces);
    shared_list_destroy(&list);
    maps_destroy(&maps);
    frame_map_destroy(&map);
    return 0;
}
