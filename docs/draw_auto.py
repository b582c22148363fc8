"""Draw docs/images/auto.svg: the step sizes that rule auto finds in three runs, and the slopes that steer them.

Run: python docs/draw_auto.py
"""

import math
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
STEPS, WINDOW = 300, 10


def course(alpha: float) -> tuple[list[float], list[float]]:
    """Step sizes and slopes r of a run on noisy matrix regression, rank 4, batches of 16."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(24, 32, generator=generator) / 6
    change = torch.randn(24, 4, generator=generator) @ torch.randn(4, 32, generator=generator) / 6
    layer = nn.Sequential(nn.Linear(32, 24, bias=False))
    layer[0].weight.data = base.clone()
    torch.manual_seed(0)
    model = peft.get_peft_model(layer, peft.LoraConfig(r=4, lora_alpha=alpha, target_modules=["0"]))
    optimizer = lorate.create_optimizer(model, "auto")
    etas, slopes = [], []
    for _ in range(STEPS):
        x = torch.randn(16, 32, generator=generator)
        y = x @ (base + change).T + 0.3 * torch.randn(16, 24, generator=generator)
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()
        etas.append(optimizer.last.eta)
        slopes.append(math.nan if optimizer.last.average_slope is None else optimizer.last.average_slope)
    return etas, slopes


def main() -> None:
    """Draw and save the figure."""
    with style():
        figure = new_figure(5.6)
        upper, lower = figure.subplots(2, 1, sharex=True)
        lower.axhline(0, color=MUTED, linewidth=0.8)
        for alpha, colour in zip(ALPHAS, COLOURS, strict=False):
            etas, slopes = course(alpha)
            steps = range(1, STEPS + 1)
            upper.plot(steps, etas, color=colour, label=f"alpha {alpha:g}")
            mean = np.convolve(np.nan_to_num(slopes), np.ones(WINDOW) / WINDOW, mode="valid")
            lower.plot(steps[WINDOW - 1 :], mean, color=colour)
        upper.set_yscale("log")
        upper.set_title("step size η found, matrix regression of rank 4", loc="left")
        ticks_in_words(upper.yaxis, True)
        upper.legend(ncols=3, loc="lower center")
        lower.set_title(f"slope r that steers it, mean of {WINDOW} batches", loc="left")
        lower.set_xlabel("step")
    save_figure(figure, Path(__file__).parent / "images" / "auto")


if __name__ == "__main__":
    main()
