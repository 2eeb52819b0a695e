#include "guest/lib/printf.h"

#include <stdarg.h>

#include "guest/lib/lib.h"

struct out {
    char text[512];
    size_t n;
};

struct spec {
    unsigned width;
    bool left, is_long;
    char pad;
};

static void put(struct out *out, char c)
{
    if (out->n < sizeof(out->text))
        out->text[out->n++] = c;
}

static void put_text(struct out *out, const char *text, size_t n, const struct spec *spec)
{
    for (size_t i = n; !spec->left && i < spec->width; i++)
        put(out, spec->pad);
    for (size_t i = 0; i < n; i++)
        put(out, text[i]);
    for (size_t i = n; spec->left && i < spec->width; i++)
        put(out, ' ');
}

static void put_number(struct out *out, uint64_t value, bool minus, unsigned base,
                       const struct spec *spec)
{
    char text[24];
    size_t at = sizeof(text);

    do {
        text[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    if (minus)
        text[--at] = '-';
    put_text(out, text + at, sizeof(text) - at, spec);
}

static const char *parse(const char *format, struct spec *spec)
{
    *spec = (struct spec){ .pad = ' ' };
    for (; *format == '-' || *format == '0'; format++) {
        if (*format == '-')
            spec->left = true;
        else
            spec->pad = '0';
    }
    while (*format >= '0' && *format <= '9')
        spec->width = spec->width * 10 + (unsigned)(*format++ - '0');
    while (*format == 'l') {
        spec->is_long = true;
        format++;
    }
    return format;
}

void printf(const char *format, ...)
{
    struct out out;
    va_list args;

    out.n = 0;
    va_start(args, format);
    for (; *format; format++) {
        struct spec spec;

        if (*format != '%') {
            put(&out, *format);
            continue;
        }
        format = parse(format + 1, &spec);
        if (*format == 's') {
            const char *s = va_arg(args, const char *);

            put_text(&out, s, strlen(s), &spec);
        } else if (*format == 'c') {
            char c = (char)va_arg(args, int);

            put_text(&out, &c, 1, &spec);
        } else if (*format == 'd') {
            int64_t value = spec.is_long ? va_arg(args, int64_t) : va_arg(args, int);

            put_number(&out, (uint64_t)(value < 0 ? -value : value), value < 0, 10, &spec);
        } else if (*format == 'u' || *format == 'x') {
            uint64_t value = spec.is_long ? va_arg(args, uint64_t) : va_arg(args, uint32_t);

            put_number(&out, value, false, *format == 'x' ? 16 : 10, &spec);
        } else {
            put(&out, *format);
        }
    }
    va_end(args);
    write(out.text, out.n);
}
