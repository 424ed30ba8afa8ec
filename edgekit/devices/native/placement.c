/* Which operators a delegate takes. The C API does not tell afterwards: it tells the delegate itself, in the
   call of `Prepare`. So that call is made from here, and the plan is read before and after it. */

#include <stdlib.h>
#include <string.h>

#include "operator_names.h"
#include "tflite.h"

/* The head of TfLiteDelegate and of TfLiteOpaqueDelegateBuilder, as common.h has had them since
   TensorFlow 2.11. Before that there was no builder, and `prepare` was always set. */
typedef int (*Prepare)(TfLiteOpaqueContext *, TfLiteDelegate *);
typedef int (*BuilderPrepare)(TfLiteOpaqueContext *, TfLiteDelegate *, void *data);

typedef struct {
    void *data;
    BuilderPrepare prepare;
} Builder;

typedef struct {
    void *data;
    Prepare prepare;
    void (*copy_from)(void);
    void (*copy_to)(void);
    void (*release)(void);
    int64_t flags;
    Builder *builder;
} Delegate;

/* `Prepare` has no argument of the caller's; one model is opened at a time. */
static Session *watched;
static Prepare original;
static BuilderPrepare original_of_builder;

static bool can_watch(const Library *library) {
    return library->TfLiteOpaqueContextGetExecutionPlan &&
           library->TfLiteOpaqueContextGetNodeAndRegistration && library->TfLiteOperatorGetBuiltInCode &&
           library->TfLiteOperatorGetCustomName;
}

static char *operator_name(const Library *library, TfLiteOpaqueContext *context, int node_index) {
    TfLiteOpaqueNode *node;
    TfLiteOperator *operator;
    const char *name = NULL;
    if (library->TfLiteOpaqueContextGetNodeAndRegistration(context, node_index, &node, &operator) != 0)
        return NULL;
    int code = library->TfLiteOperatorGetBuiltInCode(operator);
    if (code == BUILTIN_CUSTOM) name = library->TfLiteOperatorGetCustomName(operator);
    else if (code >= 0 && code < OPERATOR_COUNT) name = OPERATOR_NAMES[code];
    if (name == NULL) name = "UNKNOWN";
    char *copy = allocate(strlen(name) + 1, 1);
    return strcpy(copy, name);
}

/* Indices of the nodes that run, in their order; count is -1 where the library does not tell. */
static int *read_plan(const Library *library, TfLiteOpaqueContext *context, int *count) {
    TfLiteIntArray *plan;
    *count = -1;
    if (library->TfLiteOpaqueContextGetExecutionPlan(context, &plan) != 0 || plan->size < 0) return NULL;
    int *nodes = allocate((size_t)plan->size, sizeof *nodes);
    *count = plan->size;
    memcpy(nodes, plan->data, (size_t)plan->size * sizeof *nodes);
    return nodes;
}

static void placement_free(Placement *placement) {
    for (int i = 0; placement->names != NULL && i < placement->count; i++) free(placement->names[i]);
    free(placement->names);
    free(placement->accelerated);
    memset(placement, 0, sizeof *placement);
}

/* Note the operators before a delegate looks at them. Their nodes' indices, NULL where the library fails. */
static int *note_operators(Session *session, TfLiteOpaqueContext *context) {
    Placement *placement = &session->placement;
    int count;
    int *nodes = read_plan(session->library, context, &count);
    placement_free(placement);
    if (nodes == NULL) return NULL;
    placement->count = count;
    placement->names = allocate((size_t)count, sizeof *placement->names);
    placement->accelerated = allocate((size_t)count, sizeof *placement->accelerated);
    for (int i = 0; i < count; i++) placement->names[i] = operator_name(session->library, context, nodes[i]);
    return nodes;
}

