/* Commands of guest/measure/ carried out in this process, for what is compared with the guest. */
#ifndef STRATA_MEASURE_NATIVE_H
#define STRATA_MEASURE_NATIVE_H

#include "guest/abi/measure.h"

/* Carries a command out in this process, on the calling thread. */
void native_command(const struct abi_command *command, struct abi_reply *reply);

#endif
