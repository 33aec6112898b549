/* The protobuf scanner: see wire.h for what it checks and what it writes.
 *
 * One loop over fields, with a stack of open messages. Helpers return false after they have
 * reported a problem; the scan stops at the first, since nothing after it can be trusted. */
#include "frontend/onnx/wire.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ir/support/arena.h"

enum { WIRE_VARINT, WIRE_I64, WIRE_LEN, WIRE_GROUP, WIRE_END_GROUP, WIRE_I32 };
enum { LENGTH_BYTES = 5, LIFTED_BYTES = 16, MAX_LIMITS = 8 };
/* protobuf-c holds lengths in an int */
#define COPY_LIMIT ((size_t)INT32_MAX)

typedef struct Frame {
    const ProtobufCMessageDescriptor *desc;
    const unsigned char *end;
    size_t length_at; /* where in the copy its padded length goes; unused for the root */
    uint64_t seen;    /* bit i: desc->fields[i] may not occur any more */
    int limit;        /* row of rules->limit, -1 when none */
} Frame;

typedef struct Scan {
    const WireRules *rules;
    const unsigned char *start, *p;
    WireCopy *copy;
    Diag *diag;
    SrcLoc where;
    int depth; /* of the innermost open message */
    uint32_t nesting[MAX_LIMITS];
    uint64_t count[MAX_LIMITS];
    Frame frame[WIRE_MAX_DEPTH + 1];
} Scan;

static const char *message_name(const Scan *s) {
    return s->frame[s->depth].desc->short_name;
}

static SrcLoc loc_at(const Scan *s, const unsigned char *p) {
    SrcLoc loc = s->where;
    loc.offset = p - s->start;
    return loc;
}

/* ---- the copy -------------------------------------------------------------------------------- */

static bool copy_reserve(Scan *s, size_t more) {
    WireCopy *c = s->copy;
    if (more <= c->cap - c->n_bytes) return true;
    if (more > COPY_LIMIT - c->n_bytes) {
        diag_error(s->diag, loc_at(s, s->p),
                   "the model without its raw weights is longer than 2 GiB");
        return false;
    }
    size_t cap = c->cap ? c->cap * 2 : 4096;
    if (cap < c->n_bytes + more) cap = c->n_bytes + more;
    if (cap > COPY_LIMIT) cap = COPY_LIMIT;
    c->bytes = xrealloc(c->bytes, cap);
    c->cap = cap;
    return true;
}

static void put_varint(Scan *s, uint64_t v) {
    WireCopy *c = s->copy;
    for (; v >= 0x80; v >>= 7) c->bytes[c->n_bytes++] = (unsigned char)(v | 0x80);
    c->bytes[c->n_bytes++] = (unsigned char)v;
}

static void put_bytes(Scan *s, const void *p, size_t n) {
    if (n) memcpy(s->copy->bytes + s->copy->n_bytes, p, n);
    s->copy->n_bytes += n;
}

static void fill_length(WireCopy *c, size_t at) {
    size_t n = c->n_bytes - at - LENGTH_BYTES;
    for (int i = 0; i < LENGTH_BYTES; i++, n >>= 7)
        c->bytes[at + (size_t)i] = (unsigned char)((n & 0x7f) | (i + 1 < LENGTH_BYTES ? 0x80 : 0));
}

/* ---- the input ------------------------------------------------------------------------------- */

/* Reads a varint that must end before `end`; NULL when it is malformed. */
static const char *read_varint(const unsigned char **at, const unsigned char *end, uint64_t *out) {
    const unsigned char *p = *at;
    uint64_t v = 0;
    for (int i = 0; i < 10; i++) {
        if (p == end) return "a varint goes past the end";
        unsigned char c = *p++;
        if (i == 9 && c > 1) return "varint too long";
        v |= (uint64_t)(c & 0x7f) << (7 * i);
        if (c < 0x80) {
            *at = p;
            *out = v;
            return NULL;
        }
    }
    return "varint too long";
}

static bool take_varint(Scan *s, uint64_t *out) {
    const unsigned char *from = s->p;
    const char *why = read_varint(&s->p, s->frame[s->depth].end, out);
    if (why) diag_error(s->diag, loc_at(s, from), "%s (in a %s)", why, message_name(s));
    return !why;
}

