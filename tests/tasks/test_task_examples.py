import pytest
import torch
from torch import nn

from lorate.errors import LorateError
from lorate.tasks import example_scores, load_model


def example_losses(model, batches):
    return example_scores(model, batches)[:, 0]


@pytest.fixture
def llama(llama_dir):
    return load_model(str(llama_dir), "causal-lm").model


def test_token_mean_of_each_example(llama):
    ids = torch.tensor([[1, 3, 4, 5, 2], [1, 6, 7, 2, 2]])
    labels = ids.clone()
    labels[0, :2] = -100
    labels[1, 3:] = -100
    mask = torch.tensor([[1] * 5, [1] * 4 + [0]])
    losses = example_losses(llama, [{"input_ids": ids, "labels": labels, "attention_mask": mask}])
    alone = [  # the model's own loss of one example is the mean over its target tokens
        llama(input_ids=ids[i : i + 1], attention_mask=mask[i : i + 1], labels=labels[i : i + 1]).loss for i in range(2)
    ]
    torch.testing.assert_close(losses, torch.stack(alone).detach().double())
    assert losses.dtype == torch.float64


def test_batching_does_not_matter(llama):
    ids = torch.randint(0, 16, (5, 7), generator=torch.Generator().manual_seed(0))
    whole = example_losses(llama, [{"input_ids": ids, "labels": ids}])
    parts = example_losses(llama, ({"input_ids": row[None], "labels": row[None]} for row in ids))
    torch.testing.assert_close(whole, parts)


def test_classifiers(bert_dir, resnet_dir):
    bert = load_model(str(bert_dir), "sequence-classification", labels=["a", "b"]).model
    batch = {"input_ids": torch.tensor([[3, 4], [5, 6]]), "labels": torch.tensor([0, 1])}
    assert example_losses(bert, [batch]).mean().item() == pytest.approx(bert.eval()(**batch).loss.item(), rel=1e-5)
    resnet = load_model(str(resnet_dir), "image-classification", labels=list("abc")).model
    batch = {"pixel_values": torch.rand(3, 3, 32, 32), "labels": torch.tensor([0, 1, 2])}
    before = {name: value.clone() for name, value in resnet.state_dict().items()}
    resnet.train()
    losses = example_losses(resnet, [batch])
    assert all(torch.equal(before[name], value) for name, value in resnet.state_dict().items())  # BatchNorm too
    assert losses.mean().item() == pytest.approx(resnet.eval()(**batch).loss.item(), rel=1e-5)


def test_training_modes_come_back_even_after_an_error(llama):
    llama.train()
    llama.model.norm.eval()
    modes = [module.training for module in llama.modules()]
    ids = torch.tensor([[1, 3]])
    losses = example_losses(llama, [{"input_ids": ids, "labels": ids}])
    assert not losses.requires_grad and [module.training for module in llama.modules()] == modes
    with pytest.raises(LorateError):
        example_losses(llama, [{"input_ids": ids}])
    assert [module.training for module in llama.modules()] == modes


def test_half_precision_logits_are_promoted():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return type("Output", (), {"logits": x})()

    logits = torch.tensor([[1.0, 2.0, 4.0]], dtype=torch.bfloat16)
    expected = nn.functional.cross_entropy(logits.float(), torch.tensor([0]))
    losses = example_losses(Fixed(), [{"x": logits, "labels": torch.tensor([0])}])
    assert losses.item() == pytest.approx(expected.item(), rel=1e-6)


def test_nothing_to_average(llama):
    with pytest.raises(LorateError, match="no example"):
        example_losses(llama, [])
    ids = torch.tensor([[1, 3]])
    with pytest.raises(LorateError, match="no target token"):
        example_losses(llama, [{"input_ids": ids, "labels": torch.tensor([[1, -100]])}])
    with pytest.raises(LorateError, match="integer labels"):
        example_losses(llama, [{"input_ids": ids, "labels": torch.tensor([1.0])}])
