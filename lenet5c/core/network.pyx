"""Python's face: networks that are planned once and then run on whole batches without the
GIL, a trainer for native programs, and what else calls a kernel.

A network runs blockwise or layerwise (blockwise.pxd, layerwise.pxd; words in plan.pxd).
"""

from libc.math cimport INFINITY, isfinite, sqrt
from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memcpy, memset

from lenet5c.core.arguments cimport same_length, set_augment, set_stage
from lenet5c.core.blockwise cimport run_blockwise
from lenet5c.core.compiler cimport LENET5C_COMPILER, LENET5C_VERSION
from lenet5c.core.cost cimport weight_bytes
from lenet5c.core.imagewise cimport (
    plan_images, run_imagewise, runs_imagewise, threads_of_images,
)
from lenet5c.core.kernels.augment cimport Augment
from lenet5c.core.kernels.histogram cimport count_bytes
from lenet5c.core.kernels.loss cimport CROSS_ENTROPY, softmax_cross_entropy
from lenet5c.core.kernels.pack cimport load_rows, unpack_block
from lenet5c.core.kernels.peak cimport multiply_add_rounds
from lenet5c.core.kernels.unit cimport best_unit
from lenet5c.core.kernels.within cimport all_within
from lenet5c.core.kernels.update cimport scale_vector, squares
from lenet5c.core.kinds.table cimport kinds_with
from lenet5c.core.lanes cimport LANES, lanes
from lenet5c.core.layerwise cimport run_layerwise
from lenet5c.core.memory cimport aligned_free, aligned_zeros, clear_sums, release, reserve
from lenet5c.core.plan cimport (
    MICROBATCH, WHOLE_BATCH, Batch, Block, Call, Plan, Workspace, batch_of, blocks_of,
)
from lenet5c.core.planner cimport block_sizes, free_plan, plan_ops, plan_rest
from lenet5c.core.random cimport subkey
from lenet5c.core.ranks cimport carry
from lenet5c.core.shared cimport parts_of_block, run_shared
from lenet5c.core.step cimport ADAMW, SDLM, SGD, Update, run_average, run_update
from lenet5c.core.threads cimport (
    Team, Watch, answer_signals, check_signals, ends, give_back, is_over,
    lenet5c_has_openmp, lenet5c_max_threads, lenet5c_system, raise_signals, share,
    take_team, watch_signals,
)

from lenet5c.core.places import as_run, places, runs_layerwise

cdef extern from "Python.h":
    int PyBUF_FORMAT

cdef enum:
    SMALL = 1 << 18  # parameters: to wake threads for their update would take longer

lanes_per_block = LANES
compiler = LENET5C_COMPILER.decode()
version = LENET5C_VERSION.decode()
openmp = bool(lenet5c_has_openmp())
threading = lenet5c_system().decode()


cdef class Scratch:
    """The workspace of one call at a time."""

    cdef Workspace c

    def __dealloc__(self):
        release(&self.c)

    cdef int make_room(
        self, const Plan *plan, int threads, Py_ssize_t images, bint training
    ) except -1:
        return reserve(&self.c, plan, threads, images, training)


