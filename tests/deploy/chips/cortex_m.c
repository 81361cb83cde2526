/* What runs before main on a Cortex-M of QEMU, and its console: semihosting, calls of the
 * debugger, which QEMU plays. */

#include <stdint.h>

extern uint32_t stack_end, data_from, data_start, data_end, bss_start, bss_end;
int main(void);
void print(const char *text);
void start_clock(void);
uint32_t ticks(void);
void reset(void);

static int call_host(int operation, const void *argument)
{
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

void print(const char *text) { call_host(0x04, text); }

/* The processor's clock counts downwards, 24 bits. With QEMU's -icount shift=0 an
 * instruction takes 1 ns. */
void start_clock(void)
{
    *(volatile uint32_t *)0xE000E014 = 0xFFFFFF;
    *(volatile uint32_t *)0xE000E018 = 0;
    *(volatile uint32_t *)0xE000E010 = 5; /* it runs, and there are no interrupts */
}

uint32_t ticks(void) { return 0xFFFFFF - *(volatile uint32_t *)0xE000E018; }

void reset(void)
{
    const uint32_t *from = &data_from;
#if defined(__ARM_FP)
    *(volatile uint32_t *)0xE000ED88 |= 0xF00000; /* floating point is on */
    __asm__ volatile("dsb\n isb");
#endif
    for (uint32_t *to = &data_start; to < &data_end;) *to++ = *from++;
    for (uint32_t *to = &bss_start; to < &bss_end;) *to++ = 0;
    main();
    call_host(0x18, (const void *)0x20026); /* the application has ended */
    for (;;) {
    }
}

static void fault(void)
{
    print("fault\n");
    call_host(0x18, (const void *)0x20023);
    for (;;) {
    }
}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    &stack_end, (const void *)reset, (const void *)fault, (const void *)fault,
    (const void *)fault, (const void *)fault, (const void *)fault};
