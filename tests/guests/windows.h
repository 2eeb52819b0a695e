/* What windows.S and windows_fuzz.c share. */
#ifndef STRATA_TESTS_WINDOWS_H
#define STRATA_TESTS_WINDOWS_H

#define WINDOWS_AP 0x8000 /* the second CPU begins here, in a copy of windows_ap */

#ifndef __ASSEMBLER__
#include <stdint.h>

extern const uint8_t windows_ap[], windows_ap_end[];

/* The first CPU's run; what it returns is the machine's exit status. */
uint32_t windows_fuzz(const uint8_t *start_info);

/* The second CPU's, for as long as the first one runs. */
void windows_second(void);
#endif

#endif
