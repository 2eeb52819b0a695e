/*
 * The fields of a configuration as a file, an API or an error names them: one row for each,
 * with its limits. Names are those that orchestrators of micro-VMs write already, where they
 * have one.
 */
#ifndef STRATA_LAUNCH_CONFIG_FIELDS_H
#define STRATA_LAUNCH_CONFIG_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/launch/config.h"

enum config_type {
    CONFIG_FLAG,   /* bool */
    CONFIG_NUMBER, /* uint32_t or uint64_t */
    CONFIG_CHOICE, /* an enum; the index of the word */
    CONFIG_TEXT,   /* const char *; NULL: not said */
    CONFIG_TEXTS,  /* an array of those, and an unsigned that counts them */
    CONFIG_MAC,    /* uint8_t[NET_MAC_BYTES]; all zero: not said */
    CONFIG_ABSENT, /* none: what other VMMs have and strata does not. Only false is taken */
};

struct config_field {
    const char *name;
    enum config_type type;
    bool required;     /* an object of its section must have it */
    bool always;       /* it is written also where it has its default */
    size_t offset;     /* in the section's object */
    size_t bytes;      /* of a number: 4 or 8 */
    uint64_t unit;     /* of a number: what 1 in a file stands for */
    bool remainder;    /* of a number: written only where the row before, in units, cannot say it */
    uint64_t min, max; /* of a number: what the configuration may have */
    const char *const *words;
    unsigned nwords;
    size_t count_offset; /* of texts, of which there are at most `max` */
};

/* What the objects of a section are in struct vm_config. */
enum config_place {
    CONFIG_MACHINE, /* itself */
    CONFIG_DEVICE,  /* devices of one kind */
    CONFIG_PORT,    /* console ports */
};

struct config_section {
    const char *name;
    enum config_place place;
    enum device_kind kind;
    bool list;     /* in a file it is a list; else an object, or a list of them if there are more */
    unsigned most; /* of its objects in one machine; 0: only limited by the devices' number */
    const struct config_field *fields;
    unsigned nfields;
};

#define CONFIG_PATH_BYTES ERROR_FIELD_BYTES

extern const struct config_section config_sections[];
extern const unsigned config_sections_count;

/* The index-th object of a section, or NULL: it has no more. Devices that follow from others,
 * such as the one behind console ports, do not count. */
void *config_object(struct vm_config *config, const struct config_section *section, unsigned index);

/* One more, zero: 0, or -E2BIG and an error. */
int config_add_object(struct vm_config *config, const struct config_section *section, void **object,
                      struct error *error);

/* "drives[1].path_on_host"; without a field (NULL) "drives[1]". */
void config_path(char path[CONFIG_PATH_BYTES], const struct config_section *section, unsigned index,
                 const char *field);

/* "02:00:00:00:00:01": an address that a device may have, or -EINVAL. */
int config_parse_mac(const char *text, uint8_t mac[NET_MAC_BYTES]);

uint64_t config_number(const void *object, const struct config_field *field);
void config_set_number(void *object, const struct config_field *field, uint64_t value);

/* Whether the field is as in this object, which has the defaults. */
bool config_is_default(const void *object, const void *defaults, const struct config_field *field);

/* Whether the value of a field by itself is one that may be: 0, or -errno and an error. */
int config_check_field(const void *object, const struct config_field *field, const char *path,
                       struct error *error);

#endif
