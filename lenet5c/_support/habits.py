"""What a caller brings along from other libraries, and how an error answers it.

Words of Keras, PyTorch, scikit-learn and TensorFlow, and typing errors. To add a word,
put it behind its answer in one of the tables.
"""

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import wraps
from inspect import signature
from typing import Any, NoReturn, TypeVar

__all__ = [
    "Elsewhere",
    "choose",
    "did_you_mean",
    "explained",
    "nearest",
    "no_attribute",
    "option_for",
]

MAX_LISTED = 8  # arguments in a message

Target = TypeVar("Target", bound=Callable[..., Any])
Choice = TypeVar("Choice")

# Answer: the words it answers, "function.word" for those of one function alone. An
# answer that is the name of an argument, alone or with a value, is for functions that
# have this argument; of several answers the first one counts.
ARGUMENTS: dict[str, str] = {
    # training
    "learning_rate_init": "lr eta eta0 learn_rate alpha0",
    "learning_rate": "lr eta eta0 learn_rate learning_rate_init",
    "optimizer=lenet5c.SGD(learning_rate=...)": (
        "lr eta eta0 learn_rate learning_rate learning_rate_init"
    ),
    "optimizer=lenet5c.SGD(momentum=...)": "momentum nesterov nesterovs_momentum",
    "alpha": "weight_decay l2 l2_reg reg decay",
    "weight_decay": "l2 l2_reg l2_penalty alpha decay reg regularization penalty wd",
    "optimizer=lenet5c.SGD(weight_decay=...)": (
        "weight_decay l2 l2_reg alpha decay regularization wd"
    ),
    "beta1": "beta_1 AdamW.momentum",
    "beta2": "beta_2",
    "beta1=0.9, beta2=0.999": "betas",
    "eps": "epsilon",
    "nesterov": "use_nesterov nesterovs_momentum",
    "nesterovs_momentum": "nesterov",
    "max_iter": "epochs epoch n_epochs num_epochs nb_epoch nb_epochs max_epochs n_iter",
    "epochs": (
        "epoch n_epochs num_epochs nb_epoch nb_epochs max_epochs n_iter max_iter "
        "iterations num_train_epochs"
    ),
    "batch_size": (
        "batch bs batchsize minibatch mini_batch minibatch_size mini_batch_size "
        "train_batch_size per_device_train_batch_size"
    ),
    "X_val=images, y_val=labels": (
        "validation_data val_data validation_set eval_set validation x_val"
    ),
    "validation_fraction=0.1, early_stopping=True": "validation_split val_split",
    "validation=0.1": "validation_split val_split validation_fraction val_size",
    "validation=(images, labels)": (
        "validation_data val_data validation_set val_set valid_data eval_set eval_data "
        "test_data x_val X_val y_val val"
    ),
    "n_iter_no_change": "patience",
    "early_stopping": "patience early_stop n_iter_no_change",
    "callbacks": "callback hooks",
    "random_state": "seed random_seed rng manual_seed",
    "seed": "random_state random_seed rng generator manual_seed key",
    "n_jobs": "threads num_threads n_threads num_workers workers",
    "threads": "n_jobs num_threads n_threads nthreads num_workers workers jobs",
    "verbose": "verbosity progress progress_bar show_progress",
    "schedule": "scheduler lr_scheduler lr_schedule learning_rate_schedule",
    "augment": "augmentation augmentations data_augmentation transform transforms",
    "clip_norm": (
        "clipnorm global_clipnorm max_grad_norm grad_clip gradient_clip max_norm "
        "gradient_clip_val clip_grad_norm"
    ),
    "accumulate": (
        "accumulate_grad_batches gradient_accumulation_steps accumulation_steps"
    ),
    "weight_average": "ema use_ema ema_decay ema_momentum swa polyak average",
    "label_smoothing": "smoothing label_smooth",
    "class_weight": "class_weights pos_weight",
    "sample_weight": "sample_weights weights",
    "max_seconds": "max_time timeout time_limit",
    "checkpoint": "checkpoint_dir checkpoint_path checkpoints save_dir output_dir",
    "resume=True": "resume_from resume_from_checkpoint initial_epoch warm_start",
    "log": "log_dir logdir log_file logger csv_logger",
    "X": "x images inputs x_train X_train train_images features",
    "y": "labels targets target y_train train_labels y_true",
    "images": (
        "x X input inputs data x_train X_train train_images features image imgs "
        "x_test X_test test_images dataset train_loader"
    ),
    "labels": (
        "y Y target targets label y_train train_labels y_true y_test test_labels"
    ),
    "path": "filepath file filename fname file_name filename_or_obj f",
    # networks and layers
    "classes": (
        "num_classes n_classes nb_classes nclasses num_labels n_labels num_outputs "
        "n_outputs output_size output_dim out_features class_count n_class outputs"
    ),
    "folder": "filepath path directory dirpath ckpt_dir",
    "channels": (
        "color_mode colour_mode in_channels input_channels num_channels n_channels "
        "in_chans in_ch"
    ),
    "the channels come from the layer before": (
        "in_channels input_channels channels in_chans in_ch num_features in_planes"
    ),
    "filters": (
        "out_channels num_filters n_filters nb_filters nb_filter output_channels "
        "out_ch features filter channels_out num_output out_planes"
    ),
    "outputs": (
        "units out_features num_units n_units neurons nodes output_dim output_size "
        "out_dim size num_outputs n_outputs hidden_units"
    ),
    "hidden": "hidden_size hidden_dim hidden_units n_hidden num_hidden units",
    "hidden=100": "hidden_layer_sizes hidden_layers",
    "size=28 and channels=1": "input_shape in_shape image_shape img_shape shape",
    "size": (
        "target_size image_size img_size input_size resolution input_dim side height "
        "width rows"
    ),
    "input_shape": "in_shape image_shape img_shape input_size image_size shape size",
    "the size of the input comes from the layer before": (
        "in_features input_dim input_size in_dim input_shape batch_input_shape in_size"
    ),
    "kernel_size": (
        "kernel kernel_shape pool_size filter_size kernel_dim window window_size ksize"
    ),
    "stride": "strides subsample step",
    "padding": "pad pads zero_padding",
    "bias": "use_bias with_bias has_bias",
    "a dense layer always has a bias": "Dense.bias Dense.use_bias Dense.fit_intercept",
    "init": (
        "kernel_initializer weight_init initializer kernel_init weights_initializer"
    ),
    "rate": "p prob probability drop dropout dropout_rate drop_rate drop_prob",
    "slope": "negative_slope alpha leak",
    "rate=1 - keep_prob": "keep_prob keep",
    "dropout": "dropout_rate drop_rate drop_prob p",
    "activation": "act act_fn nonlinearity activation_function act_layer",
    "an activation is a layer of its own: Tanh() or ReLU() after this one": (
        "activation act act_fn nonlinearity activation_function"
    ),
    "pooling": "pool pool_type pooling_type subsampling",
    "batch_norm": "bn use_bn batchnorm use_batchnorm batch_normalization",
    "layers": "modules blocks",
    "shortcut": "downsample skip projection",
    "name": "layer_name",
    "average pooling has no padding": (
        "AvgPool2d.padding AvgPool2d.pad AvgPool2d.count_include_pad"
    ),
    "convolutions are not dilated here": "dilation dilation_rate",
    "groups are a table of what filters read: connections=[[0, 1], [2, 3]]": (
        "groups depth_multiplier"
    ),
    "padding is made of zeros": "padding_mode",
    "images are (N, C, H, W), channels first": "data_format channels_last",
    "windows that stick out are left out": "ceil_mode",
    "scale, shift and running statistics are always there": (
        "affine center scale track_running_stats axis trainable_stats"
    ),
    "the initial values cannot be chosen": (
        "bias_initializer gamma_initializer beta_initializer bias_init "
        "moving_mean_initializer"
    ),
    "weight decay belongs to the optimizer: lenet5c.SGD(weight_decay=...)": (
        "kernel_regularizer bias_regularizer activity_regularizer regularizer"
    ),
    "all of an image is flattened": "start_dim end_dim",
    "there are no weights to start from; lenet5c.load reads a model": (
        "pretrained weights include_top"
    ),
    # augmentation, early stopping, schedules
    "shift": (
        "translate translation shift_range width_shift_range height_shift_range "
        "width_shift height_shift"
    ),
    "rotate": "rotation rotation_range degrees angle max_rotation",
    "scale=0.12": "zoom zoom_range scale_range",
    "shear": "shear_range",
    "elastic": "elastic_alpha alpha",
    "elastic=(34, 4)": "sigma elastic_sigma",
    "noise": "gaussian_noise noise_std std noise_level",
    "squeeze": "aspect_ratio aspect_range aspect",
    "erase": "random_erasing cutout erasing",
    "probability": "p prob",
    "images are never mirrored": "horizontal_flip vertical_flip flip hflip vflip",
    "patience": "n_iter_no_change wait",
    "min_delta": "tol threshold min_improvement",
    "the validation loss is what is watched": "monitor mode metric",
    "the weights of the best epoch are always kept": "restore_best_weights",
    "warm_up": "pct_start warmup warmup_ratio warmup_steps warm_up_steps",
    "epochs=(5, 8)": "Step.step_size Step.milestones Step.boundaries",
    "factor": "gamma decay_rate decay_factor",
    "least": "min_lr min_factor",
    "the optimizer's learning_rate is the highest one": "max_lr base_lr initial_lr",
    "fit knows the number of steps": "total_steps T_max decay_steps",
    # what there is no choice of
    "images are shuffled always, each epoch anew; seed decides how": "shuffle",
    "loss": "loss_fn loss_function criterion objective",
    "losses are of logits": "from_logits",
    "the history has loss and accuracy, evaluate has the confusion matrix": (
        "metrics metric scoring eval_metric"
    ),
    "everything runs on the CPU, in float32": (
        "device devices gpu gpus cuda use_gpu accelerator dtype precision fp16 "
        "mixed_precision jit_compile"
    ),
    "an epoch is all the images": (
        "steps_per_epoch validation_steps drop_last validation_freq steps"
    ),
    "images are run a few at a time anyway": (
        "predict.batch_size predict_proba.batch_size forward.batch_size "
        "evaluate.batch_size activations.batch_size"
    ),
    "it shows nothing": "predict.verbose predict_proba.verbose evaluate.verbose",
    "all parameters are trained": "trainable requires_grad freeze",
    "fit gives them to the optimizer": "params parameters model_parameters",
    "leave it away: nothing here corresponds to it": (
        "amsgrad dampening maximize foreach fused capturable differentiable inplace "
        "return_indices ceil overwrite save_format include_optimizer map_location "
        "weights_only custom_objects pin_memory use_multiprocessing max_queue_size"
    ),
}
# Arguments without their names, where an order of another library would be understood
# as something else.
POSITIONS: dict[str, str] = {
    "Model": "the layers are one list: Model([Flatten(), Dense(10)], input_shape=...)",
    "Conv2d": (
        "the channels of the input come from the layer before: PyTorch's "
        "Conv2d(1, 6, 5) is Conv2d(6, 5) here"
    ),
    "Dense": (
        "the inputs come from the layer before: PyTorch's Linear(120, 84) is "
        "Dense(84) here"
    ),
    "BatchNorm2d": (
        "the channels come from the layer before: PyTorch's BatchNorm2d(16) is "
        "BatchNorm2d() here"
    ),
}
# What objects do not have. An answer with "model." in front of a name is for objects
# that have this name.
ATTRIBUTES: dict[str, str] = {
    "model.parameters has the arrays by name": (
        "get_weights state_dict named_parameters weights trainable_variables variables "
        "trainable_weights trainable_parameters get_parameters params coefs_ "
        "get_params weight"
    ),
    "model.buffers has the arrays by name": "named_buffers non_trainable_weights",
    "model.parameters takes values by name, lenet5c.from_torch_state_dict those of a "
    "PyTorch network": "set_weights load_state_dict set_parameters",
    "model.parameter_count": (
        "count_params count_parameters num_parameters n_parameters num_params numel"
    ),
    "model.multiply_adds": "flops macs",
    "model.save(path) writes all of it": (
        "save_weights save_model save_pretrained dump to_file write save_to_disk"
    ),
    "lenet5c.load(path) reads a model": (
        "load load_weights load_model from_file from_pretrained restore read"
    ),
    "lenet5c.from_onnx(path) reads a network": "from_onnx load_onnx",
    "lenet5c.from_torch_state_dict reads a network": "from_torch from_torch_state_dict",
    "there is no such step, fit takes everything: model.fit(images, labels, "
    "optimizer=...)": "compile configure_optimizers build prepare initialize init",
    "fit trains and all else predicts, there are no modes": (
        "train eval training requires_grad_ requires_grad trainable freeze set_training"
    ),
    "everything runs on the CPU, in float32": (
        "to cuda cpu gpu half float double device bfloat16"
    ),
    "fit does the steps; model.trainer is for a loop of one's own": (
        "zero_grad step train_on_batch training_step partial_fit optimizer "
        "fit_generator"
    ),
    "model.loss_and_gradients(images, labels)": (
        "backward grad gradients gradient get_gradients compute_gradients"
    ),
    "model.predict(images)": (
        "predict_classes predict_class predict_label classify infer inference call "
        "transform predict_on_batch predict_generator"
    ),
    "model.predict_proba(images)": (
        "predict_probabilities predict_prob probabilities softmax predict_log_proba"
    ),
    "model.forward(images)": "logits decision_function predict_logits",
    "model.evaluate(images, labels)": (
        "score accuracy test validate test_on_batch evaluate_generator get_accuracy "
        "confusion_matrix"
    ),
    "model.layers is fixed: lenet5c.Model takes the list of all layers": (
        "add pop append insert add_module get_layer children modules named_modules "
        "named_children layers_ sequential"
    ),
    "model.activations(images, layer)": (
        "get_activations feature_maps features extract_features hidden_states "
        "register_forward_hook get_intermediate outputs"
    ),
    "model.classes": (
        "classes_ labels labels_ class_names num_classes n_classes n_classes_"
    ),
    "model.loss": "train_loss",
    "model.history": "history_ loss_curve_ losses",
    "model.summary()": "describe print_summary info plot_model",
    "model.export_onnx(path)": "to_onnx onnx export",
    "model.quantize(images)": "quantise to_int8 int8",
    "model.input_shape": "input_size image_size img_size",
    "model.validation_loss": "val_loss test_loss",
    "model.validation_accuracy": "val_accuracy val_acc test_accuracy",
    "model.accuracy": "acc",
}
# What the package does not have under this name.
NAMES: dict[str, str] = {
    "lenet5c.Model(layers, input_shape=(1, 28, 28))": (
        "Sequential Module Network Net NeuralNetwork nn keras Input Functional models"
    ),
    "lenet5c.Dense(outputs)": "Linear LazyLinear FullyConnected Affine InnerProduct",
    "lenet5c.Conv2d(filters, kernel_size)": "Conv Convolution Convolution2D Conv1d",
    "lenet5c.MaxPool2d(kernel_size)": "MaxPooling2D MaxPool MaxPooling",
    "lenet5c.AvgPool2d(kernel_size)": (
        "AveragePooling2D AvgPooling2D AveragePool2d AvgPool AveragePool"
    ),
    "lenet5c.Subsampling2d(kernel_size)": "Subsampling Subsample Subsampling2D",
    "lenet5c.GlobalAvgPool2d()": (
        "GlobalAveragePooling2D AdaptiveAvgPool2d GlobalAvgPool GlobalPool"
    ),
    "lenet5c.RadialBasis(outputs)": "RBF RBFLayer RadialBasisFunction Euclidean",
    "lenet5c.BatchNorm2d()": "BatchNormalization BatchNorm BatchNorm1d LayerNorm BN",
    "lenet5c.Tanh, ScaledTanh, ReLU, LeakyReLU and Sigmoid are the activations": (
        "Activation ELU GELU SiLU ReLU6 Hardtanh Softplus sigmoid activations"
    ),
    "lenet5c.SGD() and lenet5c.AdamW() are the optimizers": (
        "Adam Nadam RMSprop Adagrad Adadelta Adamax Momentum Optimizer optim"
    ),
    "the usual loss is softmax with cross-entropy, after the last Dense(classes); "
    "lenet5c.losses has others": (
        "CrossEntropyLoss Softmax LogSoftmax NLLLoss MSELoss BCELoss cross_entropy "
        "CategoricalCrossentropy SparseCategoricalCrossentropy softmax loss criterion"
    ),
    "fit takes arrays and makes batches: model.fit(images, labels, batch_size=64)": (
        "DataLoader TensorDataset Dataset Trainer fit train compile"
    ),
    "it is a method: model.predict(images), model.evaluate(images, labels)": (
        "predict evaluate score predict_proba summary"
    ),
    "lenet5c.load(path)": (
        "load_model read_model open from_file from_pretrained restore loads"
    ),
    "model.save(path)": "save_model save dump",
    "lenet5c.lenet5()": "LeNet lenet LeNet5Model lenet5_model",
    "lenet5c.resnet18()": "ResNet resnet resnet34 resnet50 resnet20",
    "lenet5c.mlp()": "MLPClassifier Perceptron MultiLayerPerceptron",
    "lenet5c.cnn3()": "CNN cnn ConvNet convnet",
    "lenet5c.LeNet5Classifier()": "Classifier LeNetClassifier LeNet5Estimator",
    "lenet5c.Residual(layers)": "ResidualBlock BasicBlock Add SkipConnection",
    "lenet5c.Checkpoint(path)": "ModelCheckpoint",
    "lenet5c.schedules has them": (
        "lr_scheduler OneCycleLR StepLR CosineAnnealingLR ReduceLROnPlateau OneCycle "
        "ReduceOnPlateau Step LearningRateScheduler optimizer_schedules"
    ),
    "lenet5c.Augment()": (
        "ImageDataGenerator transforms RandomAffine RandomRotation Compose "
        "Augmentation ElasticTransform"
    ),
    "lenet5c.datasets.mnist()": "mnist load_mnist fetch_mnist",
    "lenet5c.datasets.fashion_mnist()": "fashion_mnist FashionMNIST load_fashion_mnist",
    "lenet5c.datasets.digits()": "digits load_digits",
    "lenet5c.datasets.load(path)": "load_data load_dataset ImageFolder read_idx",
    "lenet5c.from_torch_state_dict(state, layers)": "from_torch load_state_dict torch",
    "lenet5c.from_onnx(path)": "load_onnx import_onnx onnx",
    "the seed is an argument: lenet5c.lenet5(seed=1), model.fit(..., seed=1)": (
        "set_seed manual_seed seed set_random_seed random"
    ),
    "the number of threads is an argument: model.fit(..., threads=2)": (
        "set_num_threads set_threads get_num_threads"
    ),
    "everything runs on the CPU": "cuda device gpu",
    "lenet5c.build_info()": "show_config version info show_versions",
}
# Choices that have another name.
VALUES: dict[str, str] = {
    "adamw": "adam nadam adamax rmsprop adagrad",
    "sgd": "momentum nesterov gd",
    "avg": "mean average",
    "max": "maximum",
    "glorot": "xavier glorot_uniform xavier_uniform glorot_normal xavier_normal",
    "he": "kaiming he_uniform kaiming_uniform he_normal kaiming_normal",
    "cosine": "cosine_annealing cosine_decay",
    "plateau": "reduce_on_plateau reduce_lr_on_plateau",
    "constant": "none fixed",
    "train": "fit learn",
    "evaluate": "test score validate",
    "predict": "classify infer run",
}


