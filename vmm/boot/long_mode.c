#include "vmm/boot/long_mode.h"

#include <string.h>

#include "vmm/boot/layout.h"

#define TABLE_BYTES   0x1000ull
#define ENTRIES       512
#define TABLE_ENTRY   0x3ull  /* present, writable */
#define PAGE_ENTRY    0x83ull /* the same, a page of 2 MiB */
#define GIB           (1ull << 30)
#define DIRECTORIES   4
#define CODE_SEGMENT  0x00af9b000000ffffull /* selector 0x10: 64 bits, execute, read */
#define DATA_SEGMENT  0x00cf93000000ffffull /* selector 0x18: flat, read, write */
#define DIRECTORY_GPA (LAYOUT_TABLES_GPA + 2 * TABLE_BYTES)

_Static_assert((2 + DIRECTORIES) * TABLE_BYTES == LAYOUT_TABLES_BYTES, "room for the tables");

void long_mode_write(struct memory *memory, uint64_t bytes, struct vcpu_entry *entry)
{
    static const uint64_t gdt[] = { 0, 0, CODE_SEGMENT, DATA_SEGMENT };
    uint64_t *root = memory_at(memory, LAYOUT_TABLES_GPA, LAYOUT_TABLES_BYTES);
    uint64_t *pointers = root + ENTRIES, *directories = pointers + ENTRIES;
    uint64_t gibs = bytes > DIRECTORIES * GIB ? DIRECTORIES : (bytes + GIB - 1) / GIB;

    _Static_assert(LAYOUT_GDT_GPA + sizeof(gdt) <= LAYOUT_STRINGS_GPA, "room for the GDT");
    root[0] = (LAYOUT_TABLES_GPA + TABLE_BYTES) | TABLE_ENTRY;
    for (uint64_t i = 0; i < gibs; i++)
        pointers[i] = (DIRECTORY_GPA + i * TABLE_BYTES) | TABLE_ENTRY;
    for (uint64_t i = 0; i < gibs * ENTRIES; i++)
        directories[i] = i * MEMORY_HUGE_BYTES | PAGE_ENTRY;
    memcpy(memory_at(memory, LAYOUT_GDT_GPA, sizeof(gdt)), gdt, sizeof(gdt));
    entry->cr3 = LAYOUT_TABLES_GPA;
    entry->gdt = LAYOUT_GDT_GPA;
    entry->gdt_bytes = sizeof(gdt);
}
