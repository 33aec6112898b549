/* Sixteenth roots of two as kernel IR's root16 has them: the bits of the f32 2^(j / 16) / unit,
 * rounded, less j << 19. Of all units that keep unit e^r, |r| <= ln 2 / 32, below 1, where floats
 * are dense, this one lets the 16 numbers be rounded alike: by 0.07 to 0.76 of 2^-24, up, for
 * rsigmoid's r is too large where it is far from 0. */
#ifndef SMELT_IR_ROOT16_H
#define SMELT_IR_ROOT16_H

#define ROOT16_UNIT 0x1.ed6a6ep-1
/* clang-format off */
#define ROOT16_BITS \
    0x3f84d231, 0x3f82b399, 0x3f80d7a7, 0x3f7f414f, \
    0x3f7df3a6, 0x3f7cf1e3, 0x3f7c3f63, 0x3f7bdfa8, \
    0x3f7bd65c, 0x3f7c2753, 0x3f7cd68c, 0x3f7de833, \
    0x3f7f60a4, 0x3f81446c, 0x3f83984b, 0x3f866138
/* clang-format on */

#endif
