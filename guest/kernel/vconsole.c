#include "guest/kernel/vconsole.h"

const struct driver vconsole_driver = { 0 };
