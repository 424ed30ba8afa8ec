/* Keeps this process, and the threads that it will start, on some processors. */

#ifndef EDGEKIT_AFFINITY_H
#define EDGEKIT_AFFINITY_H

#include "json.h"

/* `processors` is a list of numbers; NULL or an empty list leaves things as they are. */
bool pin_to_processors(const Json *processors, Failure *failure);

#endif
