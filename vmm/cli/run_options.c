#include "vmm/cli/run_options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "devices/backend/delay.h"
#include "devices/virtio/vsock.h"
#include "vmm/base/parse.h"
#include "vmm/boot/boot.h"
#include "vmm/boot/layout.h"
#include "vmm/cli/kernel_options.h"
#include "vmm/cli/net_options.h"
#include "vmm/monitor/watchdog.h"

enum {
    OPT_KERNEL,
    OPT_INITRD,
    OPT_MODULE,
    OPT_FLAT,
    OPT_APPEND,
    OPT_DEBUG_EXIT,
    OPT_FORCE,
    OPT_MEMORY,
    OPT_CPUS,
    OPT_CPUID,
    OPT_PAGES,
    OPT_DISK,
    OPT_NET,
    OPT_VSOCK,
    OPT_RNG,
    OPT_VIRTIO_CONSOLE,
    OPT_VIRTIO_PORT,
    OPT_BALLOON,
    OPT_DMA_PROBE,
    OPT_IOMMU,
    OPT_IO,
    OPT_EXEC,
    OPT_CONTROL,
    OPT_WATCHDOG,
    OPT_JSON
};

static const struct option_entry option_entries[] = {
    [OPT_KERNEL] = { "kernel", "FILE",
                     "instead of the bundled guest: Linux (bzImage, or vmlinux with\n"
                     "CONFIG_PVH), another ELF kernel with a PVH entry, or Multiboot 1" },
    [OPT_INITRD] = { "initrd", "FILE", "an initial RAM disk for it" },
    [OPT_MODULE] = { "module", "FILE[ ARGS]", "a module for a Multiboot kernel; may be repeated" },
    [OPT_FLAT] = { "flat", "GPA[:ENTRY][,BITS]",
                   "the kernel is plain code: put it to this address and start it there, or\n"
                   "at ENTRY, in 16, 32 (the default) or 64-bit mode" },
    [OPT_APPEND] = { "append", "TEXT", "boot arguments" },
    [OPT_DEBUG_EXIT] = { "debug-exit", "PORT",
                         "a port, to which writing V ends the machine with status V * 2 + 1; off:\n"
                         "none (the default is 0xf4 for Multiboot and flat kernels, else off)" },
    [OPT_FORCE] = { "force", NULL, "start a kernel even if it cannot work on this host's KVM" },
    [OPT_MEMORY] = { "memory", "SIZE", "guest memory, e.g. 256M (the default) or 2G" },
    [OPT_CPUS] = { "cpus", "N", "virtual CPUs (default 2)" },
    [OPT_CPUID] = { "cpuid", "LIST",
                    "what CPUID shows: -NAME and +NAME, as in /proc/cpuinfo, between commas; "
                    "before\n"
                    "them may stand x86-64-v1, -v2 or -v3 (no more than that), no-xsave, or host" },
    [OPT_PAGES] = { "pages", "KIND",
                    "host pages behind guest memory: 4k, thp, hugetlb, hugetlb-1g; the default\n"
                    "is thp for Linux without a balloon, else 4k" },
    [OPT_DISK] = { "disk", "FILE[,ro][,latency=TIME]",
                   "a disk with the contents of FILE, read-only with ,ro, each request taking\n"
                   "TIME at least, e.g. 2ms or 150us (default 0); may be repeated" },
    [OPT_NET] = { "net", "user|tap=IF",
                  "a network device: user for a network of its own, with\n"
                  ",hostfwd=tcp:PORT:GUESTPORT to reach the guest; or a tap interface;\n"
                  "with either, ,mac=ADDRESS; may be repeated" },
    [OPT_VSOCK] = { "vsock", "cid=N,path=SOCK",
                    "stream sockets between the guest, whose CID is N (3 or more), and Unix\n"
                    "sockets: SOCK for who sends CONNECT PORT, SOCK_PORT for the guest's" },
    [OPT_RNG] = { "rng", NULL, "an entropy device" },
    [OPT_VIRTIO_CONSOLE] = { "virtio-console", NULL,
                             "a second console, beside the serial port; it gets the input\n"
                             "while a driver reads from it" },
    [OPT_VIRTIO_PORT] = { "virtio-port", "name=NAME,path=SOCK",
                          "a port of a virtio-console, in the guest /dev/virtio-ports/NAME, for "
                          "who\n"
                          "connects to the Unix socket SOCK; may be repeated" },
    [OPT_BALLOON] = { "balloon", "SIZE",
                      "a balloon: the guest gives free memory back to the host, and does without\n"
                      "SIZE of it altogether (0: without nothing)" },
    [OPT_DMA_PROBE] = { "dma-probe", NULL, "a device that can be told to misbehave" },
    [OPT_IOMMU] = { "iommu", "MODE",
                    "how devices reach memory: off (directly, the default), or through an\n"
                    "IOMMU that the guest puts to bypass, strict or lazy" },
    [OPT_IO] = { "io", "HOW",
                 "how devices hear of requests: exits (the default), or thread: on a thread\n"
                 "beside the vCPUs, which go on at once" },
    [OPT_EXEC] = { "exec", "COMMAND",
                   "let the bundled guest run one command and halt with its status" },
    [OPT_CONTROL] = { "control", "SOCK",
                      "make a socket through which strata inspect looks at the machine" },
    [OPT_WATCHDOG] = { "watchdog", "S",
                       "end the run, with a report, if the guest hangs for S seconds" },
    [OPT_JSON] = { "json", "FILE",
                   "write how the run ended to FILE (- for standard output;\n"
                   "the console then goes to standard error)" },
};