def explained(target: Target) -> Target:
    """Make a function or a class answer arguments that it does not have.

    The TypeError says what such an argument is called here, or what it is taken for.
    """
    made: Any = target
    is_class = isinstance(target, type)
    function = made.__init__ if is_class else made
    parameters = list(signature(function).parameters.values())
    most = sum(each.kind == each.POSITIONAL_OR_KEYWORD for each in parameters)
    is_method = parameters[:1] != [] and parameters[0].name == "self"
    names = [each.name for each in parameters[is_method:]]
    known = frozenset(names)

    @wraps(function)
    def checked(*args: Any, **options: Any) -> Any:
        if not known.issuperset(options):
            raise _unknown(target.__name__, options, names)
        if len(args) > most:
            positional = most - is_method
            raise _too_many(target.__name__, len(args) - is_method, positional, names)
        return function(*args, **options)

    if is_class:
        made.__init__ = checked
        return target
    return checked  # type: ignore[return-value]


def _unknown(who: str, options: Iterable[str], names: Sequence[str]) -> TypeError:
    unknown = [word for word in options if word not in names]
    said = (f"nknown argument {word!r}; {_hint(who, word, names)}" for word in unknown)
    return TypeError(f"{who}: u" + ". U".join(said))


def _hint(who: str, word: str, names: Sequence[str]) -> str:
    for answer in _answers(ARGUMENTS, f"{who}.{word}", word):
        name, value, _ = answer.partition("=")
        if name in names:
            return f"write {answer}" if value else f"it is called {answer} here"
        if not name.isidentifier():
            return answer
    hint = did_you_mean(word, names)
    return hint.removeprefix("; ") or f"there are {', '.join(names) or 'none'}"


