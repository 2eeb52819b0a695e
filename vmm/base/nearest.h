/*
 * The word that somebody meant.
 */
#ifndef STRATA_BASE_NEAREST_H
#define STRATA_BASE_NEAREST_H

/* The one of `nwords` (at least one) nearest to what was written, the first of equals. */
const char *nearest_word(const char *word, const char *const *words, unsigned nwords);

#endif
