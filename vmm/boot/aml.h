/*
 * Writes ACPI machine language (ACPI 6.4, chapter 20), as much of it as describes devices:
 * names, integers, strings, packages, devices, and resource templates (6.4).
 *
 * Writing beyond the room that there is has no effect but to set `overflow`, so it is
 * enough to look at that in the end.
 */
#ifndef STRATA_BOOT_AML_H
#define STRATA_BOOT_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct aml {
    uint8_t *bytes;
    size_t room;
    size_t used;
    bool overflow;
};

/* ---- Terms ---- */

/* Name (name, …): a term follows. Names have four characters, filled up with '_'. */
void aml_name(struct aml *aml, const char *name);
void aml_integer(struct aml *aml, uint64_t value);
void aml_string(struct aml *aml, const char *text);

/* They end at aml_end, which gets what these returned. Packages: `count` terms follow. */
size_t aml_scope(struct aml *aml, const char *name);
size_t aml_device(struct aml *aml, const char *name);
size_t aml_package(struct aml *aml, uint8_t count);
void aml_end(struct aml *aml, size_t begun);

/* ---- A resource template: a buffer of descriptors, between these two ---- */

size_t aml_resources(struct aml *aml);
void aml_io(struct aml *aml, uint16_t port, uint8_t count);
void aml_memory(struct aml *aml, uint32_t gpa, uint32_t bytes);
void aml_interrupt(struct aml *aml, uint32_t gsi, bool level, bool shared); /* active high */
void aml_resources_end(struct aml *aml, size_t begun);

#endif