cdef class StateVector:
    """Zeros on a cache line, float32, that count the arrays which look at them.

    Its memory is reached through the buffer protocol alone: ``numpy.asarray(vector)``. An
    array, and all that is made of it, keeps its buffer until the last of them is gone. So
    nobody has changed a number since a moment without any, if none was made since then.

    Parameters
    ----------
    count : int
    content : bytes or None
        The numbers, of a vector that was pickled.
    """

    cdef float *values
    cdef Py_ssize_t[1] shape
    cdef Py_ssize_t[1] strides
    cdef Py_ssize_t made  # buffers, ever
    cdef Py_ssize_t held  # of them, now

    def __cinit__(self, Py_ssize_t count, bytes content=None):
        cdef Py_ssize_t size = count * sizeof(float)
        if content is not None and len(content) != size:
            raise ValueError(f"content: expected {size} bytes, got {len(content)}")
        self.values = <float *>aligned_zeros(size)
        self.shape[0] = count
        self.strides[0] = sizeof(float)
        if content is not None:
            memcpy(self.values, <const char *>content, size)

    def __dealloc__(self):
        aligned_free(self.values)

    def __reduce__(self):
        return StateVector, (self.shape[0], bytes(self))

    def __len__(self):
        return self.shape[0]

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        buffer.obj = self
        buffer.buf = self.values
        buffer.len = self.shape[0] * sizeof(float)
        buffer.itemsize = sizeof(float)
        buffer.readonly = False
        buffer.format = NULL
        if flags & PyBUF_FORMAT:
            buffer.format = b"f"
        buffer.ndim = 1
        buffer.shape = self.shape
        buffer.strides = self.strides
        buffer.suboffsets = NULL
        buffer.internal = NULL
        self.made += 1
        self.held += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        self.held -= 1

    def mark(self):
        """Of this moment: where a later mark is the same, the numbers are. None while
        somebody holds an array."""
        return None if self.held else self.made

    def equals(self, const float[::1] other not None):
        """Whether these are the bits of another vector; no array is made."""
        cdef size_t size = self.shape[0] * sizeof(float)
        cdef bint found
        same_length(self.shape[0], other.shape[0], self.shape[0])
        if size == 0:
            return True
        with nogil:
            found = memcmp(self.values, &other[0], size) == 0
        return found

    def copy_to(self, float[::1] other not None):
        """Write the numbers to another vector; no array is made."""
        cdef size_t size = self.shape[0] * sizeof(float)
        same_length(self.shape[0], other.shape[0], self.shape[0])
        if size:
            with nogil:
                memcpy(&other[0], self.values, size)


cdef class Packed:
    """Weights in the order in which the core reads them, for prediction with all ops."""

    cdef float *weights
    cdef float *norms

    def __dealloc__(self):
        aligned_free(self.weights)
        aligned_free(self.norms)


