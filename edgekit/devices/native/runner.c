/* Runs a model on a device without Python and measures it: `runner LIBRARY`, a TFLite library that has the C
   API.

   It speaks the protocol of worker.py: one JSON object per line on standard input, and one per answer on
   standard output. A line whose object has "blob_bytes" is followed by as many raw bytes. A request that
   outlives its deadline ends the process, also when nobody is left at the other end. */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "affinity.h"
#include "conditions.h"
#include "json.h"
#include "measure.h"
#include "memory.h"
#include "predict.h"
#include "tflite.h"

enum { MAX_LINE = 1 << 20 };

typedef struct {
    Library library;
    const char *library_path;
    bool library_is_open;
    Session *session;
    PeakMemory memory;
    FILE *replies;
} Runner;

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
    if (!runner->library_is_open && !library_open(&runner->library, runner->library_path, failure))
        return false;
    runner->library_is_open = true;
    return true;
}

static bool open_model(Runner *runner, const Json *request, char **blob, int64_t size, Text *reply,
                       Failure *failure) {
    Timing timing;
    if (!pin_to_processors(json_member(request, "cpu_affinity"), failure)) return false;
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

static bool answer(Runner *runner, const Json *request, char **blob, int64_t size, Text *reply, Text *content,
                   Failure *failure) {
    const Json *member = json_member(request, "verb");
    const char *verb = member != NULL && member->kind == JSON_STRING ? member->text : "";
    if (strcmp(verb, "open") == 0) return open_model(runner, request, blob, size, reply, failure);
    if (strcmp(verb, "conditions") == 0) return conditions(request, reply, failure);
    bool is_known = strcmp(verb, "warm") == 0 || strcmp(verb, "measure") == 0 || strcmp(verb, "predict") == 0;
    if (!is_known) return fail(failure, "request", "unknown verb '%s'", verb);
    if (runner->session == NULL) return fail(failure, "request", "no model is open");
    if (strcmp(verb, "warm") == 0) return warm(runner->session, &runner->memory, request, reply, failure);
    if (strcmp(verb, "measure") == 0) return measure(runner->session, request, reply, failure);
    return predict(runner->session, request, *blob, size, reply, content, failure);
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
        else write_error(runner, nonce, &failure);
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
