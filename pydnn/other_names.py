"""What other libraries, papers and courses call the parts of pydnn, for "did you mean"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

__all__ = ["nearest", "suggestion"]

# From each name in pydnn to its names elsewhere; all in small letters with underscores.
_ELSEWHERE = {
    # optimizers
    "gradient_descent": "sgd gd batch_gradient_descent stochastic_gradient_descent vanilla plain",
    "momentum": "sgd_momentum momentum_sgd sgdm heavyball polyak",
    "nesterov": "nag nesterov_momentum accelerated_gradient sgd_nesterov",
    "rmsprop": "rms_prop",
    "adamw": "adam_w adam_weight_decay",
    "nadam": "nesterov_adam",
    "amsgrad": "ams_grad adam_amsgrad",
    "clip_by_global_norm": "clip_by_norm clip_grad_norm clip_grad_norm_ clipnorm global_clipnorm "
    "clip_norm gradient_clipping clip_gradients grad_clip",
    "clip_by_value": "clip_grad_value clip_grad_value_ clipvalue clip_value clip",
    "decay_weights": "add_decayed_weights weight_decay",
    "average_parameters": "ema swa exponential_moving_average polyak_averaging",
    "accumulate": "multi_steps gradient_accumulation accumulate_gradients",
    "skip_not_finite": "apply_if_finite",
    # losses
    "mean_squared": "mse mse_loss mseloss mean_squared_error squared_error l2_loss l2 square "
    "squared_loss",
    "mean_absolute": "mae l1_loss l1loss mean_absolute_error absolute_error l1",
    "huber": "smooth_l1 smooth_l1_loss smoothl1loss huber_loss huberloss",
    "poisson": "poisson_nll poisson_loss poissonnllloss poisson_nll_loss",
    "sigmoid_cross_entropy": "bce bce_loss bceloss binary_crossentropy binary_cross_entropy "
    "bce_with_logits bcewithlogitsloss binary_cross_entropy_with_logits log_loss logloss "
    "logistic logistic_loss sigmoid_binary_cross_entropy binary",
    "softmax_cross_entropy": "ce cross_entropy crossentropy cross_entropy_loss crossentropyloss "
    "categorical_crossentropy categorical_cross_entropy sparse_categorical_crossentropy nll "
    "nll_loss nllloss softmax softmax_loss categorical multinomial",
    # stages
    "dense": "linear fully_connected fc affine inner_product densely_connected",
    "conv": "convolution conv1d conv2d convolution1d convolution2d convolutional conv_1d conv_2d",
    "depthwise_conv": "depthwise depthwise_conv1d depthwise_conv2d depthwiseconv2d "
    "depthwise_convolution",
    "serial": "sequential chain stack compose mlp",
    "residual": "skip skip_connection resblock residual_block",
    "parallel": "concat concatenate branches",
    "batch_norm": "batchnorm batch_normalization batchnorm1d bn batchnorm2d",
    "layer_norm": "layernorm layer_normalization ln",
    "transposed_conv": "conv_transpose convtranspose2d conv2d_transpose conv2dtranspose deconv "
    "deconvolution upconv",
    "max_pool": "maxpool maxpool1d maxpool2d max_pooling max_pooling2d max_pool2d",
    "average_pool": "avg_pool avgpool avgpool2d average_pooling average_pooling2d mean_pool",
    "global_average_pool": "global_avg_pool global_average_pooling global_average_pooling2d gap "
    "adaptive_avg_pool adaptiveavgpool2d",
    "global_max_pool": "global_max_pooling global_max_pooling2d adaptive_max_pool",
    "flatten": "ravel flat",
    "reshape": "view unflatten",
    "pad": "zero_padding zero_padding2d zeropad2d padding",
    "crop": "cropping cropping2d",
    "rnn": "recurrent simple_rnn simplernn elman vanilla_rnn rnncell simple_cell",
    "gru": "grucell gru_cell gated_recurrent_unit",
    "bidirectional": "birnn bilstm bigru both_directions",
    "lstm": "lstmcell lstm_cell long_short_term_memory",
    "embedding": "embed embeddings lookup lookup_table",
    "one_hot": "onehot one_hot_encoding to_categorical",
    "positions": "positional_encoding position_embedding positional positional_embedding",
    "attention": "self_attention multihead_attention multi_head_attention multiheadattention "
    "multi_head_dot_product_attention mha transformer",
    "leaky_relu": "leakyrelu lrelu prelu",
    "silu": "swish",
    "sigmoid": "logistic expit",
    "tanh": "hyperbolic_tangent",
    "identity": "linear none pass",
    "dropout": "drop alpha_dropout",
    # initializers and weights
    "he_normal": "he kaiming kaiming_normal kaiming_normal_ he_initialization msra",
    "he_uniform": "kaiming_uniform kaiming_uniform_",
    "xavier_normal": "xavier glorot glorot_normal xavier_normal_",
    "xavier_uniform": "glorot_uniform xavier_uniform_",
    "lecun_normal": "lecun",
    "normal": "gaussian random_normal randn random",
    "uniform": "random_uniform rand",
    "truncated_normal": "trunc_normal",
    "zeros": "zero zeros_ zero_init",
    # schedules
    "constant_rate": "constant fixed constant_schedule",
    "cosine_decay": "cosine cosine_annealing cosineannealinglr cosine_schedule cosine_annealing_lr "
    "cosine_decay_schedule",
    "step_decay": "step steplr step_lr multistep piecewise_constant",
    "exponential_decay": "exponential exponentiallr exponential_lr",
    "inverse_time_decay": "inverse_time inverse_decay",
    "polynomial_decay": "polynomial polynomiallr poly linear_decay",
    "one_cycle": "onecycle onecyclelr one_cycle_lr 1cycle super_convergence",
    "warm_up": "warmup linear_warmup warm_up_lr",
    "joined": "join_schedules sequential_lr sequentiallr",
    # batches and penalties
    "mini_batches": "mini_batch minibatch minibatches batch batches dataloader batched",
    "full_batch": "full whole full_batches",
    "l2_penalty": "l2 ridge weight_decay l2_regularization l2_reg tikhonov",
    "l1_penalty": "l1 lasso l1_regularization l1_reg",
    # augmentation and texts
    "random_flip": "randomhorizontalflip horizontal_flip hflip fliplr random_horizontal_flip "
    "mirror flip",
    "random_shift": "random_translation randomtranslation randomaffine translate shift jitter roll",
    "random_crop": "randomresizedcrop random_resized_crop randomzoom random_zoom zoom",
    "random_brightness": "colorjitter color_jitter brightness randombrightness",
    "lines": "line sentences characters chars letters char_level text",
    "windows": "window chunks blocks sequences ngrams bptt",
    # options
    "learning_rate": "lr eta alpha step_size rate learning_rate_init eta0",
    "decay": "beta mu rho momentum gamma decay_rate alpha beta1 beta_1",
    "averaged": "dampening damping",
    "beta1": "beta_1 b1 beta1_ betas beta",
    "beta2": "beta_2 b2 beta2_ betas",
    "epsilon": "eps fuzz stabilizer",
    "weight_decay": "wd l2 decay_weights lambda",
    "size": "batch_size batchsize bs n kernel_size filter_size kernel_shape filter_shape k "
    "pool_size window_shape window",
    "shuffle": "shuffled",
    "keep_last": "drop_last drop_remainder",
    "filters": "out_channels features channels n_filters num_filters out_chan kernels depth",
    "stride": "strides subsample window_strides",
    "dilation": "dilation_rate dilations kernel_dilation rhs_dilation",
    "groups": "feature_group_count group",
    "bias": "use_bias with_bias",
    "multiplier": "depth_multiplier channel_multiplier",
    "units": "n neurons out_features hidden features width output_dim dim n_units num_units "
    "hidden_size hidden_dim embedding_dim embed_dim d_model key_dim",
    "output": "return_sequences return_state",
    "reverse": "go_backwards backwards",
    "forget_bias": "unit_forget_bias",
    "reset": "reset_after",
    "examples": "batch_size",
    "merge": "merge_mode",
    "heads": "num_heads n_heads n_head nhead",
    "causal": "is_causal use_causal_mask",
    "words": "num_embeddings input_dim vocab_size vocabulary_size num_words n_words num_tokens",
    "count_padding": "count_include_pad",
    "initializer": "init kernel_initializer weight_init initialiser w_init",
    "keep_prob": "rate p drop_prob dropout_rate keep_rate keep_probability",
    "slope": "negative_slope alpha leak",
    "strength": "lambda lambd lam l2 l1 alpha weight factor c rate coefficient",
    "only": "mask names layers",
    "factor": "gamma drop decay_rate decay rate",
    "every": "steps step_size period interval decay_steps",
    "steps": "every t_max total_steps decay_steps iterations epochs t max_steps",
    "initial": "learning_rate lr initial_learning_rate base_lr init_value start stateful h0 h_0",
    "final": "eta_min end end_value min_lr end_learning_rate alpha",
    "peak": "max_lr max_rate peak_value learning_rate",
    "rising": "pct_start",
    "limit": "max_norm norm clip clipnorm clipvalue value max clip_value threshold bound",
    "label_smoothing": "smoothing smooth",
    "class_weights": "class_weight weight weights",
    "positive_weight": "pos_weight",
    "delta": "beta threshold",
    "inner": "optimizer base",
    # keys of a recipe, and options of commands
    "iterations": "epochs epoch n_epochs num_epochs nb_epoch max_epochs max_iter max_iterations "
    "steps num_iterations n_iterations num_steps max_steps n_iter iters",
    "network": "model layers architecture net module",
    "layers": "hidden hidden_layers hidden_layer_sizes hidden_units units layers_dims layer_sizes "
    "n_hidden",
    "loss": "criterion objective loss_fn cost loss_function",
    "optimizer": "optim optimiser solver algorithm updater learning_rate lr",
    "penalties": "penalty regularization regularizer regularizers regularisation l2 weight_decay "
    "lambd",
    "penalty": "regularization regularizer regularisation l2 weight_decay lambd",
    "batches": "batch batch_size batchsize minibatch mini_batch mini_batches mini_batch_size "
    "mini_batches_size bs",
    "weights": "init initialization initializer initial_weights",
    "augment": "augmentation augmentations augmenter transforms transform data_augmentation",
    "text": "tokenizer tokens vocabulary corpus",
    "standardize": "normalize normalise standardise scale scaler scaling normalization",
    "validation": "validation_split val_split val valid validation_fraction holdout "
    "validation_share dev",
    "evaluate_every": "eval_every eval_interval validate_every evaluation_interval eval_steps "
    "val_check_interval eval_frequency",
    "watch": "monitor metric early_stopping_metric",
    "patience": "early_stopping early_stop n_iter_no_change early_stopping_rounds",
    "higher_is_better": "mode maximize greater_is_better",
    "start_from": "pretrained checkpoint init_from initial_weights weights_file finetune fine_tune "
    "from_model warm_start load_weights",
    "seed": "random_state random_seed rng key manual_seed",
    "dtype": "precision float_type",
    "data": "dataset data_set data_dir train_data input csv file",
    "numerics": "backend engine arithmetic deterministic",
    "run": "save output out output_dir out_dir save_dir log_dir logdir save_path model name "
    "save_model",
    "save_best": "save output out",
    "plot": "plots figure graph",
    "quiet": "silent",
    "record": "log logging",
    "checkpoint_every": "save_every checkpoint checkpoint_interval save_steps save_freq",
    "allow": "trust trust_remote_code allow_code own_parts",
    "jobs": "workers n_jobs num_workers processes",
    "seeds": "n_seeds num_seeds repeats repetitions trials",
    "vary": "grid params param_grid sweep",
    # metrics and what can be watched
    "accuracy": "acc",
    "validation cost": "val_loss validation_loss valid_loss dev_loss",
    "validation accuracy": "val_accuracy val_acc validation_acc dev_accuracy",
    "train cost": "loss train_loss training_loss training_cost",
    "train accuracy": "acc accuracy train_acc training_accuracy",
    "cost": "loss",
}  # fmt: skip

# How a name in pydnn differs in meaning: (name, how the names elsewhere begin, note).
_NOTES = [
    ("iterations", ("epoch", "n_epoch", "num_epoch", "nb_epoch", "max_epoch"), "it counts steps: "
     "epochs times the batches of an epoch"),
    ("output", ("return_sequences",), "'all' means True, and 'last' False"),
    ("initial", ("stateful",), "'carried' means True"),
    ("keep_prob", ("rate", "p", "drop"), "it is 1 minus the share that is dropped"),
    ("keep_last", ("drop",), "it means the opposite"),
    ("softmax_cross_entropy", ("softmax",), "it takes logits, so a network ends with dense"),
]  # fmt: skip


def _inverted(names: Mapping[str, str]) -> dict[str, list[str]]:
    table: dict[str, list[str]] = {}
    for here, elsewhere in names.items():
        for name in elsewhere.split():
            table.setdefault(name, []).append(here)
    return table


_BY_OTHER_NAME = _inverted(_ELSEWHERE)


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return a question that suggests the nearest of the `known` names, or "" if none is near.

    Args:
        name: The name that a person wrote; case, hyphens and leading dashes do not matter.
        known: The names to choose from, as the question should write them.

    Example:
        >>> suggestion("SGD", ["adam", "amsgrad", "gradient_descent"])
        "did you mean 'gradient_descent'?"
    """
    by_form = {_form(option): option for option in sorted(known, reverse=True)}
    form = _form(name[:200])  # a longer name is not a typing error, and would take long to match
    candidates = [form, *_BY_OTHER_NAME.get(form, ())]
    near = next((option for option in candidates if option in by_form), None)
    if near is None:
        close = difflib.get_close_matches(form, by_form, n=1)
        return f"did you mean {by_form[close[0]]!r}?" if close else ""
    notes = [
        f" ({note})"
        for name_here, starts, note in _NOTES
        if name_here == near and form.startswith(starts) and form != near
    ]
    return f"did you mean {by_form[near]!r}?{''.join(notes)}"


def nearest(name: str, known: Iterable[str], *, count: int) -> list[str]:
    """Return the `count` of the `known` names that are the most like `name`.

    Example:
        >>> nearest("norm", ["adam", "batch_norm", "layer_norm", "relu"], count=2)
        ['layer_norm', 'batch_norm']
    """
    return difflib.get_close_matches(_form(name[:200]), sorted(known), n=count, cutoff=0)


def _form(name: str) -> str:
    return name.lstrip("-").replace("-", "_").lower()
