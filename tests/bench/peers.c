#include "tests/bench/peers.h"

#include <string.h>

#include "tests/bench/harness.h"

void peers_summarise(struct peers_row *row, double *line_ns, double *private_bytes,
                     double *anonymous_bytes, size_t n)
{
    row->starts = n;
    row->line_ns = bench_median(line_ns, n); /* and sorts them */
    row->line_min_ns = line_ns[0];
    row->line_max_ns = line_ns[n - 1];
    row->private_bytes = bench_median(private_bytes, n);
    row->anonymous_bytes = bench_median(anonymous_bytes, n);
}

/* NULL where it was not measured. */
static const struct peers_row *find(const struct peers_row *rows, size_t n, const char *vmm,
                                    const char *protocol)
{
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(rows[i].vmm, vmm) && !strcmp(rows[i].protocol, protocol))
            return rows[i].starts ? &rows[i] : NULL;
    }
    return NULL;
}

static void check_outcome(struct peers_goal *goal, double value)
{
    goal->value = value;
    goal->checked = true;
    goal->holds = value <= goal->limit;
}

void peers_check_outcome(const struct peers_row *rows, size_t n,
                         struct peers_goal goals[PEERS_GOALS])
{
    const struct peers_row *pvh = find(rows, n, "strata", "pvh");
    const struct peers_row *bzimage = find(rows, n, "strata", "bzimage");
    const struct peers_row *qemu = find(rows, n, "qemu", "pvh");
    const struct peers_row *kvmtool = find(rows, n, "kvmtool", "bzimage");

    goals[0] = (struct peers_goal){ .name = "pvh_to_qemu_ratio",
                                    .text = "PVH: strata's time by QEMU's",
                                    .limit = PEERS_RATIO_MAX };
    goals[1] = (struct peers_goal){ .name = "bzimage_to_kvmtool_ratio",
                                    .text = "bzImage: strata's time by kvmtool's",
                                    .limit = PEERS_RATIO_MAX,
                                    .reference = !kvmtool };
    goals[2] = (struct peers_goal){ .name = "private_bytes",
                                    .text = "private memory beyond guest RAM",
                                    .limit = PEERS_PRIVATE_MAX };
    if (pvh && qemu)
        check_outcome(&goals[0], pvh->line_ns / qemu->line_ns);
    if (bzimage)
        check_outcome(&goals[1],
                      bzimage->line_ns / (kvmtool ? kvmtool->line_ns : PEERS_KVMTOOL_NS));
    if (pvh && bzimage)
        check_outcome(&goals[2], pvh->private_bytes > bzimage->private_bytes
                                     ? pvh->private_bytes
                                     : bzimage->private_bytes);
}

int peers_status(const struct peers_goal goals[PEERS_GOALS])
{
    int status = 0;

    for (size_t i = 0; i < PEERS_GOALS; i++) {
        if (!goals[i].checked)
            return 2;
        if (!goals[i].holds)
            status = 1;
    }
    return status;
}
