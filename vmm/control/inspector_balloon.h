/*
 * The inspector's command `balloon`: the one that changes something, the size that a balloon
 * should have.
 */
#ifndef STRATA_CONTROL_INSPECTOR_BALLOON_H
#define STRATA_CONTROL_INSPECTOR_BALLOON_H

struct inspect_context;

/* Answers look->request; as the other commands of the inspector. */
void inspector_balloon(struct inspect_context *context);

#endif
