#include "vmm/base/error.h"

#include <stdarg.h>
#include <stdio.h>

/* Files and what they name are not trusted: a line is one line, and no terminal's control. */
static void error_clean(char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = '?';
    }
}

static int error_write(struct error *error, int code, const char *field, const char *format,
                       va_list arguments)
{
    error->code = code;
    snprintf(error->field, sizeof(error->field), "%s", field);
    vsnprintf(error->text, sizeof(error->text), format, arguments);
    error_clean(error->field);
    error_clean(error->text);
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