def _too_many(who: str, count: int, most: int, names: Sequence[str]) -> TypeError:
    inside = f" ({', '.join(names[:most])})" if most else ""
    others = [f"{name}=" for name in names[most:]]
    if len(others) > MAX_LISTED:
        others[MAX_LISTED:] = ["..."]
    hint = POSITIONS.get(who) or (f"by name: {', '.join(others)}" if others else "")
    return TypeError(
        f"{who}: expected at most {most} argument{'s' * (most != 1)} without a name"
        f"{inside}, got {count}" + f"; {hint}" * bool(hint)
    )


def no_attribute(
    owner: str, name: str, there: Iterable[str], words: Mapping[str, str] = ATTRIBUTES
) -> AttributeError:
    """The error for a name that `owner` does not have among those that are `there`."""
    text = f"{owner} has no attribute {name!r}"
    if name.startswith("_"):
        return AttributeError(text)
    names = {each for each in there if not each.startswith("_")}
    for answer in _answers(words, name):
        member = re.match(r"model\.(\w+)", answer)
        if words is not ATTRIBUTES or member is None or member[1] in names:
            code = re.fullmatch(r"(model|lenet5c)\.[\w.]+(\(.*\))?", answer)
            return AttributeError(text + (": here it is " if code else ": ") + answer)
    return AttributeError(text + did_you_mean(name, names))


