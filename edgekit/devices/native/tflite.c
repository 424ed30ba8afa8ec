#include "tflite.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef TfLiteDelegate *(*CreateDelegate)(const char *const *keys, const char *const *values, size_t count,
                                          void (*report)(const char *));

/* What the library and delegates report, for the answer; the terminal gets it too. */
static char said[384];

static void note(const char *text) {
    size_t length = strlen(said);
    fprintf(stderr, "%s\n", text);
    snprintf(said + length, sizeof said - length, "%s%s", length ? " " : "", text);
}

static void report_error(void *user_data, const char *format, va_list arguments) {
    char text[256];
    (void)user_data;
    vsnprintf(text, sizeof text, format, arguments);
    note(text);
}

const char *library_said(const char *otherwise) {
    static char sentence[sizeof said];
    size_t length = 0;
    for (const char *c = said; *c != '\0'; c++) {
        bool space = strchr(" \t\r\n", *c) != NULL;
        if (space && (length == 0 || sentence[length - 1] == ' ')) continue;
        sentence[length++] = space ? ' ' : *c;
    }
    sentence[length] = '\0';
    said[0] = '\0';
    return length ? sentence : otherwise;
}

static double now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

bool library_open(Library *library, const char *path, Failure *failure) {
    double started = now_ms();
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) return fail(failure, "dependency", "%s", dlerror());
    void *symbol;
    /* ISO C has no cast from an object's to a function's address; POSIX says that they have one size. */
