#define _POSIX_C_SOURCE 200809L
#include "conditions.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

enum { MAX_TEXT = 1 << 18, MAX_SHOWN = 5, MAX_GOVERNORS = 16 };
static const double BUSY_PCT = 5;

/* A file of /proc or /sys without the white space around it; NULL where it cannot be read. free() it. */
static char *read_text(const char *path) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) return NULL;
    char *text = allocate(MAX_TEXT + 1, 1);
    size_t length = fread(text, 1, MAX_TEXT, file);
    bool failed = ferror(file) != 0;
    fclose(file);
    if (failed) {
        free(text);
        return NULL;
    }
    while (length > 0 && (isspace((unsigned char)text[length - 1]) || text[length - 1] == '\0')) length--;
    text[length] = '\0';
    size_t start = 0;
    while (isspace((unsigned char)text[start])) start++;
    memmove(text, text + start, length - start + 1);
    return text;
}

/* Call `visit` with the text of each file FOLDER/PREFIX.../TAIL that can be read. */
static void each_text(const char *folder, const char *prefix, const char *tail,
                      void (*visit)(const char *text, void *found), void *found) {
    DIR *entries = opendir(folder);
    struct dirent *entry;
    char path[512];
    if (entries == NULL) return;
    while ((entry = readdir(entries)) != NULL) {
        if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0) continue;
        int length = snprintf(path, sizeof path, "%s/%s/%s", folder, entry->d_name, tail);
        if (length < 0 || (size_t)length >= sizeof path) continue;
        char *text = read_text(path);
        if (text != NULL) visit(text, found);
        free(text);
    }
    closedir(entries);
}

typedef struct {
    bool any;
    long long highest;
    long long sum;
} Integers;

static void add_integer(const char *text, void *found) {
    Integers *integers = found;
    char *end;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end != '\0') return;
    if (!integers->any || value > integers->highest) integers->highest = value;
    integers->sum += value;
    integers->any = true;
}

static Integers integers(const char *folder, const char *prefix, const char *tail) {
    Integers found = {false, 0, 0};
    each_text(folder, prefix, tail, add_integer, &found);
    return found;
}

typedef struct {
    int count;
    char names[MAX_GOVERNORS][64];
} Governors;

/* Keep them sorted, each once. */
static void add_governor(const char *text, void *found) {
    Governors *governors = found;
    int place = 0;
    if (*text == '\0' || strlen(text) >= sizeof governors->names[0]) return;
    while (place < governors->count && strcmp(governors->names[place], text) < 0) place++;
    bool known = place < governors->count && strcmp(governors->names[place], text) == 0;
    if (known || governors->count == MAX_GOVERNORS) return;
    memmove(governors->names[place + 1], governors->names[place],
            (size_t)(governors->count - place) * sizeof governors->names[0]);
    strcpy(governors->names[place], text);
    governors->count++;
}

static void write_governor(Text *reply) {
    Governors governors = {0, {{0}}};
    Text joined = {NULL, 0, 0};
    each_text("/sys/devices/system/cpu/cpufreq", "policy", "scaling_governor", add_governor, &governors);
    for (int i = 0; i < governors.count; i++) text_add(&joined, "%s%s", i ? "+" : "", governors.names[i]);
    text_add(reply, ", \"governor\": ");
    if (joined.data != NULL) text_quoted(reply, joined.data);
    else text_add(reply, "null");
    free(joined.data);
}

static void write_thousandth(Text *reply, const char *key, Integers found) {
    text_add(reply, ", \"%s\": ", key);
    if (found.any) text_real(reply, (double)found.highest / 1e3);
    else text_add(reply, "null");
}

/* What follows `key` and a colon on a line of /proc/cpuinfo; NULL at the end. `*text` moves past the line. */
static const char *next_field(const char **text, const char *key) {
    while (*text != NULL && **text != '\0') {
        const char *line = *text, *end = strchr(line, '\n');
        *text = end != NULL ? end + 1 : NULL;
        if (strncmp(line, key, strlen(key)) != 0) continue;
        const char *at = line + strlen(key);
        while (*at == ' ' || *at == '\t') at++;
        if (*at != ':') continue;
        at++;
        while (*at == ' ' || *at == '\t') at++;
        return at;
    }
    return NULL;
}

static void write_frequency(Text *reply, const char *cpuinfo) {
    Integers found = integers("/sys/devices/system/cpu/cpufreq", "policy", "scaling_cur_freq");
    const char *value;
    double highest = -1;
    if (found.any) {
        write_thousandth(reply, "frequency_mhz", found);
        return;
    }
    while ((value = next_field(&cpuinfo, "cpu MHz")) != NULL)
        if (strtod(value, NULL) > highest) highest = strtod(value, NULL);
    text_add(reply, ", \"frequency_mhz\": ");
    if (highest >= 0) text_real(reply, highest);
    else text_add(reply, "null");
}

