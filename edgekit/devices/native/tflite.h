/* A model in the TFLite C API. The library is opened while the program runs, so no header of it is needed:
   the few types below are what its binary interface consists of. */

#ifndef EDGEKIT_TFLITE_H
#define EDGEKIT_TFLITE_H

#include <stdarg.h>

#include "json.h"

enum { MAX_RANK = 16, MAX_TENSORS = 256 };
/* The most bytes that one request or reply carries after its line. */
#define MAX_BLOB ((int64_t)1 << 30)

typedef struct TfLiteModel TfLiteModel;
typedef struct TfLiteInterpreter TfLiteInterpreter;
typedef struct TfLiteInterpreterOptions TfLiteInterpreterOptions;
typedef struct TfLiteTensor TfLiteTensor;
typedef struct TfLiteSignatureRunner TfLiteSignatureRunner;
typedef struct TfLiteOpaqueContext TfLiteOpaqueContext;
typedef struct TfLiteOpaqueNode TfLiteOpaqueNode;
typedef struct TfLiteOperator TfLiteOperator;
typedef struct TfLiteDelegate TfLiteDelegate;

/* Of TfLiteStatus: what the library could not undo. */
enum { STATUS_OK = 0, STATUS_ERROR = 1 };

typedef struct {
    int size;
    int data[];
} TfLiteIntArray;

typedef struct {
    float scale;
    int32_t zero_point;
} TfLiteQuantizationParams;

/* XNNPACK's options grow with its versions; the number of threads stays first. They are returned through
   memory of the caller's, so that more room than a version needs does no harm. */
typedef struct {
    int32_t num_threads;
    int32_t rest[127];
} TfLiteXNNPackDelegateOptions;

typedef void (*ErrorReporter)(void *user_data, const char *format, va_list arguments);

/* X(needed, result, name, arguments): what a library must have, and what it may lack. */
#define TFLITE_FUNCTIONS(X) \
    X(1, const char *, TfLiteVersion, (void)) \
    X(1, TfLiteModel *, TfLiteModelCreateFromFile, (const char *)) \
    X(0, TfLiteModel *, TfLiteModelCreateFromFileWithErrorReporter, (const char *, ErrorReporter, void *)) \
    X(1, void, TfLiteModelDelete, (TfLiteModel *)) \
    X(1, TfLiteInterpreterOptions *, TfLiteInterpreterOptionsCreate, (void)) \
    X(1, void, TfLiteInterpreterOptionsDelete, (TfLiteInterpreterOptions *)) \
    X(1, void, TfLiteInterpreterOptionsSetNumThreads, (TfLiteInterpreterOptions *, int32_t)) \
    X(1, void, TfLiteInterpreterOptionsAddDelegate, (TfLiteInterpreterOptions *, TfLiteDelegate *)) \
    X(1, void, TfLiteInterpreterOptionsSetErrorReporter, \
      (TfLiteInterpreterOptions *, ErrorReporter, void *)) \
    X(1, TfLiteInterpreter *, TfLiteInterpreterCreate, \
      (const TfLiteModel *, const TfLiteInterpreterOptions *)) \
    X(1, void, TfLiteInterpreterDelete, (TfLiteInterpreter *)) \
    X(1, int32_t, TfLiteInterpreterGetInputTensorCount, (const TfLiteInterpreter *)) \
    X(1, TfLiteTensor *, TfLiteInterpreterGetInputTensor, (const TfLiteInterpreter *, int32_t)) \
    X(1, int32_t, TfLiteInterpreterGetOutputTensorCount, (const TfLiteInterpreter *)) \
    X(1, const TfLiteTensor *, TfLiteInterpreterGetOutputTensor, (const TfLiteInterpreter *, int32_t)) \
    X(1, int, TfLiteInterpreterResizeInputTensor, (TfLiteInterpreter *, int32_t, const int *, int32_t)) \
    X(1, int, TfLiteInterpreterAllocateTensors, (TfLiteInterpreter *)) \
    X(1, int, TfLiteInterpreterInvoke, (TfLiteInterpreter *)) \
    X(0, int, TfLiteInterpreterResetVariableTensors, (TfLiteInterpreter *)) \
    X(0, int, TfLiteInterpreterModifyGraphWithDelegate, (TfLiteInterpreter *, TfLiteDelegate *)) \
    X(1, int, TfLiteTensorType, (const TfLiteTensor *)) \
    X(1, int32_t, TfLiteTensorNumDims, (const TfLiteTensor *)) \
    X(1, int32_t, TfLiteTensorDim, (const TfLiteTensor *, int32_t)) \
    X(1, size_t, TfLiteTensorByteSize, (const TfLiteTensor *)) \
    X(1, const char *, TfLiteTensorName, (const TfLiteTensor *)) \
    X(1, TfLiteQuantizationParams, TfLiteTensorQuantizationParams, (const TfLiteTensor *)) \
    X(1, int, TfLiteTensorCopyFromBuffer, (TfLiteTensor *, const void *, size_t)) \
    X(1, int, TfLiteTensorCopyToBuffer, (const TfLiteTensor *, void *, size_t)) \
    X(0, int, TfLiteOpaqueTensorGetNumDimsSignature, (const TfLiteTensor *, int32_t *)) \
    X(0, int, TfLiteOpaqueTensorGetDimSignature, (const TfLiteTensor *, int32_t, int32_t *)) \
    X(0, int32_t, TfLiteInterpreterGetSignatureCount, (const TfLiteInterpreter *)) \
    X(0, const char *, TfLiteInterpreterGetSignatureKey, (const TfLiteInterpreter *, int32_t)) \
    X(0, TfLiteSignatureRunner *, TfLiteInterpreterGetSignatureRunner, \
      (const TfLiteInterpreter *, const char *)) \
    X(0, void, TfLiteSignatureRunnerDelete, (TfLiteSignatureRunner *)) \
    X(0, size_t, TfLiteSignatureRunnerGetInputCount, (const TfLiteSignatureRunner *)) \
    X(0, const char *, TfLiteSignatureRunnerGetInputName, (const TfLiteSignatureRunner *, int32_t)) \
    X(0, TfLiteTensor *, TfLiteSignatureRunnerGetInputTensor, (TfLiteSignatureRunner *, const char *)) \
    X(0, size_t, TfLiteSignatureRunnerGetOutputCount, (const TfLiteSignatureRunner *)) \
    X(0, const char *, TfLiteSignatureRunnerGetOutputName, (const TfLiteSignatureRunner *, int32_t)) \
    X(0, const TfLiteTensor *, TfLiteSignatureRunnerGetOutputTensor, \
      (const TfLiteSignatureRunner *, const char *)) \
    X(0, TfLiteXNNPackDelegateOptions, TfLiteXNNPackDelegateOptionsDefault, (void)) \
    X(0, TfLiteDelegate *, TfLiteXNNPackDelegateCreate, (const TfLiteXNNPackDelegateOptions *)) \
    X(0, void, TfLiteXNNPackDelegateDelete, (TfLiteDelegate *)) \
    X(0, int, TfLiteOpaqueContextGetExecutionPlan, (TfLiteOpaqueContext *, TfLiteIntArray **)) \
    X(0, int, TfLiteOpaqueContextGetNodeAndRegistration, \
      (TfLiteOpaqueContext *, int, TfLiteOpaqueNode **, TfLiteOperator **)) \
    X(0, int32_t, TfLiteOperatorGetBuiltInCode, (const TfLiteOperator *)) \
    X(0, const char *, TfLiteOperatorGetCustomName, (const TfLiteOperator *))

