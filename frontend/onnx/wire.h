/* A scanner of protobuf's wire format that runs before protobuf-c.
 *
 * It reads hostile bytes with an explicit stack, checks them against protoc-c's descriptors, and
 * writes a compacted copy that protobuf-c can unpack without surprises:
 *   - unknown fields are gone (skipped without being read);
 *   - the payload of one chosen bytes field (weights) is replaced by sixteen bytes, its place and
 *     length in the input, so that weights are neither copied nor touched;
 *   - lengths of messages are varints padded to five bytes, which lets one pass write the copy:
 *     they are filled in when a message ends, and no byte of the input that matters is read twice
 *     (the input may be a mapping of a file that someone else is writing to).
 * Rejected, with the byte offset: a varint of more than ten bytes or 64 bits, a length past the end
 * of its message, groups and reserved wire types, field number 0, a known field with a wrong wire
 * type (repeated numbers may be packed or not), a singular field or a oneof that occurs twice,
 * a name (`string`) with a NUL or over the length limit, and nesting or counts over the limits. */
#ifndef SMELT_FRONTEND_ONNX_WIRE_H
#define SMELT_FRONTEND_ONNX_WIRE_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ir/support/diag.h"

typedef struct WireLimit {
    const ProtobufCMessageDescriptor *of;
    uint32_t max_nesting; /* messages of this kind within one another, 0: no limit */
    uint64_t max_count;   /* messages of this kind in the whole input, 0: no limit */
} WireLimit;

typedef struct WireRules {
    const ProtobufCMessageDescriptor *root;
    const ProtobufCMessageDescriptor *lift_in; /* whose field number lift_field is lifted out */
    uint32_t lift_field;
    size_t max_name;
    const WireLimit *limit;
    int n_limits;
} WireRules;

typedef struct WireCopy {
    unsigned char *bytes; /* owned, from the heap; never NULL after a good scan */
    size_t n_bytes, cap;
    uint64_t n_messages; /* in the copy, the root included */
} WireCopy;

/* The deepest stack of messages of any kind; bounds protobuf-c's own recursion. */
enum { WIRE_MAX_DEPTH = 256 };

/* Scans bytes[0..n) and fills `copy`. False, with one message that names `where.file` and the
 * offset, when the input is malformed; `copy` is empty then. */
bool wire_compact(const WireRules *rules, const unsigned char *bytes, size_t n_bytes, SrcLoc where,
                  Diag *d, WireCopy *copy);
void wire_free(WireCopy *copy);
/* Makes the lifted field of every message below `root`, which was unpacked from a copy, point at
 * its payload in the input. */
void wire_restore(const WireRules *rules, ProtobufCMessage *root, const unsigned char *bytes);

#endif
