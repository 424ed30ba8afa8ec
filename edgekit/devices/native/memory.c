#include "memory.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Present and highest resident size in bytes; false where the system does not tell. */
static bool sizes(int64_t *now, int64_t *peak) {
    FILE *status = fopen("/proc/self/status", "r");
    char line[256];
    long long kib;
    *now = *peak = -1;
    if (status == NULL) return false;
    while (fgets(line, sizeof line, status) != NULL) {
        if (sscanf(line, "VmRSS: %lld kB", &kib) == 1) *now = kib * 1024;
        if (sscanf(line, "VmHWM: %lld kB", &kib) == 1) *peak = kib * 1024;
    }
    fclose(status);
    return *now >= 0 && *peak >= 0;
}

/* Set VmHWM back to the present size; false where the kernel refuses. */
static bool reset_peak(void) {
    int file = open("/proc/self/clear_refs", O_WRONLY);
    if (file < 0) return false;
    bool done = write(file, "5", 1) == 1;
    close(file);
    return done;
}

static const char *read_peak(PeakMemory *memory) {
    int64_t now, peak;
    if (!memory->known || !sizes(&now, &peak)) return NULL;
    bool raised = peak > memory->mark;
    int64_t size = (memory->was_reset || raised ? peak : now) - memory->base;
    if (size > memory->highest) memory->highest = size;
    if (memory->was_reset) return "VmHWM, reset before loading";
    return raised ? "VmHWM" : "VmRSS after the runs";
}

void memory_start(PeakMemory *memory) {
    memset(memory, 0, sizeof *memory);
    memory->was_reset = reset_peak();
    memory->known = sizes(&memory->base, &memory->mark);
}

void memory_pause(PeakMemory *memory) {
    int64_t peak;
    read_peak(memory);
    if (!sizes(&memory->paused, &peak)) memory->known = false;
}

void memory_resume(PeakMemory *memory) {
    int64_t now;
    memory->was_reset = reset_peak();
    if (sizes(&now, &memory->mark)) memory->base += now - memory->paused;
    else memory->known = false;
}

void memory_report(PeakMemory *memory, Text *reply) {
    const char *method = read_peak(memory);
    if (method == NULL) {
        text_add(reply, ", \"peak_memory_bytes\": null, \"peak_memory_method\": null");
        return;
    }
    text_add(reply, ", \"peak_memory_bytes\": %lld, \"peak_memory_method\": ", (long long)memory->highest);
    text_quoted(reply, method);
}
