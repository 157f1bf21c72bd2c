"""The op table: the one contract between the library and its kernels.

Everything numerical is ``backend.launch(name, buffers, dims, scalars)``. A row of this table says which buffers an op
takes (in this order), what it does with each, and how many elements of which kind it must hold; `Backend.launch`
checks that, the kernels check nothing. The same name is the NumPy function in `backends/reference/`, the CPU kernel
in ``kernels/cpu/*.hpp``, the row of shapes in ``tests/cases.py`` and the benchmark.

Shape letters: B batch rows, I inputs, O outputs, Z latent size, N elements, C components or classes, F features of a
layer, K columns of labels or kernels of a sum, M other rows.

Roles: ``in`` is read, ``out`` is overwritten and never read, ``inout`` is both, and ``beta`` is ``out`` when the
integer argument ``beta`` is 0 and ``inout`` (accumulate) when it is 1.

Kinds: ``real`` is the backend's floating type (float32, or float64 in the reference); ``weight`` is ``real`` in the
layout the backend keeps weights in (logical shape (out, in)); the others are NumPy dtypes and the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Final

# Activations, by the code that kernels receive. Their derivatives are functions of the OUTPUT, so no input is kept.
IDENTITY, RELU, LEAKY_RELU, SIGMOID, TANH = range(5)
ACTIVATIONS: Final[Mapping[str, int]] = MappingProxyType(
    {"identity": IDENTITY, "relu": RELU, "leaky_relu": LEAKY_RELU, "sigmoid": SIGMOID, "tanh": TANH}
)

# The optimizer state buffer (8 x float64): what changes from step to step lives in memory, never in an argument.
STEP, LR, BETA1, BETA2, EPS, GRAD_SCALE, STEP_SIZE, INV_SQRT_BC2 = range(8)
STATE_SIZE: Final = 8
MOMENTUM: Final = BETA1  # SGD keeps its momentum where Adam keeps beta1

# Precisions of the linear layers, and what the names of their ops end in.
PRECISIONS: Final[Mapping[str, str]] = MappingProxyType({"fp32": "", "tf32": "_tf32", "bf16": "_bf16"})


@dataclass(frozen=True)
class Arg:
    """One buffer of an op: its role, how many elements (a product of dims and integers) and of which kind."""

    name: str
    role: str  # in | out | inout | beta
    shape: tuple[str | int, ...]
    kind: str = "real"  # real | weight | float64 | int64 | uint64 | uint8

    def size(self, dims: Mapping[str, int]) -> int:
        """Number of elements, from the dims of a launch."""
        n = 1
        for d in self.shape:
            n *= dims[d] if isinstance(d, str) else d
        return n


@dataclass(frozen=True)
class Op:
    """A row of the table. `dims` and `scalars` name the integer and floating arguments, in order."""

    name: str
    args: tuple[Arg, ...]
    dims: tuple[str, ...]
    scalars: tuple[str, ...] = ()
    flops: Callable[[Mapping[str, int]], int] = lambda d: 0
    valid: Callable[[Mapping[str, int]], bool] = lambda d: True  # what the sizes of the buffers do not say
    precision: str = "fp32"  # of its matrix products
    family: str = ""  # what it computes, in whatever precision; its name, unless that has the precision in it

    def __post_init__(self) -> None:
        object.__setattr__(self, "family", self.family or self.name)

    @cached_property
    def codes(self) -> tuple[tuple[int, str, int], ...]:
        """The dims that are one of a few: place, name, how many there are."""
        few = {"beta": 2, "act": len(ACTIVATIONS)}
        return tuple((i, name, few[name]) for i, name in enumerate(self.dims) if name in few)

    @cached_property
    def outputs(self) -> tuple[int, ...]:
        """The places of the buffers that it writes."""
        return tuple(i for i, arg in enumerate(self.args) if arg.role != "in")

    def bytes(self, dims: Mapping[str, int]) -> int:
        """Bytes that must move at least: every operand once, and twice where it is read and written."""
        total = 0
        for arg in self.args:
            touched = 2 if arg.role == "inout" or (arg.role == "beta" and dims["beta"]) else 1
            total += touched * arg.size(dims) * ITEMSIZE[arg.kind]
        return total


ITEMSIZE: Final[Mapping[str, int]] = MappingProxyType(
    {"real": 4, "weight": 4, "float64": 8, "int64": 8, "uint64": 8, "uint8": 1}
)


def _gemm(d: Mapping[str, int]) -> int:
    return 2 * d["B"] * d["I"] * d["O"]


def _per(dim: str, count: int) -> Callable[[Mapping[str, int]], int]:
    return lambda d: count * d[dim]


def _in(name: str, *shape: str | int, kind: str = "real") -> Arg:
    return Arg(name, "in", shape, kind)


def _out(name: str, *shape: str | int, kind: str = "real") -> Arg:
    return Arg(name, "out", shape, kind)


def _inout(name: str, *shape: str | int, kind: str = "real") -> Arg:
    return Arg(name, "inout", shape, kind)


def _beta(name: str, *shape: str | int, kind: str = "real") -> Arg:
    return Arg(name, "beta", shape, kind)


_STATE_IN = _in("state", STATE_SIZE, kind="float64")
_STATE_INOUT = _inout("state", STATE_SIZE, kind="float64")
_RNG = _in("rng", 2, kind="uint64")  # {seed, counter}


# fmt: off
def _linear_ops(precision: str, suffix: str) -> tuple[Op, ...]:
    """Linear layers: y = act(x W^T + b). With bf16 x, W and dy are rounded to bfloat16 as they are read, to nearest,
    ties to even; with tf32 to 11 significant bits, ties away from zero. Products are summed in `real`, and what is
    stored, and the biases, stay `real`."""
    return (
        Op("linear_forward" + suffix,
           (_in("x", "B", "I"), _in("weight", "O", "I", kind="weight"), _in("bias", "O"), _out("y", "B", "O")),
           ("B", "I", "O", "act"), ("slope",), flops=_gemm, precision=precision, family="linear_forward"),
        # dx = beta dx + (dy W) * act'(x), where x is the layer's input, the output of the activation before it.
        Op("linear_backward_input" + suffix,
           (_in("dy", "B", "O"), _in("weight", "O", "I", kind="weight"), _in("x", "B", "I"), _beta("dx", "B", "I")),
           ("B", "I", "O", "act", "beta"), ("slope",), flops=_gemm, precision=precision,
           family="linear_backward_input"),
        # dW = beta dW + dy^T x, db = beta db + sum over the batch of dy.
        Op("linear_backward_weight" + suffix,
           (_in("x", "B", "I"), _in("dy", "B", "O"), _beta("dweight", "O", "I", kind="weight"), _beta("dbias", "O")),
           ("B", "I", "O", "beta"), flops=_gemm, precision=precision, family="linear_backward_weight"),
        # The same gradient, given to Adam where it is made; it never reaches memory.
        Op("linear_backward_weight_adam" + suffix,
           (_in("x", "B", "I"), _in("dy", "B", "O"),
            _inout("weight", "O", "I", kind="weight"), _inout("m_weight", "O", "I", kind="weight"),
            _inout("v_weight", "O", "I", kind="weight"),
            _inout("bias", "O"), _inout("m_bias", "O"), _inout("v_bias", "O"), _STATE_IN),
           ("B", "I", "O"), flops=lambda d: _gemm(d) + 12 * d["I"] * d["O"], precision=precision,
           family="linear_backward_weight_adam"),
    )


_TABLE = (
    *(op for precision, suffix in PRECISIONS.items() for op in _linear_ops(precision, suffix)),
    # dx = beta dx + dy * act'(y): for gradients that did not come out of a linear layer.
    Op("activation_backward", (_in("dy", "N"), _in("y", "N"), _beta("dx", "N")), ("N", "act", "beta"), ("slope",),
       flops=_per("N", 3)),
    # --- losses: value and gradient in one pass; sums over features, means over the batch ---------
    # loss = weight / (2 B) sum (y - target)^2; dy is the gradient before the activation `act` that made y.
    Op("half_squared_error", (_in("y", "B", "N"), _in("target", "B", "N"), _out("dy", "B", "N"), _out("loss", 1)),
       ("B", "N", "act"), ("slope", "weight"), flops=lambda d: 6 * d["B"] * d["N"]),
    # loss = weight / B sum [max(l, 0) - l t + log(1 + exp(-|l|))], gradient weight / B (sigmoid(l) - t).
    Op("bce_logits", (_in("logits", "B", "N"), _in("target", "B", "N"), _out("dlogits", "B", "N"), _out("loss", 1)),
       ("B", "N"), ("weight",), flops=lambda d: 30 * d["B"] * d["N"]),
    # Rows below `real` have target 1, the others 0; the mean over each group, added.
    Op("adversarial_bce", (_in("logits", "B"), _out("dlogits", "B"), _out("loss", 1)), ("B", "real"), ("weight",),
       valid=lambda d: 0 <= d["real"] <= d["B"],
       flops=_per("B", 30)),
    # A Gaussian posterior, params = [mean | log variance]: loss = weight / B sum (1/2 [precision (exp(log variance) +
    # (m - mean)^2) - 1 - log variance] + offset). KL(q || N(mean, 1 / precision)) with offset = -1/2 ln precision, and
    # minus the entropy of q with precision 0 and offset = -1/2 ln 2 pi.
    Op("gaussian_kl", (_in("params", "B", 2, "Z"), _out("dparams", "B", 2, "Z"), _out("loss", 1)), ("B", "Z"),
       ("mean", "precision", "offset", "weight"), flops=lambda d: 30 * d["B"] * d["Z"]),
    # loss = -weight / B sum ln sum_c exp(log_scales_c - |y_c|^2 / 2), y_c = whitening_c (z - means_c): the densities of
    # a mixture, log_scales_c = ln weight_c - Z/2 ln 2 pi - ln det L_c, whitening_c = L_c^-1, L_c lower triangular.
    Op("mixture_nll",
       (_in("z", "B", "Z"), _in("log_scales", "C"), _in("means", "C", "Z"), _in("whitening", "C", "Z", "Z"),
        _out("dz", "B", "Z"), _out("loss", 1)), ("B", "Z", "C"), ("weight",), valid=lambda d: d["C"] > 0,
       flops=lambda d: d["B"] * d["C"] * (4 * d["Z"] ** 2 + 40)),
    # --- the Gaussian posterior: params = [mean | log variance], z = mean + exp(log variance / 2) e
    Op("gaussian_sample", (_in("params", "B", 2, "Z"), _in("eps", "B", "Z"), _out("z", "B", "Z")), ("B", "Z"),
       flops=lambda d: 20 * d["B"] * d["Z"]),
    Op("gaussian_sample_backward",
       (_in("dz", "B", "Z"), _in("params", "B", 2, "Z"), _in("eps", "B", "Z"), _beta("dparams", "B", 2, "Z")),
       ("B", "Z", "beta"), flops=lambda d: 20 * d["B"] * d["Z"]),
    # --- classes: a softmax over the C numbers of a row -------------------------------------------
    Op("softmax", (_in("logits", "B", "C"), _out("p", "B", "C")), ("B", "C"), flops=lambda d: 30 * d["B"] * d["C"]),
    # dlogits = beta dlogits + p (dp - sum over the row of p dp).
    Op("softmax_backward", (_in("dp", "B", "C"), _in("p", "B", "C"), _beta("dlogits", "B", "C")), ("B", "C", "beta"),
       flops=lambda d: 5 * d["B"] * d["C"]),
    # loss = weight / B sum target (lse(logits) - logits), gradient weight / B (softmax(logits) sum of the row's target
    # - target), where lse is the logarithm of the row's sum of exponentials. A row of zeros as target adds nothing.
    Op("softmax_cross_entropy",
       (_in("logits", "B", "C"), _in("target", "B", "C"), _out("dlogits", "B", "C"), _out("loss", 1)), ("B", "C"),
       ("weight",), flops=lambda d: 40 * d["B"] * d["C"]),
    # --- batch norm: y = act(gamma (x - mean) / sqrt(variance + eps) + shift), moments = [mean | variance] ------------
    # Moments of the batch itself; the variance divides by B.
    Op("batch_norm_forward",
       (_in("x", "B", "F"), _in("gamma", "F"), _in("shift", "F"), _out("y", "B", "F"), _out("moments", 2, "F")),
       ("B", "F", "act"), ("slope", "eps"), flops=lambda d: 9 * d["B"] * d["F"]),
    # Moments of other rows.
    Op("batch_norm_apply",
       (_in("x", "B", "F"), _in("gamma", "F"), _in("shift", "F"), _in("moments", 2, "F"), _out("y", "B", "F")),
       ("B", "F", "act"), ("slope", "eps"), flops=lambda d: 4 * d["B"] * d["F"]),
    # dy is the gradient before `act`; n = (x - mean) / sqrt(variance + eps), dgamma = sum dy n, dshift = sum dy,
    # dx = gamma / sqrt(variance + eps) (dy - dshift / B - n dgamma / B).
    Op("batch_norm_backward",
       (_in("dy", "B", "F"), _in("x", "B", "F"), _in("gamma", "F"), _in("moments", 2, "F"), _out("dx", "B", "F"),
        _out("dgamma", "F"), _out("dshift", "F")), ("B", "F"), ("eps",), flops=lambda d: 12 * d["B"] * d["F"]),
    # --- heads of clusters: out = z + y heads -----------------------------------------------------
    Op("add_product", (_in("y", "B", "C"), _in("heads", "C", "Z"), _in("z", "B", "Z"), _out("out", "B", "Z")),
       ("B", "C", "Z"), flops=lambda d: 2 * d["B"] * d["C"] * d["Z"]),
    # dy = beta dy + dout heads^T
    Op("add_product_backward", (_in("dout", "B", "Z"), _in("heads", "C", "Z"), _beta("dy", "B", "C")),
       ("B", "C", "Z", "beta"), flops=lambda d: 2 * d["B"] * d["C"] * d["Z"]),
    # dheads = beta dheads + y^T dout
    Op("add_product_backward_heads", (_in("y", "B", "C"), _in("dout", "B", "Z"), _beta("dheads", "C", "Z")),
       ("B", "C", "Z", "beta"), flops=lambda d: 2 * d["B"] * d["C"] * d["Z"]),
    # loss = weight sum over i < j of max(0, least - |heads_i - heads_j|); heads that coincide have no direction: 0.
    Op("head_hinge", (_in("heads", "C", "Z"), _out("dheads", "C", "Z"), _out("loss", 1)), ("C", "Z"),
       ("least", "weight"), flops=lambda d: 3 * d["C"] ** 2 * d["Z"]),
    # --- distances of all pairs of rows, d_ij = |x_i - y_j|^2 --------------------------------------
    # Squared maximum mean discrepancy of the rows of x and of y with the kernel k(d) = sum over s of exp(-gammas_s d):
    # loss = weight (mean k(d of x, x) - 2 mean k(d of x, y) + mean k(d of y, y)), means over all pairs, those of a row
    # with itself among them.
    Op("mmd",
       (_in("x", "B", "N"), _in("y", "M", "N"), _in("gammas", "K"), _out("dx", "B", "N"), _out("loss", 1)),
       ("B", "M", "N", "K"), ("weight",), valid=lambda d: min(d["B"], d["M"], d["N"], d["K"]) > 0,
       flops=lambda d: 2 * d["N"] * (d["B"] + d["M"]) ** 2 + 2 * d["N"] * d["B"] * (d["B"] + d["M"])),
    # A Parzen window takes in more samples: least_i = the smallest d_ij of x_i and all samples j so far, and sums_ik =
    # sum over those j of exp(-gammas_k (d_ij - least_i)). Both begin as infinity and 0. gammas > 0.
    Op("parzen",
       (_in("x", "B", "N"), _in("samples", "M", "N"), _in("gammas", "K"), _inout("least", "B"),
        _inout("sums", "B", "K", kind="float64")), ("B", "M", "N", "K"),
       valid=lambda d: min(d["B"], d["M"], d["N"], d["K"]) > 0,
       flops=lambda d: d["B"] * d["M"] * (2 * d["N"] + 20 * d["K"])),
    # --- energies of Boltzmann machines -----------------------------------------------------------
    # y = act(x + bias)
    Op("add_bias", (_in("x", "B", "N"), _in("bias", "N"), _out("y", "B", "N")), ("B", "N", "act"), ("slope",),
       flops=lambda d: 10 * d["B"] * d["N"]),
    # loss = weight / B sum over the rows v of bias . v; dbias = weight / B sum over the rows of v.
    Op("bias_product", (_in("bias", "N"), _in("v", "B", "N"), _out("dbias", "N"), _out("loss", 1)), ("B", "N"),
       ("weight",), valid=lambda d: d["B"] > 0, flops=lambda d: 3 * d["B"] * d["N"]),
    # loss = weight / B sum x v; dx = weight / B v.
    Op("inner_product", (_in("x", "B", "N"), _in("v", "B", "N"), _out("dx", "B", "N"), _out("loss", 1)), ("B", "N"),
       ("weight",), flops=lambda d: 3 * d["B"] * d["N"]),
    # --- moving data ------------------------------------------------------------------------------
    # dst[:, dst_at : dst_at + cols] = beta dst[...] + src[:, src_at : src_at + cols]; only those columns are touched.
    Op("copy_columns", (_in("src", "B", "src_cols"), _inout("dst", "B", "dst_cols")),
       ("B", "cols", "src_cols", "src_at", "dst_cols", "dst_at", "beta"),
       valid=lambda d: 0 <= d["src_at"] <= d["src_cols"] - d["cols"] and 0 <= d["dst_at"] <= d["dst_cols"] - d["cols"]),
    Op("copy", (_in("src", "N"), _beta("dst", "N")), ("N", "beta"), flops=lambda d: d["N"] * d["beta"]),
    Op("fill", (_out("x", "N"),), ("N",), ("value",)),
    Op("scale", (_inout("x", "N"),), ("N",), ("factor",), flops=_per("N", 1)),
    # y = x * factor, a number of the device.
    Op("scale_by", (_in("x", "N"), _in("factor", 1), _out("y", "N")), ("N",), flops=_per("N", 1)),
    # y = x * factor: a sum that was made in double, as a number of the step.
    Op("to_real", (_in("x", 1, kind="float64"), _out("y", 1)), (), ("factor",)),
    # y = (x - mean) * scale: columns without their mean, in a common unit.
    Op("standardise", (_in("x", "B", "N"), _in("mean", "N"), _in("scale", 1), _out("y", "B", "N")), ("B", "N"),
       flops=lambda d: 2 * d["B"] * d["N"]),
    # average += rate (x - average), rate a number of the device.
    Op("average", (_in("x", "N"), _in("rate", 1), _inout("average", "N")), ("N",), flops=_per("N", 3)),
    # y = x + length d / |d|, row by row; a row d of zeros has no direction and adds nothing.
    Op("add_direction", (_in("x", "B", "N"), _in("d", "B", "N"), _out("y", "B", "N")), ("B", "N"), ("length",),
       flops=lambda d: 4 * d["B"] * d["N"]),
    # out[r] = source[index[cursor + r]] * scale for r < B; `P` is the length of index, `M` the rows of source.
    Op("gather_rows_u8",
       (_in("source", "M", "N", kind="uint8"), _in("index", "P", kind="int64"), _in("cursor", 1, kind="int64"),
        _out("out", "B", "N")), ("M", "N", "P", "B"), ("scale",), flops=lambda d: d["B"] * d["N"]),
    Op("gather_rows",
       (_in("source", "M", "N"), _in("index", "P", kind="int64"), _in("cursor", 1, kind="int64"),
        _out("out", "B", "N")), ("M", "N", "P", "B"), ("scale",), flops=lambda d: d["B"] * d["N"]),
    Op("cursor_advance", (_inout("cursor", 1, kind="int64"),), ("by",)),
    # log[at modulo M, column] = value: what step `at` of a burst leaves to be read, in a table of M rows.
    Op("log_value", (_in("value", 1), _in("at", 1, kind="int64"), _inout("log", "M", "N")), ("M", "N", "column"),
       valid=lambda d: d["M"] > 0 and d["column"] < d["N"]),
    # lr = rates[at modulo M, column]: what step `at` of a burst was given.
    Op("take_rate", (_in("rates", "M", "N", kind="float64"), _in("at", 1, kind="int64"), _STATE_INOUT),
       ("M", "N", "column"), valid=lambda d: d["M"] > 0 and d["column"] < d["N"]),
    # --- optimizers -------------------------------------------------------------------------------
    # step += 1; grad_scale = 1; step_size = lr / (1 - beta1^step); inv_sqrt_bc2 = 1 / sqrt(1 - beta2^step), in double.
    Op("adam_advance", (_STATE_INOUT,), ()),
    Op("adam_step", (_inout("p", "N"), _in("g", "N"), _inout("m", "N"), _inout("v", "N"), _STATE_IN), ("N",),
       flops=_per("N", 12)),
    # velocity = momentum velocity + g; p -= lr velocity (PyTorch's convention, no dampening).
    Op("sgd_advance", (_STATE_INOUT,), ()),
    Op("sgd_step", (_inout("p", "N"), _in("g", "N"), _inout("velocity", "N"), _STATE_IN), ("N",), flops=_per("N", 4)),
    Op("sum_squares", (_in("x", "N"), _beta("total", 1, kind="float64")), ("N", "beta"), flops=_per("N", 2)),
    # grad_scale = min(1, max_norm / (sqrt(total) + 1e-6))
    Op("clip_scale", (_in("total", 1, kind="float64"), _STATE_INOUT), (), ("max_norm",)),
    # --- random numbers: Philox4x32-10, key = seed, counter = (block, stream, step) ---------------------------------
    Op("random_uniform", (_RNG, _out("out", "N")), ("N", "stream"), ("low", "high"), flops=_per("N", 40)),
    Op("random_normal", (_RNG, _out("out", "N")), ("N", "stream"), ("mean", "std"), flops=_per("N", 80)),
    # A component by its cumulative weight, then mean + factor n, n standard normal, factor lower triangular.
    Op("random_mixture",
       (_RNG, _in("cumulative", "C"), _in("means", "C", "Z"), _in("factors", "C", "Z", "Z"), _out("out", "B", "Z")),
       ("B", "Z", "C", "stream"), flops=lambda d: d["B"] * d["Z"] * (80 + 2 * d["Z"])),
    # t = turns_from + (turns_to - turns_from) sqrt(u); out = radius t / turns_to (cos, sin)(2 pi t) + noise n.
    Op("random_swiss_roll", (_RNG, _out("out", "B", 2)), ("B", "stream"), ("turns_from", "turns_to", "radius", "noise"),
       flops=_per("B", 200)),
    Op("random_hypersphere", (_RNG, _out("out", "B", "Z")), ("B", "Z", "stream"), ("radius",),
       flops=lambda d: 84 * d["B"] * d["Z"]),
    Op("random_categorical", (_RNG, _in("cumulative", "C"), _out("out", "B", "C")), ("B", "C", "stream"),
       flops=lambda d: d["B"] * (40 + d["C"])),
    # As random_mixture and random_swiss_roll, for rows with a label: the class of a row is the first column of `like`
    # with a number above 1/2. Class c < classes has component c of a mixture; class c < parts has u -> (c + u) / parts
    # of a roll, its part in order. Other rows are drawn of the whole.
    Op("random_mixture_of",
       (_RNG, _in("cumulative", "C"), _in("means", "C", "Z"), _in("factors", "C", "Z", "Z"), _in("like", "B", "K"),
        _out("out", "B", "Z")), ("B", "Z", "C", "K", "classes", "stream"), valid=lambda d: d["classes"] <= d["C"],
       flops=lambda d: d["B"] * d["Z"] * (80 + 2 * d["Z"])),
    Op("random_swiss_roll_of", (_RNG, _in("like", "B", "K"), _out("out", "B", 2)), ("B", "K", "parts", "stream"),
       ("turns_from", "turns_to", "radius", "noise"), flops=_per("B", 200)),
    # out = 1 where u < probability, else 0; element i takes uniform i, as in random_uniform.
    Op("random_bernoulli", (_RNG, _in("probability", "N"), _out("out", "N")), ("N", "stream"), flops=_per("N", 41)),
    # y = x + std n; element i takes normal i, as in random_normal.
    Op("add_noise", (_RNG, _in("x", "N"), _out("y", "N")), ("N", "stream"), ("std",), flops=_per("N", 80)),
    # y = beta y + x / (1 - rate) where u >= rate, 0 elsewhere; element i takes uniform i, as in random_uniform. The
    # same launch on a gradient is the backward pass: the mask is made again, and never stored.
    Op("dropout", (_RNG, _in("x", "N"), _beta("y", "N")), ("N", "stream", "beta"), ("rate",), flops=_per("N", 42)),
    # Rows are images of height x width pixels with N / (height width) numbers each. Row r moves down and right by
    # floor((2 most + 1) u) - most pixels, u of words 0 and 1 of block r; what comes in is 0.
    Op("translate", (_RNG, _in("x", "B", "N"), _out("y", "B", "N")), ("B", "N", "height", "width", "most", "stream"),
       valid=lambda d: min(d["height"], d["width"]) > 0 <= d["most"] and d["N"] % (d["height"] * d["width"]) == 0),
    # counter += 1: after it, the same launches give new numbers.
    Op("rng_advance", (_inout("rng", 2, kind="uint64"),), ()),
)
# fmt: on

OPS: Final[Mapping[str, Op]] = MappingProxyType({op.name: op for op in _TABLE})
_NAMES: Final[Mapping[tuple[str, str], str]] = MappingProxyType({(op.family, op.precision): op.name for op in _TABLE})


def op_of(family: str, precision: str) -> str:
    """The name of the op of a family in a precision."""
    return _NAMES[family, precision]
