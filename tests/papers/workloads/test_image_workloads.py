import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional as F

from lorate.errors import LorateError
from lorate_papers.workloads import AdapterSpec, load_workload, resnet
from lorate_papers.workloads.cache import committed_weights
from lorate_papers.workloads.cifar10 import ENTRY, cifar10_from_folder, cifar10_from_hub
from lorate_papers.workloads.head import fit_head, probe
from lorate_papers.workloads.images import FrozenStatistics, PixelLoss, freeze_statistics, pixels_of
from lorate_papers.workloads.solar import cells, solar_cells
from lorate_papers.workloads.tensor_workload import TensorWorkload
from papers.workloads.packages import needs


def test_the_quick_network_knows_0_to_4_and_can_learn_5_to_9():
    images = resnet.digit_images(resnet.QUICK.size, late=False)
    assert sorted(images["labels"].unique().tolist()) == [0, 1, 2, 3, 4] and len(images["labels"]) == 901
    base = resnet.build(resnet.QUICK)
    base.load_state_dict(committed_weights(resnet.QUICK_FILE))
    known = TensorWorkload("known", base, resnet.TARGETS, images, images, resnet.QUICK.loss)
    assert known.validation_loss(base) < 0.05

    workload = load_workload("resnet", quick=True)
    assert len(workload.train["labels"]) + len(workload.held_out["labels"]) == 896
    model = workload.model(AdapterSpec(4, 8), 0)
    before = workload.validation_loss(model)
    assert 0.3 < before < 1.2  # only the last layer knows them
    statistics = [m.running_mean.clone() for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-3)
    for batch, _ in zip(workload.batches(32, 0), range(25), strict=False):
        optimizer.zero_grad()
        workload.loss(model, batch).backward()
        optimizer.step()
    assert workload.validation_loss(model) < 0.7 * before
    after = [m.running_mean for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert statistics and all(torch.equal(a, b) for a, b in zip(statistics, after, strict=True))


def test_lora_is_on_convolutions_only():
    model = load_workload("resnet", quick=True).model(AdapterSpec(2, 4), 0)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert names and all(".convolution.lora_" in name for name in names)


def test_frozen_statistics_survive_training_mode_and_keep_the_outputs():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4)))
    images = torch.randn(6, 1, 8, 8)
    net.train()(images)  # moves the statistics
    expected = net.eval()(images)
    freeze_statistics(net)
    assert torch.equal(net.train()(images), expected) and net.training
    assert isinstance(net[1], FrozenStatistics) and isinstance(net[2][0], FrozenStatistics)
    assert net[1].weight.requires_grad


def test_pixels_are_scaled_as_the_model_expects():
    batch = {"pixels": torch.randint(0, 256, (4, 3, 5, 5), dtype=torch.uint8), "labels": torch.arange(4)}
    seen = {}

    class Model(nn.Module):
        def forward(self, pixel_values, labels):
            seen["pixels"] = pixel_values
            return type("Output", (), {"loss": pixel_values.mean()})

    PixelLoss((0.1, 0.2, 0.3), (1.0, 2.0, 4.0))(Model(), batch)
    expected = batch["pixels"] / 255
    for channel, (mean, std) in enumerate(((0.1, 1.0), (0.2, 2.0), (0.3, 4.0))):
        assert torch.allclose(seen["pixels"][:, channel], (expected[:, channel] - mean) / std)
    PixelLoss((0.0,), (1.0,), size=10)(Model(), batch)
    assert seen["pixels"].shape == (4, 3, 10, 10) and torch.allclose(seen["pixels"].mean(), expected.mean(), atol=0.02)


def test_pictures_become_bytes_of_one_size():
    red = Image.new("RGBA", (4, 6), (255, 0, 0, 255))
    grey = Image.new("L", (3, 3), 51)
    colour = pixels_of([red, grey], 2, 3)
    assert colour.shape == (2, 3, 2, 2) and colour.dtype == torch.uint8
    assert colour[0, :, 0, 0].tolist() == [255, 0, 0] and colour[1].unique().tolist() == [51]
    assert pixels_of([grey], 2, 1).shape == (1, 1, 2, 2)


