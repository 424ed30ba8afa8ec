/* The outputs for sets of inputs, each computed from a fresh state. */

#ifndef EDGEKIT_PREDICT_H
#define EDGEKIT_PREDICT_H

#include "json.h"
#include "tflite.h"

/* The raw outputs become `content`, which the caller frees. */
bool predict(Session *session, const Json *request, char *blob, int64_t size, Text *reply, Text *content,
             Failure *failure);

#endif
