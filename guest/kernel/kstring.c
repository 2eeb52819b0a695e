#include "guest/kernel/kstring.h"

/*
 * Memory functions by string instructions: the compiler calls them, and one
 * instruction for many bytes is what counts where each is interpreted.
 */
void *memset(void *to, int byte, size_t bytes)
{
    void *at = to;
    uint64_t word = (uint8_t)byte * 0x0101010101010101ull;
    size_t words = bytes / 8;

    bytes %= 8;
    __asm__ volatile("rep stosq" : "+D"(at), "+c"(words) : "a"(word) : "memory");
    __asm__ volatile("rep stosb" : "+D"(at), "+c"(bytes) : "a"(word) : "memory");
    return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
    void *at = to;
    size_t words = bytes / 8;

    bytes %= 8;
    __asm__ volatile("rep movsq" : "+D"(at), "+S"(from), "+c"(words) : : "memory");
    __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(bytes) : : "memory");
    return to;
}

int strcmp(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return (uint8_t)*a - (uint8_t)*b;
}

size_t strlen(const char *s)
{
    size_t n = 0;

    while (s[n])
        n++;
    return n;
}

void copy_name(char *to, size_t room, const char *from)
{
    size_t n = 0;

    while (n + 1 < room && from[n]) {
        to[n] = from[n];
        n++;
    }
    to[n] = 0;
}