static void write_cpu_model(Text *reply, const char *cpuinfo) {
    char *board = read_text("/proc/device-tree/model");
    const char *model = next_field(&cpuinfo, "model name");
    size_t length = model != NULL ? strcspn(model, "\n") : 0;
    bool has_board = board != NULL && *board != '\0';
    Text both = {NULL, 0, 0};
    text_add(&both, "%s%s%.*s", has_board ? board : "", has_board && length ? ", " : "", (int)length,
             length ? model : "");
    text_add(reply, ", \"cpu_model\": ");
    if (both.length > 0) text_quoted(reply, both.data);
    else text_add(reply, "null");
    free(both.data);
    free(board);
}

/* Whether a hypervisor shows itself; null where neither answer is certain. */
static void write_virtualized(Text *reply, const char *cpuinfo) {
    const char *flags = next_field(&cpuinfo, "flags");
    bool is_virtual = access("/sys/hypervisor/type", F_OK) == 0;
    if (flags != NULL) {
        size_t length = strcspn(flags, "\n");
        const char *word = strstr(flags, "hypervisor");
        is_virtual = is_virtual || (word != NULL && word < flags + length);
    }
    text_add(reply, ", \"virtualized\": %s", is_virtual ? "true" : flags != NULL ? "false" : "null");
}

/* The Raspberry Pi's flags: bit 0 undervoltage, 1 capped, 2 throttled, 3 hot; 16 to 19 since boot. */
static void write_throttle_flags(Text *reply) {
    char *text = read_text("/sys/devices/platform/soc/soc:firmware/get_throttled");
    char *end = NULL;
    long flags = text != NULL ? strtol(text, &end, 16) : 0;
    if (text != NULL && end != text) text_add(reply, ", \"throttle_flags\": %ld", flags);
    else text_add(reply, ", \"throttle_flags\": null");
    free(text);
}

static void write_load_average(Text *reply) {
    char *text = read_text("/proc/loadavg");
    double load[3];
    if (text != NULL && sscanf(text, "%lf %lf %lf", &load[0], &load[1], &load[2]) == 3)
        text_add(reply, ", \"load_average\": [%.2f, %.2f, %.2f]", load[0], load[1], load[2]);
    else text_add(reply, ", \"load_average\": null");
    free(text);
}

static void write_memory(Text *reply) {
    char *text = read_text("/proc/meminfo");
    const char *keys[2][2] = {{"MemAvailable", "memory_available_bytes"}, {"MemTotal", "memory_total_bytes"}};
    for (int i = 0; i < 2; i++) {
        const char *rest = text, *value = next_field(&rest, keys[i][0]);
        if (value != NULL) text_add(reply, ", \"%s\": %lld", keys[i][1], strtoll(value, NULL, 10) * 1024);
        else text_add(reply, ", \"%s\": null", keys[i][1]);
    }
    free(text);
}

/* Ticks of all cores since the start of the machine: all, busy, and taken away by the hypervisor. */
static void write_cpu_ticks(Text *reply) {
    char *text = read_text("/proc/stat");
    long long t[8]; /* user nice system idle iowait irq softirq steal */
    int count = text == NULL ? 0
                             : sscanf(text, "cpu %lld %lld %lld %lld %lld %lld %lld %lld", &t[0], &t[1],
                                      &t[2], &t[3], &t[4], &t[5], &t[6], &t[7]);
    free(text);
    if (count != 8) {
        text_add(reply, ", \"cpu_ticks\": null");
        return;
    }
    long long total = 0;
    for (int i = 0; i < 8; i++) total += t[i];
    text_add(reply, ", \"cpu_ticks\": {\"total\": %lld, \"busy\": %lld, \"steal\": %lld}", total,
             total - t[3] - t[4] - t[7], t[7]);
}

typedef struct {
    int pid;
    long long ticks;
    char name[64];
} Process;

typedef struct {
    Process *items;
    size_t count;
} Processes;

static int by_pid(const void *a, const void *b) {
    int first = ((const Process *)a)->pid, second = ((const Process *)b)->pid;
    return (first > second) - (first < second);
}

/* The name stands in brackets and may hold spaces and brackets itself. */
static bool read_process(int pid, Process *process) {
    char path[64];
    long long user, system;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    char *text = read_text(path);
    if (text == NULL) return false;
    char *open = strchr(text, '('), *close = strrchr(text, ')');
    bool good =
        open != NULL && close != NULL && open < close &&
        sscanf(close + 1, " %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %lld %lld", &user, &system) == 2;
    if (good) {
        process->pid = pid;
        process->ticks = user + system;
        *close = '\0';
        snprintf(process->name, sizeof process->name, "%.63s", open + 1);
    }
    free(text);
    return good;
}

/* Every process that may be seen, by its number. */
static Processes read_processes(void) {
    Processes found = {NULL, 0};
    size_t capacity = 0;
    DIR *entries = opendir("/proc");
    struct dirent *entry;
    while (entries != NULL && (entry = readdir(entries)) != NULL) {
        char *end;
        long pid = strtol(entry->d_name, &end, 10);
        if (pid <= 0 || *end != '\0') continue;
        if (found.count == capacity) {
            capacity = capacity ? capacity * 2 : 256;
            Process *items = allocate(capacity, sizeof *items);
            if (found.count) memcpy(items, found.items, found.count * sizeof *items);
            free(found.items);
            found.items = items;
        }
        if (read_process((int)pid, &found.items[found.count])) found.count++;
    }
    if (entries != NULL) closedir(entries);
    if (found.count) qsort(found.items, found.count, sizeof *found.items, by_pid);
    return found;
}

