#include "vmm/dma/policy/properties.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/nearest.h"

#define PREFIX    "strata,"
#define WORD_MAX  48
#define WORDS_MAX 192
#define NWORDS    (sizeof(property_words) / sizeof(property_words[0]))

static const char *const property_words[] = {
    "strata,description",   "strata,mode",
    "strata,permission",    "strata,msi-vectors",
    "strata,fault-action",  "strata,buffers",
    "strata,domain",        "strata,completion-timeout-ms",
    "strata,driver-lacks",  "strata,lacks",
    "strata,boot-bypass",   "strata,max-domains",
    "strata,max-mappings",  "strata,max-mappings-per-domain",
    "strata,fault-records",
};

static const enum policy_place property_places[NWORDS] = {
    POLICY_ROOT,   POLICY_DEVICE, POLICY_DEVICE, POLICY_DEVICE, POLICY_DEVICE,
    POLICY_DEVICE, POLICY_DEVICE, POLICY_DEVICE, POLICY_DEVICE, POLICY_IOMMU,
    POLICY_IOMMU,  POLICY_IOMMU,  POLICY_IOMMU,  POLICY_IOMMU,  POLICY_IOMMU,
};

static const char *property_place_name(enum policy_place place)
{
    switch (place) {
    case POLICY_ROOT: return "the root node";
    case POLICY_DEVICE: return "a device";
    case POLICY_IOMMU: return "the IOMMU";
    default: return "none";
    }
}

/* Copies what may stand in a message; a hostile blob may hold anything. */
static void property_copy_printable(char *to, size_t bytes, const char *from)
{
    size_t n = 0;

    for (; from[n] && n + 1 < bytes; n++)
        to[n] = isprint((unsigned char)from[n]) ? from[n] : '?';
    to[n] = 0;
}

int policy_complain(const struct policy_reader *reader, int node, const char *property,
                    const char *format, ...)
{
    struct policy_complaint *complaint = reader->complaint;
    char raw[sizeof(complaint->text)];
    va_list arguments;

    memset(complaint, 0, sizeof(*complaint));
    if (node >= 0) {
        char path[sizeof(complaint->node)];

        if (fdt_get_path(reader->fdt, node, path, sizeof(path)))
            snprintf(path, sizeof(path), "(a path that is too long)");
        property_copy_printable(complaint->node, sizeof(complaint->node), path);
    }
    if (property)
        property_copy_printable(complaint->property, sizeof(complaint->property), property);
    va_start(arguments, format);
    vsnprintf(raw, sizeof(raw), format, arguments);
    va_end(arguments);
    property_copy_printable(complaint->text, sizeof(complaint->text), raw);
    return -EINVAL;
}

/* Standard bindings have no property of such a name where one of ours may be. */
static bool property_lacks_prefix(const char *name, enum policy_place place)
{
    for (unsigned i = 0; i < NWORDS; i++) {
        if (property_places[i] == place && !strcmp(name, property_words[i] + strlen(PREFIX)))
            return true;
    }
    return false;
}

int policy_check_words(const struct policy_reader *reader, int node, enum policy_place place)
{
    int property;

    fdt_for_each_property_offset(property, reader->fdt, node)
    {
        const char *name = NULL;
        unsigned i;

        if (!fdt_getprop_by_offset(reader->fdt, property, &name, NULL) || !name)
            return policy_complain(reader, node, NULL,
                                   "a property cannot be read; compile the "
                                   "policy anew with dtc");
        if (strncmp(name, PREFIX, strlen(PREFIX))) {
            if (property_lacks_prefix(name, place))
                return policy_complain(reader, node, name,
                                       "would change nothing; write " PREFIX "%s", name);
            continue;
        }
        for (i = 0; i < NWORDS; i++) {
            if (!strcmp(name, property_words[i]))
                break;
        }
        if (i == NWORDS)
            return policy_complain(reader, node, name,
                                   "no such property; \"%s\" is the nearest there is",
                                   nearest_word(name, property_words, NWORDS));
        if (property_places[i] == POLICY_DEVICE && place == POLICY_ELSEWHERE)
            return policy_complain(reader, node, name,
                                   "belongs on a device; move it there, or make this one: "
                                   "compatible = \"strata,dma-probe\" or \"virtio,device2\"");
        if (property_places[i] != place)
            return policy_complain(reader, node, name, "belongs on %s; move it there",
                                   property_place_name(property_places[i]));
    }
    return 0;
}

int policy_cells(const struct policy_reader *reader, int node, const char *property,
                 const fdt32_t **cells, int *count)
{
    int bytes;
    const fdt32_t *value = fdt_getprop(reader->fdt, node, property, &bytes);

    if (!value)
        return 0;
    if (bytes < (int)sizeof(*value) || bytes % (int)sizeof(*value))
        return policy_complain(reader, node, property,
                               "%d bytes are not a number of cells; write <...> with at least one",
                               bytes);
    *cells = value;
    *count = bytes / (int)sizeof(*value);
    return 1;
}

