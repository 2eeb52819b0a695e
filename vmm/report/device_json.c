#include "vmm/report/device_json.h"

#include "devices/core/device.h"

struct device_json {
    struct device_stats stats;
    json_t *list;   /* NULL: it is no list */
    json_t *object; /* the item, or all of it */
    json_t *group;  /* gets the values: `object` or a part of it */
};

static void device_json_set(struct device_stats *stats, const char *name, json_t *value)
{
    json_object_set_new(((struct device_json *)(void *)stats)->group, name, value);
}

static void device_json_number(struct device_stats *stats, const char *name, uint64_t value)
{
    device_json_set(stats, name, json_integer((json_int_t)value));
}

static void device_json_flag(struct device_stats *stats, const char *name, bool value)
{
    device_json_set(stats, name, json_boolean(value));
}

static void device_json_text(struct device_stats *stats, const char *name, const char *value)
{
    json_t *text = value ? json_string(value) : NULL;

    device_json_set(stats, name, text ? text : json_null());
}

static void device_json_group(struct device_stats *stats, const char *name)
{
    struct device_json *json = (void *)stats;

    json->group = json->object;
    if (!name)
        return;
    json->group = json_object();
    json_object_set_new(json->object, name, json->group);
}

static void device_json_item(struct device_stats *stats)
{
    struct device_json *json = (void *)stats;

    json->object = json->group = json_object();
    json_array_append_new(json->list, json->object);
}

json_t *device_json_stats(const struct device_ops *ops, void *model)
{
    struct device_json json = { .stats = { .number = device_json_number,
                                           .flag = device_json_flag,
                                           .text = device_json_text,
                                           .group = device_json_group,
                                           .item = device_json_item } };
    json_t *all;

    if (!ops->stats)
        return json_null();
    if (ops->stats_list)
        all = json.list = json_array();
    else
        all = json.object = json.group = json_object();
    if (ops->stats(model, &json.stats))
        return all;
    json_decref(all);
    return json_null();
}