cdef class Network:
    """A planned network.

    Parameters
    ----------
    nodes : list of dict
        What is computed, in order: places.py says what a node holds.
    input_shape : (int, int, int)
        C, H, W of the first map.
    layerwise : bool or None
        Whether all blocks go through an op before the next; None decides by the nodes.
    parts : int
        The most threads that share a block, blockwise; 0 decides by what it costs.
    images : int
        The most images of a batch that a training step takes one by one (imagewise.pxd);
        -1 decides by what it costs.

    Raises
    ------
    ValueError
        If a layer has no kernel for what is asked for.
    """

    cdef Plan plan
    cdef list scratches

    def __cinit__(
        self, list nodes not None, input_shape, layerwise=None, int parts=0,
        int images=-1,
    ):
        self.scratches = []
        if layerwise is None:
            layerwise = runs_layerwise(nodes, kinds_with(WHOLE_BATCH))
        run = [as_run(node, layerwise) for node in nodes]
        self.plan.parts = parts
        plan_ops(&self.plan, run, input_shape, layerwise)
        plan_rest(&self.plan, places(nodes, block_sizes(&self.plan)) if layerwise else None)
        if images >= 0:
            plan_images(&self.plan, run, images)

    def __dealloc__(self):
        free_plan(&self.plan)

    @property
    def state_count(self):
        """Length of the parameters and, behind them, the running statistics."""
        return self.plan.parameters + self.plan.buffers

    @property
    def parameter_count(self):
        """Length of the flat parameter vector."""
        return self.plan.parameters

    @property
    def images_together(self):
        """How many run in the time of one: those of a block."""
        return LANES

    @property
    def is_layerwise(self):
        """Whether all blocks go through an op before any goes through the next."""
        return bool(self.plan.layerwise)

    @property
    def cost(self):
        """(cycles, bytes of weights) that `images_together` take, estimated."""
        return self.plan.cycles, weight_bytes(&self.plan)

    def forward(
        self, const float[::1] parameters not None, images not None, stage not None,
        float[:, ::1] y not None, int threads, int ops=-1, Packed packed=None,
    ):
        """y[n] = what op number `ops` - 1 (default: the last) makes of image n.

        images : (N, C, H, W) uint8 or float32, C-contiguous
        stage : (scale, offset, background, float_scale, float_offset): a byte b becomes
            b * scale + offset, a float likewise
        y : (N, outputs) float32, written
        packed : what `pack` made of these parameters, for all ops; or None
        """
        cdef Call call
        cdef Scratch space = self.take_scratch()
        self.begin(&call, parameters, images, stage)
        if packed is not None and ops < 0:
            call.packed = packed.weights
            call.norms = packed.norms
            call.is_packed = True
        call.count = y.shape[0]
        call.y = &y[0, 0]
        if ops >= 0:
            call.ops = ops
        self.run(&call, space, threads)
        self.scratches.append(space)

    def pack(self, const float[::1] parameters not None, int threads):
        """The weights as `forward` reads them; a call without any images makes them."""
        cdef Call call
        cdef Scratch space = self.take_scratch()
        cdef Packed packed = Packed()
        self.begin(&call, parameters, None, None)
        packed.weights = <float *>aligned_zeros(self.plan.packed * sizeof(float))
        packed.norms = <float *>aligned_zeros(self.plan.norms * sizeof(float))
        call.packed = packed.weights
        call.norms = packed.norms
        self.run(&call, space, threads)
        self.scratches.append(space)
        return packed

    def loss_and_gradient(
        self, const float[::1] parameters not None, images not None, stage not None,
        const Py_ssize_t[::1] indices not None, const int[::1] labels not None,
        float[::1] gradient not None, int threads, *, const float[::1] weights=None,
        float smoothing=0, Py_ssize_t mean_over=0, bint add=False, augment=None,
        uint64_t seed=0, uint64_t epoch=0, float[::1] running=None,
        loss=(CROSS_ENTROPY, INFINITY), ranks=None,
    ):
        """Mean loss of a batch, how many labels are right, and the gradient, written.

        images : (N, C, H, W) uint8 or float32, C-contiguous: all of the data set
        indices : (B,) intp, which images are the batch, in its order
        labels : (N,) int32, class of every image of the data set
        gradient : (parameters,) float32, written
        weights : (N,) float32, of every image's loss, or None
        smoothing : of the labels (kernels/loss.pxd)
        mean_over : how many images the mean is over; 0 is B
        add : whether to add to `gradient`, which then is one over several calls
        augment : (shift, rotate, scale, shear, squeeze, elastic, sigma, noise, erase,
            probability), angles in radians, noise in units of what the network sees; or
            None
        seed, epoch : of the random numbers of augmentation and dropout
        running : `parameters` if the running statistics in them are to move
        loss : (Objective, j) (kernels/loss.pxd)
        ranks : the processes that compute this together, each with these arguments, or
            None: its `rank` of `size`, and what `exchange` does (training/ranks.py)
        """
        cdef Call call
        cdef Augment settings
        cdef Scratch space = self.take_scratch()
        self.begin(&call, parameters, images, stage)
        self.set_training(
            &call, &settings, labels, gradient, weights, smoothing, augment,
            subkey(seed, epoch), running, loss,
        )
        call.count = indices.shape[0]
        call.indices = &indices[0]
        mean_over = mean_over if mean_over > 0 else call.count
        call.loss_scale = 1 / <float>mean_over
        call.add = add
        cdef bytes before = self.buffers_of(call.running)
        try:
            if ranks is not None and self.is_shared(&call):
                self.run_on_ranks(&call, space, threads, ranks)
            else:
                self.run(&call, space, threads)
        except BaseException:
            self.put_back(call.running, before)
            raise
        found = result_of(&space.c, call.count, mean_over)
        self.scratches.append(space)
        return found

    def train(
        self, list found not None, float[::1] parameters not None, images not None,
        stage not None, const Py_ssize_t[::1] indices not None, Py_ssize_t batch_size,
        const int[::1] labels not None, float[::1] gradient not None, rule,
        list state not None, Py_ssize_t steps, const double[::1] rates not None,
        const double[::1] decays not None, int threads, *, float[::1] average=None,
        double clip_norm=INFINITY, const float[::1] weights=None, float smoothing=0,
        augment=None, uint64_t seed=0, uint64_t epoch=0,
        loss=(CROSS_ENTROPY, INFINITY),
    ):
        """Steps on some batches, one after the other: what `loss_and_gradient`, `norm`,
        `update` and `move_average` do, to the same bits.

        found : list, added to: (loss, correct) of each batch, as soon as it is known. The
            step follows at once, unless the loss is not finite: then that was the last
            batch. So it says how many steps there were, if Ctrl-C ends the call, too.
        parameters : (state,) float32, changed; running statistics in them move
        indices : (B,) intp, the images of all batches, each of `batch_size`; the last one
            has what is left
        gradient : (parameters,) float32, written
        rule, state, steps : as in `update`; `steps` is how many there were
        rates : (batches,) float64, learning rate of each batch
        decays : (batches,) float64, those of `move_average` if there is an `average`
        clip_norm : the largest norm of a gradient
        Others are as in `loss_and_gradient`.
        """
        cdef Call call
        cdef Augment settings
        cdef Update u
        cdef Py_ssize_t n = self.plan.parameters
        cdef Py_ssize_t last = rates.shape[0] - 1
        cdef Py_ssize_t batch
        cdef double length
        cdef Scratch space = self.take_scratch()
        self.begin(&call, parameters, images, stage)
        self.set_training(
            &call, &settings, labels, gradient, weights, smoothing, augment,
            subkey(seed, epoch), parameters, loss,
        )
        set_update(&u, rule, parameters[:n], gradient, state)
        if average is not None:
            same_length(average.shape[0], self.state_count, average.shape[0])
            same_length(decays.shape[0], rates.shape[0], rates.shape[0])
        if batch_size < 1 or not 0 <= last * batch_size < indices.shape[0]:
            raise ValueError(
                f"{indices.shape[0]} images are not {rates.shape[0]} batches of "
                f"{batch_size}"
            )
        for batch in range(rates.shape[0]):
            call.indices = &indices[batch * batch_size]
            call.count = batch_size
            if batch == last:
                call.count = indices.shape[0] - last * batch_size
            call.loss_scale = 1 / <float>call.count
            before = self.buffers_of(call.running)
            try:
                self.run(&call, space, threads)
            except BaseException:
                self.put_back(call.running, before)
                raise
            result = result_of(&space.c, call.count, call.count)
            found.append(result)
            if not isfinite(<double>result[0]):
                break
            u.step = steps + batch + 1
            with nogil:
                if clip_norm < INFINITY:
                    length = sqrt(squares(call.gradient, n))
                    if length > clip_norm:
                        scale_vector(call.gradient, n, <float>(clip_norm / length))
                run_update(&u, rates[batch], 1 if n < SMALL else threads)
                if average is not None:
                    run_average(
                        &average[0], &parameters[0], average.shape[0],
                        1 - <float>decays[batch], threads,
                    )
        self.scratches.append(space)

    cdef int set_training(
        self, Call *call, Augment *settings, const int[::1] labels, float[::1] gradient,
        const float[::1] weights, float smoothing, augment, uint64_t key,
        float[::1] running, loss,
    ) except -1:
        """What the batches of a training share."""
        if gradient.shape[0] != self.plan.parameters:
            raise ValueError("gradient has another length than the parameters")
        call.labels = &labels[0]
        if weights is not None:
            call.weights = &weights[0]
        call.smoothing = smoothing
        call.loss, call.rubbish = loss
        call.gradient = &gradient[0]
        call.key = key
        if running is not None:
            same_length(running.shape[0], self.state_count, running.shape[0])
            call.running = &running[0]
        if augment is not None:
            set_augment(settings, augment)
            call.augment = settings
        return 0

    def backward(
        self, const float[::1] parameters not None, images not None, stage not None,
        const float[:, ::1] dy not None, float[::1] gradient not None,
        float[:, ::1] dx, int threads,
    ):
        """Gradients of sum(dy * y): of the parameters, written, and of the images.

        dy : (N, outputs) float32
        gradient : (parameters,) float32, written
        dx : (N, inputs) float32, written, or None
        """
        cdef Call call
        cdef float nowhere
        cdef Scratch space = self.take_scratch()
        self.begin(&call, parameters, images, stage)
        call.count = dy.shape[0]
        call.dy = &dy[0, 0]
        call.gradient = &gradient[0] if self.plan.parameters else &nowhere
        if dx is not None:
            call.dx = &dx[0, 0]
        self.run(&call, space, threads)
        self.scratches.append(space)

    def augmented(
        self, images not None, stage not None, const Py_ssize_t[::1] indices not None,
        float[:, ::1] y not None, augment not None, uint64_t seed, uint64_t epoch,
    ):
        """y[n] = image indices[n], as `loss_and_gradient` sees it with `augment`.

        y : (B, inputs) float32, written
        """
        cdef Call call
        cdef Augment settings
        cdef Block block
        cdef Py_ssize_t size = y.shape[1]
        cdef Py_ssize_t first
        cdef lanes *arena
        cdef Scratch space = self.take_scratch()
        self.begin(&call, None, images, stage)
        call.count = indices.shape[0]
        call.indices = &indices[0]
        set_augment(&settings, augment)
        call.augment = &settings
        call.key = subkey(seed, epoch)
        space.make_room(&self.plan, 1, call.count, False)
        arena = <lanes *>space.c.arenas[0]
        for first from 0 <= first < call.count by LANES:
            answer_signals()
            self.plan.load(&self.plan, &call, arena, first, arena, &block)
            unpack_block(arena, &y[first, 0], size, size, block.count)
        self.scratches.append(space)

    cdef int begin(self, Call *call, const float[::1] parameters, images, stage) except -1:
        cdef const unsigned char[:, :, :, ::1] bytes
        cdef const float[:, :, :, ::1] floats
        memset(call, 0, sizeof(Call))
        cdef Py_ssize_t state = self.state_count
        if parameters is not None and parameters.shape[0] != state:
            raise ValueError(f"expected {state} parameters, got {parameters.shape[0]}")
        if parameters is not None and state:
            call.parameters = &parameters[0]
        call.ops = self.plan.count
        call.ranks = 1
        if images is None:
            return 0
        if images.itemsize == 1:
            bytes = images
            call.images.bytes = &bytes[0, 0, 0, 0]
        else:
            floats = images
            call.images.floats = &floats[0, 0, 0, 0]
        _, call.images.channels, call.images.height, call.images.width = images.shape
        set_stage(&call.images, stage)
        return 0

    cdef bytes buffers_of(self, const float *state):
        """A copy of the running statistics; None if they are not to move."""
        if state == NULL or self.plan.buffers == 0:
            return None
        cdef const char *buffers = <const char *>(state + self.plan.parameters)
        return buffers[:self.plan.buffers * sizeof(float)]

    cdef int put_back(self, float *state, bytes buffers) except -1:
        if buffers is not None:
            memcpy(
                state + self.plan.parameters, <const char *>buffers, len(buffers)
            )
        return 0

    cdef Scratch take_scratch(self):
        """One that no other call is using; put it back into `scratches`."""
        try:
            return self.scratches.pop()
        except IndexError:
            return Scratch()

    cdef int run(self, Call *call, Scratch space, int threads) except -1:
        """Run a call on up to `threads` threads. Ctrl-C ends it: what it has written is
        worth nothing then, and `space` is put back, as freeing much memory takes long."""
        cdef Watch watch = watch_signals()
        threads = threads_of(&self.plan, call, threads)
        space.make_room(&self.plan, threads, call.count, call.gradient != NULL)
        call.watch = &watch
        with nogil:
            run_call(&self.plan, call, &space.c, threads)
        call.watch = NULL
        if is_over(&watch) or check_signals() != 0:  # what came since the last look, too
            clear_sums(&space.c, &self.plan)
            self.scratches.append(space)
            raise_signals(&watch)
            return -1
        return 0

    cdef bint is_shared(self, const Call *call) noexcept:
        """Whether ranks have parts of it, rather than each the whole: layerwise what they
        would have to tell is more than they would save, and of a few images as well."""
        return not self.plan.layerwise and not runs_imagewise(&self.plan, call)

    cdef int run_on_ranks(self, Call *call, Scratch space, int threads, ranks) except -1:
        """`run`, as one of several processes; between the loops of a microbatch's shards
        and those of its sums they tell each other what they found."""
        cdef int microbatches = (call.count + MICROBATCH - 1) // MICROBATCH
        cdef int number
        call.rank, call.ranks = ranks.rank, ranks.size
        call.loops_end = 3
        try:
            for number in range(microbatches):
                self.run(call, space, threads)
                self.exchange(call, space, number, ranks)
                call.loops_done = call.loops_end - 1
                call.loops_end += 3
            self.run(call, space, threads)
        except BaseException:
            clear_sums(&space.c, &self.plan)
            raise
        return 0

    cdef int exchange(
        self, const Call *call, Scratch space, int number, ranks
    ) except -1:
        """What each rank has of a microbatch, to all ranks."""
        cdef Batch batch = batch_of(&self.plan, call, number)
        cdef Py_ssize_t end = 0
        cdef int rank
        cdef unsigned char[::1] wire
        bounds = []
        for rank in range(call.ranks):
            end += carry(&self.plan, call, &space.c, &batch, rank, NULL, True)
            bounds.append(end)
        wire = ranks.room(end)
        begins = [0, *bounds]
        carry(
            &self.plan, call, &space.c, &batch, call.rank,
            <char *>&wire[begins[call.rank]], True,
        )
        ranks.exchange(bounds)
        for rank in range(call.ranks):
            if rank != call.rank and begins[rank] < bounds[rank]:
                carry(
                    &self.plan, call, &space.c, &batch, rank,
                    <char *>&wire[begins[rank]], False,
                )
        return 0


