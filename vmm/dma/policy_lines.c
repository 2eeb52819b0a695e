/* dtc's annotated output has one node, property or end of node to a line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/dma/policy_dtc.h"

/* The place that an annotation names: the first FILE:LINE of the line's last comment. */
static bool annotation(const char *line, size_t length, const char **file, size_t *bytes,
                       unsigned *number)
{
    const char *end = line + length, *at = end;

    while (at > line && strncmp(at - 1, " /* ", 4) != 0)
        at--;
    if (at == line)
        return false;
    at += 3;
    *file = at;
    /* A file's name may hold spaces, commas and colons. */
    while (at < end && (at = memchr(at, ':', (size_t)(end - at)))) {
        size_t digits = strspn(++at, "0123456789");

        if (!digits || (at[digits] != ',' && strncmp(at + digits, " */", 3) != 0))
            continue;
        *bytes = (size_t)(at - 1 - *file);
        *number = (unsigned)strtoul(at, NULL, 10);
        return *number > 0;
    }
    return false;
}

/* Adds a node's name to the path that the lines above it have led to. */
static void path_enter(char *path, size_t bytes, const char *name, size_t length)
{
    size_t n = strlen(path);

    if (length == 1 && *name == '/')
        snprintf(path, bytes, "/");
    else
        snprintf(path + n, bytes - n, "%s%.*s", n > 1 ? "/" : "", (int)length, name);
}

static void path_leave(char *path)
{
    char *slash = strrchr(path, '/');

    if (slash)
        slash[slash == path] = 0;
}

bool policy_find_line(const char *text, const char *node, const char *property, const char **file,
                      size_t *bytes, unsigned *number)
{
    char path[1024] = "";
    bool found = false;

    for (const char *line = text, *next; *line; line = next) {
        size_t length = strcspn(line, "\n");
        const char *word = line + strspn(line, " \t");

        next = line + length + (line[length] != 0);
        if (word >= line + length)
            continue;
        if (!strncmp(word, "};", 2)) {
            if (!strcmp(path, node))
                return found;
            path_leave(path);
        } else {
            /* Labels stand before a node's name; no property's name has ": " in it. */
            for (size_t label; (label = strcspn(word, ": {=;\n")), !strncmp(word + label, ": ", 2);)
                word += label + 2;

            size_t name = strcspn(word, " =;\n");

            if (!strncmp(word + name, " {", 2)) {
                path_enter(path, sizeof(path), word, name);
                if (!strcmp(path, node))
                    found = annotation(line, length, file, bytes, number);
                if (found && !property)
                    return true;
            } else if (property && !strcmp(path, node) && strlen(property) == name &&
                       !strncmp(word, property, name)) {
                return annotation(line, length, file, bytes, number) || found;
            }
        }
    }
    return found;
}
