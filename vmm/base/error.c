#include "vmm/base/error.h"

#include <stdarg.h>
#include <stdio.h>

static int error_write(struct error *error, int code, const char *field, const char *format,
                       va_list arguments)
{
    error->code = code;
    snprintf(error->field, sizeof(error->field), "%s", field);
    vsnprintf(error->text, sizeof(error->text), format, arguments);
    return code;
}

int error_set(struct error *error, int code, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    error_write(error, code, "", format, arguments);
    va_end(arguments);
    return code;
}

int error_field(struct error *error, int code, const char *field, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    error_write(error, code, field, format, arguments);
    va_end(arguments);
    return code;
}