cdef tuple result_of(const Workspace *space, Py_ssize_t count, Py_ssize_t mean_over):
    """Mean loss of a batch, and how many labels are right."""
    cdef double total = 0
    cdef Py_ssize_t correct = 0
    cdef Py_ssize_t n
    for n in range(count):
        total += space.losses[n]
        correct += space.correct[n]
    return total / mean_over, correct


cdef int threads_of(const Plan *plan, const Call *call, int threads) noexcept nogil:
    """How many of so many threads have something to do."""
    if plan.layerwise:
        return threads
    if runs_imagewise(plan, call):
        return min(threads, threads_of_images(plan, call.count))
    cdef Py_ssize_t blocks = blocks_of(call.count)
    return max(1, min(threads, blocks * parts_of_block(plan, call, threads)))


cdef void run_call(
    const Plan *plan, Call *call, const Workspace *space, int threads
) noexcept nogil:
    """Run a call in a workspace that has room for it."""
    call.buffers = call.parameters + plan.parameters
    call.losses = space.losses
    call.correct = space.correct
    if call.packed == NULL:
        call.packed = space.packed
        call.norms = space.norms
    if plan.layerwise:
        run_layerwise(plan, call, space, threads)
        return
    cdef int parts = parts_of_block(plan, call, threads)
    threads = threads_of(plan, call, threads)
    if runs_imagewise(plan, call):
        run_imagewise(plan, call, space, threads)
        return
    if parts > 1:
        run_shared(plan, call, space, threads, parts)
    else:
        run_blockwise(plan, call, space, threads)


