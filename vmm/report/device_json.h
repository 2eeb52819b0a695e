/*
 * What a device tells of itself (struct device_stats) as JSON.
 */
#ifndef STRATA_REPORT_DEVICE_JSON_H
#define STRATA_REPORT_DEVICE_JSON_H

#include <jansson.h>

struct device_ops;

/*
 * The stats of this model: an object, or of a list of items an array of objects; null where
 * there is nothing to tell. Text that is not UTF-8 is null. The caller's to free.
 */
json_t *device_json_stats(const struct device_ops *ops, void *model);

#endif
