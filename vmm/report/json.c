#include "vmm/report/json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

int json_write(struct output_file *output, const json_t *value)
{
    char *text, *line;
    int bytes, err;

    if (!output->path)
        return 0;
    text = json_dumps(value, JSON_INDENT(2));
    if (!text)
        return -ENOMEM;
    bytes = asprintf(&line, "%s\n", text);
    free(text);
    if (bytes < 0)
        return -ENOMEM;
    err = output_file_write(output, line, (size_t)bytes);
    free(line);
    return err;
}

json_t *json_result(const char *schema, int version)
{
    return json_pack("{s:s, s:i}", "schema", schema, "version", version);
}

json_t *json_number_or_null(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}
