/* Counts the classes in an IDX file of images, which is mapped into memory, on all CPUs.
 *
 *     cc -O2 -fopenmp classify_idx.c $(lenet5c config --cflags --libs) -o classify_idx
 *     ./classify_idx digits.lenet5c t10k-images-idx3-ubyte
 *
 * An IDX file is 00 00 08 03, then the numbers of images, rows and columns as big-endian
 * 32-bit integers, then the pixels.
 */
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "lenet5c.h"

static size_t big_endian(const unsigned char *p)
{
    return (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
}

static int fail(const char *file, const char *message)
{
    fprintf(stderr, "%s: %s\n", file, message);
    return 2;
}

/* How many images there are of each class, added to `counts`; a negative code, or 0. The
 * model is shared; each thread has a workspace of its own. */
static int count_classes(const lenet5c_model *model, const unsigned char *pixels,
    lenet5c_layout layout, long *counts)
{
    const int images = layout.count, part = 64;
    const long size = (long)layout.height * layout.width;
    int failure = 0;
    layout.count = part;
#pragma omp parallel
    {
        void *workspace = malloc(lenet5c_workspace_size(model));
        int classes[64];
#pragma omp for schedule(dynamic)
        for (int first = 0; first < images; first += part) {
            lenet5c_layout here = layout;
            int code = LENET5C_NO_MEMORY;
            if (images - first < part) here.count = images - first;
            if (workspace)
                code = lenet5c_predict_u8(
                    model, workspace, pixels + first * size, &here, classes, NULL, NULL);
#pragma omp critical
            {
                if (code) failure = code;
                for (int i = 0; i < here.count && !code; i++) counts[classes[i]]++;
            }
        }
        free(workspace);
    }
    return failure;
}

int main(int count, char **arguments)
{
    lenet5c_model *model;
    lenet5c_layout layout = {0};
    struct stat status;
    const unsigned char *file;
    long *counts;
    int code, descriptor;
    if (count != 3) {
        fprintf(stderr, "usage: %s MODEL IDX-FILE\n", arguments[0]);
        return 2;
    }
    code = lenet5c_open(arguments[1], &model);
    if (code) return fail(arguments[1], lenet5c_strerror(code));
    descriptor = open(arguments[2], O_RDONLY);
    if (descriptor < 0 || fstat(descriptor, &status))
        return fail(arguments[2], "cannot be opened");
    file = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (file == MAP_FAILED) return fail(arguments[2], "cannot be mapped");
    if (status.st_size < 16 || big_endian(file) != 0x803)
        return fail(arguments[2], "expected an IDX file of images");
    layout.count = (int)big_endian(file + 4);
    layout.height = (int)big_endian(file + 8);
    layout.width = (int)big_endian(file + 12);
    if ((size_t)status.st_size - 16 !=
        big_endian(file + 4) * big_endian(file + 8) * big_endian(file + 12))
        return fail(arguments[2], "has another size than it says");
    counts = calloc((size_t)lenet5c_classes(model), sizeof *counts);
    if (!counts) return 1;
    code = count_classes(model, file + 16, layout, counts);
    if (code) return fail(arguments[2], lenet5c_strerror(code));
    for (int k = 0; k < lenet5c_classes(model); k++)
        printf("%s %ld\n", lenet5c_class_name(model, k), counts[k]);
    free(counts);
    lenet5c_close(model);
    return 0;
}
