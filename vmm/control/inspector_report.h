/*
 * The inspector's command `report`: all that a page about a running machine shows, of one
 * moment. The map of memory (memory_map.h), the totals of `pages`, and the way of some addresses
 * through all layers, in both dimensions: for each table that a walk reads, where the host has
 * it.
 */
#ifndef STRATA_CONTROL_INSPECTOR_REPORT_H
#define STRATA_CONTROL_INSPECTOR_REPORT_H

struct inspect_context;

/* Answers look->request; as the other commands of the inspector. */
void inspector_report(struct inspect_context *context);

#endif
