/*
 * Strata beside other VMMs (scripts/bench-peers): what came of each, whether strata's
 * goals hold, and the report of both.
 */
#ifndef STRATA_BENCH_PEERS_H
#define STRATA_BENCH_PEERS_H

#include <stdbool.h>
#include <stddef.h>

#define PEERS_RATIO_MAX   0.9       /* strata's time by the peer's */
#define PEERS_PRIVATE_MAX 1048576.0 /* bytes */
/*
 * kvmtool with a bzImage on an emulated AMD host that counted instructions, with a small
 * 6.1 kernel, one CPU and 256 MiB: for runs that have no kvmtool.
 */
#define PEERS_KVMTOOL_NS 612e6

/* One VMM with one boot protocol. */
struct peers_row {
    const char *vmm, *protocol; /* "strata", "qemu", ...; "pvh" or "bzimage" */
    size_t starts;              /* that count; 0: none, and `why` says why */
    double line_ns;             /* from exec to the first line of the guest's init: median */
    double line_min_ns, line_max_ns;
    double private_bytes;   /* private memory beyond guest RAM: median */
    double anonymous_bytes; /* the part of it that is of no file */
    char why[160];
};

/* Takes the samples in, of which there are n > 0; sorts them. */
void peers_summarise(struct peers_row *row, double *line_ns, double *private_bytes,
                     double *anonymous_bytes, size_t n);

#define PEERS_GOALS 3

struct peers_goal {
    const char *name; /* stable, for JSON; unit included */
    const char *text; /* for people */
    double value, limit;
    bool checked; /* what it needs was measured, or a reference stands in */
    bool reference;
    bool holds;
};

/* Fills in all the goals from the rows. */
void peers_check_outcome(const struct peers_row *rows, size_t n,
                         struct peers_goal goals[PEERS_GOALS]);

/* 0 all goals hold, 1 one does not, 2 one could not be judged. */
int peers_status(const struct peers_goal goals[PEERS_GOALS]);

/* The report as text to stdout; as JSON to a file: 0 or -errno. */
void peers_print(const struct peers_row *rows, size_t n,
                 const struct peers_goal goals[PEERS_GOALS]);
int peers_write_json(const char *path, const struct peers_row *rows, size_t n,
                     const struct peers_goal goals[PEERS_GOALS]);

#endif