typedef struct {
    double load_ms; /* of opening the library */
#define X(needed, result, name, arguments) result(*name) arguments;
    TFLITE_FUNCTIONS(X)
#undef X
} Library;

/* An input or output: `shape` has -1 where a dimension is free, `used` is the shape that memory was
   planned for. */
typedef struct {
    char *name;
    int type;
    int rank;
    int32_t shape[MAX_RANK];
    int32_t used[MAX_RANK];
    double scale;
    int32_t zero_point;
} TensorSpec;

/* Sets of inputs in one block: all sets of the first input, then all of the second. */
typedef struct {
    char *bytes;
    int64_t count;
    int32_t shapes[MAX_TENSORS][MAX_RANK];
    int64_t offset[MAX_TENSORS]; /* of the first set of an input */
    int64_t size[MAX_TENSORS];   /* of one set of an input */
} Feeds;

typedef struct Session Session;

/* Which operators a delegate took, as placement.c saw it. */
typedef struct {
    bool known;
    int count;
    int taken;
    char **names;
    bool *accelerated;
} Placement;

struct Session {
    const Library *library;
    TfLiteModel *model;
    TfLiteInterpreter *interpreter;
    TfLiteDelegate *delegate;
    void (*delete_delegate)(TfLiteDelegate *);
    char *delegate_name;   /* the one that was asked for, or xnnpack; NULL where it refused */
    bool unknown_delegate; /* the library decides about XNNPACK, and does not tell */
    bool ready;            /* memory is planned for the shapes in use */
    int32_t threads;
    Placement placement;
    int input_count;
    int output_count;
    TensorSpec inputs[MAX_TENSORS];
    TensorSpec outputs[MAX_TENSORS];
    Feeds feeds;
};

bool library_open(Library *library, const char *path, Failure *failure);

/* numpy's name of a type of the C API, and the bytes of an element; NULL and 0 for what is no plain number.
 */
const char *type_name(int type);
size_t type_size(int type);

/* The steps of opening a model, which the caller times. After a failure too, `session_close` frees what
   there is. */
bool session_load(Session *session, const Library *library, const Json *request, Failure *failure);
bool session_prepare(Session *session, const Feeds *feeds, Failure *failure);
void session_close(Session *session);

bool session_feed(Session *session, const Feeds *feeds, int64_t set, Failure *failure);
bool session_invoke(Session *session, Failure *failure);
bool session_reset(Session *session, Failure *failure);

/* The sets that follow a request, or a random one. The bytes of a blob become the feeds' own. */
bool feeds_unpack(Feeds *feeds, const Session *session, const Json *request, char *blob, int64_t size,
                  Failure *failure);
bool feeds_random(Feeds *feeds, const Session *session, uint64_t seed, Failure *failure);

void write_shape(Text *text, const int32_t *shape, int rank);

/* What the library's error reporter said since the last call of it, or a sentence of the caller's. */
const char *library_said(const char *otherwise);

/* placement.c */
void placement_watch(Session *session, TfLiteDelegate *delegate);
TfLiteDelegate *placement_onlooker(Session *session,
                                   bool closes); /* takes nothing; may close the graph to others */
void placement_report(const Session *session, Text *reply);
void placement_forget(Session *session);
const char *session_delegate(
    const Session *session); /* its name where it took anything, "none", or "unknown" */

#endif