cdef int set_update(
    Update *u, rule, float[::1] parameters, const float[::1] gradient, list state
) except -1:
    """The optimizer's `rule` (optimizers.py) and vectors, once their lengths fit."""
    cdef float[::1] vector
    memset(u, 0, sizeof(Update))
    u.n = parameters.shape[0]
    same_length(u.n, gradient.shape[0], u.n)
    u.parameters = &parameters[0]
    u.gradient = &gradient[0]
    for number, array in enumerate(state):
        vector = array
        same_length(u.n, vector.shape[0], u.n)
        if number == 0:
            u.first = &vector[0]
        else:
            u.second = &vector[0]
    name, *settings = rule
    u.rule = {"sgd": SGD, "adamw": ADAMW, "sdlm": SDLM}[name]
    cdef int needed = 2 if u.rule == ADAMW else 1
    if len(state) < needed:
        raise ValueError(f"state: expected {needed} vectors, got {len(state)}")
    if u.rule == ADAMW:
        u.beta1, u.beta2, u.eps, u.weight_decay = settings
    elif u.rule == SGD:
        u.momentum, u.nesterov, u.weight_decay = settings
    return 0


def update(
    rule, float[::1] parameters not None, const float[::1] gradient not None,
    list state not None, float learning_rate, Py_ssize_t step, int threads,
):
    """Step number `step` (from 1) of an optimizer, in place (kernels/update.pxd).

    rule : ("sgd", momentum, nesterov, weight_decay),
        ("adamw", beta1, beta2, eps, weight_decay) or ("sdlm",)
    state : the vectors that it keeps: velocity, first and second moment, or rates
    """
    cdef Update u
    if parameters.shape[0] == 0:
        return
    set_update(&u, rule, parameters, gradient, state)
    u.step = step
    with nogil:
        run_update(&u, learning_rate, threads)


