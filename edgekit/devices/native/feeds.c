/* Sets of inputs: those that follow a request, or random ones. */

#include <stdlib.h>
#include <string.h>

#include "tflite.h"

static const struct {
    const char *name;
    size_t size;
} TYPES[] = {[1] = {"float32", 4},  [2] = {"int32", 4},   [3] = {"uint8", 1},   [4] = {"int64", 8},
             [6] = {"bool", 1},     [7] = {"int16", 2},   [9] = {"int8", 1},    [10] = {"float16", 2},
             [11] = {"float64", 8}, [13] = {"uint64", 8}, [16] = {"uint32", 4}, [17] = {"uint16", 2}};

const char *type_name(int type) {
    return type >= 0 && type < (int)(sizeof TYPES / sizeof TYPES[0]) ? TYPES[type].name : NULL;
}

size_t type_size(int type) {
    return type_name(type) != NULL ? TYPES[type].size : 0;
}

/* Bytes of a tensor; -1 where they are too many, or the type has no size. */
static int64_t bytes_of(int type, const int32_t *shape, int rank) {
    int64_t bytes = (int64_t)type_size(type);
    if (bytes == 0) return -1;
    for (int i = 0; i < rank; i++) {
        if (shape[i] < 0 || (shape[i] > 0 && bytes > MAX_BLOB / shape[i])) return -1;
        bytes *= shape[i];
    }
    return bytes;
}

/* "[null, 8, 8, 1]" */
void write_shape(Text *text, const int32_t *shape, int rank) {
    text_add(text, "[");
    for (int i = 0; i < rank; i++) {
        text_add(text, "%s", i ? ", " : "");
        if (shape[i] < 0) text_add(text, "null");
        else text_add(text, "%d", shape[i]);
    }
    text_add(text, "]");
}

static bool misfit(const TensorSpec *spec, const Json *shape, Failure *failure) {
    Text wanted = {NULL, 0, 0}, given = {NULL, 0, 0};
    write_shape(&wanted, spec->shape, spec->rank);
    for (const Json *size = shape->child; size != NULL && given.length < 100; size = size->next) {
        text_add(&given, "%s", size == shape->child ? "" : ", ");
        text_value(&given, size);
    }
    fail(failure, "data", "the input %.100s takes %s, the data has [%s]", spec->name, wanted.data,
         given.data != NULL ? given.data : "");
    free(wanted.data);
    free(given.data);
    return false;
}

/* The shape of an input as a request gives it; it must be the model's where that is not free. */
static bool read_shape(Feeds *feeds, int index, const TensorSpec *spec, const Json *shape, Failure *failure) {
    int rank = 0;
    if (shape->kind != JSON_ARRAY) return fail(failure, "request", "shapes are no lists");
    for (const Json *size = shape->child; size != NULL; size = size->next, rank++) {
        bool whole = size->kind == JSON_NUMBER && size->number >= 0 && size->number <= INT32_MAX;
        if (!whole || rank == spec->rank) return misfit(spec, shape, failure);
        int32_t value = (int32_t)size->number;
        if (value != size->number || (spec->shape[rank] >= 0 && value != spec->shape[rank]))
            return misfit(spec, shape, failure);
        feeds->shapes[index][rank] = value;
    }
    return rank == spec->rank || misfit(spec, shape, failure);
}

/* Where the sets of each input lie; false where they are too many bytes. */
static bool lay_out(Feeds *feeds, const Session *session, int64_t *total, Failure *failure) {
    *total = 0;
    for (int i = 0; i < session->input_count; i++) {
        const TensorSpec *spec = &session->inputs[i];
        if (type_size(spec->type) == 0)
            return fail(failure, "model", "the input %s holds no plain numbers", spec->name);
        int64_t size = bytes_of(spec->type, feeds->shapes[i], spec->rank);
        if (size < 0 || (size > 0 && feeds->count > (MAX_BLOB - *total) / size))
            return fail(failure, "data", "the inputs take more than %lld bytes", (long long)MAX_BLOB);
        feeds->size[i] = size;
        feeds->offset[i] = *total;
        *total += size * feeds->count;
    }
    return true;
}

bool feeds_unpack(Feeds *feeds, const Session *session, const Json *request, char *blob, int64_t size,
                  Failure *failure) {
    const Json *shapes = json_member(request, "shapes");
    int64_t total;
    int index = 0;
    feeds->count = 0;
    if (!json_integer(request, "feeds", 1, MAX_BLOB, &feeds->count, failure)) return false;
    if (shapes == NULL || shapes->kind != JSON_ARRAY || feeds->count < 1)
        return fail(failure, "request", "the request has no feeds and shapes");
    for (const Json *shape = shapes->child; shape != NULL; shape = shape->next, index++) {
        if (index == session->input_count) return fail(failure, "data", "there are more shapes than inputs");
        if (!read_shape(feeds, index, &session->inputs[index], shape, failure)) return false;
    }
    if (index < session->input_count) return fail(failure, "data", "there are fewer shapes than inputs");
    if (!lay_out(feeds, session, &total, failure)) return false;
    if (total != size)
        return fail(failure, "data", "%lld bytes were sent, the inputs take %lld", (long long)size,
                    (long long)total);
    feeds->bytes = blob;
    return true;
}

static uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u; /* splitmix64 */
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* 0 to 1 for real numbers, the whole range for 8 and 16 bits; wide integers are indices or lengths: 0 or 1.
 */
static void random_element(char *out, int type, uint64_t bits) {
    size_t size = type_size(type);
    const char *name = type_name(type);
    if (strcmp(name, "float32") == 0) {
        float value = (float)(bits >> 40) * 0x1p-24f;
        memcpy(out, &value, sizeof value);
    } else if (strcmp(name, "float64") == 0) {
        double value = (double)(bits >> 11) * 0x1p-53;
        memcpy(out, &value, sizeof value);
    } else if (strcmp(name, "float16") == 0) {
        uint16_t half = (uint16_t)(0x3800 | bits >> 54); /* ten random bits of the numbers from 0.5 to 1 */
        memcpy(out, &half, sizeof half);
    } else if (size <= 2 && strcmp(name, "bool") != 0) {
        memcpy(out, &bits, size);
    } else {
        uint64_t bit =
            bits >> 63; /* the same bytes in every width on a little-endian machine, as all here are */
        memcpy(out, &bit, size);
    }
}

bool feeds_random(Feeds *feeds, const Session *session, uint64_t seed, Failure *failure) {
    int64_t total;
    feeds->count = 1;
    for (int i = 0; i < session->input_count; i++)
        for (int d = 0; d < session->inputs[i].rank; d++)
            feeds->shapes[i][d] = session->inputs[i].shape[d] > 0 ? session->inputs[i].shape[d] : 1;
    if (!lay_out(feeds, session, &total, failure)) return false;
    feeds->bytes = allocate((size_t)total, 1);
    for (int i = 0; i < session->input_count; i++) {
        int type = session->inputs[i].type;
        size_t size = type_size(type);
        char *at = feeds->bytes + feeds->offset[i];
        for (char *end = at + feeds->size[i]; at < end; at += size)
            random_element(at, type, next_random(&seed));
    }
    return true;
}
