#include "tests/bench/peers.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>

static const char *verdict(const struct peers_goal *goal)
{
    return !goal->checked ? "not judged" : goal->holds ? "holds" : "does not hold";
}

static void print_goal(const struct peers_goal *goal)
{
    bool bytes = goal->limit == PEERS_PRIVATE_MAX;

    printf("%-14s %s", verdict(goal), goal->text);
    if (goal->checked && bytes)
        printf(" %.0f KiB, at most %.0f", goal->value / 1024, goal->limit / 1024);
    else if (goal->checked)
        printf(" %.2f, at most %.2f", goal->value, goal->limit);
    if (goal->checked && goal->reference)
        printf(" (kvmtool: %.0f ms, measured earlier on a host of this kind with another small "
               "6.1 kernel, not in this run)",
               PEERS_KVMTOOL_NS / 1e6);
    printf("\n");
}

void peers_print(const struct peers_row *rows, size_t n, const struct peers_goal goals[PEERS_GOALS])
{
    printf("%-17s %-8s %13s  %-16s %13s %13s %6s\n", "VMM", "protocol", "exec to init", "min - max",
           "private", "of no file", "starts");
    for (size_t i = 0; i < n; i++) {
        const struct peers_row *row = &rows[i];
        char range[32];

        if (!row->starts) {
            printf("%-17s %-8s not measured: %s\n", row->vmm, row->protocol, row->why);
            continue;
        }
        snprintf(range, sizeof(range), "%.1f - %.1f", row->line_min_ns / 1e6,
                 row->line_max_ns / 1e6);
        printf("%-17s %-8s %10.1f ms  %-16s %9.0f KiB %9.0f KiB %6zu\n", row->vmm, row->protocol,
               row->line_ns / 1e6, range, row->private_bytes / 1024, row->anonymous_bytes / 1024,
               row->starts);
    }
    printf("\n");
    for (size_t i = 0; i < PEERS_GOALS; i++)
        print_goal(&goals[i]);
}

static json_t *row_json(const struct peers_row *row)
{
    if (!row->starts)
        return json_pack("{s:s, s:s, s:i, s:s}", "vmm", row->vmm, "protocol", row->protocol,
                         "starts", 0, "not_measured", row->why);
    return json_pack("{s:s, s:s, s:i, s:I, s:I, s:I, s:I, s:I}", "vmm", row->vmm, "protocol",
                     row->protocol, "starts", (int)row->starts, "first_line_ns",
                     (json_int_t)row->line_ns, "first_line_min_ns", (json_int_t)row->line_min_ns,
                     "first_line_max_ns", (json_int_t)row->line_max_ns, "private_bytes",
                     (json_int_t)row->private_bytes, "anonymous_bytes",
                     (json_int_t)row->anonymous_bytes);
}

static json_t *goal_json(const struct peers_goal *goal)
{
    json_t *json = json_pack("{s:s, s:f, s:s}", "name", goal->name, "limit", goal->limit, "verdict",
                             verdict(goal));

    if (goal->checked)
        json_object_set_new(json, "value", json_real(goal->value));
    if (goal->reference) {
        json_object_set_new(json, "reference_ns", json_integer((json_int_t)PEERS_KVMTOOL_NS));
        json_object_set_new(json, "reference_measured_in_this_run", json_false());
    }
    return json;
}

int peers_write_json(const char *path, const struct peers_row *rows, size_t n,
                     const struct peers_goal goals[PEERS_GOALS])
{
    json_t *results = json_array(), *checked = json_array(), *root;
    int err;

    for (size_t i = 0; i < n; i++)
        json_array_append_new(results, row_json(&rows[i]));
    for (size_t i = 0; i < PEERS_GOALS; i++)
        json_array_append_new(checked, goal_json(&goals[i]));
    root = json_pack("{s:s, s:i, s:o, s:o}", "schema", "strata.bench-peers", "version", 1,
                     "results", results, "goals", checked);
    err = root && !json_dump_file(root, path, JSON_INDENT(2) | JSON_REAL_PRECISION(4)) ? 0 : -EIO;
    json_decref(root);
    return err;
}
