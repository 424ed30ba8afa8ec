#include "measure.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

/* Warm-up goes on until the medians of the last three windows agree within 3%. A window is as many runs as
   fill 20 ms, and at least three: below that, one interrupt of the kernel moves its median. */
enum { WINDOW_RUNS = 3, WINDOW_NS = 20000000, STEADY_WINDOWS = 3, LOAD_RUNS = 1000, MAX_RUNS = 10000000 };
static const double STEADY_TOLERANCE = 0.03;

typedef struct {
    int64_t *values;
    int64_t count;
    int64_t capacity;
} Samples;

int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Room for so many more, so that no allocation lies between two runs. */
static void reserve_samples(Samples *samples, int64_t more) {
    int64_t wanted = samples->count + more;
    if (wanted <= samples->capacity) return;
    int64_t *values = allocate((size_t)wanted, sizeof *values);
    if (samples->count) memcpy(values, samples->values, (size_t)samples->count * sizeof *values);
    free(samples->values);
    samples->values = values;
    samples->capacity = wanted;
}

static void write_samples(Text *reply, const char *key, const Samples *samples) {
    text_add(reply, ", \"%s\": [", key);
    for (int64_t i = 0; i < samples->count; i++)
        text_add(reply, "%s%lld", i ? ", " : "", (long long)samples->values[i]);
    text_add(reply, "]");
}

/* Append the latencies in ns of up to `runs` runs. Only the call of the library lies between two readings. */
static bool run(Session *session, int64_t runs, int64_t until_ns, Samples *samples, Failure *failure) {
    reserve_samples(samples, runs);
    for (int64_t i = 1; i <= runs; i++) {
        const Feeds *feeds = &session->feeds;
        if (feeds->count > 1 && !session_feed(session, feeds, i % feeds->count, failure)) return false;
        int64_t start = now_ns();
        bool good = session_invoke(session, failure);
        int64_t end = now_ns();
        if (!good) return false;
        samples->values[samples->count++] = end - start;
        if (end >= until_ns) break;
    }
    return true;
}

static int by_size(const void *a, const void *b) {
    int64_t first = *(const int64_t *)a, second = *(const int64_t *)b;
    return (first > second) - (first < second);
}

static int64_t upper_median(const int64_t *values, int64_t count) {
    int64_t *sorted = allocate((size_t)count, sizeof *sorted);
    memcpy(sorted, values, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, by_size);
    int64_t median = sorted[count / 2];
    free(sorted);
    return median > 0 ? median : 1;
}

/* Run windows until the last medians agree, or the time is up. */
static bool run_until_steady(Session *session, int64_t until_ns, Samples *samples, bool *steady,
                             Failure *failure) {
    int64_t medians[STEADY_WINDOWS] = {0}, windows = 0;
    *steady = false;
    while (!*steady && now_ns() < until_ns) {
        int64_t typical = windows ? medians[(windows - 1) % STEADY_WINDOWS] : 0, first = samples->count;
        int64_t size = typical && WINDOW_NS / typical > WINDOW_RUNS ? WINDOW_NS / typical : WINDOW_RUNS;
        if (!run(session, size, until_ns, samples, failure)) return false;
        int64_t done = samples->count - first;
        if (done >= WINDOW_RUNS)
            medians[windows++ % STEADY_WINDOWS] = upper_median(samples->values + first, done);
        if (windows < STEADY_WINDOWS) continue;
        int64_t low = medians[0], high = medians[0];
        for (int i = 1; i < STEADY_WINDOWS; i++) {
            if (medians[i] < low) low = medians[i];
            if (medians[i] > high) high = medians[i];
        }
        *steady = (double)high <= (1 + STEADY_TOLERANCE) * (double)low;
    }
    return true;
}

bool warm(Session *session, PeakMemory *memory, const Json *request, Text *reply, Failure *failure) {
    double seconds = 0;
    int64_t runs = 0;
    bool steady = false;
    Samples samples = {NULL, 0, 0};
    if (!json_real(request, "max_seconds", 0, 1e6, &seconds, failure)) return false;
    if (!json_integer(request, "runs", 0, MAX_RUNS, &runs, failure)) return false;
    int64_t until = now_ns() + (int64_t)(seconds * 1e9);
    bool good = runs > 0 ? run(session, runs, until, &samples, failure)
                         : run_until_steady(session, until, &samples, &steady, failure);
    if (runs > 0) steady = samples.count >= runs;
    if (good) {
        /* Before the samples are turned into text: that takes memory which is not the model's. */
        Text peak = {NULL, 0, 0};
        memory_report(memory, &peak);
        write_samples(reply, "samples_ns", &samples);
        text_add(reply, ", \"steady\": %s%s", steady ? "true" : "false", peak.data);
        free(peak.data);
    }
    free(samples.values);
    return good;
}

static int64_t involuntary_switches(void) {
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? usage.ru_nivcsw : 0;
}

/* Runs that nobody counts: a device under load heats up, a waiting one cools. */
static bool load(Session *session, double load_ms, Failure *failure) {
    Samples samples = {NULL, 0, 0};
    int64_t until = now_ns() + (int64_t)(load_ms * 1e6);
    bool good = true;
    while (good && now_ns() < until) {
        samples.count = 0;
        good = run(session, LOAD_RUNS, until, &samples, failure);
    }
    free(samples.values);
    return good;
}

/* One block: a few runs that bring the caches back, kept apart, then at most `runs` timed ones. */
bool measure(Session *session, const Json *request, Text *reply, Failure *failure) {
    double seconds = 0, settle_ms = 0, load_ms = 0;
    int64_t runs = 1;
    Samples settling = {NULL, 0, 0}, samples = {NULL, 0, 0};
    if (!json_real(request, "max_seconds", 0, 1e6, &seconds, failure)) return false;
    if (!json_real(request, "settle_ms", 0, 1e9, &settle_ms, failure)) return false;
    if (!json_integer(request, "runs", 0, MAX_RUNS, &runs, failure)) return false;
    if (!json_real(request, "load_ms", 0, 1e9, &load_ms, failure)) return false;
    if (!load(session, load_ms, failure)) return false;
    int64_t settle_ns = (int64_t)(settle_ms * 1e6);
    bool good = settle_ns == 0 || run(session, runs ? runs : 1, now_ns() + settle_ns, &settling, failure);
    int64_t started = now_ns(), switches = involuntary_switches();
    good = good && run(session, runs, started + (int64_t)(seconds * 1e9), &samples, failure);
    switches = involuntary_switches() - switches;
    if (good) {
        text_add(reply, ", \"start_ns\": %lld", (long long)started);
        write_samples(reply, "settle_ns", &settling);
        write_samples(reply, "samples_ns", &samples);
        text_add(reply, ", \"involuntary_switches\": %lld", (long long)switches);
    }
    free(settling.values);
    free(samples.values);
    return good;
}
