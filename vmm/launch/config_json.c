#include "vmm/launch/config_json.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/launch/config_fields.h"

/* ---- Reading ----------------------------------------------------------------------- */

/* One object that is being filled. */
struct config_target {
    struct vm_config *config;
    void *object;
    const struct config_section *section;
    unsigned index;
};

static const char *config_json_type(const json_t *value)
{
    static const char *const names[] = {
        [JSON_OBJECT] = "an object",
        [JSON_ARRAY] = "a list",
        [JSON_STRING] = "a text",
        [JSON_INTEGER] = "a number",
        [JSON_REAL] = "a number with a point",
        [JSON_TRUE] = "true",
        [JSON_FALSE] = "false",
        [JSON_NULL] = "null",
    };

    return names[json_typeof(value)];
}

static int config_json_wrong(struct error *error, const char *path, const json_t *value,
                             const char *wanted)
{
    return error_field(error, -EINVAL, path, "is %s; give %s", config_json_type(value), wanted);
}

/* A text without a NUL inside, which would end it early. */
static int config_json_text(struct vm_config *config, const json_t *value, const char *path,
                            const char **text, struct error *error)
{
    if (!json_is_string(value))
        return config_json_wrong(error, path, value, "a text");
    if (json_string_length(value) != strlen(json_string_value(value)))
        return error_field(error, -EINVAL, path, "has a NUL character in it; leave it out");
    *text = config_text(config, json_string_value(value));
    return *text ? 0 : error_set(error, -ENOMEM, "out of memory");
}

static int config_json_number(const struct config_target *target, const struct config_field *field,
                              const json_t *value, const char *path, struct error *error)
{
    unsigned long long min = (field->min + field->unit - 1) / field->unit;
    unsigned long long max = field->max / field->unit;
    json_int_t number = json_integer_value(value);

    if (!json_is_integer(value))
        return config_json_wrong(error, path, value, "a whole number");
    if (number < 0 || (uint64_t)number < min || (uint64_t)number > max)
        return error_field(error, -ERANGE, path,
                           "%" JSON_INTEGER_FORMAT " is not from %llu to %llu; give such a number",
                           number, min, max);
    config_set_number(target->object, field, (uint64_t)number * field->unit);
    return 0;
}

static int config_json_choice(const struct config_target *target, const struct config_field *field,
                              const json_t *value, const char *path, struct error *error)
{
    char words[160] = "";
    size_t used = 0;

    if (!json_is_string(value))
        return config_json_wrong(error, path, value, "a text");
    for (unsigned i = 0; i < field->nwords; i++) {
        int choice = (int)i;

        if (!strcmp(json_string_value(value), field->words[i])) {
            memcpy((char *)target->object + field->offset, &choice, sizeof(choice));
            return 0;
        }
        used += (size_t)snprintf(words + used, sizeof(words) - used, "%s%s",
                                 !i                      ? ""
                                 : i + 1 < field->nwords ? ", "
                                                         : " or ",
                                 field->words[i]);
    }
    return error_field(error, -EINVAL, path, "\"%.60s\" is unknown; say %s",
                       json_string_value(value), words);
}

static int config_json_texts(const struct config_target *target, const struct config_field *field,
                             const json_t *value, const char *path, struct error *error)
{
    const char **texts = (void *)((char *)target->object + field->offset);
    unsigned *count = (void *)((char *)target->object + field->count_offset);
    int err = 0;

    if (!json_is_array(value))
        return config_json_wrong(error, path, value, "a list of texts");
    if (json_array_size(value) > field->max)
        return error_field(error, -E2BIG, path, "more than %u; give fewer", (unsigned)field->max);
    for (*count = 0; *count < json_array_size(value) && !err; ++*count)
        err = config_json_text(target->config, json_array_get(value, *count), path, &texts[*count],
                               error);
    return err;
}

static int config_json_mac(const struct config_target *target, const struct config_field *field,
                           const json_t *value, const char *path, struct error *error)
{
    uint8_t *mac = (uint8_t *)target->object + field->offset;

    if (!json_is_string(value))
        return config_json_wrong(error, path, value, "a text");
    if (config_parse_mac(json_string_value(value), mac))
        return error_field(error, -EINVAL, path,
                           "\"%.40s\" is no address of a device; say for example 02:00:00:00:00:01",
                           json_string_value(value));
    return 0;
}

