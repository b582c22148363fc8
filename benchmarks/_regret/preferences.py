r"""``preferences``: the small language model learns by DPO to prefer Python code to the same words in another order.

A fifth of the pairs are the wrong way round, so that the best loss is near 0.5. With $\beta=0.1$ and the scores of the
base model as reference, the loss of a pair is

$$ -\log\sigma\left(\beta\left[\log\frac{\pi(y_w|x)}{\pi_0(y_w|x)}-\log\frac{\pi(y_l|x)}{\pi_0(y_l|x)}\right]\right). $$
"""

import random
import re
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorate_papers.workloads import small_lm
from lorate_papers.workloads.documents import document_texts
from lorate_papers.workloads.tensor_workload import TensorWorkload, evaluating, examples, select
from lorate_papers.workloads.workload import Batch, refuse_others

PROMPT, ANSWER = 48, 64
"""Bytes of each."""
WRONG = 0.2


@dataclass(frozen=True)
class PreferenceLoss:
    """The mean loss of DPO on ``chosen`` and ``rejected`` [N, tokens]; ``reference`` [N]: margins of the base model."""

    beta: float = 0.1

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The mean over the pairs."""
        return -F.logsigmoid(self.beta * (margin(model, batch) - batch["reference"])).mean()


def margin(model: nn.Module, batch: Batch) -> Tensor:
    """By how much the answer that was chosen is likelier than the one that was rejected, as logarithm."""
    tokens = torch.cat([batch["chosen"], batch["rejected"]])
    scores = model(input_ids=tokens).logits[:, -ANSWER - 1 : -1].log_softmax(-1)
    chosen, rejected = scores.gather(-1, tokens[:, -ANSWER:, None]).sum((1, 2)).chunk(2)
    return chosen - rejected


def load(*, quick: bool = False, data: str | None = None, model: str | None = None) -> TensorWorkload:
    """The workload.

    Args:
        quick: the small model, and fewer pairs.
        data: must be left out.
        model: must be left out.

    Raises:
        LorateError: data or model was given.
    """
    refuse_others("preferences", data, model)
    base = small_lm.load(quick=quick)
    texts = document_texts(None)
    random.Random(0).shuffle(texts)
    held_out, most = (4, 20) if quick else (24, len(texts))
    parts = [pairs(texts[held_out:most], 1), pairs(texts[:held_out], 2)]
    workload = TensorWorkload(
        "preferences", base.template, base.targets, parts[0], parts[1], PreferenceLoss(), chunk=16
    )
    train, rest = (part | {"reference": reference(workload, part)} for part in parts)
    return replace(workload, train=train, held_out=rest)


def pairs(texts: list[str], seed: int) -> dict[str, Tensor]:
    """Pieces of the texts, each with its last part as it is and with the words of that part in another order."""
    draw, chosen, rejected = random.Random(seed), [], []
    for text in texts:
        data = text.encode("ascii", "replace").decode()
        for first in range(0, len(data) - PROMPT - ANSWER + 1, ANSWER):
            prompt, answer = data[first : first + PROMPT], data[first + PROMPT : first + PROMPT + ANSWER]
            words = re.findall(r"\w+|[^\w]", answer)
            draw.shuffle(words)
            right, wrong = prompt + answer, prompt + "".join(words)
            if draw.random() < WRONG:
                right, wrong = wrong, right
            chosen.append([small_lm.BEGIN, *right.encode()])
            rejected.append([small_lm.BEGIN, *wrong.encode()])
    return {"chosen": torch.tensor(chosen), "rejected": torch.tensor(rejected)}


def reference(workload: TensorWorkload, part: Batch) -> Tensor:
    """The base model's own margins."""
    with evaluating(workload.template):
        places = torch.arange(examples(part)).split(workload.chunk)
        return torch.cat([margin(workload.template, select(part, own)) for own in places])
