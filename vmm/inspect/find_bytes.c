/*
 * memmem at the speed of memory: at 32 places at a time (16 without AVX2), two bytes of
 * the pattern are compared with what is there; where both are alike, all of it is. The
 * two are chosen among those that memory is least full of.
 */
#include "vmm/inspect/find_bytes.h"

#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

/* Places that only look alike; with more than one in so many bytes memmem takes over,
 * which is slower but takes linear time whatever a guest has put there. */
#define LOOK_ALIKE_BYTES 32

/* How common a byte is in memory, as far as that matters. */
static unsigned find_bytes_commonness(uint8_t byte)
{
    if (byte == 0)
        return 3;
    return byte == 0xff ? 2 : byte == ' ' || byte < 8;
}

struct choice {
    size_t one, two; /* offsets in the pattern; one <= two */
};

static struct choice find_bytes_choose(const uint8_t *pattern, size_t bytes)
{
    struct choice c = { 0, bytes - 1 };

    for (size_t i = 0; i < bytes; i++) {
        if (find_bytes_commonness(pattern[i]) < find_bytes_commonness(pattern[c.one]))
            c.one = i;
    }
    for (size_t i = bytes; i--;) {
        if (i != c.one && (c.two == c.one || find_bytes_commonness(pattern[i]) <
                                                 find_bytes_commonness(pattern[c.two])))
            c.two = i;
    }
    return c;
}

struct hunt {
    const uint8_t *from;
    size_t places; /* at which the pattern can start */
    const uint8_t *pattern;
    size_t bytes;
    struct choice at;
};

/* Both return how far they came: the place itself, or where memmem must go on. */
#define HUNT(name, isa, vector, width, load, set1, equal, both, mask)                            \
    __attribute__((target(isa))) static size_t name(const struct hunt *h, bool *found)           \
    {                                                                                            \
        vector one = set1((char)h->pattern[h->at.one]), two = set1((char)h->pattern[h->at.two]); \
        size_t i, lookalikes = 0;                                                                \
                                                                                                 \
        for (i = 0; i + (width) <= h->places; i += (width)) {                                    \
            vector a = load((const void *)(h->from + i + h->at.one));                            \
            vector b = load((const void *)(h->from + i + h->at.two));                            \
            uint32_t hits = (uint32_t)mask(both(equal(a, one), equal(b, two)));                  \
                                                                                                 \
            for (; hits; hits &= hits - 1) {                                                     \
                size_t place = i + (size_t)__builtin_ctz(hits);                                  \
                                                                                                 \
                if (!memcmp(h->from + place, h->pattern, h->bytes)) {                            \
                    *found = true;                                                               \
                    return place;                                                                \
                }                                                                                \
                lookalikes++;                                                                    \
            }                                                                                    \
            if (lookalikes > 64 + i / LOOK_ALIKE_BYTES)                                          \
                return i + (width);                                                              \
        }                                                                                        \
        return i;                                                                                \
    }

HUNT(hunt_avx2, "avx2", __m256i, 32u, _mm256_loadu_si256, _mm256_set1_epi8, _mm256_cmpeq_epi8,
     _mm256_and_si256, _mm256_movemask_epi8)
HUNT(hunt_sse2, "sse2", __m128i, 16u, _mm_loadu_si128, _mm_set1_epi8, _mm_cmpeq_epi8, _mm_and_si128,
     _mm_movemask_epi8)

const uint8_t *find_bytes(const uint8_t *from, size_t n, const uint8_t *pattern, size_t bytes)
{
    struct hunt h = { .from = from, .pattern = pattern, .bytes = bytes };
    bool found = false;
    size_t i;

    if (!bytes || n < bytes)
        return NULL;
    h.places = n - bytes + 1;
    h.at = find_bytes_choose(pattern, bytes);
    i = __builtin_cpu_supports("avx2") ? hunt_avx2(&h, &found) : hunt_sse2(&h, &found);
    return found ? from + i : memmem(from + i, n - i, pattern, bytes);
}
