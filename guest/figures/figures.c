#include "guest/figures/figures.h"

#include "guest/abi/exercises.h"

/*
 * Each function begins on a page of its own, so that a small library has several pages
 * of text to share; and what is written is on another page than what is not.
 */
#define OWN_PAGE __attribute__((aligned(4096)))

uint64_t figures_calls OWN_PAGE = ABI_LIBRARY_FIRST_COUNT;
OWN_PAGE uint64_t figures_weights[FIGURES_WEIGHTS] = { [0 ... FIGURES_WEIGHTS - 1] = 1 };

/* The program's own: the library calls back into whoever loaded it. */
int strcmp(const char *a, const char *b);

OWN_PAGE uint64_t figures_sum(const uint64_t *figure, size_t n)
{
    uint64_t sum = 0;

    while (n--)
        sum += *figure++;
    return sum;
}

OWN_PAGE uint64_t figures_largest(const uint64_t *figure, size_t n)
{
    uint64_t largest = 0;

    for (; n--; figure++)
        largest = *figure > largest ? *figure : largest;
    return largest;
}

OWN_PAGE uint64_t figures_divisor(const uint64_t *figure, size_t n)
{
    uint64_t divisor = 0;

    for (; n--; figure++) {
        uint64_t rest = *figure;

        while (rest) {
            uint64_t next = divisor % rest;

            divisor = rest;
            rest = next;
        }
    }
    return divisor;
}

OWN_PAGE uint64_t figures_digest(const uint64_t *figure, size_t n)
{
    uint64_t digest = 0xcbf29ce484222325; /* FNV-1a, by words */

    while (n--)
        digest = (digest ^ *figure++) * 0x100000001b3;
    return digest;
}

OWN_PAGE uint64_t figures_weighted(const uint64_t *figure, size_t n)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += figure[i] * figures_weights[i % FIGURES_WEIGHTS];
    return sum;
}

OWN_PAGE void figures_sort(uint64_t *figure, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        for (size_t j = i; j > 0 && figure[j] < figure[j - 1]; j--) {
            uint64_t other = figure[j];

            figure[j] = figure[j - 1];
            figure[j - 1] = other;
        }
    }
}

/* Pointers in data: to text strings, and to functions that a program could replace. */
static const struct {
    const char *name;
    uint64_t (*call)(const uint64_t *figure, size_t n);
} functions[] = {
    { "sum", figures_sum },       { "largest", figures_largest },   { "divisor", figures_divisor },
    { "digest", figures_digest }, { "weighted", figures_weighted },
};

OWN_PAGE uint64_t figures_apply(const char *name, const uint64_t *figure, size_t n)
{
    figures_calls++;
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        if (!strcmp(functions[i].name, name))
            return functions[i].call(figure, n);
    }
    return 0;
}