const struct command_line run_line = {
    .command = "run",
    .summary = "Starts a virtual machine with its console on standard input and output. The exit\n"
               "status is the guest's; after a crash 1, or with --kernel one for each kind\n"
               "(strata.1), with a report on standard error.",
    .options = option_entries,
    .noptions = sizeof(option_entries) / sizeof(option_entries[0]),
};

static uint64_t host_memory_bytes(void)
{
    struct sysinfo info;

    return sysinfo(&info) == 0 ? (uint64_t)info.totalram * info.mem_unit : UINT64_MAX;
}

static uint64_t parse_memory(const char *text)
{
    uint64_t host = host_memory_bytes(), bytes;
    int err = parse_size(text, &bytes);

    if (err == -EINVAL)
        usage_error(&run_line, "--memory %s: not a size; say for example 256M or 1G", text);
    if (err || bytes > host)
        usage_error(&run_line, "--memory %s: more than the host's %llu MiB; give less", text,
                    (unsigned long long)(host >> 20));
    if (bytes < LAYOUT_MEMORY_BYTES_MIN)
        usage_error(&run_line, "--memory %s: too little to boot; give %lluM or more", text,
                    LAYOUT_MEMORY_BYTES_MIN >> 20);
    if (bytes % MEMORY_PAGE_BYTES)
        usage_error(&run_line, "--memory %s: not a multiple of 4K; round it", text);
    return bytes;
}

static unsigned parse_cpus(const char *text)
{
    unsigned count;
    int err = parse_count(text, VM_CPUS_MAX, &count);

    if (err == -EINVAL)
        usage_error(&run_line, "--cpus %s: not a number; say for example 2", text);
    if (err)
        usage_error(&run_line, "--cpus %s: more than %u; give less", text, VM_CPUS_MAX);
    if (!count)
        usage_error(&run_line, "--cpus 0: a machine needs a CPU; give 1 or more");
    return count;
}

static bool parse_io(const char *text)
{
    if (strcmp(text, "thread") && strcmp(text, "exits"))
        usage_error(&run_line, "--io %s: unknown; say exits or thread", text);
    return !strcmp(text, "thread");
}

static unsigned parse_watchdog(const char *text)
{
    unsigned seconds;

    if (parse_count(text, WATCHDOG_SECONDS_MAX, &seconds) || !seconds)
        usage_error(&run_line, "--watchdog %s: not a time; say 1 to %u, in seconds", text,
                    WATCHDOG_SECONDS_MAX);
    return seconds;
}

static void add_module(struct run_options *options, const char *text)
{
    unsigned *count = &options->config.nmodules;

    if (*count == MULTIBOOT_MODULES_MAX)
        usage_error(&run_line, "more than %d modules; give fewer --module", MULTIBOOT_MODULES_MAX);
    options->modules[(*count)++] = text;
}

