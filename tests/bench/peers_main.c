/*
 * peers --strata FILE --vmlinux FILE --bzimage FILE --initrd FILE [--peer NAME=FILE]…
 *       [--json FILE] [--runs N] [--verbose]: strata beside other VMMs (scripts/bench-peers).
 *
 * All boot the same small Linux with the same initramfs, one CPU, 256 MiB and a serial
 * console, no other device. The clock runs from exec to the moment when the line that the
 * guest's first process prints is here; then the private memory of the VMM beyond guest
 * RAM is counted. The VMMs take turns. Exit status: peers_status, or 2.
 */
#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/bench/harness.h"
#include "tests/bench/peers.h"
#include "tests/bench/smaps.h"

#define LINE          "first line of init\n"
#define LINE_MS       60000 /* to the line; an emulated host is slow */
#define SETTLE_US     300000
#define RAM_MIB       "256"
#define RAM_MIN_KB    (128u << 10) /* no mapping of a VMM's own is that large */
#define KERNEL_LINE   "console=ttyS0 quiet panic=-1"
#define STARTS_MAX    99
#define ARGUMENTS_MAX 40
#define FIRECRACKER   "/tmp/firecracker.json"

/* These stand for the files. */
#define VMLINUX "the vmlinux"
#define BZIMAGE "the bzImage"
#define INITRD  "the initramfs"

#define STRATA(kernel)                                                                     \
    "run", "--cpus", "1", "--memory", RAM_MIB "M", "--kernel", kernel, "--initrd", INITRD, \
        "--append", KERNEL_LINE
/* As quick as it gets: no firmware but what enters the kernel, no ACPI, no ROMs. */
#define QEMU(kernel)                                                                            \
    "-M", "microvm,acpi=off,x-option-roms=off,rtc=off,pit=off,pic=off", "-bios", "qboot.rom",   \
        "-L", "/usr/share/qemu", "-accel", "kvm", "-cpu", "host", "-smp", "1", "-m", RAM_MIB,   \
        "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio", \
        "-kernel", kernel, "-initrd", INITRD, "-append", KERNEL_LINE
#define KVMTOOL                                                                                   \
    "run", "--cpus", "1", "--mem", RAM_MIB, "--kernel", BZIMAGE, "--initrd", INITRD, "--network", \
        "mode=none", "--params", KERNEL_LINE
#define CLOUD_HYPERVISOR                                                                     \
    "--cpus", "boot=1", "--memory", "size=" RAM_MIB "M", "--kernel", VMLINUX, "--initramfs", \
        INITRD, "--cmdline", KERNEL_LINE, "--serial", "tty", "--console", "off"

static const struct peer {
    const char *vmm, *protocol;
    const char *arguments[ARGUMENTS_MAX];
} peers[] = {
    { "strata", "pvh", { STRATA(VMLINUX) } },
    { "qemu", "pvh", { QEMU(VMLINUX) } },
    { "strata", "bzimage", { STRATA(BZIMAGE) } },
    { "qemu", "bzimage", { QEMU(BZIMAGE) } },
    { "kvmtool", "bzimage", { KVMTOOL } },
    { "firecracker", "pvh", { "--no-api", "--config-file", FIRECRACKER } },
    { "cloud-hypervisor", "pvh", { CLOUD_HYPERVISOR } },
};

#define NPEERS (sizeof(peers) / sizeof(peers[0]))

static struct peers_row rows[NPEERS];
static struct samples {
    double line_ns[STARTS_MAX], private_bytes[STARTS_MAX], anonymous_bytes[STARTS_MAX];
} samples[NPEERS];
static const char *programs[NPEERS]; /* by row; NULL: not given */
static const char *vmlinux, *bzimage, *initrd;
static bool verbose;

/* Reads until the line is there. 0, -ETIME, -EPIPE at the end of the output, -errno. */
static int await_line(struct bench_child *child)
{
    char text[65536];
    size_t length = 0;

    for (;;) {
        ssize_t n = bench_read(child, text + length, sizeof(text) - 1 - length, LINE_MS);

        if (n <= 0)
            return n < 0 ? (int)n : -EPIPE;
        length += (size_t)n;
        text[length] = 0;
        /* A serial console ends it with \r\n. */
        for (char *r = text; (r = strchr(r, '\r'));) {
            memmove(r, r + 1, strlen(r));
            length--;
        }
        if (strstr(text, LINE))
            return 0;
        if (length > sizeof(text) / 2) {
            memmove(text, text + length - sizeof(LINE), sizeof(LINE));
            length = sizeof(LINE);
        }
    }
}

/* While the guest sleeps. -ENODATA: which mapping is guest RAM? */
static int count_memory(pid_t pid, double *private_bytes, double *anonymous_bytes)
{
    static struct smaps_mapping mappings[SMAPS_MAX];
    uint64_t private_kb = 0, anonymous_kb = 0;
    bool ram = false;
    int n = smaps_read(pid, mappings);

    if (n == SMAPS_MAX)
        return -E2BIG;
    for (int i = 0; i < n; i++) {
        const struct smaps_mapping *mapping = &mappings[i];

        if (mapping->size_kb >= RAM_MIN_KB && mapping->private_kb) {
            ram = true;
            continue;
        }
        private_kb += mapping->private_kb;
        anonymous_kb += mapping->anonymous_kb;
        if (verbose && mapping->private_kb)
            printf("# %s %s: %llu KiB, %llu of no file\n", mapping->range, mapping->name,
                   (unsigned long long)mapping->private_kb,
                   (unsigned long long)mapping->anonymous_kb);
    }
    *private_bytes = (double)private_kb * 1024;
    *anonymous_bytes = (double)anonymous_kb * 1024;
    return n < 0 ? n : ram ? 0 : -ENODATA;
}

