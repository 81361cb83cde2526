/* Reads images from stdin, one after the other, and prints the class of each.
 *
 *     cc -O2 classify.c $(lenet5c config --cflags --libs) -o classify
 *     ./classify digits.lenet5c < images.raw
 *
 * An image is its pixels and nothing else: channels x rows x columns bytes, as many rows
 * and columns as the images that the model was trained on.
 */
#include <stdio.h>
#include <stdlib.h>

#include "lenet5c.h"

int main(int count, char **arguments)
{
    lenet5c_model *model;
    lenet5c_input_info input;
    unsigned char *image;
    void *workspace;
    size_t size, got;
    int code;
    if (count != 2) {
        fprintf(stderr, "usage: %s MODEL < IMAGES\n", arguments[0]);
        return 2;
    }
    code = lenet5c_open(arguments[1], &model);
    if (code) {
        fprintf(stderr, "%s: %s\n", arguments[1], lenet5c_strerror(code));
        return 2;
    }
    lenet5c_input(model, &input);
    size = (size_t)input.channels;
    size *= (size_t)input.source_height * (size_t)input.source_width;
    image = malloc(size);
    workspace = malloc(lenet5c_workspace_size(model));
    if (!image || !workspace) return 1;
    while ((got = fread(image, 1, size, stdin)) == size) {
        const int found = lenet5c_classify(model, workspace, image);
        puts(found < 0 ? lenet5c_strerror(found) : lenet5c_class_name(model, found));
    }
    if (got) fprintf(stderr, "the last image has %zu of %zu bytes\n", got, size);
    free(workspace);
    free(image);
    lenet5c_close(model);
    return got ? 2 : 0;
}