cdef class Trainer:
    """Training steps for native programs, which have no Python objects to pass.

    Parameters
    ----------
    network : Network
    parameters : (state,) float32: parameters and running statistics, changed by each step
    stage : as in `Network.forward`
    shape : (C, H, W) of the images that are trained on
    least, batch_size : the fewest and the most images of a step
    rule, state : as in `update`
    seed : of dropout
    loss : as in `Network.loss_and_gradient`

    Examples
    --------
    `Model.trainer` makes one.

    >>> trainer = model.trainer(lenet5c.SGD(momentum=0.9), batch_size=64)
    >>> trainer.steps, trainer.address > 0
    (0, True)
    """

    cdef tuple owned  # what the pointers below point to
    cdef const Plan *plan
    cdef const Workspace *space
    cdef Call call
    cdef Update update
    cdef Py_ssize_t batch_size
    cdef int classes, threads, least
    cdef uint64_t seed

    def __cinit__(
        self, Network network not None, float[::1] parameters not None, stage, shape,
        int least, Py_ssize_t batch_size, rule, list state not None,
        float[::1] gradient not None,
        int threads, uint64_t seed, loss=(CROSS_ENTROPY, INFINITY),
    ):
        cdef Scratch space = Scratch()
        cdef Plan *plan = &network.plan
        space.make_room(plan, threads, batch_size, True)
        self.owned = (network, space, parameters, gradient, *state)
        self.plan = plan
        self.space = &space.c
        self.classes = plan.sizes[plan.count]
        self.batch_size = batch_size
        self.least = least
        self.threads = threads
        self.seed = seed
        self.call.parameters = &parameters[0]
        self.call.running = &parameters[0]
        self.call.gradient = &gradient[0]
        self.call.ranks = 1
        self.call.ops = plan.count
        self.call.loss, self.call.rubbish = loss
        _, self.call.images.height, self.call.images.width = shape
        self.call.images.channels = plan.C
        set_stage(&self.call.images, stage)
        set_update(&self.update, rule, parameters[:plan.parameters], gradient, state)

    @property
    def address(self):
        """What `train_step` takes; valid as long as this object lives."""
        return <size_t><void *>self

    @property
    def steps(self):
        """How many there were."""
        return self.update.step


