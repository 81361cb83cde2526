/* What main.c needs of a machine with an operating system. */

#include <stdint.h>
#include <stdio.h>

void print(const char *text);
void start_clock(void);
uint32_t ticks(void);

void print(const char *text) { fputs(text, stdout); }
void start_clock(void) {}
uint32_t ticks(void) { return 0; }