def test_the_probe_is_the_penalised_logistic_regression():
    x = torch.randn(80, 6)
    y = (x @ torch.randn(6, 3)).argmax(1)
    weight, bias = probe(x, y, 3, 0.05)
    theirs = LogisticRegression(C=1 / (2 * 0.05 * len(x)), tol=1e-8, max_iter=1000).fit(x.double(), y)
    shift = bias.mean() - theirs.intercept_.mean()  # a common shift changes nothing
    assert np.allclose(weight, theirs.coef_, atol=2e-3)
    assert np.allclose(bias - shift, theirs.intercept_, atol=2e-3)


def test_a_fitted_head_is_best_on_standardised_features():
    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(4, 5)
            self.head = nn.Linear(5, 3)

        def forward(self, x):
            return self.head(3 + 10 * torch.tanh(self.body(x)))

    x, y = torch.randn(60, 4), torch.randint(0, 3, (60,))
    workload = TensorWorkload(
        "toy", Classifier(), ("body",), {"x": x, "labels": y}, {"x": x, "labels": y},
        lambda model, batch: F.cross_entropy(model(batch["x"]), batch["labels"]), chunk=16,
    )  # fmt: skip
    net = workload.template
    body = net.body.weight.clone()
    fit_head(workload, net.head, count=50, penalty=0.01)
    features = (3 + 10 * torch.tanh(net.body(x[:50]))).detach()
    weight, bias = probe((features - features.mean(0)) / features.std(0), y[:50], 3, 0.01)
    expected = (features - features.mean(0)) / features.std(0) @ weight.T + bias
    assert torch.allclose(net(x[:50]), expected, atol=1e-4)
    assert torch.equal(net.body.weight, body) and not net.head._forward_pre_hooks


