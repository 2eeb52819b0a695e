/*
 * The page cache: pages of disks in frames that all who map a disk share. A page is read
 * once, whoever waits for it. While a disk is mapped its pages stay; they go with the last
 * mapping. What SYS_BLOCK writes meanwhile is not seen in pages that are there.
 */
#ifndef STRATA_KERNEL_MM_PAGECACHE_H
#define STRATA_KERNEL_MM_PAGECACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGECACHE_READ_PAGES 32 /* of one request */

struct blk_request;
struct page_read;
struct pagecache; /* of one disk */

/* The cache of the n-th disk, NULL past the last. */
struct pagecache *pagecache_of(uint64_t disk);

/* Pages of the disk; the last one may be a part, with zeroes behind. */
uint64_t pagecache_pages(const struct pagecache *cache);

/* One more, or one less, mapping that holds it. */
void pagecache_get(struct pagecache *cache);
void pagecache_put(struct pagecache *cache);

/* The frame of a page, with a reference for the caller; 0: it is not there (yet). */
uint64_t pagecache_frame(struct pagecache *cache, uint64_t page);

/* The read that will bring the page, to be waited for (process_block); NULL: none. */
const struct page_read *pagecache_read_of(struct pagecache *cache, uint64_t page);

/*
 * Starts reading `page` and those of [first, end) around it that are not there either, as
 * many as one request takes: how many from `page` on, which is neither there nor being
 * read; the device sees it at the next pagecache_kick. -ABI_EAGAIN: wait for
 * pagecache_room; -ABI_ENOMEM, -ABI_EIO, ... `spoil`: with a wrong byte, on purpose.
 */
int pagecache_read(struct pagecache *cache, uint64_t page, uint64_t first, uint64_t end,
                   bool spoil);
void pagecache_kick(struct pagecache *cache);

/* What to wait for until more can be read. */
const void *pagecache_room(void);

/* ---- For the driver (drivers/blk_call.c) ---------------------------------- */

/* The request has ended with 0 or -ABI_E*, with so many bytes. */
void page_read_ended(struct page_read *read, struct blk_request *request, int result,
                     uint64_t written);

/* After the dma_commit that makes contents true: the pages are there, who waits is woken. */
void page_reads_finish(void);

#endif
