/* Classifies the images in images.h and prints a line for each: its class and its scores,
 * of type RESULT, times UNIT; with COUNTED, how often the clock ticked as well. The other
 * files of this folder have what differs from chip to chip. */

#define NET_IMPLEMENTATION
#include "net.h"

#if defined(__AVR__)
#include <avr/pgmspace.h>
#else
#define PROGMEM
#define memcpy_P memcpy
#endif
#include "images.h"

void print(const char *text);
void start_clock(void);
uint32_t ticks(void);

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
    static uint8_t image[NET_CHANNELS * NET_ROWS * NET_COLUMNS];
    for (int i = 0; i < IMAGES; i++) {
        uint32_t taken;
        int found;
        memcpy_P(image, images[i], sizeof image);
        start_clock();
        found = net_predict(image, &workspace, scores);
        taken = ticks();
        print_number(found);
        for (int j = 0; j < NET_CLASSES; j++) print_number((int32_t)(scores[j] * UNIT));
#if defined(COUNTED)
        print_number((int32_t)taken);
#endif
        (void)taken;
        print("\n");
    }
    return 0;
}