@pytest.fixture
def fake_cells(tmp_path, monkeypatch):
    """A package in the form of elpv-dataset with five cells."""
    folder = tmp_path / "elpv_dataset" / "data" / "images"
    folder.mkdir(parents=True)
    (tmp_path / "elpv_dataset" / "__init__.py").write_text("raise SystemExit('must not run')")
    lines = []
    for number, (probability, kind) in enumerate(
        [
            ("0.0", "mono"),
            ("0.3333333333333333", "poly"),
            ("0.6666666666666666", "mono"),
            ("1.0", "poly"),
            ("1.0", "mono"),
        ]
    ):
        Image.new("L", (30, 30), 40 * number).save(folder / f"cell{number}.png")
        lines.append(f"images/cell{number}.png  {probability}    {kind}\n")
    (folder.parent / "labels.csv").write_text("".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder.parent / "labels.csv"


def test_solar_cells_are_read_without_running_the_package(fake_cells):
    found = solar_cells(6)
    assert found["labels"].tolist() == [0, 1, 2, 3, 3]
    assert found["mono"].tolist() == [True, False, True, False, True]
    assert found["pixels"].shape == (5, 1, 6, 6) and found["pixels"][:, 0, 0, 0].tolist() == [0, 40, 80, 120, 160]


def test_a_damaged_list_of_cells_is_refused_with_the_line(fake_cells):
    fake_cells.write_text("images/cell0.png 0.0 mono\nimages/cell1.png half poly\n")
    with pytest.raises(LorateError, match="line 2: expected file, probability and kind"):
        cells()


def cifar_file(path, labels):
    draw = np.random.default_rng(len(labels))
    entries = draw.integers(0, 256, (len(labels), ENTRY), dtype=np.uint8)
    entries[:, 0] = labels
    entries.tofile(path)
    return entries


@pytest.fixture
def cifar_folder(tmp_path):
    cifar_file(tmp_path / "data_batch_1.bin", [3, 9, 0, *range(10)])
    cifar_file(tmp_path / "data_batch_2.bin", [1, *range(10)])
    cifar_file(tmp_path / "test_batch.bin", [5, 6])
    return tmp_path


def test_cifar10_in_its_binary_form(cifar_folder):
    entries = np.fromfile(cifar_folder / "data_batch_1.bin", dtype=np.uint8).reshape(-1, ENTRY)
    images = cifar10_from_folder(cifar_folder)
    assert images.train["pixels"].shape == (24, 3, 32, 32) and images.train["labels"][:3].tolist() == [3, 9, 0]
    assert images.held_out["labels"].tolist() == [5, 6] and images.labels[5] == "dog"
    assert images.train["pixels"][1, 2, 4, 7] == entries[1, 1 + 2 * 1024 + 4 * 32 + 7]  # blue, row 4, column 7


def test_damaged_cifar10_files_are_refused(cifar_folder, tmp_path):
    (cifar_folder / "test_batch.bin").write_bytes(b"\0" * (ENTRY + 1))
    with pytest.raises(LorateError, match="not a whole number of CIFAR-10 images"):
        cifar10_from_folder(cifar_folder)
    cifar_file(cifar_folder / "test_batch.bin", [10])
    with pytest.raises(LorateError, match="a label is 10"):
        cifar10_from_folder(cifar_folder)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(LorateError, match="binary version of CIFAR-10"):
        cifar10_from_folder(empty)


def hub_cifar10(count):
    pictures = [Image.new("RGB", (32, 32), (number, 0, 0)) for number in range(count)]
    names = datasets.ClassLabel(names=["airplane", "automobile", "bird"])
    return datasets.Dataset.from_dict(
        {"img": pictures, "label": [number % 3 for number in range(count)]},
        features=datasets.Features({"img": datasets.Image(), "label": names}),
    )


def test_cifar10_from_the_hub(monkeypatch):
    asked = []

    def load_dataset(name):
        asked.append(name)
        return datasets.DatasetDict({"train": hub_cifar10(5), "test": hub_cifar10(2)})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    images = cifar10_from_hub()
    assert asked == ["uoft-cs/cifar10"] and images.labels == ("airplane", "automobile", "bird")
    assert images.train["pixels"][:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4] and len(images.held_out["labels"]) == 2
    monkeypatch.setattr(datasets, "load_dataset", lambda name: 1 / 0)
    with pytest.raises(LorateError, match="could not be fetched from the Hugging Face hub"):
        cifar10_from_hub()


def test_another_model_on_cifar10(cifar_folder, resnet_dir):
    workload = load_workload("resnet", quick=True, data=str(cifar_folder), model=str(resnet_dir))
    model = workload.model(AdapterSpec(2, 4), 0)
    assert workload.targets == ("convolution",) and workload.batch_loss.size == 32
    fitted = float(workload.loss(model, workload.train).detach())
    assert fitted < np.log(10) - 0.1  # the last layer is fitted
    workload.loss(model, next(workload.batches(4, 0))).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    again = load_workload.__wrapped__("resnet", quick=True, data=str(cifar_folder), model=str(resnet_dir))
    assert float(again.loss(again.model(None, 0), again.train).detach()) == pytest.approx(fitted, rel=1e-5)


def test_an_image_folder_with_another_model(image_folder, resnet_dir):
    workload = load_workload("resnet", quick=True, data=str(image_folder), model=str(resnet_dir))
    assert workload.train["pixels"].shape[1:] == (3, 224, 224) and len(workload.held_out["labels"]) == 1


@pytest.mark.parametrize("given", [{"data": "cifar10"}, {"model": "microsoft/resnet-18"}])
def test_data_and_model_go_together(given):
    with pytest.raises(LorateError, match="give both, such as --data cifar10 --model microsoft/resnet-18"):
        load_workload("resnet", **given)


@pytest.mark.slow
def test_the_full_form_on_digits():
    workload = load_workload("resnet")
    assert 0.3 < workload.validation_loss(workload.model(None, 0)) < 1.2


@pytest.mark.slow
def test_the_full_form_on_solar_cells():
    needs("elpv_dataset", "pip install --no-deps elpv-dataset")
    workload = load_workload("resnet", data="solar-cells")
    assert len(workload.train["labels"]) == 1250 and len(workload.held_out["labels"]) == 300
    assert workload.validation_loss(workload.model(None, 0)) < 1.1
