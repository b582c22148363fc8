"""A plain PyTorch loop: adapt a small image model to pictures that lie on their side.

A convolutional network learns handwritten digits. Then its weights are frozen, and LoRA adapters teach it digits turned
by a quarter, without a learning rate. Needs scikit-learn; no download, a few seconds on a CPU.
"""

import peft
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

import lorate

torch.manual_seed(0)
digits = load_digits()
upright = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
turned = upright.rot90(dims=(2, 3))
labels = torch.tensor(digits.target)
train, held_out = slice(0, 1200), slice(1200, None)

network = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(),
    nn.Flatten(), nn.Linear(32 * 3 * 3, 64), nn.ReLU(), nn.Linear(64, 10),
)  # fmt: skip
adam = torch.optim.Adam(network.parameters(), lr=3e-3)
for _ in range(30):
    adam.zero_grad()
    cross_entropy(network(upright[train]), labels[train]).backward()
    adam.step()
model = peft.get_peft_model(network, peft.LoraConfig(r=4, lora_alpha=8, target_modules=["0", "2", "5", "7"]))


@torch.no_grad()
def accuracy() -> float:
    """Share of the held-out turned images that are named correctly."""
    return float((model(turned[held_out]).argmax(1) == labels[held_out]).float().mean())


before = accuracy()
optimizer = lorate.create_optimizer(model)  # rule auto: no learning rate
with lorate.Monitor() as monitor:  # give it a directory to keep the records
    for step, batch in enumerate(torch.randint(1200, (300, 64))):
        loss = cross_entropy(model(turned[batch]), labels[batch])
        loss.backward()
        optimizer.step(loss=loss)
        optimizer.zero_grad()
        for alarm in monitor.update(optimizer, samples=len(batch)):
            print(f"step {step + 1}: {alarm.message} {alarm.remedy}")
        if step % 60 == 0:
            print(f"step {step + 1:3}  loss {loss.item():7.4f}  step size {optimizer.last.eta:.4f}")
optimizer.finish()  # the averaged adapters stay in the model
print(f"accuracy on held-out turned digits: {before:.1%} before, {accuracy():.1%} after")
