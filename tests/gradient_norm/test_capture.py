"""What the hooks must survive (checkpointing, accumulation, autocast, compilation, copies) and must leave alone."""

import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.checkpoint import checkpoint

from lorate.adapters import LoraPair, factor_blocks, find_pairs
from lorate.errors import LorateError
from lorate.gradient_norm import GradientCapture, rademacher

from .models import CASES, adapt, floating, loss_of, norms_of, spectral_bounds, thaw

METHODS = ["exact", "sketch"]


class Blocks(nn.Module):
    """Two blocks, checkpointed or not."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.3), nn.Tanh()) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x) if self.mode == "plain" else checkpoint(block, x, use_reentrant=self.mode == "reentrant")
        return x


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mode", ["reentrant", "non-reentrant"])
@pytest.mark.parametrize("input_grad", [False, True])
def test_gradient_checkpointing_counts_each_layer_once(method: str, mode: str, input_grad: bool) -> None:
    results = []
    for current in ("plain", mode):
        torch.manual_seed(0)
        model = adapt(Blocks(current), r".*blocks\.\d\.0", dropout=0.2).double()
        # the reentrant kind passes no gradient at all to a block whose input needs none
        x = torch.randn(4, 6, dtype=torch.float64).requires_grad_(input_grad or mode == "reentrant")
        with GradientCapture(find_pairs(model), method=method) as capture:
            torch.manual_seed(5)
            loss_of(model, x).backward()
        results.append(capture.norms())
    torch.testing.assert_close(results[1], results[0], rtol=1e-12, atol=0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mode", ["plain", "non-reentrant"])
def test_checkpointing_still_frees_the_inputs_after_the_forward_pass(mode: str, method: str) -> None:
    block = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model = adapt(block, ["1"])
    hidden: list[StorageWeakRef] = []
    _hidden_layer(model).register_forward_hook(lambda _, __, y: hidden.append(StorageWeakRef(y.untyped_storage())))
    with GradientCapture(find_pairs(model), method=method) as capture:
        x = torch.randn(5, 3)
        y = model(x) if mode == "plain" else checkpoint(model, x, use_reentrant=False)
        assert hidden[0].expired() == (mode == "non-reentrant")
        y.sum().backward()
    assert capture.norms() > 0


def _hidden_layer(model: Any) -> nn.Module:
    """The first layer, whose output is the input of the adapted second one."""
    layer: nn.Module = model.base_model.model[0]
    return layer


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", [name for name in CASES if "dropout" not in name])
def test_a_batch_equals_its_micro_batches(name: str, method: str) -> None:
    model, x = CASES[name]()
    model.double()
    x = floating(x, torch.float64)
    with GradientCapture(find_pairs(model), method=method) as capture:
        loss_of(model, x).backward()
        whole = capture.norms()
        capture.reset()
        for row in x:
            loss_of(model, row[None]).backward()
        parts = capture.norms()
    torch.testing.assert_close(parts, whole, rtol=1e-10, atol=0)


def test_eight_single_rows_equal_a_batch_of_eight() -> None:
    """Crosses the point at which the factors become larger than the matrix."""
    torch.manual_seed(0)
    model = adapt(nn.Sequential(nn.Linear(9, 9)), ["0"]).double()
    pairs, x = find_pairs(model), torch.randn(8, 9, dtype=torch.float64)
    (weight,) = thaw(pairs)
    with GradientCapture(pairs, method="exact") as capture:
        for i in range(8):
            loss_of(model, x[i : i + 1]).backward()
            torch.testing.assert_close(capture.norms(), weight.grad.norm().reshape(1), rtol=1e-10, atol=0)
            spectral = torch.linalg.norm(weight.grad, 2).reshape(1)
            torch.testing.assert_close(spectral_bounds(capture), spectral, rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", ["linear", "linear-dropout", "conv2d-stride-padding"])
def test_autocast(name: str) -> None:
    """Against autograd's own bfloat16 matrix products: closer to them than their rounding."""
    model, x = CASES[name]()
    pairs = find_pairs(model)
    weights = thaw(pairs)
    with GradientCapture(pairs, method="exact") as capture:
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model, x)
        loss.backward()
    assert capture.norms().dtype == torch.float32
    torch.testing.assert_close(capture.norms(), norms_of(weights), rtol=4e-3, atol=0)


def test_autocast_does_not_round_the_sketch() -> None:
    """Sums run in float32 under autocast, in the forward and in the backward pass."""
    torch.manual_seed(0)
    model = adapt(nn.Sequential(nn.Linear(64, 1)), ["0"])
    pairs = find_pairs(model)
    x = torch.randn(1, 64).bfloat16().float()
    with GradientCapture(pairs, probes=4096) as capture, torch.autocast("cpu", torch.bfloat16):
        model(x).sum().backward()
    # one row and one output: S = X Z exactly, with Z redrawn here
    S = x @ rademacher(64, 4096, 0, pairs[0].name)
    torch.testing.assert_close(capture.norms()[0], S.norm() / 4096**0.5, rtol=1e-6, atol=0)