/* What belongs to a kernel of one's own. */
static void check_kernel(const struct run_options *options)
{
    const struct vm_config *config = &options->config;
    const char *extra = config->initrd_path ? "initrd"
                        : config->nmodules  ? "module"
                        : config->flat.bits ? "flat"
                                            : NULL;

    if (!config->kernel_path && extra)
        usage_error(&run_line, "--%s without --kernel; give the kernel that it is for", extra);
}

static void add_device(struct run_options *options, struct board_device device)
{
    unsigned *count = &options->config.ndevices;

    if (*count == ABI_MMIO_DEVICES_MAX)
        usage_error(&run_line,
                    "more than %d devices; give fewer --disk, --net, --rng, "
                    "--virtio-console",
                    ABI_MMIO_DEVICES_MAX);
    options->devices[(*count)++] = device;
}

/* Takes what is behind the comma, if it says how the disk is to be; else it is of the name. */
static bool take_disk_word(struct board_device *disk, const char *word)
{
    int err;

    if (!strcmp(word, "ro")) {
        disk->read_only = true;
        return true;
    }
    if (strncmp(word, "latency=", 8) != 0)
        return false;
    err = parse_time(word + 8, DELAY_NS_MAX, &disk->latency_ns);
    if (err == -EINVAL)
        usage_error(&run_line, "--disk: %s: not a time; say for example 2ms or 150us", word);
    if (err)
        usage_error(&run_line, "--disk: %s: more than 10000ms; give less", word);
    return true;
}

/* A file that exists, a comma, and something else. */
static bool is_misspelt(const char *text)
{
    const char *comma = strrchr(text, ',');
    char *file = comma ? strndup(text, (size_t)(comma - text)) : NULL;
    bool is = file && !access(file, F_OK);

    free(file);
    return is;
}

/* FILE, then words; the text stays where it is, but for the commas before those. */
static void add_disk(struct run_options *options, char *text)
{
    struct board_device disk = { .kind = BOARD_BLK, .path = text };
    char *comma;

    while ((comma = strrchr(text, ',')) && take_disk_word(&disk, comma + 1))
        *comma = 0;
    if (access(text, disk.read_only ? R_OK : R_OK | W_OK)) {
        if (errno == EACCES || errno == EROFS)
            usage_error(&run_line, "--disk %s: %s; %s", text, strerror(errno),
                        access(text, R_OK) ? "make the file readable" : "say --disk FILE,ro");
        if (errno == ENOENT && is_misspelt(text))
            usage_error(&run_line, "--disk %s: what may follow the file is ro and latency=TIME",
                        text);
        usage_error(&run_line, "--disk %s: %s; give a file that exists", text, strerror(errno));
    }
    add_device(options, disk);
}

static void add_net(struct run_options *options, char *text)
{
    unsigned n = options->nnets;

    if (n == ABI_MMIO_DEVICES_MAX)
        usage_error(&run_line, "more than %d devices; give fewer --net", ABI_MMIO_DEVICES_MAX);
    net_options_parse(&options->nets[n], text, n);
    options->nnets++;
    add_device(options, (struct board_device){ .kind = BOARD_NET, .net = &options->nets[n] });
}

/* cid=N,path=SOCK, in any order; the path is the rest where it comes last. */
static void add_vsock(struct run_options *options, char *text)
{
    struct board_device vsock = { .kind = BOARD_VSOCK };

    for (char *part = text; part;) {
        char *next = strncmp(part, "path=", 5) || strstr(part, ",cid=") ? strchr(part, ',') : NULL;
        unsigned cid;

        if (next)
            *next++ = 0;
        if (!strncmp(part, "cid=", 4)) {
            if (parse_count(part + 4, VSOCK_CID_LAST, &cid) || cid < VSOCK_CID_FIRST)
                usage_error(&run_line, "--vsock: %s: give a number from %u to %u", part,
                            VSOCK_CID_FIRST, VSOCK_CID_LAST);
            vsock.guest_cid = cid;
        } else if (!strncmp(part, "path=", 5) && part[5]) {
            vsock.path = part + 5;
        } else {
            usage_error(&run_line, "--vsock %s: unknown; say cid=N,path=SOCK", part);
        }
        part = next;
    }
    if (!vsock.guest_cid || !vsock.path)
        usage_error(&run_line, "--vsock without %s: say cid=N,path=SOCK",
                    vsock.path ? "cid=" : "path=");
    for (unsigned i = 0; i < options->config.ndevices; i++) {
        if (options->devices[i].kind == BOARD_VSOCK)
            usage_error(&run_line, "--vsock twice: a machine has one; give one of them");
    }
    add_device(options, vsock);
}

