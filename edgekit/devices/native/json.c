#include "json.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 16, MAX_VALUES = 65536 };

bool fail(Failure *failure, const char *kind, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    failure->kind = kind;
    vsnprintf(failure->message, sizeof failure->message, format, arguments);
    va_end(arguments);
    return false;
}

void *allocate(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size ? size : 1);
    if (memory == NULL) {
        fputs("the runner is out of memory\n", stderr);
        exit(1);
    }
    return memory;
}

typedef struct {
    char *at;
    const char *end;
    Json *values;
    size_t used;
    size_t capacity;
} Parser;

static void skip_space(Parser *parser) {
    while (parser->at < parser->end && strchr(" \t\r\n", *parser->at) != NULL && *parser->at != '\0')
        parser->at++;
}

static bool take(Parser *parser, const char *word) {
    size_t length = strlen(word);
    if ((size_t)(parser->end - parser->at) < length || memcmp(parser->at, word, length) != 0) return false;
    parser->at += length;
    return true;
}

static bool parse_hex4(Parser *parser, uint32_t *code) {
    if (parser->end - parser->at < 4) return false;
    *code = 0;
    for (int i = 0; i < 4; i++) {
        char c = *parser->at++;
        uint32_t digit;
        if (c >= '0' && c <= '9') digit = (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f') digit = (uint32_t)(c - 'a') + 10;
        else if (c >= 'A' && c <= 'F') digit = (uint32_t)(c - 'A') + 10;
        else return false;
        *code = *code * 16 + digit;
    }
    return true;
}

static char *put_utf8(char *out, uint32_t code) {
    if (code < 0x80) {
        *out++ = (char)code;
    } else if (code < 0x800) {
        *out++ = (char)(0xC0 | code >> 6);
        *out++ = (char)(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        *out++ = (char)(0xE0 | code >> 12);
        *out++ = (char)(0x80 | (code >> 6 & 0x3F));
        *out++ = (char)(0x80 | (code & 0x3F));
    } else {
        *out++ = (char)(0xF0 | code >> 18);
        *out++ = (char)(0x80 | (code >> 12 & 0x3F));
        *out++ = (char)(0x80 | (code >> 6 & 0x3F));
        *out++ = (char)(0x80 | (code & 0x3F));
    }
    return out;
}

/* A \u escape, or a pair of them. NUL is refused: the strings here are paths and names. */
static bool parse_unicode(Parser *parser, char **out) {
    uint32_t code, low;
    if (!parse_hex4(parser, &code) || code == 0 || (code >= 0xDC00 && code < 0xE000)) return false;
    if (code >= 0xD800 && code < 0xDC00) {
        if (!take(parser, "\\u") || !parse_hex4(parser, &low) || low < 0xDC00 || low >= 0xE000) return false;
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    *out = put_utf8(*out, code);
    return true;
}

/* The decoded string replaces the written one, which is never shorter. */
static bool parse_string(Parser *parser, const char **text, size_t *length) {
    if (!take(parser, "\"")) return false;
    char *out = parser->at;
    *text = out;
    while (parser->at < parser->end) {
        unsigned char c = (unsigned char)*parser->at++;
        if (c == '"') {
            *length = (size_t)(out - *text);
            *out = '\0';
            return true;
        }
        if (c < 0x20) return false;
        if (c != '\\') {
            *out++ = (char)c;
            continue;
        }
        if (parser->at == parser->end) return false;
        char escape = *parser->at++;
        const char *found = strchr("\"\\/bfnrt", escape);
        if (escape == 'u') {
            if (!parse_unicode(parser, &out)) return false;
        } else if (escape != '\0' && found != NULL) {
            *out++ = "\"\\/\b\f\n\r\t"[found - "\"\\/bfnrt"];
        } else {
            return false;
        }
    }
    return false;
}

static bool parse_digits(Parser *parser) {
    char *start = parser->at;
    while (parser->at < parser->end && *parser->at >= '0' && *parser->at <= '9') parser->at++;
    return parser->at > start;
}

static bool parse_number(Parser *parser, Json *value) {
    char *start = parser->at;
    take(parser, "-");
    bool zero = parser->at < parser->end && *parser->at == '0';
    char *digits = parser->at;
    if (!parse_digits(parser) || (zero && parser->at - digits > 1)) return false;
    if (take(parser, ".") && !parse_digits(parser)) return false;
    if (take(parser, "e") || take(parser, "E")) {
        if (!take(parser, "+")) take(parser, "-");
        if (!parse_digits(parser)) return false;
    }
    value->kind = JSON_NUMBER;
    value->text = start;
    value->length = (size_t)(parser->at - start);
    value->number = strtod(start, NULL); /* what follows is no part of a number, or the NUL of the line */
    return true;
}

static Json *parse_value(Parser *parser, int depth);

/* What stands between brackets: elements, or members where `object` says so. */
static bool parse_children(Parser *parser, Json *parent, int depth, const char *close) {
    bool object = parent->kind == JSON_OBJECT;
    Json **last = &parent->child;
    skip_space(parser);
    if (take(parser, close)) return true;
    for (;;) {
        const char *key = NULL;
        size_t length;
        skip_space(parser);
        if (object) {
            if (!parse_string(parser, &key, &length)) return false;
            skip_space(parser);
            if (!take(parser, ":")) return false;
        }
        Json *value = parse_value(parser, depth + 1);
        if (value == NULL) return false;
        value->key = key;
        *last = value;
        last = &value->next;
        skip_space(parser);
        if (take(parser, close)) return true;
        if (!take(parser, ",")) return false;
    }
}

static Json *parse_value(Parser *parser, int depth) {
    if (depth > MAX_DEPTH || parser->used == parser->capacity) return NULL;
    Json *value = &parser->values[parser->used++];
    skip_space(parser);
    bool good;
    if (take(parser, "{")) {
        value->kind = JSON_OBJECT;
        good = parse_children(parser, value, depth, "}");
    } else if (take(parser, "[")) {
        value->kind = JSON_ARRAY;
        good = parse_children(parser, value, depth, "]");
    } else if (parser->at < parser->end && *parser->at == '"') {
        value->kind = JSON_STRING;
        good = parse_string(parser, &value->text, &value->length);
    } else if (take(parser, "true")) {
        value->kind = JSON_TRUE;
        good = true;
    } else if (take(parser, "false")) {
        value->kind = JSON_FALSE;
        good = true;
    } else if (take(parser, "null")) {
        value->kind = JSON_NULL;
        good = true;
    } else {
        good = parse_number(parser, value);
    }
    return good ? value : NULL;
}

Json *json_parse(char *line, size_t length) {
    /* A value takes a byte and a separator at least. */
    size_t capacity = length / 2 + 2 < MAX_VALUES ? length / 2 + 2 : MAX_VALUES;
    Parser parser = {line, line + length, allocate(capacity, sizeof(Json)), 0, capacity};
    Json *root = parse_value(&parser, 0);
    skip_space(&parser);
    if (root == NULL || parser.at != parser.end) {
        free(parser.values);
        return NULL;
    }
    return root;
}

const Json *json_member(const Json *object, const char *key) {
    const Json *found = NULL;
    if (object == NULL || object->kind != JSON_OBJECT) return NULL;
    for (const Json *member = object->child; member != NULL; member = member->next)
        if (strcmp(member->key, key) == 0) found = member; /* of two with one name, the last counts */
    return found != NULL && found->kind != JSON_NULL ? found : NULL;
}

bool json_real(const Json *object, const char *key, double low, double high, double *value,
               Failure *failure) {
    const Json *member = json_member(object, key);
    if (member == NULL) return true;
    if (member->kind != JSON_NUMBER || !(member->number >= low && member->number <= high))
        return fail(failure, "request", "%s is no number from %g to %g", key, low, high);
    *value = member->number;
    return true;
}

bool json_integer(const Json *object, const char *key, int64_t low, int64_t high, int64_t *value,
                  Failure *failure) {
    double real = (double)*value;
    if (!json_real(object, key, (double)low, (double)high, &real, failure)) return false;
    if (json_member(object, key) == NULL) return true;
    if (real != (double)(int64_t)real) return fail(failure, "request", "%s is no whole number", key);
    *value = (int64_t)real;
    return true;
}

bool json_bool(const Json *object, const char *key, bool *value, Failure *failure) {
    const Json *member = json_member(object, key);
    if (member == NULL) return true;
    if (member->kind != JSON_TRUE && member->kind != JSON_FALSE)
        return fail(failure, "request", "%s is neither true nor false", key);
    *value = member->kind == JSON_TRUE;
    return true;
}

static void reserve(Text *text, size_t more) {
    if (text->capacity - text->length > more) return;
    size_t capacity = (text->length + more + 1) * 2;
    char *data = realloc(text->data, capacity);
    if (data == NULL) {
        fputs("the runner is out of memory\n", stderr);
        exit(1);
    }
    text->data = data;
    text->capacity = capacity;
}

void text_add(Text *text, const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length > 0) {
        reserve(text, (size_t)length + 1);
        vsnprintf(text->data + text->length, (size_t)length + 1, format, again);
        text->length += (size_t)length;
    }
    va_end(again);
}

/* How many bytes of UTF-8 begin at `s`; 0 where they are none. */
static int utf8_length(const unsigned char *s) {
    int length = s[0] < 0x80                   ? 1
                 : s[0] >= 0xC2 && s[0] < 0xE0 ? 2
                 : s[0] >= 0xE0 && s[0] < 0xF0 ? 3
                 : s[0] >= 0xF0 && s[0] < 0xF5 ? 4
                                               : 0;
    for (int i = 1; i < length; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    /* Overlong forms, surrogates, and what lies above U+10FFFF. */
    if ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F)) return 0;
    if ((s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F)) return 0;
    return length;
}

void text_quoted(Text *text, const char *string) {
    const unsigned char *s = (const unsigned char *)string;
    text_add(text, "\"");
    while (*s != '\0') {
        int length = utf8_length(s);
        if (length == 0) text_add(text, "\\ufffd");
        else if (*s < 0x20) text_add(text, "\\u%04x", *s);
        else if (*s == '"' || *s == '\\') text_add(text, "\\%c", *s);
        else text_add(text, "%.*s", length, (const char *)s);
        s += length ? length : 1;
    }
    text_add(text, "\"");
}

void text_real(Text *text, double value) {
    if (isfinite(value)) text_add(text, "%.17g", value);
    else text_add(text, "null");
}

void text_value(Text *text, const Json *value) {
    if (value == NULL) text_add(text, "null");
    else if (value->kind == JSON_STRING) text_quoted(text, value->text);
    else if (value->kind == JSON_NUMBER) text_add(text, "%.*s", (int)value->length, value->text);
    else if (value->kind == JSON_TRUE || value->kind == JSON_FALSE)
        text_add(text, value->kind == JSON_TRUE ? "true" : "false");
    else text_add(text, "null");
}
