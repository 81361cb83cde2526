/* Classifies the images in images.h and prints a line for each: its class and its scores,
 * of type RESULT, times UNIT. */

#define NET_IMPLEMENTATION
#include "net.h"

#include "images.h"

void print(const char *text);

static void print_number(int32_t number)
{
    char text[13], *at = text + sizeof text;
    uint32_t rest = number < 0 ? 0u - (uint32_t)number : (uint32_t)number;
    *--at = 0;
    *--at = ' ';
    do *--at = (char)('0' + rest % 10);
    while (rest /= 10);
    if (number < 0) *--at = '-';
    print(at);
}

int main(void)
{
    static net_workspace workspace;
    static RESULT scores[NET_CLASSES];
    for (int i = 0; i < IMAGES; i++) {
        print_number(net_predict(images[i], &workspace, scores));
        for (int j = 0; j < NET_CLASSES; j++) print_number((int32_t)(scores[j] * UNIT));
        print("\n");
    }
    return 0;
}
