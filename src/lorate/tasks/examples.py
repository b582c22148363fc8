"""Loss and predictions of every single held-out example, for standard errors of a difference of means."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorate.errors import LorateError

IGNORED = -100  # the label that counts for nothing, in torch and transformers alike


def example_scores(model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> Tensor:
    r"""Cross-entropy and predictions of each example, in nats, in evaluation mode and without gradients.

    A language model's example (labels of shape ``[batch, tokens]``) has the mean over its target tokens,

    $$ \ell_i = -\frac{1}{|T_i|} \sum_{t \in T_i} \log p(x_{i,t} \mid x_{i,<t}),
              \qquad T_i = \{t \ge 1 : \mathrm{label}_{i,t} \ne -100\}, $$

    a classifier's example (labels of shape ``[batch]``) its one loss. Losses of one example before and
    after training form a pair; the standard error of the mean difference d is
    $\mathrm{sd}(d)/\sqrt{n}$. Every example weighs the same here, whereas a loss over pooled tokens
    weighs long examples more: the two means differ.

    Only one batch is held at a time, and logits are promoted to float32 one example at a time. The training
    mode of every module is put back at the end, also after an error.

    Args:
        model: returns an object with ``logits``: ``[batch, tokens, vocabulary]`` or ``[batch, classes]``.
        batches: collated batches: tensors by name, ``labels`` among them; moved to the model's device.

    Returns:
        A row for each example, in the order of the batches: its mean loss, how many of its targets were predicted
        right, how many it has, its last target, and what was predicted there; ``[examples, 5]``, float64, on the CPU.

    Raises:
        LorateError: no example at all, a batch without integer labels, or an example without a target token.
    """
    modes = {module: module.training for module in model.modules()}
    device = next(model.parameters()).device
    losses: list[Tensor] = []
    model.eval()
    try:
        with torch.no_grad():
            for batch in batches:
                inputs = {name: value.to(device) for name, value in batch.items()}
                labels = inputs.pop("labels", None)
                if labels is None or labels.is_floating_point() or labels.dim() not in (1, 2):
                    raise LorateError("Expected a batch with integer labels, [batch] or [batch, tokens].")
                logits = model(**inputs).logits  # without labels: the model's own loss is not needed
                losses += [_score(row, label) for row, label in zip(logits, labels, strict=True)]
    finally:
        for module, mode in modes.items():
            module.training = mode
    if not losses:
        raise LorateError("There is no example to evaluate.")
    return torch.stack(losses)


def _score(logits: Tensor, label: Tensor) -> Tensor:
    if label.dim() == 1:  # a language model: the output at t predicts the token at t + 1
        logits, label = logits[:-1], label[1:]
        kept = label != IGNORED
        if not kept.any():
            raise LorateError("An example has no target token: its prompt fills the maximum length.")
        logits, label = logits[kept], label[kept]
    precise = logits if logits.dtype == torch.float64 else logits.float()
    loss, found, label = F.cross_entropy(precise, label).double(), precise.argmax(-1).view(-1), label.view(-1)
    figures = ((found == label).sum(), torch.tensor(len(label)), label[-1], found[-1])
    return torch.stack([loss.cpu(), *(figure.double().cpu() for figure in figures)])
