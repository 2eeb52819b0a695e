/* What the host offers, for people. */
#ifndef STRATA_DOCTOR_DOCTOR_TEXT_H
#define STRATA_DOCTOR_DOCTOR_TEXT_H

struct host_facts;

/* On standard output. */
void doctor_text_print(const struct host_facts *facts);

#endif
