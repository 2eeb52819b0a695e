/*
 * The program's own memory.
 */
#ifndef STRATA_MONITOR_RSS_TRIM_H
#define STRATA_MONITOR_RSS_TRIM_H

/*
 * Unmaps the pages of the program file that hold code and constants, the bundled guest
 * among them: what is needed again comes back from the page cache, by a fault each 64
 * KiB; what only starting needed does not. From any thread, at any time.
 */
void rss_trim(void);

#endif
