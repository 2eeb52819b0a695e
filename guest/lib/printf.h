/* The guest's programs print by this. */
#ifndef STRATA_LIB_PRINTF_H
#define STRATA_LIB_PRINTF_H

/* %s %c %d %u %x with l, width, 0 and - flags. One write for each call. */
void printf(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
