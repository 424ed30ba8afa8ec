#define _GNU_SOURCE /* sched_setaffinity is Linux's own, on Android too */
#include "affinity.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

bool pin_to_processors(const Json *processors, Failure *failure) {
    cpu_set_t set;
    char listed[128] = "";
    if (processors == NULL) return true;
    if (processors->kind != JSON_ARRAY) return fail(failure, "request", "cpu_affinity is no list");
    if (processors->child == NULL) return true;
    CPU_ZERO(&set);
    for (const Json *number = processors->child; number != NULL; number = number->next) {
        bool whole = number->kind == JSON_NUMBER && number->number >= 0 && number->number < CPU_SETSIZE &&
                     number->number == (double)(int)number->number;
        if (!whole) return fail(failure, "usage", "cpu_affinity holds what is no number of a processor");
        CPU_SET((size_t)number->number, &set);
        size_t length = strlen(listed);
        snprintf(listed + length, sizeof listed - length, "%s%d", length ? ", " : "", (int)number->number);
    }
    if (sched_setaffinity(0, sizeof set, &set) == 0) return true;
    return fail(failure, "usage", "processors %s cannot be used: %s", listed, strerror(errno));
}
