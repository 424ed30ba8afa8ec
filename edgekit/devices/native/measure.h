/* Runs that are timed: warm-up and blocks, as worker.py has them. */

#ifndef EDGEKIT_MEASURE_H
#define EDGEKIT_MEASURE_H

#include "json.h"
#include "memory.h"
#include "tflite.h"

int64_t now_ns(void);

bool warm(Session *session, PeakMemory *memory, const Json *request, Text *reply, Failure *failure);
bool measure(Session *session, const Json *request, Text *reply, Failure *failure);

#endif