#define X(needed, result, name, arguments) \
    symbol = dlsym(handle, #name); \
    if (needed && symbol == NULL) \
        return fail(failure, "dependency", "%s is no TFLite library: it lacks %s", path, #name); \
    memcpy(&library->name, &symbol, sizeof symbol);
    TFLITE_FUNCTIONS(X)
#undef X
    library->load_ms = now_ms() - started;
    return true;
}

static char *copied(const char *text) {
    char *copy = allocate(strlen(text) + 1, 1);
    return strcpy(copy, text);
}

/* The model has exactly one signature: the name that it gives a tensor; else NULL. */
static const char *signature_name(const Session *session, TfLiteSignatureRunner *runner,
                                  const TfLiteTensor *tensor, bool is_input) {
    const Library *library = session->library;
    if (runner == NULL) return NULL;
    size_t count = is_input ? library->TfLiteSignatureRunnerGetInputCount(runner)
                            : library->TfLiteSignatureRunnerGetOutputCount(runner);
    for (size_t i = 0; i < count && i < MAX_TENSORS; i++) {
        const char *name = is_input ? library->TfLiteSignatureRunnerGetInputName(runner, (int32_t)i)
                                    : library->TfLiteSignatureRunnerGetOutputName(runner, (int32_t)i);
        const TfLiteTensor *named = is_input ? library->TfLiteSignatureRunnerGetInputTensor(runner, name)
                                             : library->TfLiteSignatureRunnerGetOutputTensor(runner, name);
        if (named == tensor) return name;
    }
    return NULL;
}

static bool describe(Session *session, TensorSpec *spec, const TfLiteTensor *tensor,
                     TfLiteSignatureRunner *runner, bool is_input, Failure *failure) {
    const Library *library = session->library;
    if (tensor == NULL) return fail(failure, "model", "an input or output is missing");
    const char *name = signature_name(session, runner, tensor, is_input);
    if (name == NULL) name = library->TfLiteTensorName(tensor);
    TfLiteQuantizationParams quantization = library->TfLiteTensorQuantizationParams(tensor);
    spec->name = copied(name != NULL ? name : "");
    spec->type = library->TfLiteTensorType(tensor);
    spec->scale = (double)quantization.scale;
    spec->zero_point = quantization.zero_point;
    spec->rank = library->TfLiteTensorNumDims(tensor);
    if (spec->rank < 0) spec->rank = 0; /* an output whose shape is not known before it has run */
    if (spec->rank > MAX_RANK) return fail(failure, "model", "%s has %d dimensions", spec->name, spec->rank);
    int32_t free_rank = -1;
    bool can_tell =
        library->TfLiteOpaqueTensorGetNumDimsSignature && library->TfLiteOpaqueTensorGetDimSignature;
    bool is_free = can_tell &&
                   library->TfLiteOpaqueTensorGetNumDimsSignature(tensor, &free_rank) == STATUS_OK &&
                   free_rank == spec->rank;
    for (int i = 0; i < spec->rank; i++) {
        spec->shape[i] = spec->used[i] = library->TfLiteTensorDim(tensor, i);
        if (is_free) library->TfLiteOpaqueTensorGetDimSignature(tensor, i, &spec->shape[i]);
    }
    return true;
}

static TfLiteSignatureRunner *only_signature(const Session *session) {
    const Library *library = session->library;
    bool can = library->TfLiteInterpreterGetSignatureCount && library->TfLiteInterpreterGetSignatureKey &&
               library->TfLiteInterpreterGetSignatureRunner && library->TfLiteSignatureRunnerDelete &&
               library->TfLiteSignatureRunnerGetInputCount && library->TfLiteSignatureRunnerGetInputName &&
               library->TfLiteSignatureRunnerGetInputTensor && library->TfLiteSignatureRunnerGetOutputCount &&
               library->TfLiteSignatureRunnerGetOutputName && library->TfLiteSignatureRunnerGetOutputTensor;
    if (!can || library->TfLiteInterpreterGetSignatureCount(session->interpreter) != 1) return NULL;
    const char *key = library->TfLiteInterpreterGetSignatureKey(session->interpreter, 0);
    return library->TfLiteInterpreterGetSignatureRunner(session->interpreter, key);
}

static bool describe_all(Session *session, Failure *failure) {
    const Library *library = session->library;
    int inputs = library->TfLiteInterpreterGetInputTensorCount(session->interpreter);
    int outputs = library->TfLiteInterpreterGetOutputTensorCount(session->interpreter);
    if (inputs < 0 || outputs < 0 || inputs > MAX_TENSORS || outputs > MAX_TENSORS)
        return fail(failure, "model", "it has %d inputs and %d outputs, more than %d", inputs, outputs,
                    MAX_TENSORS);
    TfLiteSignatureRunner *runner = only_signature(session);
    bool good = true;
    for (int i = 0; good && i < inputs; i++, session->input_count++)
        good = describe(session, &session->inputs[i],
                        library->TfLiteInterpreterGetInputTensor(session->interpreter, i), runner, true,
                        failure);
    for (int i = 0; good && i < outputs; i++, session->output_count++)
        good = describe(session, &session->outputs[i],
                        library->TfLiteInterpreterGetOutputTensor(session->interpreter, i), runner, false,
                        failure);
    if (runner != NULL) library->TfLiteSignatureRunnerDelete(runner);
    return good;
}

/* The options of a delegate as two lists of strings. */
static bool delegate_options(const Json *options, const char **keys, const char **values, size_t *count,
                             Failure *failure) {
    *count = 0;
    if (options == NULL) return true;
    if (options->kind != JSON_OBJECT) return fail(failure, "request", "the delegate's options are no object");
    for (const Json *option = options->child; option != NULL; option = option->next) {
        if (option->kind != JSON_STRING || *count == MAX_TENSORS)
            return fail(failure, "request", "the delegate's option %s is no string", option->key);
        keys[*count] = option->key;
        values[(*count)++] = option->text;
    }
    return true;
}

/* A delegate out of a library of its own, by the two functions that every external delegate exports. */
static bool open_delegate(Session *session, const Json *asked, Failure *failure) {
    const char *keys[MAX_TENSORS], *values[MAX_TENSORS];
    size_t count;
    const Json *path = json_member(asked, "library");
    if (path == NULL || path->kind != JSON_STRING)
        return fail(failure, "request", "the delegate names no library");
    if (!delegate_options(json_member(asked, "options"), keys, values, &count, failure)) return false;
    void *handle = dlopen(path->text, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) return fail(failure, "delegate", "%s gives no delegate: %s", path->text, dlerror());
    CreateDelegate create;
    void *symbol = dlsym(handle, "tflite_plugin_create_delegate"),
         *end = dlsym(handle, "tflite_plugin_destroy_delegate");
    if (symbol == NULL || end == NULL)
        return fail(failure, "delegate", "%s gives no delegate: it lacks tflite_plugin_create_delegate",
                    path->text);
    memcpy(&create, &symbol, sizeof symbol);
    memcpy(&session->delete_delegate, &end, sizeof end);
    session->delegate = create(keys, values, count, note);
    if (session->delegate == NULL)
        return fail(failure, "delegate", "%s gives no delegate: %s", path->text,
                    library_said("it does not say why"));
    const char *slash = strrchr(path->text, '/');
    session->delegate_name = copied(slash != NULL ? slash + 1 : path->text);
    placement_watch(session, session->delegate);
    return true;
}

/* XNNPACK for the operators that it knows. A graph that it cannot take runs without it, as the
   library itself does. */
static bool add_xnnpack(Session *session, Failure *failure) {
    const Library *library = session->library;
    TfLiteXNNPackDelegateOptions options = library->TfLiteXNNPackDelegateOptionsDefault();
    options.num_threads = session->threads;
    session->delegate = library->TfLiteXNNPackDelegateCreate(&options);
    if (session->delegate == NULL) return true;
    session->delete_delegate = library->TfLiteXNNPackDelegateDelete;
    placement_watch(session, session->delegate);
    int status = library->TfLiteInterpreterModifyGraphWithDelegate(session->interpreter, session->delegate);
    if (status == STATUS_ERROR) return fail(failure, "model", "%s", library_said("XNNPACK fails on it"));
    if (status == STATUS_OK) session->delegate_name = copied("xnnpack");
    else placement_forget(session);
    return true;
}

static bool add_onlooker(Session *session, bool closes, Failure *failure) {
    TfLiteDelegate *onlooker = placement_onlooker(session, closes);
    int status = session->library->TfLiteInterpreterModifyGraphWithDelegate(session->interpreter, onlooker);
    return status != STATUS_ERROR ||
           fail(failure, "model", "%s", library_said("its operators cannot be listed"));
}

/* XNNPACK on or off. The library adds it by itself later on, to graphs that are still open: it does not get
   there. Beside a delegate that the request names, the library decides about the rest. */
static bool choose_xnnpack(Session *session, bool wanted, Failure *failure) {
    const Library *library = session->library;
    bool can_add = library->TfLiteInterpreterModifyGraphWithDelegate &&
                   library->TfLiteXNNPackDelegateCreate && library->TfLiteXNNPackDelegateDelete &&
                   library->TfLiteXNNPackDelegateOptionsDefault;
    if (!wanted && library->TfLiteInterpreterModifyGraphWithDelegate == NULL)
        return fail(failure, "usage", "this TFLite library cannot be told to run without XNNPACK");
    if (!wanted && !add_onlooker(session, true, failure)) return false;
    if (session->delegate != NULL) return true;
    session->unknown_delegate = wanted && !can_add;
    if (session->unknown_delegate) return true;
    if (wanted && !add_xnnpack(session, failure)) return false;
    return session->placement.known || add_onlooker(session, false, failure);
}

static bool open_interpreter(Session *session, TfLiteInterpreterOptions *options, const Json *request,
                             Failure *failure) {
    const Library *library = session->library;
    const Json *delegate = json_member(request, "delegate");
    bool xnnpack = true;
    int64_t threads = 1;
    if (!json_integer(request, "threads", 1, 1024, &threads, failure)) return false;
    if (!json_bool(request, "xnnpack", &xnnpack, failure)) return false;
    session->threads = (int32_t)threads;
    library->TfLiteInterpreterOptionsSetNumThreads(options, session->threads);
    library->TfLiteInterpreterOptionsSetErrorReporter(options, report_error, NULL);
    if (delegate != NULL) {
        if (!open_delegate(session, delegate, failure)) return false;
        library->TfLiteInterpreterOptionsAddDelegate(options, session->delegate);
    }
    session->interpreter = library->TfLiteInterpreterCreate(session->model, options);
    if (session->interpreter != NULL) return choose_xnnpack(session, xnnpack, failure);
    const char *reason = library_said("the library does not say why");
    if (delegate == NULL) return fail(failure, "model", "%s", reason);
    return fail(failure, "delegate", "%s refuses the model: %s", session->delegate_name, reason);
}

bool session_load(Session *session, const Library *library, const Json *request, Failure *failure) {
    const Json *path = json_member(request, "model");
    session->library = library;
    if (path == NULL || path->kind != JSON_STRING) return fail(failure, "request", "no model is named");
    FILE *file = fopen(path->text, "rb");
    if (file == NULL) return fail(failure, "model", "%s: %s", path->text, strerror(errno));
    fclose(file);
    library_said("");
    session->model = library->TfLiteModelCreateFromFileWithErrorReporter
                         ? library->TfLiteModelCreateFromFileWithErrorReporter(path->text, report_error, NULL)
                         : library->TfLiteModelCreateFromFile(path->text);
    if (session->model == NULL)
        return fail(failure, "model", "%s is no TFLite model: %s", path->text, library_said("it is damaged"));
    TfLiteInterpreterOptions *options = library->TfLiteInterpreterOptionsCreate();
    bool good = open_interpreter(session, options, request, failure);
    library->TfLiteInterpreterOptionsDelete(options);
    return good && describe_all(session, failure);
}

bool session_prepare(Session *session, const Feeds *feeds, Failure *failure) {
    const Library *library = session->library;
    session->ready = false;
    library_said("");
    for (int i = 0; i < session->input_count; i++) {
        TensorSpec *spec = &session->inputs[i];
        if (memcmp(spec->used, feeds->shapes[i], (size_t)spec->rank * sizeof spec->used[0]) == 0) continue;
        if (library->TfLiteInterpreterResizeInputTensor(session->interpreter, i, feeds->shapes[i],
                                                        spec->rank) != 0)
            return fail(failure, "model", "%s", library_said("an input cannot be resized"));
        memcpy(spec->used, feeds->shapes[i], sizeof spec->used);
    }
    if (library->TfLiteInterpreterAllocateTensors(session->interpreter) != 0)
        return fail(failure, "model", "%s", library_said("the memory for its tensors cannot be planned"));
    for (int i = 0; i < session->input_count; i++) {
        const TfLiteTensor *tensor = library->TfLiteInterpreterGetInputTensor(session->interpreter, i);
        if (tensor == NULL || (int64_t)library->TfLiteTensorByteSize(tensor) != feeds->size[i])
            return fail(failure, "model", "the input %s has not the size of its shape",
                        session->inputs[i].name);
    }
    session->ready = true;
    return true;
}

void session_close(Session *session) {
    const Library *library = session->library;
    if (session->interpreter != NULL) library->TfLiteInterpreterDelete(session->interpreter);
    if (session->delegate != NULL) session->delete_delegate(session->delegate);
    if (session->model != NULL) library->TfLiteModelDelete(session->model);
    placement_forget(session);
    for (int i = 0; i < MAX_TENSORS; i++) {
        free(session->inputs[i].name);
        free(session->outputs[i].name);
    }
    free(session->delegate_name);
    free(session->feeds.bytes);
    free(session);
}

bool session_feed(Session *session, const Feeds *feeds, int64_t set, Failure *failure) {
    const Library *library = session->library;
    if (!session->ready)
        return fail(failure, "request", "the model has no memory for its inputs; open it again");
    for (int i = 0; i < session->input_count; i++) {
        TfLiteTensor *tensor = library->TfLiteInterpreterGetInputTensor(session->interpreter, i);
        const char *bytes = feeds->bytes + feeds->offset[i] + set * feeds->size[i];
        if (library->TfLiteTensorCopyFromBuffer(tensor, bytes, (size_t)feeds->size[i]) != 0)
            return fail(failure, "model", "the input %s does not take its values", session->inputs[i].name);
    }
    return true;
}

bool session_invoke(Session *session, Failure *failure) {
    if (session->library->TfLiteInterpreterInvoke(session->interpreter) == 0) return true;
    return fail(failure, "model", "%s", library_said("the model fails when it runs"));
}

bool session_reset(Session *session, Failure *failure) {
    if (session->library->TfLiteInterpreterResetVariableTensors == NULL)
        return fail(failure, "dependency", "the library lacks TfLiteInterpreterResetVariableTensors");
    if (session->library->TfLiteInterpreterResetVariableTensors(session->interpreter) == 0) return true;
    return fail(failure, "model", "%s", library_said("its variables cannot be reset"));
}
