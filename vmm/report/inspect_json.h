/*
 * What inspection found as JSON (strata(1), CONTROL SOCKET). Addresses are strings with
 * 0x, since JSON's numbers end at 2^53; counts are numbers.
 */
#ifndef STRATA_REPORT_INSPECT_JSON_H
#define STRATA_REPORT_INSPECT_JSON_H

#include <jansson.h>

#include "vmm/inspect/find.h"
#include "vmm/inspect/frames.h"
#include "vmm/inspect/maps.h"
#include "vmm/inspect/shared_list.h"
#include "vmm/inspect/spaces.h"
#include "vmm/inspect/translate.h"

struct kvm_regs;
struct kvm_sregs;

json_t *json_hex(uint64_t number);

/* {"rax": "0x…", …, "tr"} */
json_t *json_registers(const struct kvm_regs *regs, const struct kvm_sregs *sregs);

/* {"pid", "name", "root", "format", "cpus"} */
json_t *json_space(const struct spaces *spaces, unsigned space);

/* Each adds its fields to a reply. */
void json_add_maps(json_t *reply, const struct spaces *spaces, const struct maps *maps);
void json_add_walk(json_t *reply, const struct translation *translation, bool bundled);
/* "slot", "hva" and "host": where the host has a GPA; nothing if it is not RAM. */
void json_add_place(json_t *reply, const struct translation *translation);
void json_add_totals(json_t *reply, const struct spaces *spaces, const struct frame_map *map,
                     const struct frame_totals *totals);
void json_add_shared(json_t *reply, const struct spaces *spaces, const struct shared_list *list);
void json_add_find(json_t *reply, const struct spaces *spaces, const struct find *find);

#endif
