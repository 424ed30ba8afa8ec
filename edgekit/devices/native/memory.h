/* The most memory that the process held above what it held with the bare library, as worker.py counts it. */

#ifndef EDGEKIT_MEMORY_H
#define EDGEKIT_MEMORY_H

#include "json.h"

typedef struct {
    bool known;     /* whether the system tells at all */
    bool was_reset; /* whether the kernel's mark could be set back */
    int64_t base;   /* what does not count, in bytes */
    int64_t mark;   /* the kernel's highest, when counting began */
    int64_t paused; /* the size at the pause */
    int64_t highest;
} PeakMemory;

void memory_start(PeakMemory *memory);
void memory_pause(PeakMemory *memory); /* what follows is the measurement's own */
void memory_resume(PeakMemory *memory);
void memory_report(PeakMemory *memory, Text *reply);

#endif
