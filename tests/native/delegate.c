/* Delegates for the tests, by the option "mode": "refuse" the graph, give "none", or "take" every ADD and
   give 100 too much, so that its work is seen. "library" is the TFLite library, whose functions a taking
   delegate needs; "classic" takes the same without any, through TFLite's own structures, as delegates for
   Python's wheels must, which export no functions. */

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int size;
    int data[];
} IntArray;

typedef struct Delegate {
    void *data;
    int (*prepare)(void *context, struct Delegate *delegate);
    void (*unused[3])(void);
    int64_t flags;
    void *builder;
} Delegate;

typedef struct {
    void *data;
    int (*prepare)(void *context, void *delegate, void *data);
    void (*unused[3])(void);
    int64_t flags;
} Builder;

static void *library;

static void *function(const char *name) {
    void *symbol = dlsym(library, name);
    if (symbol == NULL) abort();
    return symbol;
}

#define CALL(result, name, types) ((result(*) types)function(name))

static int refuse(void *context, Delegate *delegate) {
    (void)context, (void)delegate;
    return 1;
}

static int add(void *user_data, void *context, void *node) {
    (void)user_data;
    void *(*data)(const void *) = CALL(void *, "TfLiteOpaqueTensorData", (const void *));
    const void *(*input)(void *, void *, int) =
        CALL(const void *, "TfLiteOpaqueNodeGetInput", (void *, void *, int));
    void *output = CALL(void *, "TfLiteOpaqueNodeGetOutput", (void *, void *, int))(context, node, 0);
    const float *a = data(input(context, node, 0)), *b = data(input(context, node, 1));
    float *sum = data(output);
    size_t count = CALL(size_t, "TfLiteOpaqueTensorByteSize", (const void *))(output) / sizeof *sum;
    for (size_t i = 0; i < count; i++) sum[i] = a[i] + b[i] + 100;
    return 0;
}

static int take(void *context, void *delegate, void *data) {
    IntArray *plan, *taken = calloc(1, sizeof *taken + 100 * sizeof(int));
    void *node, *operator;
    (void)data;
    CALL(int, "TfLiteOpaqueContextGetExecutionPlan", (void *, IntArray **))(context, &plan);
    for (int i = 0; i < plan->size && i < 100; i++) {
        CALL(int, "TfLiteOpaqueContextGetNodeAndRegistration",
             (void *, int, void **, void **))(context, plan->data[i], &node, &operator);
        if (CALL(int, "TfLiteOperatorGetBuiltInCode", (const void *))(operator) == 0)
            taken->data[taken->size++] = plan->data[i];
    }
    void *kernel =
        CALL(void *, "TfLiteOperatorCreate", (int, const char *, int, void *))(51, "tests", 1, NULL);
    CALL(void, "TfLiteOperatorSetInvokeWithData", (void *, int (*)(void *, void *, void *)))(kernel, add);
    int status = CALL(int, "TfLiteOpaqueContextReplaceNodeSubsetsWithDelegateKernels",
                      (void *, void *, const IntArray *, void *))(context, kernel, taken, delegate);
    free(taken);
    return status;
}

/* The heads of TFLite's structures, as common.h has had them since TensorFlow 2.5. */
typedef struct {
    IntArray *inputs, *outputs;
} ClassicNode;

typedef struct {
    int type;
    float *data;
    IntArray *dims;
    float scale;
    int zero_point, allocation;
    size_t bytes;
    void *unused[8];
} ClassicTensor;

typedef struct ClassicContext ClassicContext;

typedef struct {
    void *init, *free, *prepare;
    int (*invoke)(ClassicContext *, ClassicNode *);
    void *profiling;
    int builtin_code;
    const char *name;
    int version;
    void *unused[3];
} ClassicOperator;

struct ClassicContext {
    size_t count;
    int (*plan)(ClassicContext *, IntArray **);
    ClassicTensor *tensors;
    void *unused[4];
    int (*node)(ClassicContext *, int, ClassicNode **, ClassicOperator **);
    int (*replace)(ClassicContext *, ClassicOperator, const IntArray *, Delegate *);
};

static int classic_add(ClassicContext *context, ClassicNode *node) {
    int last = node->inputs->size - 1;
    ClassicTensor *sum = &context->tensors[node->outputs->data[0]];
    const float *a = context->tensors[node->inputs->data[0]].data;
    const float *b = context->tensors[node->inputs->data[last]].data;
    for (size_t i = 0; i < sum->bytes / sizeof *a; i++) sum->data[i] = a[i] + b[i] + 100;
    return 0;
}

static int classic_take(void *context_, Delegate *delegate) {
    ClassicContext *context = context_;
    ClassicOperator kernel = {.invoke = classic_add, .builtin_code = 51, .name = "tests", .version = 1};
    IntArray *plan, *taken = calloc(1, sizeof *taken + 100 * sizeof(int));
    ClassicNode *node;
    ClassicOperator *operator;
    int status = context->plan(context, &plan);
    for (int i = 0; status == 0 && i < plan->size && i < 100; i++) {
        status = context->node(context, plan->data[i], &node, &operator);
        if (status == 0 && operator->builtin_code == 0) taken->data[taken->size++] = plan->data[i];
    }
    if (status == 0) status = context->replace(context, kernel, taken, delegate);
    free(taken);
    return status;
}

Delegate *tflite_plugin_create_delegate(const char *const *keys, const char *const *values, size_t count,
                                        void (*report)(const char *)) {
    const char *mode = "";
    for (size_t i = 0; i < count; i++) {
        if (strcmp(keys[i], "mode") == 0) mode = values[i];
        if (strcmp(keys[i], "library") == 0) library = dlopen(values[i], RTLD_NOW | RTLD_LOCAL);
    }
    if (strcmp(mode, "none") == 0) {
        report("there is no such accelerator");
        return NULL;
    }
    if (strcmp(mode, "take") == 0) {
        Builder builder = {.prepare = take};
        return CALL(Delegate *, "TfLiteOpaqueDelegateCreate", (const Builder *))(&builder);
    }
    Delegate *delegate = calloc(1, sizeof *delegate);
    delegate->prepare = strcmp(mode, "classic") == 0 ? classic_take : refuse;
    return delegate;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) {
    if (delegate->builder != NULL) CALL(void, "TfLiteOpaqueDelegateDelete", (Delegate *))(delegate);
    else free(delegate);
}
