#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cli/commands.h"
#include "vmm/cli/options.h"
#include "vmm/doctor/doctor_report.h"
#include "vmm/doctor/host_facts.h"
#include "vmm/report/json.h"

enum { OPT_JSON };

static const struct option_entry option_entries[] = {
    [OPT_JSON] = { "json", "FILE", "also write it as JSON to FILE (- for standard output alone)" },
};

static const struct command_line doctor_line = {
    .command = "doctor",
    .summary = "Tells what this host offers for virtual machines, what it lacks, and what to do\n"
               "about it. The exit status is 0 where KVM can be used, else 3.",
    .options = option_entries,
    .noptions = sizeof(option_entries) / sizeof(option_entries[0]),
};

int cmd_doctor(int argc, char **argv)
{
    const char *path = NULL, *value;
    struct output_file json;
    struct host_facts facts;
    json_t *result;
    int option, status, err;

    while ((option = options_next(&doctor_line, argc, argv, &value)) >= 0) {
        if (option == OPT_JSON)
            path = value;
    }
    err = output_file_open(&json, path);
    if (err)
        usage_error(&doctor_line, "--json %s: %s; give a file that can be written", path,
                    strerror(-err));
    host_facts_gather(&facts);
    if (json.fd != STDOUT_FILENO)
        doctor_print(&facts);
    result = doctor_json(&facts);
    status = facts.error ? STATUS_NO_KVM : STATUS_OK;
    err = json_write(&json, result);
    if (err) {
        fprintf(stderr, "strata doctor: --json %s: %s\n", path, strerror(-err));
        status = STATUS_FAILED;
    }
    json_decref(result);
    host_facts_release(&facts);
    return status;
}