def choose(argument: str, value: object, choices: Mapping[str, Choice]) -> Choice:
    """What `value` names, or a ValueError."""
    if isinstance(value, str) and value in choices:
        return choices[value]
    *others, last = map(repr, choices)
    wanted = f"{', '.join(others)} or {last}" if others else last
    raise ValueError(
        f"{argument}: expected {wanted}, got {value!r}{did_you_mean(value, choices)}"
    )


def did_you_mean(word: object, names: Iterable[str]) -> str:
    """ "; did you mean 'epochs'?", or nothing where none of the names is near."""
    name = nearest(word, names) if isinstance(word, str) else None
    return "" if name is None else f"; did you mean {name!r}?"


def nearest(word: str, names: Iterable[str]) -> str | None:
    """The name that `word` may stand for: a synonym, its beginning, a typing error."""
    known = {_plain(name): name for name in names}
    plain = _plain(word)
    for answer in (word, *_answers(VALUES, word.lower().replace("-", "_"))):
        if _plain(answer) in known:
            return known[_plain(answer)]
    longer = [name for name in known if len(plain) > 2 and name.startswith(plain)]
    if len(longer) == 1:
        return known[longer[0]]
    close = difflib.get_close_matches(plain, known, 1, 0.66)
    return known[close[0]] if close else None


def option_for(word: str, names: Collection[str]) -> str | None:
    """The argument among `names` that `word` may stand for."""
    for answer in _answers(ARGUMENTS, word):
        if (name := answer.partition("=")[0]) in names:
            return name
    return nearest(word, names)


def _plain(name: str) -> str:
    return re.sub(r"\W|_", "", name).casefold()


def _answers(words: Mapping[str, str], *wanted: str) -> list[str]:
    return [
        answer
        for word in wanted
        for answer, known in words.items()
        if word in known.split()
    ]


class Elsewhere:
    """A member that a class does not have, `load = Elsewhere()`: asked for it, the
    class says where it is."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type) -> NoReturn:
        raise no_attribute(f"type object {owner.__name__!r}", self.name, ())
