/*
 * Files that people give for a kernel and that are none which strata can start: what
 * they are, by their first bytes, and what to do about it.
 */
#ifndef STRATA_BOOT_FOREIGN_H
#define STRATA_BOOT_FOREIGN_H

#include "vmm/base/error.h"
#include "vmm/boot/image.h"

/* Sets the text: what the file is, and the remedy. -ENOEXEC, or -errno of reading. */
int foreign_refuse(const struct image *image, struct error *error);

#endif