/* A file's name for the guest, and a line's worth of it. */
static void check_port_name(const struct run_options *options, const char *name)
{
    size_t length = strlen(name);

    if (!length || length > CONSOLE_PORT_NAME_MAX || !strcmp(name, ".") || !strcmp(name, ".."))
        usage_error(&run_line, "--virtio-port: name=%.70s: give 1 to %u characters", name,
                    CONSOLE_PORT_NAME_MAX);
    for (const char *c = name; *c; c++) {
        if (*c <= ' ' || *c > '~' || *c == '/')
            usage_error(&run_line,
                        "--virtio-port: name=%s: give letters, digits and signs other than /",
                        name);
    }
    for (unsigned i = 0; i < options->nports; i++) {
        if (!strcmp(name, options->ports[i].name))
            usage_error(&run_line, "--virtio-port: name=%s twice; give each its own", name);
    }
}

/* name=NAME,path=SOCK, in any order; the path is the rest where it comes last. */
static void add_port(struct run_options *options, char *text)
{
    struct console_port_config *port = &options->ports[options->nports];

    if (options->nports == CONSOLE_PORTS_MAX - 1)
        usage_error(&run_line, "more than %u ports; give fewer --virtio-port",
                    CONSOLE_PORTS_MAX - 1);
    for (char *part = text; part;) {
        char *next = strncmp(part, "path=", 5) || strstr(part, ",name=") ? strchr(part, ',') : NULL;

        if (next)
            *next++ = 0;
        if (!strncmp(part, "name=", 5))
            port->name = part + 5;
        else if (!strncmp(part, "path=", 5) && part[5])
            port->path = part + 5;
        else
            usage_error(&run_line, "--virtio-port %s: unknown; say name=NAME,path=SOCK", part);
        part = next;
    }
    if (!port->name || !port->path)
        usage_error(&run_line, "--virtio-port without %s: say name=NAME,path=SOCK",
                    port->path ? "name=" : "path=");
    check_port_name(options, port->name);
    options->nports++;
}

/* Ports are the first virtio-console's; where there is none, of one that is no console. */
static void place_ports(struct run_options *options)
{
    struct board_device *device = options->devices, *end = device + options->config.ndevices;

    if (!options->nports)
        return;
    while (device < end && device->kind != BOARD_CONSOLE)
        device++;
    if (device == end)
        add_device(options, (struct board_device){ .kind = BOARD_CONSOLE, .ports_only = true });
    device->ports = options->ports;
    device->nports = options->nports;
}

/* Checked against --memory when that is known. */
static void add_balloon(struct run_options *options, const char *text)
{
    struct board_device balloon = { .kind = BOARD_BALLOON };

    if (strcmp(text, "0") && parse_size(text, &balloon.bytes))
        usage_error(&run_line, "--balloon %s: not a size; say for example 64M, or 0", text);
    for (unsigned i = 0; i < options->config.ndevices; i++) {
        if (options->devices[i].kind == BOARD_BALLOON)
            usage_error(&run_line, "--balloon twice: a machine has one; give one of them");
    }
    add_device(options, balloon);
}

static void check_balloon(const struct run_options *options)
{
    for (unsigned i = 0; i < options->config.ndevices; i++) {
        if (options->devices[i].bytes >= options->config.memory_bytes)
            usage_error(&run_line, "--balloon: as much as there is memory; give less than %lluM",
                        (unsigned long long)(options->config.memory_bytes >> 20));
    }
}

/* As the guest's kernel is told (guest/abi/machine.h). */
static const char *parse_iommu(const char *text)
{
    static const char *const modes[][2] = {
        { "off", "off" }, { "bypass", "identity" }, { "strict", "DMA" }, { "lazy", "DMA-FQ" }
    };

    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        if (!strcmp(text, modes[i][0]))
            return modes[i][1];
    }
    usage_error(&run_line, "--iommu %s: unknown; say off, bypass, strict or lazy", text);
}