def test_reading_inside_autocast_does_not_round() -> None:
    model, x = CASES["linear-few-rows"]()
    with GradientCapture(find_pairs(model), method="exact") as capture:
        loss_of(model, x).backward()
    for bounds in (False, True):  # from Gram matrices first, which the bounds replace by G itself
        outside = capture.numbers(bounds=bounds)
        with torch.autocast("cpu", torch.bfloat16):
            inside = capture.numbers(bounds=bounds)
        torch.testing.assert_close(inside, outside, rtol=1e-7, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_bfloat16_model_sums_in_float32(method: str) -> None:
    """Many small gradients: a bfloat16 sum would stop growing."""
    model = adapt(nn.Sequential(nn.Linear(3, 2)), ["0"]).bfloat16()
    with GradientCapture(find_pairs(model), method=method, probes=2) as capture:
        x = torch.ones(1, 3, dtype=torch.bfloat16)
        model(x).sum().backward()
        one = capture.norms()
        capture.reset()
        for _ in range(1000):
            model(x).sum().backward()
    torch.testing.assert_close(capture.norms(), 1000 * one, rtol=1e-5, atol=0)
    assert one.dtype == torch.float32


@pytest.mark.parametrize("scale", [1024.0, torch.tensor(1024.0)])
@pytest.mark.parametrize("method", METHODS)
def test_loss_scale_is_divided_out(method: str, scale: float | Tensor) -> None:
    model, x = CASES["linear"]()
    pairs = find_pairs(model)
    D_A, D_B = zip(*(factor_blocks(pair.A.detach(), pair.B.detach()) for pair in pairs), strict=True)

    def told() -> list[Tensor]:
        own = [spectral_bounds(capture)] if method == "exact" else []
        return [capture.norms(), capture.inner_products(D_A, D_B), *own]

    with GradientCapture(pairs, method=method) as capture:
        loss_of(model, x).backward()
        plain = told()
        capture.reset()
        (loss_of(model, x) * 1024.0).backward()
        capture.loss_scale = scale
        torch.testing.assert_close(told(), plain, rtol=1e-5, atol=0)
        for wrong in (0.0, -1.0, float("inf"), float("nan")):
            capture.loss_scale = wrong
            with pytest.raises(LorateError, match="loss scale"):
                capture.norms()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CASES)
def test_numbers_and_state_are_untouched(name: str, method: str) -> None:
    results = []
    for captured in (False, True):
        model, x = CASES[name]()
        capture = GradientCapture(find_pairs(model), method=method)
        if captured:
            capture.attach()
        torch.manual_seed(3)
        loss = loss_of(model, x)
        loss.backward()
        grads = {key: p.grad for key, p in model.named_parameters() if p.requires_grad}
        results.append((loss, grads, list(model.state_dict()), torch.rand(1)))
    (loss, grads, keys, after), (loss_c, grads_c, keys_c, after_c) = results
    assert torch.equal(loss, loss_c)
    assert keys == keys_c
    assert torch.equal(after, after_c)  # the generator too
    for key, grad in grads.items():
        assert torch.equal(grad, grads_c[key])


@pytest.mark.parametrize("method", METHODS)
def test_forward_without_backward_leaves_no_trace(method: str) -> None:
    model, x = CASES["linear"]()
    with GradientCapture(find_pairs(model), method=method) as capture:
        with pytest.raises(LorateError, match="no backward pass"):
            capture.norms()
        loss_of(model, x).backward()
        before = capture.norms()
        loss_of(model, 2 * x)  # evaluation that forgot no_grad
        with torch.no_grad():
            loss_of(model, 3 * x)
        assert torch.equal(capture.norms(), before)
        capture.reset()
        with pytest.raises(LorateError, match="no backward pass"):
            capture.norms()


def test_layer_without_part_has_norm_zero() -> None:
    model, x = CASES["linear"]()
    pairs = find_pairs(model)
    other, _ = CASES["linear"]()
    with GradientCapture([*pairs, *find_pairs(other)]) as capture:
        loss_of(model, x).backward()
    assert capture.norms()[:2].gt(0).all()
    assert capture.norms()[2:].eq(0).all()


def test_switched_off_adapters_do_not_count() -> None:
    """DPO's reference pass runs the frozen weights alone: they are no function of A and B there."""
    model, x = CASES["linear"]()
    with GradientCapture(find_pairs(model), method="exact") as capture:
        loss_of(model, x).backward()
        before = capture.norms()
        with model.disable_adapter():
            loss_of(model, x.clone().requires_grad_(True)).backward()
        assert torch.equal(capture.norms(), before)


