/*
 * Why a machine could not be made ready: one line for people that names the file,
 * the field and the remedy. The return value next to it is -errno for programs.
 */
#ifndef STRATA_BOOT_ERROR_H
#define STRATA_BOOT_ERROR_H

#define BOOT_ERROR_BYTES 320

struct boot_error {
    char text[BOOT_ERROR_BYTES];
};

/* Sets the text and returns `code` (a -errno), for use in a return statement. */
int boot_fail(struct boot_error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