/* Reads a length and checks that so many bytes are left. */
static bool take_length(Scan *s, const char *field, size_t *out) {
    const unsigned char *from = s->p;
    uint64_t n;
    if (!take_varint(s, &n)) return false;
    uint64_t left = (uint64_t)(s->frame[s->depth].end - s->p);
    if (n > left) {
        diag_error(s->diag, loc_at(s, from),
                   "%s.%s has a length of %" PRIu64 ", but only %" PRIu64 " bytes are left",
                   message_name(s), field, n, left);
        return false;
    }
    *out = (size_t)n;
    return true;
}

static bool take_fixed(Scan *s, const char *field, size_t n) {
    size_t left = (size_t)(s->frame[s->depth].end - s->p);
    if (n <= left) return true;
    diag_error(s->diag, loc_at(s, s->p), "%s.%s needs %zu bytes, but only %zu are left",
               message_name(s), field, n, left);
    return false;
}

static bool skip_value(Scan *s, int wire) {
    uint64_t v;
    size_t n = wire == WIRE_I64 ? 8 : 4;
    if (wire == WIRE_VARINT) return take_varint(s, &v);
    if (wire == WIRE_LEN ? !take_length(s, "(unknown field)", &n)
                         : !take_fixed(s, "(unknown field)", n))
        return false;
    s->p += n;
    return true;
}

/* ---- messages -------------------------------------------------------------------------------- */

static bool push_message(Scan *s, const ProtobufCMessageDescriptor *desc, const unsigned char *end,
                         size_t length_at) {
    Frame f = {.desc = desc, .end = end, .length_at = length_at, .limit = -1};
    BUG_IF(desc->n_fields > 64, "%s has more than 64 fields", desc->name);
    if (s->depth + 1 >= WIRE_MAX_DEPTH) {
        diag_error(s->diag, loc_at(s, s->p), "messages are nested more than %d deep",
                   WIRE_MAX_DEPTH);
        return false;
    }
    for (int i = 0; i < s->rules->n_limits; i++) {
        const WireLimit *l = &s->rules->limit[i];
        if (l->of != desc) continue;
        f.limit = i;
        if (++s->nesting[i] > l->max_nesting && l->max_nesting) {
            diag_error(s->diag, loc_at(s, s->p), "nesting depth %" PRIu32 " exceeded (by a %s)",
                       l->max_nesting, desc->short_name);
            return false;
        }
        if (++s->count[i] > l->max_count && l->max_count) {
            diag_error(s->diag, loc_at(s, s->p), "more than %" PRIu64 " %s messages", l->max_count,
                       desc->short_name);
            return false;
        }
    }
    s->frame[++s->depth] = f;
    s->copy->n_messages++;
    return true;
}

static void pop_message(Scan *s) {
    Frame *f = &s->frame[s->depth];
    if (s->depth > 0) fill_length(s->copy, f->length_at);
    if (f->limit >= 0) s->nesting[f->limit]--;
    s->depth--;
}

/* ---- fields ---------------------------------------------------------------------------------- */

/* The wire type of one value; a repeated number may also come packed, as WIRE_LEN. */
static int wire_of(ProtobufCType type) {
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_BOOL:
    case PROTOBUF_C_TYPE_ENUM: return WIRE_VARINT;
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FLOAT: return WIRE_I32;
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_DOUBLE: return WIRE_I64;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE: return WIRE_LEN;
    }
    BUG("unknown protobuf type %d", (int)type);
}

/* Notes that a singular field occurred, and with it every other member of its oneof. */
static bool note_singular(Scan *s, const ProtobufCFieldDescriptor *field,
                          const unsigned char *tag_at) {
    Frame *f = &s->frame[s->depth];
    size_t k = (size_t)(field - f->desc->fields);
    if (f->seen >> k & 1) {
        bool in_oneof = field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF;
        diag_error(s->diag, loc_at(s, tag_at), "%s.%s occurs twice%s", message_name(s), field->name,
                   in_oneof ? ", or beside another member of its oneof" : "");
        return false;
    }
    f->seen |= UINT64_C(1) << k;
    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
        for (unsigned i = 0; i < f->desc->n_fields; i++)
            if ((f->desc->fields[i].flags & PROTOBUF_C_FIELD_FLAG_ONEOF) &&
                f->desc->fields[i].quantifier_offset == field->quantifier_offset)
                f->seen |= UINT64_C(1) << i;
    return true;
}

