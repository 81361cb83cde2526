/* lenet5c: reads a model file and runs it. What each function does stands in lenet5c.h.
 *
 * This is the one file to compile; its parts are in runtime/, included once each, in the
 * order in which they rest on each other. The model file is read in three steps, none of
 * which allocates anything:
 *     check_header    JSON, metadata, offsets (file.h)
 *     plan            layers become ops; without memory it only counts what they will need
 *     check_payload   SHA-256, finite numbers
 *
 *     C H W    channels, rows, columns of an input map
 *     F OH OW  of an output map
 *     KH KW    kernel
 *     CP FP    channels rounded up to whole registers
 *     HCW HWC  layouts of a map: a row of each channel, or all CP channels of a pixel
 */
#ifdef __cplusplus
#error "lenet5c.c is C: compile it with a C compiler, or after -x c, and link it"
#else

#include "lenet5c.h"

#include <float.h>
#include <limits.h>
#include <math.h> /* INFINITY */
#include <string.h>
#ifndef LENET5C_BARE
#include <stdio.h>
#include <stdlib.h>
#endif

#include "elementary.h"
#include "runtime/limits.h"

/* What computes. */
#include "runtime/op.h"
#include "runtime/instruction_sets.h" /* kernels.h, kernels_product.h, kernels_pool.h */

/* What reads the file. */
#include "runtime/json.h"
#include "runtime/number.h"
#include "runtime/sha256.h"
#include "runtime/file.h"

/* What plans: layers, a file for each family of kinds.def, then the rest of the model. */
#include "runtime/name.h"
#include "runtime/plan.h"
#include "runtime/layer.h"
#include "runtime/tensors.h"
#include "runtime/pack.h"
#include "runtime/product.h"
#include "runtime/norm.h"
#include "runtime/conv.h"
#include "runtime/dense.h"
#include "runtime/pool.h"
#include "runtime/activation.h"
#include "runtime/flatten.h"
#include "runtime/radial_basis.h"
#include "runtime/dropout.h"
#include "runtime/residual.h"
#include "runtime/network.h" /* kinds.def */
#include "runtime/input.h"
#include "runtime/classes.h"

/* What lenet5c.h declares. */
#include "runtime/open.h"
#include "runtime/predict.h"
#include "runtime/api.h"
#endif
