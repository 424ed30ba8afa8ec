/* What the machine is and what it is doing, as worker.py tells it. What cannot be read is null. */

#ifndef EDGEKIT_CONDITIONS_H
#define EDGEKIT_CONDITIONS_H

#include "json.h"

bool conditions(const Json *request, Text *reply, Failure *failure);

#endif
