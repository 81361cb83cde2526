/* What main.c needs of an AVR of simavr, which shows what goes to the serial port. */

#include <avr/interrupt.h>
#include <avr/io.h>
#include <avr/sleep.h>
#include <stdint.h>

int classify(void); /* main, with this name */
void print(const char *text);
void start_clock(void);
uint32_t ticks(void);

void print(const char *text)
{
    for (; *text; text++) {
        while (!(UCSR0A & (1 << UDRE0))) {
        }
        UDR0 = (uint8_t)*text;
    }
}

/* A tick is 1024 cycles. */
void start_clock(void)
{
    TCNT1 = 0;
    TCCR1B = 1 << CS12 | 1 << CS10;
}

uint32_t ticks(void) { return TCNT1; }

int main(void)
{
    UCSR0B = 1 << TXEN0;
    classify();
    cli();
    sleep_mode(); /* simavr ends when nothing could wake it up */
    return 0;
}
