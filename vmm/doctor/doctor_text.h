/* What the host offers, for people. */
#ifndef STRATA_DOCTOR_DOCTOR_TEXT_H
#define STRATA_DOCTOR_DOCTOR_TEXT_H

struct host_info;

/* On standard output. */
void doctor_text_print(const struct host_info *info);

#endif
