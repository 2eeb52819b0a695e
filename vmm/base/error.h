/*
 * Why something could not be done: a number for programs, one line for people, and, where a
 * field of the VM's configuration is to blame, which one. Below the command line nothing
 * knows its options: an option, a path in a file or an answer of an API is made of the field.
 */
#ifndef STRATA_BASE_ERROR_H
#define STRATA_BASE_ERROR_H

#define ERROR_FIELD_BYTES 96
#define ERROR_TEXT_BYTES  320

struct error {
    int code;                      /* -errno */
    char field[ERROR_FIELD_BYTES]; /* such as "drives[0].path_on_host"; "": of no field */
    char text[ERROR_TEXT_BYTES];   /* what is wrong, and after a semicolon the remedy */
};

/* Sets an error of no field and returns `code` (a -errno), for use in a return statement. */
int error_set(struct error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same of a field. */
int error_field(struct error *error, int code, const char *field, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
