/*
 * Sizes as text.
 */
#ifndef STRATA_BASE_SIZE_H
#define STRATA_BASE_SIZE_H

#include <stdint.h>

#define SIZE_TEXT_BYTES 16

/* "4K", "2M", "1.5G"; exact up to a tenth. Returns text. */
const char *size_short(uint64_t bytes, char text[SIZE_TEXT_BYTES]);

/* "512 B", "16 KiB", "1.5 MiB": returns text. */
const char *size_long(uint64_t bytes, char text[SIZE_TEXT_BYTES]);

/* The short one in a buffer that lasts to the end of the block. */
#define SIZE_TEXT(bytes) size_short(bytes, (char[SIZE_TEXT_BYTES]){ 0 })

#endif