/* What no longer runs by itself, the delegate took. */
static void note_taken(Session *session, TfLiteOpaqueContext *context, const int *nodes) {
    Placement *placement = &session->placement;
    int count;
    int *left = read_plan(session->library, context, &count);
    placement->known = left != NULL;
    for (int i = 0; left != NULL && i < placement->count; i++) {
        bool runs = false;
        for (int k = 0; k < count; k++) runs = runs || left[k] == nodes[i];
        placement->accelerated[i] = !runs;
        placement->taken += !runs;
    }
    free(left);
}

/* The first graph is the model; what its branches and loops call comes after it, and is not watched. */
static int watch(TfLiteOpaqueContext *context, TfLiteDelegate *delegate, bool by_builder) {
    Delegate *head = (Delegate *)(void *)delegate;
    Session *session = watched;
    watched = NULL;
    int *nodes = session != NULL ? note_operators(session, context) : NULL;
    int status;
    if (by_builder) {
        head->builder->prepare = original_of_builder;
        status = original_of_builder(context, delegate, head->builder->data);
    } else {
        head->prepare = original;
        status = original(context, delegate);
    }
    if (nodes != NULL && status == 0) note_taken(session, context, nodes);
    free(nodes);
    return status;
}

static int watched_prepare(TfLiteOpaqueContext *context, TfLiteDelegate *delegate) {
    return watch(context, delegate, false);
}

static int watched_builder_prepare(TfLiteOpaqueContext *context, TfLiteDelegate *delegate, void *data) {
    (void)data;
    return watch(context, delegate, true);
}

void placement_watch(Session *session, TfLiteDelegate *delegate) {
    Delegate *head = (Delegate *)(void *)delegate;
    if (!can_watch(session->library)) return;
    if (head->prepare != NULL) {
        original = head->prepare;
        head->prepare = watched_prepare;
    } else if (head->builder != NULL && head->builder->prepare != NULL) {
        original_of_builder = head->builder->prepare;
        head->builder->prepare = watched_builder_prepare;
    } else {
        return;
    }
    watched = session;
}

static int look(TfLiteOpaqueContext *context, TfLiteDelegate *delegate) {
    Session *session = watched;
    (void)delegate;
    watched = NULL;
    int *nodes = session != NULL ? note_operators(session, context) : NULL;
    if (nodes != NULL) note_taken(session, context, nodes);
    free(nodes);
    return 0;
}

/* Delegates that take nothing. The flag 1 says that a tensor may change its size. Without it the graph is
   closed: no further delegate gets in, not even the one that the library itself would add. */
static Delegate open_onlooker = {NULL, look, NULL, NULL, NULL, 1, NULL};
static Delegate closing_onlooker = {NULL, look, NULL, NULL, NULL, 0, NULL};

TfLiteDelegate *placement_onlooker(Session *session, bool closes) {
    if (can_watch(session->library) && !session->placement.known) watched = session;
    return (TfLiteDelegate *)(void *)(closes ? &closing_onlooker : &open_onlooker);
}

void placement_forget(Session *session) {
    if (watched == session) watched = NULL;
    placement_free(&session->placement);
}

const char *session_delegate(const Session *session) {
    if (session->unknown_delegate) return "unknown";
    if (session->delegate_name == NULL) return "none";
    return session->placement.known && session->placement.taken == 0 ? "none" : session->delegate_name;
}

void placement_report(const Session *session, Text *reply) {
    const Placement *placement = &session->placement;
    if (!placement->known) {
        text_add(reply, ", \"placement\": null");
        return;
    }
    double percent = placement->count ? 100.0 * placement->taken / placement->count : 0.0;
    text_add(reply, ", \"placement\": {\"accelerated_pct\": %.1f, \"ops\": [", percent);
    for (int i = 0; i < placement->count; i++) {
        text_add(reply, "%s{\"op\": ", i ? ", " : "");
        text_quoted(reply, placement->names[i] ? placement->names[i] : "UNKNOWN");
        text_add(reply, ", \"accelerated\": %s}", placement->accelerated[i] ? "true" : "false");
    }
    text_add(reply, "]}");
}
