#include "vmm/cli/run_options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/backend/delay.h"
#include "devices/virtio/vsock.h"
#include "vmm/base/parse.h"
#include "vmm/cli/kernel_options.h"
#include "vmm/cli/net_options.h"
#include "vmm/launch/config_fields.h"
#include "vmm/launch/config_json.h"
#include "vmm/monitor/watchdog.h"

enum {
    OPT_CONFIG,
    OPT_PRINT_CONFIG,
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
    OPT_DEVICE,
    OPT_IOMMU,
    OPT_IO,
    OPT_EXEC,
    OPT_CONTROL,
    OPT_WATCHDOG,
    OPT_JSON
};

static const struct option_entry option_entries[] = {
    [OPT_CONFIG] = { "config", "FILE",
                     "the machine as JSON (strata.1, CONFIGURATION FILES); other options beside\n"
                     "it have the last word, and add devices to its own" },
    [OPT_PRINT_CONFIG] = { "print-config", NULL,
                           "write the machine that would be run as such JSON, and run nothing" },
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
    [OPT_DISK] = { "disk", "FILE[,ro][,root][,latency=TIME]",
                   "a disk with the contents of FILE, read-only with ,ro, the root file system\n"
                   "of a kernel with ,root, each request taking\n"
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
    [OPT_DEVICE] = { "device", "NAME",
                     "a device that has no settings, by its name in a configuration file, such as\n"
                     "entropy; may be repeated" },
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

/* Which field of the configuration an option sets, by which errors are told in its terms. */
static const char *const option_fields[] = {
    [OPT_KERNEL] = "boot-source.kernel_image_path",
    [OPT_INITRD] = "boot-source.initrd_path",
    [OPT_MODULE] = "boot-source.modules",
    [OPT_FLAT] = "flat-kernel",
    [OPT_APPEND] = "boot-source.boot_args",
    [OPT_DEBUG_EXIT] = "debug-exit.port",
    [OPT_MEMORY] = "machine-config.mem_size_mib",
    [OPT_CPUS] = "machine-config.vcpu_count",
    [OPT_CPUID] = "machine-config.cpuid",
    [OPT_PAGES] = "machine-config.huge_pages",
    [OPT_DISK] = "drives",
    [OPT_NET] = "network-interfaces",
    [OPT_VSOCK] = "vsock",
    [OPT_RNG] = "entropy",
    [OPT_VIRTIO_CONSOLE] = "virtio-console",
    [OPT_VIRTIO_PORT] = "virtio-ports",
    [OPT_BALLOON] = "balloon",
    [OPT_DMA_PROBE] = "dma-probe",
    [OPT_IOMMU] = "iommu.mode",
    [OPT_IO] = "machine-config.io_thread",
};

/* The option that sets a field of the configuration; -1: none. */
static int run_option_of(const char *field)
{
    for (unsigned i = 0; i < sizeof(option_fields) / sizeof(option_fields[0]); i++) {
        size_t length = option_fields[i] ? strlen(option_fields[i]) : 0;

        /* "drives" is also of drives[0].path_on_host. */
        if (length && strncmp(option_fields[i], field, length) == 0 &&
            !isalnum((unsigned char)field[length]) && field[length] != '_' && field[length] != '-')
            return (int)i;
    }
    return -1;
}

void run_error_text(const struct run_options *options, const struct error *error,
                    char text[RUN_ERROR_BYTES])
{
    int option = run_option_of(error->field);
    bool given = option >= 0 && (options->given >> option & 1);

    /* What no option has said the file has. */
    if (options->config_path && error->field[0] && !given)
        snprintf(text, RUN_ERROR_BYTES, "%s: %s: %s", options->config_path, error->field,
                 error->text);
    else if (option >= 0)
        snprintf(text, RUN_ERROR_BYTES, "--%s: %s", option_entries[option].name, error->text);
    else
        snprintf(text, RUN_ERROR_BYTES, "%s", error->text);
}

void run_report(const struct run_options *options, const struct error *error)
{
    char text[RUN_ERROR_BYTES];

    run_error_text(options, error, text);
    fprintf(stderr, "strata run: %s\n", text);
}

/* Ends the process over what file and options together say. */
static void refuse(const struct run_options *options, const struct error *error)
    __attribute__((noreturn));

static void refuse(const struct run_options *options, const struct error *error)
{
    char text[RUN_ERROR_BYTES];

    run_error_text(options, error, text);
    usage_error(&run_line, "%s", text);
}

/* A size as people write it; one that no number holds is beyond every limit. */
static uint64_t parse_memory(const char *text)
{
    uint64_t bytes;
    int err = parse_size(text, &bytes);

    if (err == -EINVAL)
        usage_error(&run_line, "--memory %s: not a size; say for example 256M or 1G", text);
    return err || bytes > INT64_MAX ? INT64_MAX : bytes;
}

static unsigned parse_cpus(const char *text)
{
    unsigned count;
    int err = parse_count(text, INT32_MAX, &count);

    if (err == -EINVAL)
        usage_error(&run_line, "--cpus %s: not a number; say for example 2", text);
    return err ? INT32_MAX : count;
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

/* One more object of a section, zero. */
static void *add_object(struct run_options *options, const char *name)
{
    struct error error;
    void *object;

    for (unsigned i = 0; i < config_sections_count; i++) {
        if (strcmp(config_sections[i].name, name) != 0)
            continue;
        if (config_add_object(&options->config, &config_sections[i], &object, &error))
            refuse(options, &error);
        return object;
    }
    usage_error(&run_line, "%s: no such device", name);
}

/* Any device that is an empty object in a configuration file. */
static void add_device(struct run_options *options, const char *name)
{
    char names[128] = "";

    for (unsigned i = 0; i < config_sections_count; i++) {
        const struct config_section *section = &config_sections[i];
        size_t used = strlen(names);

        if (section->place != CONFIG_DEVICE || section->fields)
            continue;
        if (strcmp(section->name, name) == 0) {
            add_object(options, name);
            return;
        }
        snprintf(names + used, sizeof(names) - used, "%s%s", used ? ", " : "", section->name);
    }
    usage_error(&run_line, "--device %s: no device without settings has that name; there are %s",
                name, names);
}

static const char *copy_text(struct run_options *options, const char *text)
{
    const char *copy = config_text(&options->config, text);

    if (!copy)
        usage_error(&run_line, "out of memory");
    return copy;
}

static void add_module(struct run_options *options, const char *text)
{
    unsigned *count = &options->config.nmodules;

    if (*count == MULTIBOOT_MODULES_MAX)
        usage_error(&run_line, "more than %d modules; give fewer --module", MULTIBOOT_MODULES_MAX);
    options->config.modules[(*count)++] = copy_text(options, text);
}

/* Takes what is behind the comma, if it says how the disk is to be; else it is of the name. */
static bool take_disk_word(struct config_device *disk, const char *word)
{
    int err;

    if (!strcmp(word, "ro")) {
        disk->read_only = true;
        return true;
    }
    if (!strcmp(word, "root")) {
        disk->root = true;
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
    struct config_device *disk = add_object(options, "drives");
    char *comma;

    while ((comma = strrchr(text, ',')) && take_disk_word(disk, comma + 1))
        *comma = 0;
    if (access(text, F_OK) && is_misspelt(text))
        usage_error(&run_line, "--disk %s: what may follow the file is ro, root and latency=TIME",
                    text);
    disk->path = copy_text(options, text);
}

static void add_net(struct run_options *options, char *text)
{
    struct config_device *net = add_object(options, "network-interfaces");

    net_options_parse(net, text);
    net->tap = net->tap ? copy_text(options, net->tap) : NULL;
    for (unsigned i = 0; i < net->nforwards; i++)
        net->forwards[i] = copy_text(options, net->forwards[i]);
}

/* cid=N,path=SOCK, in any order; the path is the rest where it comes last. */
static void add_vsock(struct run_options *options, char *text)
{
    struct config_device *vsock = add_object(options, "vsock");

    for (char *part = text; part;) {
        char *next = strncmp(part, "path=", 5) || strstr(part, ",cid=") ? strchr(part, ',') : NULL;
        unsigned cid;

        if (next)
            *next++ = 0;
        if (!strncmp(part, "cid=", 4)) {
            if (parse_count(part + 4, VSOCK_CID_LAST, &cid) || cid < VSOCK_CID_FIRST)
                usage_error(&run_line, "--vsock: %s: give a number from %u to %u", part,
                            VSOCK_CID_FIRST, VSOCK_CID_LAST);
            vsock->guest_cid = cid;
        } else if (!strncmp(part, "path=", 5) && part[5]) {
            vsock->path = copy_text(options, part + 5);
        } else {
            usage_error(&run_line, "--vsock %s: unknown; say cid=N,path=SOCK", part);
        }
        part = next;
    }
    if (!vsock->guest_cid || !vsock->path)
        usage_error(&run_line, "--vsock without %s: say cid=N,path=SOCK",
                    vsock->path ? "cid=" : "path=");
}

/* name=NAME,path=SOCK, in any order; the path is the rest where it comes last. */
static void add_port(struct run_options *options, char *text)
{
    struct console_port_config *port = add_object(options, "virtio-ports");

    for (char *part = text; part;) {
        char *next = strncmp(part, "path=", 5) || strstr(part, ",name=") ? strchr(part, ',') : NULL;

        if (next)
            *next++ = 0;
        if (!strncmp(part, "name=", 5))
            port->name = copy_text(options, part + 5);
        else if (!strncmp(part, "path=", 5) && part[5])
            port->path = copy_text(options, part + 5);
        else
            usage_error(&run_line, "--virtio-port %s: unknown; say name=NAME,path=SOCK", part);
        part = next;
    }
    if (!port->name || !port->path)
        usage_error(&run_line, "--virtio-port without %s: say name=NAME,path=SOCK",
                    port->path ? "name=" : "path=");
}

static void add_balloon(struct run_options *options, const char *text)
{
    struct config_device *balloon = add_object(options, "balloon");

    if (strcmp(text, "0") && parse_size(text, &balloon->bytes))
        usage_error(&run_line, "--balloon %s: not a size; say for example 64M, or 0", text);
}

static enum vm_iommu parse_iommu(const char *text)
{
    static const char *const modes[] = { [VM_IOMMU_OFF] = "off",
                                         [VM_IOMMU_BYPASS] = "bypass",
                                         [VM_IOMMU_STRICT] = "strict",
                                         [VM_IOMMU_LAZY] = "lazy" };

    for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        if (!strcmp(text, modes[i]))
            return (enum vm_iommu)i;
    }
    usage_error(&run_line, "--iommu %s: unknown; say off, bypass, strict or lazy", text);
}

static int parse_pages(const char *text)
{
    enum memory_backing backing;

    if (parse_backing(text, &backing))
        usage_error(&run_line, "--pages %s: unknown; say 4k, thp, hugetlb or hugetlb-1g", text);
    return (int)backing;
}

/* Where a command begins in boot arguments: everything after exec= to their end. */
static size_t command_start(const char *args)
{
    const char *found = strncmp(args, "exec=", 5) ? strstr(args, " exec=") : args;

    return found ? (size_t)(found - args) : strlen(args);
}

/* It comes last, and instead of one that is there. */
static void add_command(struct run_options *options)
{
    const char *args = options->config.boot_args ? options->config.boot_args : "";
    int length = (int)command_start(args);
    char *joined;

    if (!options->exec)
        return;
    if (asprintf(&joined, "%.*s%sexec=%s", length, args, length ? " " : "", options->exec) < 0)
        usage_error(&run_line, "out of memory");
    options->config.boot_args = copy_text(options, joined);
    free(joined);
}

/* Options that say something about the machine; false: it is none. */
static bool take_device_option(struct run_options *options, int option, char *value)
{
    switch (option) {
    case OPT_DISK: add_disk(options, value); return true;
    case OPT_NET: add_net(options, value); return true;
    case OPT_VSOCK: add_vsock(options, value); return true;
    case OPT_RNG: add_object(options, "entropy"); return true;
    case OPT_DMA_PROBE: add_object(options, "dma-probe"); return true;
    case OPT_VIRTIO_CONSOLE: add_object(options, "virtio-console"); return true;
    case OPT_VIRTIO_PORT: add_port(options, value); return true;
    case OPT_BALLOON: add_balloon(options, value); return true;
    case OPT_DEVICE: add_device(options, value); return true;
    default: return false;
    }
}

static void take_option(struct run_options *options, int option, char *value)
{
    struct vm_config *config = &options->config;

    switch (option) {
    case OPT_PRINT_CONFIG: options->print_config = true; break;
    case OPT_KERNEL: config->kernel_path = copy_text(options, value); break;
    case OPT_INITRD: config->initrd_path = copy_text(options, value); break;
    case OPT_MODULE: add_module(options, value); break;
    case OPT_FLAT: config->flat = parse_flat(&run_line, value); break;
    case OPT_DEBUG_EXIT: config->debug_exit_port = parse_debug_exit(&run_line, value); break;
    case OPT_FORCE: options->force = true; break;
    case OPT_APPEND: config->boot_args = copy_text(options, value); break;
    case OPT_MEMORY: config->memory_bytes = parse_memory(value); break;
    case OPT_CPUS: config->vcpu_count = parse_cpus(value); break;
    case OPT_CPUID: config->cpuid = copy_text(options, value); break;
    case OPT_PAGES: config->huge_pages = parse_pages(value); break;
    case OPT_IOMMU: config->iommu = parse_iommu(value); break;
    case OPT_IO: config->io_thread = parse_io(value); break;
    case OPT_EXEC: options->exec = value; break;
    case OPT_CONTROL: options->control = value; break;
    case OPT_WATCHDOG: options->watchdog_seconds = parse_watchdog(value); break;
    case OPT_JSON: options->json = value; break;
    default: break;
    }
}

/* The file first: options have the last word wherever they stand. */
static void load_config(struct run_options *options, int argc, char **argv)
{
    struct error error;
    const char *value;
    int option;

    while ((option = options_next(&run_line, argc, argv, &value)) >= 0) {
        if (option == OPT_CONFIG && options->config_path)
            usage_error(&run_line, "--config twice; give one file");
        if (option == OPT_CONFIG)
            options->config_path = value;
    }
    optind = 0;
    if (!options->config_path ||
        config_json_load(&options->config, options->config_path, &error) == 0)
        return;
    if (!error.field[0])
        usage_error(&run_line, "%s: %s", options->config_path, error.text);
    refuse(options, &error);
}

void run_options_parse(struct run_options *options, int argc, char **argv)
{
    struct error error;
    const char *value;
    int option;

    memset(options, 0, sizeof(*options));
    config_init(&options->config);
    load_config(options, argc, argv);
    while ((option = options_next(&run_line, argc, argv, &value)) >= 0) {
        options->given |= 1ull << option;
        if (!take_device_option(options, option, optarg))
            take_option(options, option, optarg);
    }
    add_command(options);
    config_place_devices(&options->config);
    if (config_check(&options->config, &error))
        refuse(options, &error);
}

void run_options_free(struct run_options *options)
{
    config_destroy(&options->config);
}
