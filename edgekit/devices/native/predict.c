#include "predict.h"

#include <stdlib.h>
#include <string.h>

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
            return fail(failure, "data", "the outputs take more than %lld bytes", (long long)MAX_BLOB);
        results->size[i] = (int64_t)size;
        results->offset[i] = results->total;
        results->total += sets * (int64_t)size;
    }
    results->bytes = malloc(results->total ? (size_t)results->total : 1);
    if (results->bytes == NULL) return fail(failure, "data", "there is no memory for the outputs");
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

bool predict(Session *session, const Json *request, char *blob, int64_t size, Text *reply, Text *content,
             Failure *failure) {
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
