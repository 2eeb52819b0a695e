#include <stdio.h>

#include "vmm/cli/commands.h"
#include "vmm/cli/options.h"
#include "vmm/cli/results.h"
#include "vmm/doctor/doctor_json.h"
#include "vmm/doctor/doctor_text.h"
#include "vmm/doctor/host_info.h"

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
    struct results results = { 0 };
    struct host_info info;
    const char *value;
    int option, status;

    while ((option = options_next(&doctor_line, argc, argv, &value)) >= 0) {
        if (option == OPT_JSON)
            results.json_path = value;
    }
    results_open(&results, &doctor_line);
    host_info_gather(&info);
    if (results.out == stdout)
        doctor_text_print(&info);
    status = info.error ? STATUS_NO_KVM : STATUS_OK;
    if (!results_write(&results, doctor_json(&info), NULL, NULL))
        status = STATUS_FAILED;
    results_close(&results);
    host_info_release(&info);
    return status;
}
