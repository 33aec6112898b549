/* Reads handwritten digits with a network that was compiled into this program.
 *
 * Everything there is to know: include the header that smelt wrote, give the model an input, room
 * for its output and a piece of memory to work in, and call it. No framework, no file, no malloc.
 *
 *     smelt digits.onnx                          writes libdigits.a and digits.h
 *     cc main.c libdigits.a -lm -o digits
 *     ./digits                                   three pictures and the score over all
 *     ./digits --list                            every answer, a line each: number, truth, answer
 */
#include <stdio.h>
#include <string.h>

#include "digits.h"
#include "images.h"

#define N_SHOWN 3

static unsigned char arena[DIGITS_ARENA_BYTES];

/* Runs the network on one picture. Returns the likeliest digit and its probability, or -1. */
static int recognise(const unsigned char *pixels, float *confidence)
{
    float image[1 * 1 * 8 * 8], probabilities[1 * 10];
    int best = 0;

    for (int i = 0; i < 64; i++)
        image[i] = (float)pixels[i] / 16.0f;
    if (digits_run(image, probabilities, arena) != 0)
        return -1;
    for (int i = 1; i < 10; i++)
        if (probabilities[i] > probabilities[best])
            best = i;
    *confidence = probabilities[best];
    return best;
}

static void draw(const unsigned char *pixels)
{
    static const char ink[] = " .:-=+*#@";

    for (int y = 0; y < 8; y++) {
        printf("    ");
        for (int x = 0; x < 8; x++) {
            char c = ink[pixels[8 * y + x] / 2];
            printf("%c%c", c, c);
        }
        printf("\n");
    }
}

int main(int argc, char **argv)
{
    int list = argc > 1 && strcmp(argv[1], "--list") == 0;
    int n_right = 0;

    for (int i = 0; i < N_IMAGES; i++) {
        float confidence = 0.0f;
        int truth = image_truth[i];
        int answer = recognise(image_pixels[i], &confidence);

        if (answer < 0) {
            fprintf(stderr, "digits: the model could not run\n");
            return 1;
        }
        n_right += answer == truth;
        if (list) {
            printf("%d %d %d\n", i, truth, answer);
        } else if (i < N_SHOWN) {
            draw(image_pixels[i]);
            printf("  answer %d (%.1f %%), truth %d\n\n", answer, 100.0 * (double)confidence,
                   truth);
        }
    }
    printf("accuracy %d/%d\n", n_right, N_IMAGES);
    return 0;
}
