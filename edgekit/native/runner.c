/* Runs a model on a device without Python and measures it: `runner LIBRARY`, a TFLite library that has the C API.

   It speaks the protocol of worker.py: one JSON object per line on standard input, and one per answer on standard
   output. A line whose object has "blob_bytes" is followed by as many raw bytes. A request that outlives its
   deadline ends the process, also when nobody is left at the other end. */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "conditions.h"
#include "json.h"
#include "memory.h"
#include "tflite.h"

/* Warm-up goes on until the medians of the last three windows agree within 3%. A window is as many runs as fill
   20 ms, and at least three: below that, one interrupt of the kernel moves its median. */
enum { WINDOW_RUNS = 3, WINDOW_NS = 20000000, STEADY_WINDOWS = 3, MAX_RUNS = 10000000, MAX_LINE = 1 << 20 };
static const double STEADY_TOLERANCE = 0.03;

typedef struct {
    Library library;
    const char *library_path;
    bool library_is_open;
    Session *session;
    PeakMemory memory;
    FILE *replies;
} Runner;

typedef struct {
    int64_t *values;
    int64_t count;
    int64_t capacity;
} Samples;

static int64_t now_ns(void) {
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
static bool run_until_steady(Session *session, int64_t until_ns, Samples *samples, bool *steady, Failure *failure) {
    int64_t medians[STEADY_WINDOWS] = {0}, windows = 0;
    *steady = false;
    while (!*steady && now_ns() < until_ns) {
        int64_t typical = windows ? medians[(windows - 1) % STEADY_WINDOWS] : 0, first = samples->count;
        int64_t size = typical && WINDOW_NS / typical > WINDOW_RUNS ? WINDOW_NS / typical : WINDOW_RUNS;
        if (!run(session, size, until_ns, samples, failure)) return false;
        int64_t done = samples->count - first;
        if (done >= WINDOW_RUNS) medians[windows++ % STEADY_WINDOWS] = upper_median(samples->values + first, done);
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

static bool warm(Runner *runner, const Json *request, Text *reply, Failure *failure) {
    double seconds = 0;
    int64_t runs = 0;
    bool steady = false;
    Samples samples = {NULL, 0, 0};
    if (!json_real(request, "max_seconds", 0, 1e6, &seconds, failure)) return false;
    if (!json_integer(request, "runs", 0, MAX_RUNS, &runs, failure)) return false;
    int64_t until = now_ns() + (int64_t)(seconds * 1e9);
    bool good = runs > 0 ? run(runner->session, runs, until, &samples, failure)
                         : run_until_steady(runner->session, until, &samples, &steady, failure);
    if (runs > 0) steady = samples.count >= runs;
    if (good) {
        /* Before the samples are turned into text: that takes memory which is not the model's. */
        Text peak = {NULL, 0, 0};
        memory_report(&runner->memory, &peak);
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

/* One block: a few runs that bring the caches back, kept apart, then at most `runs` timed ones. */
static bool measure(Runner *runner, const Json *request, Text *reply, Failure *failure) {
    double seconds = 0, settle_ms = 0;
    int64_t runs = 1;
    Samples settling = {NULL, 0, 0}, samples = {NULL, 0, 0};
    if (!json_real(request, "max_seconds", 0, 1e6, &seconds, failure)) return false;
    if (!json_real(request, "settle_ms", 0, 1e9, &settle_ms, failure)) return false;
    if (!json_integer(request, "runs", 0, MAX_RUNS, &runs, failure)) return false;
    int64_t settle_ns = (int64_t)(settle_ms * 1e6);
    bool good = settle_ns == 0 ||
                run(runner->session, runs ? runs : 1, now_ns() + settle_ns, &settling, failure);
    int64_t started = now_ns(), switches = involuntary_switches();
    good = good && run(runner->session, runs, started + (int64_t)(seconds * 1e9), &samples, failure);
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

static void write_specs(Text *reply, const char *key, const TensorSpec *specs, int count, bool is_input) {
    text_add(reply, ", \"%s\": [", key);
    for (int i = 0; i < count; i++) {
        const char *dtype = type_name(specs[i].type);
        text_add(reply, "%s{\"name\": ", i ? ", " : "");
        text_quoted(reply, specs[i].name);
        text_add(reply, ", \"shape\": ");
        write_shape(reply, specs[i].shape, specs[i].rank);
        text_add(reply, ", \"dtype\": \"%s\", \"scale\": ", dtype ? dtype : "unknown");
        text_real(reply, specs[i].scale);
        text_add(reply, ", \"zero_point\": %d", specs[i].zero_point);
        if (is_input) {
            text_add(reply, ", \"used_shape\": ");
            write_shape(reply, specs[i].used, specs[i].rank);
        }
        text_add(reply, "}");
    }
    text_add(reply, "]");
}

typedef struct {
    int64_t load_ns;
    int64_t first_ns;
} Timing;

/* Load the model and run it once. A blob of the request becomes the session's. */
static bool open_session(Runner *runner, Session *session, const Json *request, char **blob, int64_t size,
                         Timing *timing, Failure *failure) {
    int64_t seed = 0, started;
    bool given = json_member(request, "feeds") != NULL && json_member(request, "feeds")->number != 0;
    if (!json_integer(request, "seed", -((int64_t)1 << 53), (int64_t)1 << 53, &seed, failure)) return false;
    memory_start(&runner->memory);
    started = now_ns();
    if (!session_load(session, &runner->library, request, failure)) return false;
    timing->load_ns = now_ns() - started;
    memory_pause(&runner->memory);
    if (given) {
        if (!feeds_unpack(&session->feeds, session, request, *blob, size, failure)) return false;
        *blob = NULL;
    } else if (!feeds_random(&session->feeds, session, (uint64_t)seed, failure)) {
        return false;
    }
    memory_resume(&runner->memory);
    started = now_ns();
    if (!session_prepare(session, &session->feeds, failure)) return false;
    timing->load_ns += now_ns() - started;
    if (!session_feed(session, &session->feeds, 0, failure)) return false;
    started = now_ns();
    if (!session_invoke(session, failure)) return false;
    timing->first_ns = now_ns() - started;
    return true;
}

static bool open_library(Runner *runner, const Json *request, Failure *failure) {
    const Json *runtime = json_member(request, "runtime");
    if (runtime != NULL && (runtime->kind != JSON_STRING || strcmp(runtime->text, "onnxruntime") == 0))
        return fail(failure, "dependency", "the native runner has no such runtime");
    if (!runner->library_is_open && !library_open(&runner->library, runner->library_path, failure)) return false;
    runner->library_is_open = true;
    return true;
}

static bool open_model(Runner *runner, const Json *request, char **blob, int64_t size, Text *reply,
                       Failure *failure) {
    Timing timing;
    if (!open_library(runner, request, failure)) return false;
    Session *session = allocate(1, sizeof *session);
    session->library = &runner->library;
    if (!open_session(runner, session, request, blob, size, &timing, failure)) {
        session_close(session);
        return false;
    }
    Text peak = {NULL, 0, 0};
    memory_report(&runner->memory, &peak);
    if (runner->session != NULL) session_close(runner->session);
    runner->session = session;
    text_add(reply, ", \"runtime_version\": ");
    text_quoted(reply, runner->library.TfLiteVersion());
    text_add(reply, ", \"runtime_import_ms\": %.6f, \"delegate\": ", runner->library.load_ms);
    text_quoted(reply, session_delegate(session));
    text_add(reply, ", \"load_ms\": %.6f, \"first_inference_ms\": %.6f", (double)timing.load_ns / 1e6,
             (double)timing.first_ns / 1e6);
    bool has_batch = session->input_count > 0 && session->inputs[0].rank > 0;
    text_add(reply, ", \"batch\": %d", has_batch ? session->inputs[0].used[0] : 1);
    write_specs(reply, "inputs", session->inputs, session->input_count, true);
    write_specs(reply, "outputs", session->outputs, session->output_count, false);
    placement_report(session, reply);
    text_add(reply, "%s", peak.data);
    free(peak.data);
    return true;
}

/* The outputs of all sets, output-major; shapes and sizes are those of the first run. */
typedef struct {
    char *bytes;
    int64_t total;
    int rank[MAX_TENSORS];
    int32_t shapes[MAX_TENSORS][MAX_RANK];
    int64_t size[MAX_TENSORS];
    int64_t offset[MAX_TENSORS];
} Results;

static bool lay_out_results(Results *results, const Session *session, int64_t sets, Failure *failure) {
    const Library *library = session->library;
    for (int i = 0; i < session->output_count; i++) {
        const TfLiteTensor *tensor = library->TfLiteInterpreterGetOutputTensor(session->interpreter, i);
        int rank = library->TfLiteTensorNumDims(tensor);
        if (type_size(session->outputs[i].type) == 0)
            return fail(failure, "model", "the output %s holds no plain numbers", session->outputs[i].name);
        if (rank < 0 || rank > MAX_RANK)
            return fail(failure, "model", "the output %s has %d dimensions", session->outputs[i].name, rank);
        results->rank[i] = rank;
        for (int d = 0; d < rank; d++) results->shapes[i][d] = library->TfLiteTensorDim(tensor, d);
        size_t size = library->TfLiteTensorByteSize(tensor);
        if (size > (size_t)MAX_BLOB || (size > 0 && sets > (MAX_BLOB - results->total) / (int64_t)size))
            return fail(failure, "request", "the outputs take more than %lld bytes", (long long)MAX_BLOB);
        results->size[i] = (int64_t)size;
        results->offset[i] = results->total;
        results->total += sets * (int64_t)size;
    }
    results->bytes = malloc(results->total ? (size_t)results->total : 1);
    if (results->bytes == NULL) return fail(failure, "request", "there is no memory for the outputs");
    return true;
}

static bool take_results(Results *results, const Session *session, int64_t set, Failure *failure) {
    const Library *library = session->library;
    for (int i = 0; i < session->output_count; i++) {
        const TfLiteTensor *tensor = library->TfLiteInterpreterGetOutputTensor(session->interpreter, i);
        bool same = library->TfLiteTensorNumDims(tensor) == results->rank[i];
        for (int d = 0; same && d < results->rank[i]; d++)
            same = library->TfLiteTensorDim(tensor, d) == results->shapes[i][d];
        if (!same) return fail(failure, "model", "an output changes its shape from run to run");
        char *bytes = results->bytes + results->offset[i] + set * results->size[i];
        if (library->TfLiteTensorCopyToBuffer(tensor, bytes, (size_t)results->size[i]) != 0)
            return fail(failure, "model", "the output %s cannot be read", session->outputs[i].name);
    }
    return true;
}

static bool same_shapes(const Session *session, const Feeds *feeds) {
    for (int i = 0; i < session->input_count; i++) {
        size_t bytes = (size_t)session->inputs[i].rank * sizeof(int32_t);
        if (memcmp(session->inputs[i].used, feeds->shapes[i], bytes) != 0) return false;
    }
    return session->ready;
}

/* Plan memory for other shapes than before; later measurements run with the first set of these. */
static bool take_shapes(Session *session, const Feeds *feeds, Failure *failure) {
    int64_t total = 0;
    if (!session_prepare(session, feeds, failure)) return false;
    Feeds first = *feeds;
    for (int i = 0; i < session->input_count; i++) {
        first.offset[i] = total;
        total += feeds->size[i];
    }
    first.count = 1;
    first.bytes = allocate((size_t)total, 1);
    for (int i = 0; i < session->input_count; i++)
        memcpy(first.bytes + first.offset[i], feeds->bytes + feeds->offset[i], (size_t)feeds->size[i]);
    free(session->feeds.bytes);
    session->feeds = first;
    return true;
}

static bool predict_sets(Session *session, const Feeds *feeds, Results *results, Failure *failure) {
    if (!same_shapes(session, feeds) && !take_shapes(session, feeds, failure)) return false;
    for (int64_t set = 0; set < feeds->count; set++) {
        if (!session_reset(session, failure) || !session_feed(session, feeds, set, failure)) return false;
        if (!session_invoke(session, failure)) return false;
        if (set == 0 && !lay_out_results(results, session, feeds->count, failure)) return false;
        if (!take_results(results, session, set, failure)) return false;
    }
    return true;
}

/* The outputs for sets of inputs, each computed from a fresh state. */
static bool predict(Runner *runner, const Json *request, char *blob, int64_t size, Text *reply, Text *content,
                    Failure *failure) {
    Session *session = runner->session;
    Feeds *feeds = allocate(1, sizeof *feeds);
    Results *results = allocate(1, sizeof *results);
    bool good = feeds_unpack(feeds, session, request, blob, size, failure) &&
                predict_sets(session, feeds, results, failure);
    if (good) {
        text_add(reply, ", \"outputs\": [");
        for (int i = 0; i < session->output_count; i++) {
            text_add(reply, "%s{\"shape\": ", i ? ", " : "");
            write_shape(reply, results->shapes[i], results->rank[i]);
            text_add(reply, ", \"dtype\": \"%s\"}", type_name(session->outputs[i].type));
        }
        text_add(reply, "]");
        content->data = results->bytes;
        content->length = (size_t)results->total;
    } else {
        free(results->bytes);
    }
    free(results);
    free(feeds);
    return good;
}

static bool answer(Runner *runner, const Json *request, char **blob, int64_t size, Text *reply, Text *content,
                   Failure *failure) {
    const Json *member = json_member(request, "verb");
    const char *verb = member != NULL && member->kind == JSON_STRING ? member->text : "";
    if (strcmp(verb, "open") == 0) return open_model(runner, request, blob, size, reply, failure);
    if (strcmp(verb, "conditions") == 0) return conditions(request, reply, failure);
    bool is_known = strcmp(verb, "warm") == 0 || strcmp(verb, "measure") == 0 || strcmp(verb, "predict") == 0;
    if (!is_known) return fail(failure, "request", "unknown verb '%s'", verb);
    if (runner->session == NULL) return fail(failure, "request", "no model is open");
    if (strcmp(verb, "warm") == 0) return warm(runner, request, reply, failure);
    if (strcmp(verb, "measure") == 0) return measure(runner, request, reply, failure);
    return predict(runner, request, *blob, size, reply, content, failure);
}

static void write_reply(Runner *runner, const Text *reply, const Text *content) {
    fwrite(reply->data, 1, reply->length, runner->replies);
    if (content->length > 0) fwrite(content->data, 1, content->length, runner->replies);
    if (fflush(runner->replies) != 0) exit(1); /* nobody listens any more */
}

static void write_error(Runner *runner, const Json *nonce, const Failure *failure) {
    Text reply = {NULL, 0, 0}, nothing = {NULL, 0, 0};
    text_add(&reply, "{\"error\": {\"kind\": \"%s\", \"message\": ", failure->kind);
    text_quoted(&reply, failure->message);
    text_add(&reply, "}, \"nonce\": ");
    text_value(&reply, nonce);
    text_add(&reply, "}\n");
    write_reply(runner, &reply, &nothing);
    free(reply.data);
}

static void write_answer(Runner *runner, const Json *request, const Text *members, const Text *content) {
    Text reply = {NULL, 0, 0};
    text_add(&reply, "{\"reply\": ");
    text_value(&reply, json_member(request, "verb"));
    text_add(&reply, ", \"nonce\": ");
    text_value(&reply, json_member(request, "nonce"));
    text_add(&reply, "%s", members->data != NULL ? members->data : "");
    if (content->length > 0) text_add(&reply, ", \"blob_bytes\": %lld", (long long)content->length);
    text_add(&reply, "}\n");
    write_reply(runner, &reply, content);
    free(reply.data);
}

/* The default action of the signal ends the process even when the library hangs. */
static bool set_deadline(const Json *request, Failure *failure) {
    double seconds = 0;
    if (!json_real(request, "deadline_s", 0, 1e8, &seconds, failure)) return false;
    time_t whole = (time_t)seconds;
    struct itimerval timer = {{0, 0}, {whole, (suseconds_t)((seconds - (double)whole) * 1e6)}};
    if (seconds > 0 && whole == 0 && timer.it_value.tv_usec == 0) timer.it_value.tv_usec = 1;
    setitimer(ITIMER_REAL, &timer, NULL);
    return true;
}

/* The bytes that follow a line; NULL where they end too early, or there is no memory for them. */
static char *read_blob(int64_t size) {
    char *blob = malloc(size ? (size_t)size : 1);
    if (blob != NULL && fread(blob, 1, (size_t)size, stdin) == (size_t)size) return blob;
    free(blob);
    return NULL;
}

/* One request; false where it was the last, with the exit status. */
static bool serve_one(Runner *runner, char *line, size_t length, int *status) {
    Failure failure = {"request", "the line is no JSON object"};
    int64_t size = 0;
    *status = 1;
    Json *request = json_parse(line, length);
    const Json *nonce = json_member(request, "nonce"), *verb = json_member(request, "verb");
    char *blob = NULL;
    /* Where bytes follow, and how many, is no longer known after these. */
    bool in_step = request != NULL && request->kind == JSON_OBJECT && set_deadline(request, &failure) &&
                   json_integer(request, "blob_bytes", 0, MAX_BLOB, &size, &failure);
    if (in_step) {
        blob = read_blob(size);
        in_step = blob != NULL || fail(&failure, "request", "the bytes after the line are missing");
    }
    bool closes = in_step && verb != NULL && verb->kind == JSON_STRING && strcmp(verb->text, "close") == 0;
    if (!in_step) {
        write_error(runner, nonce, &failure);
    } else if (closes) {
        Text reply = {NULL, 0, 0}, nothing = {NULL, 0, 0};
        text_add(&reply, "{\"done\": true, \"nonce\": ");
        text_value(&reply, nonce);
        text_add(&reply, "}\n");
        write_reply(runner, &reply, &nothing);
        free(reply.data);
        *status = 0;
    } else {
        Text members = {NULL, 0, 0}, content = {NULL, 0, 0};
        if (answer(runner, request, &blob, size, &members, &content, &failure))
            write_answer(runner, request, &members, &content);
        else
            write_error(runner, nonce, &failure);
        free(members.data);
        free(content.data);
        set_deadline(NULL, &failure);
    }
    free(blob);
    free(request);
    return in_step && !closes;
}

/* Answer requests until "close"; the exit status. */
static int serve(Runner *runner) {
    static char line[MAX_LINE + 2];
    int status = 1;
    while (fgets(line, sizeof line, stdin) != NULL) {
        size_t length = strlen(line);
        if (length > MAX_LINE) {
            Failure failure;
            fail(&failure, "request", "the line is longer than %d bytes", MAX_LINE);
            write_error(runner, NULL, &failure);
            return 1;
        }
        if (!serve_one(runner, line, length, &status)) return status;
    }
    return 1;
}

int main(int count, char **arguments) {
    Runner runner;
    sigset_t alarm_signal;
    if (count != 2) {
        fprintf(stderr, "usage: %s LIBRARY\n", count > 0 ? arguments[0] : "runner");
        return 2;
    }
    memset(&runner, 0, sizeof runner);
    runner.library_path = arguments[1];
    /* What was ignored or blocked when this process was started would stay so. */
    signal(SIGALRM, SIG_DFL);
    sigemptyset(&alarm_signal);
    sigaddset(&alarm_signal, SIGALRM);
    sigprocmask(SIG_UNBLOCK, &alarm_signal, NULL);
    signal(SIGINT, SIG_IGN); /* ctrl-C is the parent's: it ends its workers itself */
    /* Libraries print to standard output; only replies may go there. */
    int replies = dup(1);
    runner.replies = replies >= 0 ? fdopen(replies, "wb") : NULL;
    if (runner.replies == NULL || dup2(2, 1) < 0) return 1;
    int status = serve(&runner);
    /* Past the destructors of libraries, which may crash after the last answer. */
    fflush(NULL);
    _exit(status);
}
