/*
 * libFuzzer: a configuration as JSON that may be anything. What is refused must say why in one
 * line; what is accepted must be written as text that is read to the same text again.
 */
#include <stdlib.h>
#include <string.h>

#include "vmm/launch/config_fields.h"
#include "vmm/launch/config_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool promise)
{
    if (!promise)
        abort();
}

static void check_error(int err, const struct error *error)
{
    check(err < 0 && error->code == err && error->text[0]);
    check(!strchr(error->text, '\n') && !strchr(error->field, '\n'));
    check(strlen(error->field) < ERROR_FIELD_BYTES);
}

/* What the reader promises of each device and port. */
static void check_config(struct vm_config *config)
{
    check(config->ndevices <= ABI_MMIO_DEVICES_MAX && config->nports <= VM_CONFIG_PORTS_MAX);
    check(config->nmodules <= MULTIBOOT_MODULES_MAX);
    for (unsigned i = 0; i < config->ndevices; i++)
        check(config->devices[i].nforwards <= NET_FORWARDS_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vm_config config, again;
    struct error error;
    char *text, *same;
    int err;

    config_init(&config);
    err = config_json_read(&config, (const char *)data, size, &error);
    if (err) {
        check_error(err, &error);
        config_destroy(&config);
        return 0;
    }
    check_config(&config);
    text = config_json_write(&config);
    check(text != NULL);
    config_init(&again);
    check(config_json_read(&again, text, strlen(text), &error) == 0);
    same = config_json_write(&again);
    check(same && strcmp(text, same) == 0);
    free(text);
    free(same);
    config_destroy(&again);
    config_place_devices(&config);
    err = config_check(&config, &error);
    if (err)
        check_error(err, &error);
    config_destroy(&config);
    return 0;
}