cdef int train_step(
    Trainer self, const unsigned char *bytes, const float *floats, const int *labels,
    int count, float learning_rate, float *loss,
) noexcept nogil:
    """One step on a batch of bytes or of floats; -1 and no step if it does not fit."""
    cdef Call call = self.call
    cdef double total = 0
    cdef int n
    if count < self.least or count > self.batch_size or labels == NULL:
        return -1
    if bytes == NULL and floats == NULL:
        return -1
    for n in range(count):
        if labels[n] < 0 or labels[n] >= self.classes:
            return -1
    call.images.bytes = bytes
    call.images.floats = floats
    call.labels = labels
    call.count = count
    call.loss_scale = 1 / <float>count
    call.key = subkey(self.seed, self.update.step)
    run_call(self.plan, &call, self.space, self.threads)
    self.update.step += 1
    run_update(&self.update, learning_rate, self.threads)
    for n in range(count):
        total += self.space.losses[n]
    if loss != NULL:
        loss[0] = total / count
    return 0


def train_step_address():
    """Of the C function `train_step`, whose first argument is a Trainer's address."""
    return <size_t><void *>train_step


def move_average(
    float[::1] average not None, const float[::1] parameters not None, float decay,
    int threads,
):
    """average += (1 - decay) (parameters - average), in place."""
    cdef Py_ssize_t n = parameters.shape[0]
    same_length(n, average.shape[0], n)
    if n:
        with nogil:
            run_average(&average[0], &parameters[0], n, 1 - decay, threads)


