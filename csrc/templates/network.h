/* digits: a network that classifies images, in one file. $WHAT
 *
 *     #define DIGITS_IMPLEMENTATION
 *     #include "$FILE"
 *
 * The first of these lines stands in one C file alone; in others, the second gives the
 * declarations.
 *
 *     static digits_workspace workspace;
 *     int number = digits_predict(image, &workspace, 0);
 *     puts(digits_class_names[number]);
 *
 * C99 or later, or C++. Nothing is allocated and nothing kept between two calls, so any
 * number of threads can predict, each with a workspace of its own. It need not be
 * initialised.
 *
 *     constants  $CONSTANTS bytes, without the names of the classes and the code
 *     workspace  at most $MEMORY bytes
 *     stack      less than 300 bytes with gcc -O2, for x86-64 and any Cortex-M
 *
 * Trained on $TRAINED.
 *
$LAYERS */
#if defined(DIGITS_H) && !defined(DIGITS_SPELLED)
#error "the names of two networks differ in capital letters alone"
#endif
#ifndef DIGITS_H
#define DIGITS_H
#define DIGITS_SPELLED

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DIGITS_CHANNELS 1
#define DIGITS_ROWS 1
#define DIGITS_COLUMNS 1
#define DIGITS_CLASSES 1
#define DIGITS_WORKSPACE_BYTES 1
/* here: limits */

/* here: workspace */

/* UTF-8. */
extern const char *const digits_class_names[DIGITS_CLASSES];

/* The number of the image's class: the one of the largest $SCORE, and the first of
 * them if several are the largest.
 *
 * image          $ORDER, $RANGE
 * workspace      overwritten
 * $RESULTS[DIGITS_CLASSES], written, or a null pointer
 */
int digits_predict(
    const digits_pixel *image, digits_workspace *workspace, digits_result *digits_results);

#ifdef __cplusplus
}
#endif

#endif

#if defined(DIGITS_IMPLEMENTATION) && !defined(DIGITS_IMPLEMENTED)
#define DIGITS_IMPLEMENTED

#include <string.h>

const char *const digits_class_names[DIGITS_CLASSES] = {"here: names"};

/* here: code */

#endif