static int config_json_field(const struct config_target *target, const struct config_field *field,
                             const json_t *value, const char *path, struct error *error)
{
    bool flag = json_is_true(value);

    switch (field->type) {
    case CONFIG_FLAG:
        if (!json_is_boolean(value))
            return config_json_wrong(error, path, value, "true or false");
        memcpy((char *)target->object + field->offset, &flag, sizeof(flag));
        return 0;
    case CONFIG_NUMBER: return config_json_number(target, field, value, path, error);
    case CONFIG_CHOICE: return config_json_choice(target, field, value, path, error);
    case CONFIG_TEXT:
        return config_json_text(target->config, value, path,
                                (void *)((char *)target->object + field->offset), error);
    case CONFIG_TEXTS: return config_json_texts(target, field, value, path, error);
    case CONFIG_MAC: return config_json_mac(target, field, value, path, error);
    case CONFIG_ABSENT: break;
    }
    return json_is_false(value) ? 0
                                : error_field(error, -EINVAL, path,
                                              "strata has no such thing; give false, or leave it "
                                              "out");
}

static const struct config_field *config_json_find(const struct config_section *section,
                                                   const char *name)
{
    for (unsigned i = 0; i < section->nfields; i++) {
        if (!strcmp(section->fields[i].name, name))
            return &section->fields[i];
    }
    return NULL;
}

static int config_json_object(const struct config_target *target, json_t *from, struct error *error)
{
    const struct config_section *section = target->section;
    const char *name;
    json_t *value;

    json_object_foreach (from, name, value) {
        const struct config_field *field = config_json_find(section, name);
        char path[CONFIG_PATH_BYTES];
        int err;

        config_path(path, section, target->index, name);
        if (!field)
            return error_field(error, -EINVAL, path, "there is no such field; leave it out");
        if (json_is_null(value))
            continue; /* As if it were not there. */
        if (field->remainder && json_object_get(from, field[-1].name))
            return error_field(error, -EINVAL, path, "is given beside %s; give one of them",
                               field[-1].name);
        err = config_json_field(target, field, value, path, error);
        if (err)
            return err;
    }
    return 0;
}

/* One object of a section, which is the machine itself or is added to it. */
static int config_json_add(struct vm_config *config, const struct config_section *section,
                           unsigned index, json_t *from, struct error *error)
{
    struct config_target target = { config, config, section, index };
    char path[CONFIG_PATH_BYTES];
    int err = 0;

    config_path(path, section, index, NULL);
    if (!json_is_object(from))
        return config_json_wrong(error, path, from, "an object");
    if (section->place != CONFIG_MACHINE)
        err = config_add_object(config, section, &target.object, error);
    return err ? err : config_json_object(&target, from, error);
}

static int config_json_section(struct vm_config *config, const struct config_section *section,
                               json_t *from, struct error *error)
{
    int err = 0;

    if (json_is_null(from))
        return 0;
    if (!json_is_array(from) && section->list)
        return config_json_wrong(error, section->name, from, "a list");
    if (!json_is_array(from) || section->place == CONFIG_MACHINE)
        return config_json_add(config, section, 0, from, error);
    for (unsigned i = 0; i < json_array_size(from) && !err; i++)
        err = config_json_add(config, section, i, json_array_get(from, i), error);
    return err;
}

static int config_json_root(struct vm_config *config, json_t *root, struct error *error)
{
    const char *name;
    json_t *value;

    if (!json_is_object(root))
        return error_set(error, -EINVAL, "is %s; give an object", config_json_type(root));
    json_object_foreach (root, name, value) {
        const struct config_section *section = NULL;
        int err;

        for (unsigned i = 0; i < config_sections_count; i++) {
            if (!strcmp(config_sections[i].name, name))
                section = &config_sections[i];
        }
        if (!section)
            return error_field(error, -EINVAL, name, "there is no such field; leave it out");
        err = config_json_section(config, section, value, error);
        if (err)
            return err;
    }
    return 0;
}

int config_json_read(struct vm_config *config, const char *text, size_t bytes, struct error *error)
{
    json_error_t why;
    json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &why);
    int err;

    if (!root)
        return error_set(error, -EINVAL, "line %d is no JSON: %s; correct it", why.line, why.text);
    err = config_json_root(config, root, error);
    json_decref(root);
    return err;
}

