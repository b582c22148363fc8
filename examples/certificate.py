"""What is proved about a run: logistic regression on handwritten digits, full batch, with a known smoothness.

Run: python examples/certificate.py [directory]
Then: lorate certify DIRECTORY, lorate report DIRECTORY
"""

import sys
from pathlib import Path

import peft
import torch
from sklearn.datasets import load_digits

import lorate
from lorate.monitor.certificate import certify
from lorate.smoothness import logistic_smoothness


def main(directory: str = "runs/certificate", steps: int = 1000) -> None:
    """Train one linear layer with LoRA under the rule ``majorizer``, and print its certificate."""
    torch.manual_seed(0)
    digits = load_digits()
    x, y = torch.tensor(digits.data / 16), torch.tensor(digits.target)
    base = torch.nn.Sequential(torch.nn.Linear(64, 10, bias=False, dtype=torch.float64))
    torch.nn.init.zeros_(base[0].weight)
    config = peft.LoraConfig(r=4, lora_alpha=4, target_modules=["0"])
    model = peft.get_peft_model(base, config, autocast_adapter_dtype=False)

    # the loss is L-smooth in the weight, and L follows from the pixels alone
    smoothness = logistic_smoothness(x.numpy())
    optimizer = lorate.create_optimizer(model, rate="majorizer", smoothness=smoothness)
    first = None
    with lorate.Monitor(directory, full_batch=True) as monitor:
        for _ in range(steps):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step(loss=loss)
            first = first or loss.item()
            monitor.update(optimizer, samples=len(x))

    certificate = certify(Path(directory))
    for line in certificate.lines:
        print(f"{line.verdict}: {line.claim} {line.figures}")
    print("not proved:", "; ".join(certificate.not_proved))
    print(f"training loss {first:.3f} before, {loss.item():.3f} after {steps} steps with L = {smoothness:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