def test_mixed_adapter_batches_are_refused() -> None:
    model, x = CASES["linear"]()
    model.eval()
    with GradientCapture(find_pairs(model)), pytest.raises(LorateError, match="mix adapters"):
        model(x, adapter_names=["default"] * len(x))


def test_removed_hooks_stay_silent() -> None:
    model, x = CASES["linear"]()
    pairs = find_pairs(model)
    capture = GradientCapture(pairs, method="exact").attach().attach()
    loss_of(model, x).backward()
    before = capture.norms()
    late = loss_of(model, x)
    capture.remove()
    capture.remove()
    late.backward()
    loss_of(model, x).backward()
    assert torch.equal(capture.norms(), before)
    assert all(not pair.layer._forward_hooks for pair in pairs)


def test_two_backward_passes_through_one_graph_add() -> None:
    model, x = CASES["linear"]()
    pairs = find_pairs(model)
    weights = thaw(pairs)
    with GradientCapture(pairs, method="exact") as capture:
        loss = loss_of(model, x)
        loss.backward(retain_graph=True)
        loss.backward()
    torch.testing.assert_close(capture.norms(), norms_of(weights), rtol=1e-5, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_inputs_do_not_outlive_the_step(method: str) -> None:
    """The loss stays in a variable in most training loops; the inputs must not stay with it."""
    model = adapt(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)), ["1"])
    hidden: list[StorageWeakRef] = []
    _hidden_layer(model).register_forward_hook(lambda _, __, y: hidden.append(StorageWeakRef(y.untyped_storage())))
    with GradientCapture(find_pairs(model), method=method):
        loss = model(torch.randn(5, 3)).sum()
        loss.backward()
        assert hidden[0].expired()
    assert loss.requires_grad


def test_input_buffer_written_again_after_the_backward_pass() -> None:
    model = adapt(nn.Sequential(nn.Linear(40, 40)), ["0"])
    x = torch.randn(2, 40)
    with GradientCapture(find_pairs(model), method="exact") as capture:
        loss_of(model, x).backward()
        before = capture.norms()
        x.zero_()
        assert torch.equal(capture.norms(), before)


def test_input_changed_in_place_before_the_backward_pass_is_noticed() -> None:
    model = adapt(nn.Sequential(nn.Linear(4, 4)), ["0"], dropout=0.5)
    x = torch.randn(2, 4)
    with GradientCapture(find_pairs(model), method="exact"):
        loss = loss_of(model, x)
        x.zero_()
        with pytest.raises(RuntimeError, match="inplace"):
            loss.backward()


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_of_a_hooked_model_are_independent(copier: Callable[[Any], Any]) -> None:
    model, x = CASES["linear"]()
    with GradientCapture(find_pairs(model), method="exact") as capture:
        loss_of(model, x).backward()
        before = capture.norms()
        twin = copier(model)
        loss_of(twin, x).backward()
        assert torch.equal(capture.norms(), before)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # dynamo at a graph break
@pytest.mark.parametrize("method", METHODS)
def test_compiled_model(method: str) -> None:
    results = []
    for compiled in (False, True):
        model, x = CASES["linear"]()
        pairs = find_pairs(model)
        with GradientCapture(pairs, method=method) as capture:
            run = torch.compile(model, backend="aot_eager") if compiled else model
            for _ in range(2):
                capture.reset()
                loss_of(run, x).backward()
        results.append(capture.norms())
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=0)


def test_non_finite_gradients_show() -> None:
    model, x = CASES["linear"]()
    for method in METHODS:
        with GradientCapture(find_pairs(model), method=method) as capture:
            (loss_of(model, x) * float("inf")).backward()
        assert not capture.norms().isfinite().any()


def test_wrong_requests() -> None:
    model, _ = CASES["linear"]()
    pairs = find_pairs(model)
    for call, message in (
        (partial(GradientCapture, []), "at least one LoRA pair"),
        (partial(GradientCapture, pairs, method="gram"), "got 'gram'"),
        (partial(GradientCapture, pairs, probes=0), "at least 1 probe"),
        (partial(GradientCapture, pairs, seed=-1), "non-negative"),
    ):
        with pytest.raises(LorateError, match=message):
            call()


def test_unknown_layers_are_named() -> None:
    model, _ = CASES["linear"]()
    known = find_pairs(model)[0]
    fields = {key: getattr(known, key) for key in ("adapter", "layer", "A", "B", "scaling")}
    with pytest.raises(LorateError, match=r"encoder\.moe.*'experts' \(Linear\)"):
        GradientCapture([LoraPair(name="encoder.moe", kind="experts", **fields)])
    with pytest.raises(LorateError, match=r"encoder\.q.*DoRA"):
        GradientCapture([LoraPair(name="encoder.q", kind="linear", dora=True, **fields)])
    table = adapt(nn.Sequential(nn.Embedding(5, 3, scale_grad_by_freq=True)), ["0"])
    with pytest.raises(LorateError, match="scale_grad_by_freq"):
        GradientCapture(find_pairs(table))