int config_json_load(struct vm_config *config, const char *path, struct error *error)
{
    char *text = malloc(CONFIG_JSON_BYTES_MAX + 1);
    int fd = strcmp(path, "-") ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    size_t bytes = 0;
    ssize_t n = 1;
    int err = 0;

    if (!text || fd < 0) {
        err = fd < 0 ? error_set(error, -errno, "%s; give a file that can be read", strerror(errno))
                     : error_set(error, -ENOMEM, "out of memory");
        goto close_file;
    }
    while (bytes <= CONFIG_JSON_BYTES_MAX && n > 0) {
        n = read(fd, text + bytes, CONFIG_JSON_BYTES_MAX + 1 - bytes);
        bytes += n > 0 ? (size_t)n : 0;
    }
    if (n < 0)
        err = error_set(error, -errno, "%s; give a file that can be read", strerror(errno));
    else if (bytes > CONFIG_JSON_BYTES_MAX)
        err = error_set(error, -E2BIG, "longer than %u bytes; give less", CONFIG_JSON_BYTES_MAX);
    else
        err = config_json_read(config, text, bytes, error);

close_file:
    if (fd > STDIN_FILENO)
        close(fd);
    free(text);
    return err;
}

/* ---- Writing ----------------------------------------------------------------------- */

static json_t *config_json_list(const void *object, const struct config_field *field)
{
    const char *const *texts = (const void *)((const char *)object + field->offset);
    unsigned count = *(const unsigned *)((const char *)object + field->count_offset);
    json_t *list = json_array();

    for (unsigned i = 0; i < count; i++)
        json_array_append_new(list, json_string(texts[i]));
    return list;
}

/* NULL: it has no value to be written. */
static json_t *config_json_value(const void *object, const struct config_field *field)
{
    const char *at = (const char *)object + field->offset;
    char mac[NET_MAC_TEXT];
    uint64_t number;
    const char *text;
    int choice;
    bool flag;

    switch (field->type) {
    case CONFIG_FLAG: memcpy(&flag, at, sizeof(flag)); return json_boolean(flag);
    case CONFIG_NUMBER:
        number = config_number(object, field);
        if (field->remainder ? number % field[-1].unit == 0 : number % field->unit != 0)
            return NULL;
        return json_integer((json_int_t)(number / field->unit));
    case CONFIG_CHOICE:
        memcpy(&choice, at, sizeof(choice));
        return choice >= 0 && (unsigned)choice < field->nwords ? json_string(field->words[choice])
                                                               : NULL;
    case CONFIG_TEXT: memcpy(&text, at, sizeof(text)); return text ? json_string(text) : NULL;
    case CONFIG_TEXTS: return config_json_list(object, field);
    case CONFIG_MAC: net_mac_text((const uint8_t *)at, mac); return json_string(mac);
    case CONFIG_ABSENT: break;
    }
    return NULL;
}

static json_t *config_json_of(const void *object, const void *defaults,
                              const struct config_section *section)
{
    json_t *to = json_object();

    for (unsigned i = 0; i < section->nfields; i++) {
        const struct config_field *field = &section->fields[i];
        json_t *value;

        if (!field->always && !field->remainder && config_is_default(object, defaults, field))
            continue;
        value = config_json_value(object, field);
        if (value)
            json_object_set_new(to, field->name, value);
    }
    return to;
}

char *config_json_write(struct vm_config *config)
{
    static const struct config_device no_device;
    static const struct console_port_config no_port;
    struct vm_config defaults;
    json_t *root = json_object();
    char *text, *line = NULL;

    config_init(&defaults);
    for (unsigned s = 0; s < config_sections_count; s++) {
        const struct config_section *section = &config_sections[s];
        const void *zero = section->place == CONFIG_MACHINE ? (const void *)&defaults
                           : section->place == CONFIG_PORT  ? (const void *)&no_port
                                                            : (const void *)&no_device;
        json_t *list = json_array();
        const void *object;

        for (unsigned i = 0; (object = config_object(config, section, i)); i++)
            json_array_append_new(list, config_json_of(object, zero, section));
        if (section->place == CONFIG_MACHINE && json_object_size(json_array_get(list, 0)) == 0)
            json_array_clear(list);
        if (json_array_size(list) && (section->list || json_array_size(list) > 1))
            json_object_set(root, section->name, list);
        else if (json_array_size(list))
            json_object_set(root, section->name, json_array_get(list, 0));
        json_decref(list);
    }
    text = json_dumps(root, JSON_INDENT(2));
    if (text && asprintf(&line, "%s\n", text) < 0)
        line = NULL;
    free(text);
    json_decref(root);
    return line;
}
