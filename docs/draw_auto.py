"""Draw docs/images/auto.svg: the idea of rule auto, and the step sizes that it finds in three runs.

Run: python docs/draw_auto.py
"""

from pathlib import Path

import numpy as np
import peft
import torch
from torch import nn

import lorate
from lorate.report import save_figure
from lorate.report.style import MUTED, new_figure, style, ticks_in_words
from lorate_papers.experiments.plots import COLOURS

ALPHAS = (1.0, 16.0, 256.0)
STEPS = 300


def step_sizes(alpha: float) -> list[float]:
    """Step sizes of a run on noisy matrix regression, rank 4, batches of 16."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(24, 32, generator=generator) / 6
    change = torch.randn(24, 4, generator=generator) @ torch.randn(4, 32, generator=generator) / 6
    layer = nn.Sequential(nn.Linear(32, 24, bias=False))
    layer[0].weight.data = base.clone()
    torch.manual_seed(0)
    model = peft.get_peft_model(layer, peft.LoraConfig(r=4, lora_alpha=alpha, target_modules=["0"]))
    optimizer = lorate.create_optimizer(model, "auto")
    found = []
    for _ in range(STEPS):
        x = torch.randn(16, 32, generator=generator)
        y = x @ (base + change).T + 0.3 * torch.randn(16, 24, generator=generator)

        def closure(x: torch.Tensor = x, y: torch.Tensor = y) -> torch.Tensor:
            loss = (model(x) - y).square().mean()
            if loss.requires_grad:
                optimizer.zero_grad()
                loss.backward()
            return loss

        optimizer.step(closure)
        found.append(optimizer.rule.control.eta)
    return found


def main() -> None:
    """Draw and save the figure."""
    with style():
        figure = new_figure(5.6)
        axes = figure.add_subplot(2, 1, 1)
        x = np.linspace(-0.15, 1.75, 200)
        loss = 0.5 * (x - 0.7) ** 2
        axes.plot(x, loss, color=COLOURS[0])
        axes.plot([0], [0.245], marker="o", color=MUTED)
        axes.annotate("before the step", (0, 0.245), (0.07, 0.27), color=MUTED)
        axes.plot([1], [0.045], marker="o", color=COLOURS[1])
        axes.plot([0.75, 1.3], [0.045 - 0.3 * 0.25, 0.045 + 0.3 * 0.3], color=COLOURS[1])
        axes.annotate("after it: slope q on a\nbatch not yet seen", (1, 0.045), (1.08, -0.05), color=COLOURS[1])
        axes.plot([0.7], [0], marker="v", color=COLOURS[2])
        axes.annotate("lowest point x*", (0.7, 0), (0.36, -0.06), color=COLOURS[2])
        axes.set_title("loss along the last step", loc="left")
        axes.set_xlabel("share of the step taken")
        axes.set_yticks([])
        axes.set_ylim(-0.09, 0.36)
        axes = figure.add_subplot(2, 1, 2)
        for alpha, colour in zip(ALPHAS, COLOURS, strict=False):
            axes.plot(range(1, STEPS + 1), step_sizes(alpha), color=colour, label=f"alpha {alpha:g}")
        axes.set_yscale("log")
        axes.set_title("step size η found, matrix regression of rank 4", loc="left")
        axes.set_xlabel("step")
        ticks_in_words(axes.yaxis, True)
        axes.legend(ncols=3, loc="lower center")
    save_figure(figure, Path(__file__).parent / "images" / "auto")


if __name__ == "__main__":
    main()
