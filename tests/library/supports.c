/* supports FEATURES: does this processor have what smelt_model.cpu_features lists? */
#include <stdio.h>
#include <string.h>

#include "smelt.h"

int main(int argc, char **argv) {
    const char *missing;
    if (argc != 2) return 2;
    if (smelt_cpu_supports(argv[1], &missing))
        puts("has all");
    else
        printf("lacks %.*s\n", (int)strcspn(missing, ","), missing);
    return 0;
}