/* What failed, with the last line of what the VMM said of it. */
static void tell(char *why, size_t bytes, int err, int said_fd)
{
    char said[4096], *end;
    ssize_t n = pread(said_fd, said, sizeof(said) - 1, 0);
    const char *what = err == -ETIME   ? "no line of the guest's first process in 60 s"
                       : err == -EPIPE ? "it ended before the guest's first process printed a line"
                       : err == -ENODATA ? "no mapping of it looks like guest RAM"
                                         : strerror(-err);

    said[n > 0 ? n : 0] = 0;
    while ((end = strrchr(said, '\n')) && !end[1])
        *end = 0;
    snprintf(why, bytes, "%s%s%.90s", what, said[0] ? ": " : "", end ? end + 1 : said);
}

static const char *argument_of(const char *argument)
{
    return !strcmp(argument, VMLINUX)   ? vmlinux
           : !strcmp(argument, BZIMAGE) ? bzimage
           : !strcmp(argument, INITRD)  ? initrd
                                        : argument;
}

static int start(size_t i, size_t at)
{
    const char *argv[ARGUMENTS_MAX + 2] = { programs[i] };
    struct samples *s = &samples[i];
    struct bench_child child;
    int said = memfd_create("stderr", 0), err;

    if (said < 0)
        return -errno;
    for (size_t a = 0; peers[i].arguments[a]; a++)
        argv[a + 1] = argument_of(peers[i].arguments[a]);
    err = bench_spawn_stderr(&child, argv, said);
    if (!err) {
        err = await_line(&child);
        s->line_ns[at] = (double)(bench_now_ns() - child.exec_ns);
        if (!err) {
            usleep(SETTLE_US);
            err = count_memory(child.pid, &s->private_bytes[at], &s->anonymous_bytes[at]);
        }
        bench_kill(&child);
    }
    if (err)
        tell(rows[i].why, sizeof(rows[i].why), err, said);
    close(said);
    return err;
}

/* Its configuration is a file. */
static void write_firecracker(void)
{
    FILE *f = fopen(FIRECRACKER, "w");

    if (!f)
        err(2, FIRECRACKER);
    fprintf(f,
            "{ \"boot-source\": { \"kernel_image_path\": \"%s\", \"initrd_path\": \"%s\", "
            "\"boot_args\": \"" KERNEL_LINE "\" }, \"drives\": [], "
            "\"machine-config\": { \"vcpu_count\": 1, \"mem_size_mib\": " RAM_MIB " } }\n",
            vmlinux, initrd);
    if (fclose(f))
        err(2, FIRECRACKER);
}

static void give(const char *vmm, const char *path)
{
    bool known = false;

    for (size_t i = 0; i < NPEERS; i++) {
        if (strcmp(peers[i].vmm, vmm) == 0) {
            programs[i] = path;
            known = true;
        }
    }
    if (!known)
        errx(2, "no such peer '%s'", vmm);
    if (strcmp(vmm, "firecracker") == 0)
        write_firecracker();
}

static unsigned long parse(int argc, char **argv, const char **json)
{
    unsigned long starts = 5;

    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        char *value;

        if (strcmp(name, "--verbose") == 0) {
            verbose = true;
            continue;
        }
        if (++i == argc)
            errx(2, "%s: unknown, or takes a value", name);
        value = argv[i];
        if (strcmp(name, "--strata") == 0)
            give("strata", value);
        else if (strcmp(name, "--vmlinux") == 0)
            vmlinux = value;
        else if (strcmp(name, "--bzimage") == 0)
            bzimage = value;
        else if (strcmp(name, "--initrd") == 0)
            initrd = value;
        else if (strcmp(name, "--json") == 0)
            *json = value;
        else if (strcmp(name, "--runs") == 0)
            starts = strtoul(value, NULL, 10);
        else if (strcmp(name, "--peer") == 0 && strchr(value, '=')) {
            /* After all files that they are given. */
            name = strsep(&value, "=");
            give(name, value);
        } else
            errx(2, "%s %s: unknown", name, value);
    }
    if (!vmlinux || !bzimage || !initrd || !programs[0] || starts < 1 || starts > STARTS_MAX)
        errx(2, "give --strata, --vmlinux, --bzimage, --initrd, and --runs from 1 to %d",
             STARTS_MAX);
    return starts;
}

int main(int argc, char **argv)
{
    struct peers_goal goals[PEERS_GOALS];
    const char *json = NULL;
    unsigned long starts = parse(argc, argv, &json);
    int ret;

    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < NPEERS; i++) {
        rows[i] = (struct peers_row){ .vmm = peers[i].vmm, .protocol = peers[i].protocol };
        if (!programs[i])
            snprintf(rows[i].why, sizeof(rows[i].why), "not given; --peer %s=PATH", peers[i].vmm);
    }
    /* The first round brings files into the page cache, and does not count. */
    for (unsigned long round = 0; round <= starts; round++) {
        for (size_t i = 0; i < NPEERS; i++) {
            if (!rows[i].why[0])
                (void)start(i, round ? round - 1 : 0); /* a failure is in `why` */
        }
    }
    for (size_t i = 0; i < NPEERS; i++) {
        if (!rows[i].why[0])
            peers_summarise(&rows[i], samples[i].line_ns, samples[i].private_bytes,
                            samples[i].anonymous_bytes, starts);
    }
    peers_check_outcome(rows, NPEERS, goals);
    peers_print(rows, NPEERS, goals);
    ret = json ? peers_write_json(json, rows, NPEERS, goals) : 0;
    if (ret)
        errx(2, "%s: %s", json, strerror(-ret));
    return peers_status(goals);
}
