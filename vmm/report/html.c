#include "vmm/report/html.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "vmm/base/version.h"
#include "vmm/report/page.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* ---- Text ----------------------------------------------------------------- */

/* Bytes of the character that starts here; 0: it is none (Unicode 15, table 3-7). */
static size_t html_utf8_bytes(const unsigned char *text)
{
    static const struct {
        unsigned char first, last, low, high; /* of the first byte, and of the second */
        size_t bytes;
    } forms[] = {
        { 0x20, 0x7e, 0, 0xff, 1 },    { 0xc2, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 },
        { 0xe1, 0xec, 0x80, 0xbf, 3 }, { 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 },
        { 0xf0, 0xf0, 0x90, 0xbf, 4 }, { 0xf1, 0xf3, 0x80, 0xbf, 4 }, { 0xf4, 0xf4, 0x80, 0x8f, 4 },
    };

    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        if (*text < forms[i].first || *text > forms[i].last)
            continue;
        if (text[1] < forms[i].low || text[1] > forms[i].high)
            return 0;
        /* A byte of 0 ends the text and is no continuation. */
        for (size_t n = 2; n < forms[i].bytes; n++) {
            if ((text[n] & 0xc0) != 0x80)
                return 0;
        }
        /* C1 controls. */
        return *text == 0xc2 && text[1] < 0xa0 ? 0 : forms[i].bytes;
    }
    return 0;
}

void html_text(FILE *out, const char *text)
{
    const unsigned char *at = (const unsigned char *)text;

    while (*at) {
        size_t bytes = *at == '\n' ? 1 : html_utf8_bytes(at);

        switch (*at) {
        case '&': fputs("&amp;", out); break;
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        case '"': fputs("&quot;", out); break;
        case '\'': fputs("&#39;", out); break;
        default:
            if (bytes)
                fwrite(at, 1, bytes, out);
            else
                fputs(REPLACEMENT, out);
        }
        at += bytes ? bytes : 1;
    }
}

static void html_print_args(FILE *out, const char *format, va_list args)
{
    char *text;

    if (vasprintf(&text, format, args) < 0)
        return;
    html_text(out, text);
    free(text);
}

void html_printf(FILE *out, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    html_print_args(out, format, args);
    va_end(args);
}

/* ---- The frame ------------------------------------------------------------ */

/* The script's password: unguessable, so that no other script has it. */
static void html_make_nonce(char text[33])
{
    uint64_t random[2];

    /* Does not fail for so few bytes (getrandom(2)); without them no script would run. */
    if (getrandom(random, sizeof(random), 0) != sizeof(random)) {
        text[0] = 0;
        return;
    }
    snprintf(text, 33, "%016" PRIx64 "%016" PRIx64, random[0], random[1]);
}

void html_begin(FILE *out, const char *title, const char *command)
{
    char when[32] = "", nonce[33];
    time_t now = time(NULL);
    struct tm tm;

    html_make_nonce(nonce);
    if (gmtime_r(&now, &tm))
        strftime(when, sizeof(when), "%Y-%m-%d %H:%M UTC", &tm);
    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
          "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
          "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
          "script-src 'nonce-",
          out);
    fputs(nonce, out);
    fputs("'\">\n<meta name=\"viewport\" content=\"width=device-width\">\n"
          "<link rel=\"icon\" href=\"data:,\">\n<title>",
          out);
    html_printf(out, "%s: %s", title, command);
    fputs("</title>\n<style>\n", out);
    fwrite(page_css, 1, (size_t)(page_css_end - page_css), out);
    fprintf(out, "</style>\n<script nonce=\"%s\">\n", nonce);
    fwrite(page_js, 1, (size_t)(page_js_end - page_js), out);
    fputs("</script>\n</head>\n<body>\n<header><h1>", out);
    html_text(out, title);
    fputs("</h1><p class=\"by\">", out);
    html_printf(out, "%s, version " STRATA_VERSION ", %s", command, when);
    fputs(
        "</p><button id=\"theme\" type=\"button\" hidden>light or dark</button></header>\n<main>\n",
        out);
}

void html_end(FILE *out)
{
    fputs("</main>\n</body>\n</html>\n", out);
}

void html_section(FILE *out, const char *anchor, const char *heading)
{
    fprintf(out, "<h2 id=\"%s\">", anchor);
    html_text(out, heading);
    fputs("</h2>\n", out);
}

/* ---- Tables and data ------------------------------------------------------ */

void html_table(FILE *out, const char *const *heads)
{
    fputs("<div class=\"scroll\"><table>\n<thead><tr>", out);
    for (; *heads; heads++) {
        fputs("<th scope=\"col\">", out);
        html_text(out, *heads);
        fputs("</th>", out);
    }
    fputs("</tr></thead>\n<tbody>", out);
}

void html_row(FILE *out)
{
    fputs("\n<tr>", out);
}

void html_cell(FILE *out, const char *class, const char *format, ...)
{
    va_list args;

    if (class)
        fprintf(out, "<td class=\"%s\">", class);
    else
        fputs("<td>", out);
    va_start(args, format);
    html_print_args(out, format, args);
    va_end(args);
    fputs("</td>", out);
}

void html_table_end(FILE *out)
{
    fputs("\n</tbody></table></div>\n", out);
}

/* "</script" and "<!--" must not occur in a script element, whatever strings say. */
static int html_put_json(const char *text, size_t bytes, void *out)
{
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] == '<')
            fputs("\\u003c", out);
        else
            fputc(text[i], out);
    }
    return 0;
}

void html_json(FILE *out, const char *id, const json_t *value)
{
    fprintf(out, "<script type=\"application/json\" id=\"%s\">", id);
    json_dump_callback(value, html_put_json, out, JSON_COMPACT | JSON_ENCODE_ANY);
    fputs("</script>\n", out);
}

int html_write(struct output_file *output, void (*print)(FILE *out, const void *owner),
               const void *owner)
{
    size_t bytes = 0;
    char *page = NULL;
    bool failed;
    FILE *out;
    int err;

    if (!output->path)
        return 0;
    out = open_memstream(&page, &bytes);
    if (!out)
        return -errno;
    print(out, owner);
    failed = ferror(out);
    failed |= fclose(out) != 0;
    err = failed ? -ENOMEM : output_file_write(output, page, bytes);
    free(page);
    return err;
}
