/* smelt_weights.h: the weights file of `smelt --weights=file`, as the compiler writes it and
 * smelt_weights_open reads it. Shared by the two, not installed.
 *
 * A header of SMELT_WEIGHTS_HEADER bytes, then the weights, then nothing. The header's numbers are
 * little-endian on every machine; the weights have the target's byte order. The header is as long
 * as the weights are aligned, so that in a mapped file the weights keep their alignment.
 *
 *   offset  bytes  content
 *        0      8  SMELT_WEIGHTS_MAGIC
 *        8      4  SMELT_WEIGHTS_VERSION
 *       12      4  0
 *       16      8  smelt_model.model_hash
 *       24      8  smelt_model.weight_bytes
 *       32      8  smelt_model.weight_hash: XXH64, seed 0, of the weights (smelt_hash.h)
 *       40     24  0 */
#ifndef SMELT_WEIGHTS_H
#define SMELT_WEIGHTS_H

#define SMELT_WEIGHTS_MAGIC      "SMELTW\032\n" /* 8 bytes; 032 and newline catch text transfers */
#define SMELT_WEIGHTS_VERSION    1u
#define SMELT_WEIGHTS_HEADER     64u
#define SMELT_WEIGHTS_AT_VERSION 8
#define SMELT_WEIGHTS_AT_MODEL   16
#define SMELT_WEIGHTS_AT_BYTES   24
#define SMELT_WEIGHTS_AT_HASH    32

#endif
