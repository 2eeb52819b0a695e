/* What strata calls itself in --version and in its pages. */
#ifndef STRATA_BASE_VERSION_H
#define STRATA_BASE_VERSION_H

#define STRATA_VERSION "0.1"

#endif