/* A packed run of numbers, already in the copy at [p, p+n): whole elements only. */
static bool check_packed(Scan *s, const ProtobufCFieldDescriptor *field, const unsigned char *p,
                         size_t n, const unsigned char *from) {
    int wire = wire_of(field->type);
    if (wire != WIRE_VARINT) {
        size_t item = wire == WIRE_I64 ? 8 : 4;
        if (n % item == 0) return true;
        diag_error(s->diag, loc_at(s, from), "%s.%s has %zu packed bytes, no multiple of %zu",
                   message_name(s), field->name, n, item);
        return false;
    }
    const unsigned char *at = p, *end = p + n;
    while (at < end) {
        uint64_t v;
        const unsigned char *item = at;
        const char *why = read_varint(&at, end, &v);
        if (!why) continue;
        diag_error(s->diag, loc_at(s, from + (item - p)), "%s (in packed %s.%s)", why,
                   message_name(s), field->name);
        return false;
    }
    return true;
}

static bool check_name(Scan *s, const ProtobufCFieldDescriptor *field, const unsigned char *p,
                       size_t n, const unsigned char *from) {
    if (n > s->rules->max_name) {
        diag_error(s->diag, loc_at(s, from), "%s.%s is %zu bytes long; names have at most %zu",
                   message_name(s), field->name, n, s->rules->max_name);
        return false;
    }
    if (n && memchr(p, 0, n)) {
        diag_error(s->diag, loc_at(s, from), "%s.%s contains a NUL byte", message_name(s),
                   field->name);
        return false;
    }
    return true;
}

static bool copy_payload(Scan *s, const ProtobufCFieldDescriptor *field, uint64_t tag) {
    size_t n;
    if (!take_length(s, field->name, &n)) return false;
    const unsigned char *from = s->p;
    /* a name over the limit is reported before it is copied */
    if (field->type == PROTOBUF_C_TYPE_STRING && n > s->rules->max_name)
        return check_name(s, field, from, n, from);
    if (!copy_reserve(s, n + 20)) return false;
    put_varint(s, tag);
    put_varint(s, n);
    const unsigned char *in_copy = s->copy->bytes + s->copy->n_bytes;
    put_bytes(s, from, n);
    s->p += n;
    if (field->type == PROTOBUF_C_TYPE_STRING) return check_name(s, field, in_copy, n, from);
    if (field->type == PROTOBUF_C_TYPE_BYTES) return true;
    return check_packed(s, field, in_copy, n, from);
}

static bool lift_payload(Scan *s, const ProtobufCFieldDescriptor *field, uint64_t tag) {
    size_t n;
    if (!take_length(s, field->name, &n) || !copy_reserve(s, 20 + LIFTED_BYTES)) return false;
    uint64_t span[2] = {(uint64_t)(s->p - s->start), n};
    put_varint(s, tag);
    put_varint(s, LIFTED_BYTES);
    put_bytes(s, span, LIFTED_BYTES);
    s->p += n;
    return true;
}

static bool open_message(Scan *s, const ProtobufCFieldDescriptor *field, uint64_t tag) {
    size_t n;
    if (!take_length(s, field->name, &n) || !copy_reserve(s, 20 + LENGTH_BYTES)) return false;
    put_varint(s, tag);
    size_t length_at = s->copy->n_bytes;
    s->copy->n_bytes += LENGTH_BYTES;
    return push_message(s, field->descriptor, s->p + n, length_at);
}

static bool copy_number(Scan *s, const ProtobufCFieldDescriptor *field, int wire, uint64_t tag) {
    uint64_t v;
    size_t n = wire == WIRE_I64 ? 8 : 4;
    if (!copy_reserve(s, 20)) return false;
    put_varint(s, tag);
    if (wire == WIRE_VARINT) {
        if (!take_varint(s, &v)) return false;
        put_varint(s, v);
        return true;
    }
    if (!take_fixed(s, field->name, n)) return false;
    put_bytes(s, s->p, n);
    s->p += n;
    return true;
}

