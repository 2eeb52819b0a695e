/* What guest_exits.S and exits.c agree on. */
#ifndef STRATA_BENCH_EXITS_H
#define STRATA_BENCH_EXITS_H

#define BENCH_BATCH   200 /* port reads between two looks at the clock */
#define BENCH_BATCHES 6   /* of those in one run of the guest */

#endif