def norm(const float[::1] vector not None):
    """The Euclidean norm, summed in double precision and one order."""
    cdef double total = 0
    if vector.shape[0]:
        with nogil:
            total = squares(&vector[0], vector.shape[0])
    return sqrt(total)


def max_threads():
    """OpenMP's present limit on threads; without OpenMP, how many there can be."""
    return lenet5c_max_threads()


def cross_entropy(
    const float[:, ::1] logits not None, const int[::1] labels not None,
    float[:, ::1] gradient not None,
):
    """Mean softmax cross-entropy of (N, K) logits; its gradient is written."""
    cdef Py_ssize_t count = logits.shape[0]
    cdef Py_ssize_t K = logits.shape[1]
    cdef Py_ssize_t first, n
    cdef lanes *z = <lanes *>aligned_zeros(K * sizeof(lanes))
    cdef int[LANES] of_block
    cdef float[LANES] losses, weights
    cdef unsigned char[LANES] correct
    cdef int valid
    cdef double total = 0
    cdef Watch watch = watch_signals()
    for n in range(LANES):
        weights[n] = 1
    with nogil:
        for first from 0 <= first < count by LANES:
            if ends(&watch, 0):
                break
            valid = min(<Py_ssize_t>LANES, count - first)
            for n in range(LANES):
                of_block[n] = labels[first + n] if n < valid else -1
            load_rows(&logits[first, 0], K, K, valid, z)
            softmax_cross_entropy(
                z, of_block, weights, K, 1 / <float>count, 0, INFINITY, z, losses, correct
            )
            unpack_block(z, &gradient[first, 0], K, K, valid)
            for n in range(valid):
                total += losses[n]
    aligned_free(z)
    raise_signals(&watch)
    return total / count


def add_counts(const unsigned char[::1] values not None, Py_ssize_t[::1] counts not None):
    """counts[b] += how many of the values are b.

    counts : (256,) intp, added to
    """
    same_length(256, counts.shape[0], 256)
    if values.shape[0] > 0:
        with nogil:
            count_bytes(&values[0], values.shape[0], &counts[0])


def are_within(
    const float[:, :, :, ::1] values not None, float least, float most
):
    """Whether all values lie from `least` to `most`, which are finite; NaN does not."""
    cdef Py_ssize_t n = values.size
    cdef bint found = True
    if n > 0:
        with nogil:
            found = all_within(&values[0, 0, 0, 0], n, least, most)
    return found


def best_units(
    const double[:, ::1] rows not None, double least, double most,
    double[::1] units not None,
):
    """units[i] = the unit with which integers from `least` to `most` are nearest to row i

    rows : (N, n) float64
    units : (N,) float64, written
    """
    cdef Py_ssize_t i
    same_length(rows.shape[0], units.shape[0], rows.shape[0])
    if rows.size:
        with nogil:
            for i in range(rows.shape[0]):
                units[i] = best_unit(&rows[i, 0], rows.shape[1], least, most)


def multiply_adds_at_peak(Py_ssize_t rounds, int threads):
    """Do `rounds` * 12 * lanes multiply-adds on each thread, as fast as the CPU can.

    For benchmarks: time it to learn the peak that a kernel could reach.
    """
    cdef Team *team = take_team(threads)
    cdef Watch watch = watch_signals()
    with nogil:
        share(team, &watch, max(1, threads), multiply_add_task, &rounds)
    give_back(team)
    raise_signals(&watch)


cdef void multiply_add_task(const void *rounds, int _) noexcept nogil:
    cdef volatile float _total  # or else nothing would be computed
    _total = multiply_add_rounds((<const Py_ssize_t *>rounds)[0])