int policy_u32(const struct policy_reader *reader, int node, const char *property,
               struct policy_range range, uint32_t *value)
{
    const fdt32_t *cells;
    int count, found = policy_cells(reader, node, property, &cells, &count);

    if (found <= 0)
        return found;
    if (count != 1)
        return policy_complain(reader, node, property, "holds %d cells; give one number", count);
    *value = fdt32_ld(cells);
    if (*value != range.min && range.min == range.max)
        return policy_complain(reader, node, property, "%u is out of range; give %u", *value,
                               range.min);
    if (*value < range.min || *value > range.max)
        return policy_complain(reader, node, property, "%u is out of range; give %u to %u", *value,
                               range.min, range.max);
    return 1;
}

int policy_strings(const struct policy_reader *reader, int node, const char *property, int *count)
{
    if (!fdt_getprop(reader->fdt, node, property, NULL))
        return 0;
    *count = fdt_stringlist_count(reader->fdt, node, property);
    if (*count <= 0)
        return policy_complain(reader, node, property, "is not text; write \"...\"");
    return 1;
}

/* "a", "b" or "c" */
static void property_list_words(char *list, size_t bytes, const struct policy_words *words)
{
    size_t n = 0;

    list[0] = 0;
    for (uint32_t i = 0; i < words->n && n < bytes; i++)
        n += (size_t)snprintf(list + n, bytes - n, "%s\"%s\"",
                              !i                 ? ""
                              : i + 1 < words->n ? ", "
                                                 : " or ",
                              words->text[i]);
}

int policy_word_at(const struct policy_reader *reader, int node, const char *property, int at,
                   const struct policy_words *words)
{
    const char *word = fdt_stringlist_get(reader->fdt, node, property, at, NULL);
    char list[WORDS_MAX];

    if (!word)
        return policy_complain(reader, node, property, "is not text; write \"...\"");
    for (uint32_t i = 0; i < words->n; i++) {
        if (!strcmp(word, words->text[i]))
            return (int)i;
    }
    property_list_words(list, sizeof(list), words);
    return policy_complain(reader, node, property, "\"%.*s\" means nothing here; give %s", WORD_MAX,
                           word, list);
}

int policy_word(const struct policy_reader *reader, int node, const char *property,
                const struct policy_words *words, uint32_t *value)
{
    int count, found = policy_strings(reader, node, property, &count);

    if (found <= 0)
        return found;
    if (count != 1)
        return policy_complain(reader, node, property, "holds %d strings; give one", count);
    found = policy_word_at(reader, node, property, 0, words);
    if (found < 0)
        return found;
    *value = (uint32_t)found;
    return 1;
}

int policy_flags(const struct policy_reader *reader, int node, const char *property,
                 const struct policy_words *words, uint32_t *flags)
{
    int count, found = policy_strings(reader, node, property, &count);

    if (found <= 0)
        return found;
    for (int i = 0; i < count; i++) {
        int index = policy_word_at(reader, node, property, i, words);

        if (index < 0)
            return index;
        *flags |= words->bits[index];
    }
    return 1;
}

uint64_t policy_number(const fdt32_t *cells, int count)
{
    uint64_t number = 0;

    for (int i = 0; i < count; i++)
        number = number << 32 | fdt32_ld(&cells[i]);
    return number;
}

int policy_node_name(const struct policy_reader *reader, int node, char name[ABI_POLICY_NAME_BYTES])
{
    int bytes;
    const char *text = fdt_get_name(reader->fdt, node, &bytes);

    if (!text || bytes < 1)
        return policy_complain(reader, node, NULL, "has no name; give it one");
    for (int i = 0; i < bytes; i++) {
        /* Devicetree specification 0.4, 2.2.1. */
        if (!isalnum((unsigned char)text[i]) && !strchr(",._+-@", text[i]))
            return policy_complain(reader, node, NULL,
                                   "its name holds a character that no node's may; use letters, "
                                   "digits and ,._+-@");
    }
    if (bytes >= ABI_POLICY_NAME_BYTES)
        return policy_complain(reader, node, NULL,
                               "its name is too long; use at most %d characters",
                               ABI_POLICY_NAME_BYTES - 1);
    memset(name, 0, ABI_POLICY_NAME_BYTES);
    memcpy(name, text, (size_t)bytes);
    return 0;
}

bool policy_disabled(const void *fdt, int node)
{
    int bytes;
    const char *status = fdt_getprop(fdt, node, "status", &bytes);

    /* Devicetree specification 0.4, 2.3.4: what is neither "okay" nor, by habit, "ok" is off. */
    return status && !(bytes == 5 && !memcmp(status, "okay", 5)) &&
           !(bytes == 3 && !memcmp(status, "ok", 3));
}

bool policy_compatible(const void *fdt, int node, const struct policy_words *words)
{
    for (unsigned i = 0; i < words->n; i++) {
        if (fdt_stringlist_search(fdt, node, "compatible", words->text[i]) >= 0)
            return true;
    }
    return false;
}
