#include "vmm/boot/error.h"

#include <stdarg.h>
#include <stdio.h>

int boot_fail(struct boot_error *error, int code, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(error->text, sizeof(error->text), format, arguments);
    va_end(arguments);
    return code;
}
