/* scores MODEL IMAGES COUNT ROWS COLUMNS: what the model makes of images of bytes, as
 * 32-bit numbers in this machine's order: scores of integers, or logits. */

#include "lenet5c.h"

#include <stdio.h>
#include <stdlib.h>

int main(int count, char **given)
{
    lenet5c_layout layout = {0};
    lenet5c_input_info input;
    lenet5c_model *model;
    size_t pixels, results;
    unsigned char *images;
    void *workspace, *found;
    int code, is_int8;
    FILE *file;
    if (count != 6) return 2;
    code = lenet5c_open(given[1], &model);
    if (code) {
        fprintf(stderr, "%s: %s\n", given[1], lenet5c_strerror(code));
        return 1;
    }
    lenet5c_input(model, &input);
    layout.count = atoi(given[3]);
    layout.height = atoi(given[4]);
    layout.width = atoi(given[5]);
    pixels = (size_t)layout.count * (size_t)input.channels * (size_t)layout.height *
             (size_t)layout.width;
    results = (size_t)layout.count * (size_t)lenet5c_classes(model);
    images = malloc(pixels);
    found = malloc(4 * results);
    workspace = malloc(lenet5c_workspace_size(model));
    file = fopen(given[2], "rb");
    if (!images || !found || !workspace || !file ||
        fread(images, 1, pixels, file) != pixels)
        return 1;
    fclose(file);
    is_int8 = lenet5c_scores(model, workspace, images, &layout, found) == 0;
    code = is_int8 ? 0
                   : lenet5c_predict_u8(
                         model, workspace, images, &layout, NULL, NULL, (float *)found);
    if (code) {
        fprintf(stderr, "%s\n", lenet5c_strerror(code));
        return 1;
    }
    fwrite(found, 4, results, stdout);
    free(workspace);
    free(found);
    free(images);
    lenet5c_close(model);
    return 0;
}