static bool scan_field(Scan *s) {
    const unsigned char *tag_at = s->p;
    const ProtobufCMessageDescriptor *desc = s->frame[s->depth].desc;
    uint64_t tag;
    if (!take_varint(s, &tag)) return false;
    uint64_t number = tag >> 3;
    int wire = (int)(tag & 7);
    if (number == 0 || number > 0x1fffffff) {
        diag_error(s->diag, loc_at(s, tag_at), "field number %" PRIu64 " (in a %s)", number,
                   desc->short_name);
        return false;
    }
    if (wire == WIRE_GROUP || wire == WIRE_END_GROUP || wire > WIRE_I32) {
        diag_error(s->diag, loc_at(s, tag_at), "field %" PRIu64 " of a %s has wire type %d, %s",
                   number, desc->short_name, wire,
                   wire > WIRE_I32 ? "which is reserved" : "a group; no group belongs here");
        return false;
    }
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field(desc, (unsigned)number);
    if (!field) return skip_value(s, wire);

    int natural = wire_of(field->type);
    bool is_packed =
        field->label == PROTOBUF_C_LABEL_REPEATED && natural != WIRE_LEN && wire == WIRE_LEN;
    if (wire != natural && !is_packed) {
        diag_error(s->diag, loc_at(s, tag_at), "%s.%s has wire type %d, expected %d",
                   desc->short_name, field->name, wire, natural);
        return false;
    }
    if (field->label != PROTOBUF_C_LABEL_REPEATED && !note_singular(s, field, tag_at)) return false;
    if (wire != WIRE_LEN) return copy_number(s, field, wire, tag);
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) return open_message(s, field, tag);
    if (desc == s->rules->lift_in && number == s->rules->lift_field)
        return lift_payload(s, field, tag);
    return copy_payload(s, field, tag);
}

bool wire_compact(const WireRules *rules, const unsigned char *bytes, size_t n_bytes, SrcLoc where,
                  Diag *d, WireCopy *copy) {
    BUG_IF(rules->n_limits > MAX_LIMITS, "%d wire limits", rules->n_limits);
    *copy = (WireCopy){0};
    Scan *s = xmalloc(sizeof *s);
    s->rules = rules;
    s->start = s->p = bytes;
    s->copy = copy;
    s->diag = d;
    s->where = where;
    s->depth = -1;
    bool good = copy_reserve(s, 1) && push_message(s, rules->root, bytes + n_bytes, 0);
    while (good && s->depth >= 0) {
        if (s->p == s->frame[s->depth].end)
            pop_message(s);
        else
            good = scan_field(s);
    }
    free(s);
    if (!good) wire_free(copy);
    return good;
}

void wire_free(WireCopy *copy) {
    free(copy->bytes);
    *copy = (WireCopy){0};
}

/* ---- restoring the lifted payloads ----------------------------------------------------------- */

typedef VEC(ProtobufCMessage *) MessageStack;

static void push_children(Arena *scratch, MessageStack *stack, ProtobufCMessage *m) {
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        if (f->type != PROTOBUF_C_TYPE_MESSAGE) continue;
        char *base = (char *)m;
        if (f->label == PROTOBUF_C_LABEL_REPEATED) {
            size_t n = *(size_t *)(base + f->quantifier_offset);
            ProtobufCMessage **items = *(ProtobufCMessage ***)(base + f->offset);
            for (size_t k = 0; k < n; k++) vec_push(scratch, stack, items[k]);
            continue;
        }
        if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) &&
            *(uint32_t *)(base + f->quantifier_offset) != f->id)
            continue;
        ProtobufCMessage *child = *(ProtobufCMessage **)(base + f->offset);
        if (child) vec_push(scratch, stack, child);
    }
}

void wire_restore(const WireRules *rules, ProtobufCMessage *root, const unsigned char *bytes) {
    Arena *scratch = arena_create();
    MessageStack stack = {0};
    const ProtobufCFieldDescriptor *lifted =
        protobuf_c_message_descriptor_get_field(rules->lift_in, rules->lift_field);
    vec_push(scratch, &stack, root);
    while (stack.n) {
        ProtobufCMessage *m = stack.at[--stack.n];
        ProtobufCBinaryData *b = (ProtobufCBinaryData *)(void *)((char *)m + lifted->offset);
        push_children(scratch, &stack, m);
        if (m->descriptor != rules->lift_in || !b->data) continue;
        uint64_t span[2];
        BUG_IF(b->len != sizeof span, "a lifted field holds %zu bytes", b->len);
        memcpy(span, b->data, sizeof span);
        b->data = (uint8_t *)(uintptr_t)(bytes + span[0]);
        b->len = (size_t)span[1];
    }
    arena_destroy(scratch);
}