/* The number of a device's window is its endpoint. */
static void number_devices(struct run_options *options)
{
    struct vm_config *config = &options->config;
    unsigned first = boot_board(config).iommu ? 1 : 0;

    if (first + config->ndevices > ABI_MMIO_DEVICES_MAX)
        usage_error(&run_line,
                    "more than %d devices beside the IOMMU; give fewer --disk, --net, "
                    "--rng, --virtio-console",
                    ABI_MMIO_DEVICES_MAX - 1);
    for (unsigned i = 0; i < config->ndevices; i++)
        options->devices[i].endpoint = first + i;
}

/* Everything after exec= to the end of the string is the command, so it comes last. */
static char *join_boot_args(const char *append, const char *exec)
{
    char *joined;

    if (asprintf(&joined, "%s%s%s%s", append ? append : "", append && exec ? " " : "",
                 exec ? "exec=" : "", exec ? exec : "") < 0)
        return NULL;
    return joined;
}

void run_options_parse(struct run_options *options, int argc, char **argv)
{
    struct vm_config *config = &options->config;
    const char *value;
    int option;

    *options = (struct run_options){ .config = { .memory_bytes = VM_CONFIG_MEMORY_BYTES,
                                                 .vcpu_count = VM_CONFIG_CPUS,
                                                 .debug_exit_port = RUN_DEBUG_EXIT_AUTO } };

    while ((option = options_next(&run_line, argc, argv, &value)) >= 0) {
        switch (option) {
        case OPT_KERNEL: config->kernel_path = value; break;
        case OPT_INITRD: config->initrd_path = value; break;
        case OPT_MODULE: add_module(options, value); break;
        case OPT_FLAT: config->flat = parse_flat(&run_line, value); break;
        case OPT_DEBUG_EXIT: config->debug_exit_port = parse_debug_exit(&run_line, value); break;
        case OPT_FORCE: options->force = true; break;
        case OPT_APPEND: options->append = value; break;
        case OPT_MEMORY: config->memory_bytes = parse_memory(value); break;
        case OPT_CPUS: config->vcpu_count = parse_cpus(value); break;
        case OPT_CPUID: run_cpuid_parse(&options->cpuid, &run_line, optarg); break;
        case OPT_DISK: add_disk(options, optarg); break;
        case OPT_NET: add_net(options, optarg); break;
        case OPT_VSOCK: add_vsock(options, optarg); break;
        case OPT_RNG: add_device(options, (struct board_device){ .kind = BOARD_RNG }); break;
        case OPT_DMA_PROBE:
            add_device(options, (struct board_device){ .kind = BOARD_PROBE });
            break;
        case OPT_VIRTIO_CONSOLE:
            add_device(options, (struct board_device){ .kind = BOARD_CONSOLE });
            break;
        case OPT_VIRTIO_PORT: add_port(options, optarg); break;
        case OPT_BALLOON: add_balloon(options, value); break;
        case OPT_IOMMU: config->dma_mode = parse_iommu(value); break;
        case OPT_IO: config->io_thread = parse_io(value); break;
        case OPT_EXEC: options->exec = value; break;
        case OPT_CONTROL: options->control = value; break;
        case OPT_WATCHDOG: options->watchdog_seconds = parse_watchdog(value); break;
        case OPT_JSON: options->json = value; break;
        case OPT_PAGES:
            options->pages_asked = true;
            if (parse_backing(value, &config->huge_pages))
                usage_error(&run_line, "--pages %s: unknown; say 4k, thp, hugetlb or hugetlb-1g",
                            value);
            break;
        default: break;
        }
    }
    if (config->huge_pages == MEMORY_HUGETLB && config->memory_bytes % MEMORY_HUGE_BYTES)
        usage_error(&run_line, "--pages hugetlb: --memory must be a multiple of 2M; round it");
    if (config->huge_pages == MEMORY_HUGETLB_1G && config->memory_bytes % MEMORY_GIANT_BYTES)
        usage_error(&run_line, "--pages hugetlb-1g: --memory must be a multiple of 1G; round it");
    check_kernel(options);
    check_balloon(options);
    place_ports(options);
    number_devices(options);
    config->devices = options->devices;
    if (options->cpuid.asked)
        config->cpuid = &options->cpuid.mask;
    config->modules = options->modules;
    options->boot_args = join_boot_args(options->append, options->exec);
    config->boot_args = options->boot_args;
}

void run_options_free(struct run_options *options)
{
    free(options->boot_args);
}
