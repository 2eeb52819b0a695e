#include "vmm/boot/aml.h"

#include <string.h>

/* Opcodes, ACPI 6.4, 20.3. */
enum {
    ZERO_OP = 0x00,
    ONE_OP = 0x01,
    NAME_OP = 0x08,
    BYTE_PREFIX = 0x0a,
    WORD_PREFIX = 0x0b,
    DWORD_PREFIX = 0x0c,
    STRING_PREFIX = 0x0d,
    QWORD_PREFIX = 0x0e,
    SCOPE_OP = 0x10,
    BUFFER_OP = 0x11,
    PACKAGE_OP = 0x12,
    EXTENDED_PREFIX = 0x5b,
    DEVICE_OP = 0x82,
};

/* Resource descriptors, 6.4.2 and 6.4.3. */
enum {
    IO_PORT = 0x47,
    END_TAG = 0x79,
    MEMORY_32_FIXED = 0x86,
    EXTENDED_INTERRUPT = 0x89,

    IO_DECODES_16_BITS = 1,
    MEMORY_WRITABLE = 1,
    INTERRUPT_CONSUMER = 1,
    INTERRUPT_EDGE = 2,
    INTERRUPT_SHARED = 8,
};

static void aml_put(struct aml *aml, const void *bytes, size_t count)
{
    if (aml->overflow || count > aml->room - aml->used) {
        aml->overflow = true;
        return;
    }
    memcpy(aml->bytes + aml->used, bytes, count);
    aml->used += count;
}

/* Little-endian. */
static void aml_number(struct aml *aml, uint64_t value, unsigned bytes)
{
    aml_put(aml, &value, bytes);
}

static void aml_byte(struct aml *aml, uint8_t value)
{
    aml_put(aml, &value, 1);
}

/* NameSeg, 20.2.2. */
static void aml_segment(struct aml *aml, const char *name)
{
    for (unsigned i = 0; i < 4; i++)
        aml_byte(aml, *name ? (uint8_t)*name++ : '_');
}

void aml_name(struct aml *aml, const char *name)
{
    aml_byte(aml, NAME_OP);
    aml_segment(aml, name);
}

void aml_integer(struct aml *aml, uint64_t value)
{
    if (value <= 1) {
        aml_byte(aml, value ? ONE_OP : ZERO_OP);
    } else if (value <= UINT8_MAX) {
        aml_byte(aml, BYTE_PREFIX);
        aml_number(aml, value, 1);
    } else if (value <= UINT16_MAX) {
        aml_byte(aml, WORD_PREFIX);
        aml_number(aml, value, 2);
    } else if (value <= UINT32_MAX) {
        aml_byte(aml, DWORD_PREFIX);
        aml_number(aml, value, 4);
    } else {
        aml_byte(aml, QWORD_PREFIX);
        aml_number(aml, value, 8);
    }
}

void aml_string(struct aml *aml, const char *text)
{
    aml_byte(aml, STRING_PREFIX);
    aml_put(aml, text, strlen(text) + 1);
}

size_t aml_scope(struct aml *aml, const char *name)
{
    size_t begun;

    aml_byte(aml, SCOPE_OP);
    begun = aml->used;
    aml_segment(aml, name);
    return begun;
}

size_t aml_device(struct aml *aml, const char *name)
{
    size_t begun;

    aml_byte(aml, EXTENDED_PREFIX);
    aml_byte(aml, DEVICE_OP);
    begun = aml->used;
    aml_segment(aml, name);
    return begun;
}

size_t aml_package(struct aml *aml, uint8_t count)
{
    size_t begun;

    aml_byte(aml, PACKAGE_OP);
    begun = aml->used;
    aml_byte(aml, count);
    return begun;
}

/* Moves what was written since `begun`, and puts these bytes before it. */
static void aml_insert(struct aml *aml, size_t begun, const void *bytes, size_t count)
{
    size_t moved = aml->used - begun;

    aml_put(aml, bytes, count); /* for the room */
    if (aml->overflow)
        return;
    memmove(aml->bytes + begun + count, aml->bytes + begun, moved);
    memcpy(aml->bytes + begun, bytes, count);
}

/*
 * PkgLength (20.2.4) counts itself: a byte for lengths to 63; else the first one has the
 * number of the others and the low 4 bits.
 */
void aml_end(struct aml *aml, size_t begun)
{
    size_t length = aml->used - begun;
    uint8_t bytes[4];
    unsigned others = 0;

    if (length + 1 > 0x3f) {
        for (others = 1; others < 3 && length + 1 + others > (0x10u << 8 * others) - 1; others++)
            continue;
    }
    length += 1 + others;
    bytes[0] = (uint8_t)(others ? others << 6 | (length & 0xf) : length);
    for (unsigned i = 0; i < others; i++)
        bytes[1 + i] = (uint8_t)(length >> (4 + 8 * i));
    aml_insert(aml, begun, bytes, 1 + others);
}

size_t aml_resources(struct aml *aml)
{
    aml_byte(aml, BUFFER_OP);
    return aml->used;
}

void aml_io(struct aml *aml, uint16_t port, uint8_t count)
{
    aml_byte(aml, IO_PORT);
    aml_byte(aml, IO_DECODES_16_BITS);
    aml_number(aml, port, 2); /* lowest base */
    aml_number(aml, port, 2); /* highest base */
    aml_byte(aml, 1);         /* alignment */
    aml_byte(aml, count);
}

void aml_memory(struct aml *aml, uint32_t gpa, uint32_t bytes)
{
    aml_byte(aml, MEMORY_32_FIXED);
    aml_number(aml, 9, 2);
    aml_byte(aml, MEMORY_WRITABLE);
    aml_number(aml, gpa, 4);
    aml_number(aml, bytes, 4);
}

void aml_interrupt(struct aml *aml, uint32_t gsi, bool level, bool shared)
{
    aml_byte(aml, EXTENDED_INTERRUPT);
    aml_number(aml, 6, 2);
    aml_byte(aml, (uint8_t)(INTERRUPT_CONSUMER | (level ? 0 : INTERRUPT_EDGE) |
                            (shared ? INTERRUPT_SHARED : 0)));
    aml_byte(aml, 1);
    aml_number(aml, gsi, 4);
}

void aml_resources_end(struct aml *aml, size_t begun)
{
    uint8_t size[9];
    struct aml prefix = { .bytes = size, .room = sizeof(size) };

    aml_byte(aml, END_TAG);
    aml_byte(aml, 0); /* no checksum */
    aml_integer(&prefix, aml->used - begun);
    aml_insert(aml, begun, size, prefix.used);
    aml_end(aml, begun);
}
