/*
 * A balloon as JSON: what the host wants, what there is, what the guest's driver has told
 * of its memory (virtio 1.2, 5.5.6.4).
 */
#ifndef STRATA_REPORT_BALLOON_JSON_H
#define STRATA_REPORT_BALLOON_JSON_H

#include <jansson.h>

struct virtio_balloon_view;

json_t *balloon_json(const struct virtio_balloon_view *view);

#endif