static bool is_own(int pid, const Json *own_pids) {
    if (pid == (int)getpid()) return true;
    if (own_pids == NULL || own_pids->kind != JSON_ARRAY) return false;
    for (const Json *own = own_pids->child; own != NULL; own = own->next)
        if (own->kind == JSON_NUMBER && own->number == pid) return true;
    return false;
}

/* The other processes that took 5% of a core or more, the busiest first, five at most. */
static void write_busy(Text *reply, const Processes *before, const Processes *after, double seconds,
                       const Json *own_pids) {
    const Process *shown[MAX_SHOWN];
    double shares[MAX_SHOWN];
    int count = 0;
    if (before->count == 0 || after->count == 0) {
        text_add(reply, ", \"busy_processes\": null");
        return;
    }
    for (size_t i = 0; i < after->count; i++) {
        const Process *now = &after->items[i];
        const Process *then = bsearch(now, before->items, before->count, sizeof *now, by_pid);
        if (then == NULL || is_own(now->pid, own_pids)) continue;
        double share = 100.0 * (double)(now->ticks - then->ticks) / (double)sysconf(_SC_CLK_TCK) / seconds;
        int place = count;
        while (place > 0 && shares[place - 1] < share) place--;
        if (share < BUSY_PCT || place == MAX_SHOWN) continue;
        if (count < MAX_SHOWN) count++;
        for (int k = count - 1; k > place; k--) shares[k] = shares[k - 1], shown[k] = shown[k - 1];
        shares[place] = share;
        shown[place] = now;
    }
    text_add(reply, ", \"busy_processes\": [");
    for (int i = 0; i < count; i++) {
        text_add(reply, "%s{\"pid\": %d, \"name\": ", i ? ", " : "", shown[i]->pid);
        text_quoted(reply, shown[i]->name);
        text_add(reply, ", \"cpu_pct\": %.1f}", shares[i]);
    }
    text_add(reply, "]");
}

static double seconds_of(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Look at the processes for a while. */
static void write_processes(Text *reply, double window_s, const Json *own_pids) {
    double started = seconds_of(CLOCK_MONOTONIC);
    Processes before = read_processes();
    struct timespec window = {(time_t)window_s, (long)((window_s - (double)(time_t)window_s) * 1e9)};
    nanosleep(&window, NULL);
    double seconds = seconds_of(CLOCK_MONOTONIC) - started;
    Processes after = read_processes();
    long long own_ticks = 0;
    for (size_t i = 0; i < after.count; i++)
        if (is_own(after.items[i].pid, own_pids)) own_ticks += after.items[i].ticks;
    write_busy(reply, &before, &after, seconds, own_pids);
    text_add(reply, ", \"own_ticks\": %lld", own_ticks);
    free(before.items);
    free(after.items);
}

static void write_kernel(Text *reply) {
    struct utsname name;
    if (uname(&name) != 0) {
        text_add(reply, ", \"architecture\": null, \"kernel\": null");
        return;
    }
    Text kernel = {NULL, 0, 0};
    text_add(&kernel, "%s %s", name.sysname, name.release);
    text_add(reply, ", \"architecture\": ");
    text_quoted(reply, name.machine);
    text_add(reply, ", \"kernel\": ");
    text_quoted(reply, kernel.data);
    free(kernel.data);
}

bool conditions(const Json *request, Text *reply, Failure *failure) {
    double window_s = 0.3;
    if (!json_real(request, "window_s", 0, 3600, &window_s, failure)) return false;
    char *cpuinfo = read_text("/proc/cpuinfo");
    const char *cpu = cpuinfo != NULL ? cpuinfo : "";
    write_governor(reply);
    write_frequency(reply, cpu);
    write_thousandth(reply, "max_frequency_mhz",
                     integers("/sys/devices/system/cpu/cpufreq", "policy", "cpuinfo_max_freq"));
    write_thousandth(reply, "temperature_c", integers("/sys/class/thermal", "thermal_zone", "temp"));
    Integers throttles = integers("/sys/devices/system/cpu", "cpu", "thermal_throttle/core_throttle_count");
    if (throttles.any) text_add(reply, ", \"throttle_events\": %lld", throttles.sum);
    else text_add(reply, ", \"throttle_events\": null");
    write_throttle_flags(reply);
    write_memory(reply);
    write_processes(reply, window_s, json_member(request, "own_pids"));
    text_add(reply, ", \"time\": %.6f, \"cores\": %ld", seconds_of(CLOCK_REALTIME),
             sysconf(_SC_NPROCESSORS_ONLN));
    write_load_average(reply);
    write_cpu_model(reply, cpu);
    write_kernel(reply);
    write_virtualized(reply, cpu);
    write_cpu_ticks(reply);
    free(cpuinfo);
    return true;
}
