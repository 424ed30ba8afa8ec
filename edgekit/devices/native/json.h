/* JSON: one line read into a tree, and text written. Both are bounded, because the other side may be anyone.
 */

#ifndef EDGEKIT_JSON_H
#define EDGEKIT_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What went wrong: kind is "dependency", "delegate", "model", "data", "usage" or "request". */
typedef struct {
    const char *kind;
    char message[512];
} Failure;

/* Note a failure; always false, so that a function can return it. */
bool fail(Failure *failure, const char *kind, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Memory, or the end of the process: nothing sensible can be answered without it. */
void *allocate(size_t count, size_t size);

typedef enum { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT } JsonKind;

/* A value; the elements of an array and the members of an object hang on `child`, one after another. */
typedef struct Json {
    JsonKind kind;
    const char *key;  /* of a member, else NULL */
    const char *text; /* of a string, decoded and ended by NUL; of a number, as it was written */
    size_t length;    /* of text */
    double number;
    struct Json *child;
    struct Json *next;
} Json;

/* Read a line of `length` bytes that ends with NUL, and is changed. NULL where it is no JSON;
   free() it otherwise. */
Json *json_parse(char *line, size_t length);

/* A member of an object; NULL where there is none, or where it is null. */
const Json *json_member(const Json *object, const char *key);

/* A whole number of an object, or a default; false where it is none, or out of the range. */
bool json_integer(const Json *object, const char *key, int64_t low, int64_t high, int64_t *value,
                  Failure *failure);
bool json_real(const Json *object, const char *key, double low, double high, double *value, Failure *failure);
bool json_bool(const Json *object, const char *key, bool *value, Failure *failure);

/* Text that grows. */
typedef struct {
    char *data;
    size_t length;
    size_t capacity;
} Text;

void text_add(Text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_quoted(Text *text, const char *string); /* bytes that are no UTF-8 become U+FFFD */
void text_real(Text *text, double value);         /* null where JSON has no such number */
void text_value(Text *text, const Json *value);   /* a scalar as it came; null for anything else */

#endif
