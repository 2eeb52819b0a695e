#include "vmm/cli/results.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cli/options.h"
#include "vmm/report/html.h"
#include "vmm/report/json.h"

static void results_open_file(const struct command_line *line, struct output_file *file,
                              const char *option, const char *path)
{
    int err = output_file_open(file, path);

    if (err)
        usage_error(line, "--%s %s: %s; give a file that can be written", option, path,
                    strerror(-err));
}

void results_open(struct results *results, const struct command_line *line)
{
    bool taken;

    if (output_file_same(results->json_path, results->html_path))
        usage_error(line, "--json and --html cannot both go to %s", results->json_path);
    results->line = line;
    results_open_file(line, &results->json, "json", results->json_path);
    results_open_file(line, &results->html, "html", results->html_path);
    taken = results->json.fd == STDOUT_FILENO || results->html.fd == STDOUT_FILENO;
    results->out = taken ? stderr : stdout;
}

static bool results_written(const struct results *results, const char *option, const char *path,
                            int err)
{
    if (err)
        fprintf(stderr, "strata %s: --%s %s: %s\n", results->line->command, option, path,
                strerror(-err));
    return !err;
}

bool results_write(struct results *results, json_t *json,
                   void (*page)(FILE *out, const void *owner), const void *owner)
{
    bool ok = true;
    int err;

    if (results->json_path) {
        err = json ? json_write(&results->json, json) : -ENOMEM;
        ok = results_written(results, "json", results->json_path, err);
    }
    json_decref(json);
    if (results->html_path) {
        err = html_write(&results->html, page, owner);
        ok = results_written(results, "html", results->html_path, err) && ok;
    }
    return ok;
}

void results_close(struct results *results)
{
    output_file_close(&results->json);
    output_file_close(&results->html);
}
