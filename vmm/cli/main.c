#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/version.h"
#include "vmm/cli/commands.h"
#include "vmm/cli/options.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} commands[] = {
    { "tour", cmd_tour, "run every exercise on the bundled guest and check it from the host" },
    { "run", cmd_run, "start the bundled guest, or a kernel of your own" },
    { "inspect", cmd_inspect, "look at the memory of a running machine through all layers" },
    { "dma", cmd_dma, "test a DMA policy: attack it from hostile devices and see what gives" },
    { "measure", cmd_measure, "what nested paging costs on this host, layer by layer" },
    { "doctor", cmd_doctor, "what this host offers for virtual machines, and what it lacks" },
};

#define NCOMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_help(void)
{
    printf("strata, a hypervisor on KVM whose every layer of memory can be seen and measured.\n\n"
           "Usage: strata COMMAND [OPTIONS]\n\n");
    for (size_t i = 0; i < NCOMMANDS; i++)
        printf("  %-8s %s\n", commands[i].name, commands[i].summary);
    printf("\nstrata COMMAND --help tells more about each; strata --version its version.\n"
           "Exit status: 0 all as expected, 1 a check failed, 2 wrong usage, 3 no usable KVM.\n");
}

/* A file opened later must not become stdin, stdout or stderr because those were closed. */
static void fill_standard_fds(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            open("/dev/null", fd == STDIN_FILENO ? O_RDONLY : O_WRONLY);
    }
}

/* A full disk or a closed reader is a failure, however well the work itself went. */
static int finish(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    fprintf(stderr, "strata: standard output: %s\n", strerror(errno));
    return status ? status : STATUS_FAILED;
}

int main(int argc, char **argv)
{
    fill_standard_fds();
    /* A reader that has gone and a limit on file sizes are errors of a write, no more. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    /* One heap for all threads: each further one would cost private memory. */
    mallopt(M_ARENA_MAX, 1);

    if (argc < 2) {
        fprintf(stderr, "strata: no command; see strata --help\n");
        return STATUS_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_help();
        return finish(STATUS_OK);
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("strata %s\n", STRATA_VERSION);
        return finish(STATUS_OK);
    }
    for (size_t i = 0; i < NCOMMANDS; i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            optind = 0; /* getopt starts afresh (getopt(3), Notes) */
            return finish(commands[i].run(argc - 1, argv + 1));
        }
    }
    fprintf(stderr, "strata: unknown command \"%s\"; see strata --help\n", argv[1]);
    return STATUS_USAGE;
}
