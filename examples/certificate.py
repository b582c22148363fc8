"""A walk through a certificate: what is proved about a training run, and what is not.

Logistic regression on handwritten digits, all data in every step, a smoothness L known in closed form. Read it cell by
cell (editors and Jupyter know `# %%`) or run it: python examples/certificate.py [DIRECTORY]. Needs scikit-learn; no
download, under a minute on a CPU.
"""

import sys
from pathlib import Path

import peft
import torch
from sklearn.datasets import load_digits

import lorate
from lorate.monitor.certificate import certify
from lorate.smoothness import logistic_smoothness

directory = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/certificate")
torch.manual_seed(0)

# %% The problem: one linear layer, adapted by LoRA. In float64 rounding does not blur the inequalities.
digits = load_digits()
x, y = torch.tensor(digits.data / 16), torch.tensor(digits.target)
base = torch.nn.Sequential(torch.nn.Linear(64, 10, bias=False, dtype=torch.float64))
torch.nn.init.zeros_(base[0].weight)
config = peft.LoraConfig(r=4, lora_alpha=4, target_modules=["0"])
model = peft.get_peft_model(base, config, autocast_adapter_dtype=False)

# %% The assumption: the loss is L-smooth in the weight. Here L follows from the pixels; for a network it is not known.
L = logistic_smoothness(x.numpy())
optimizer = lorate.create_optimizer(model, rule="majorizer", smoothness=L)

# %% One step: before it is taken, its proof says by how much the loss falls at least.
loss = torch.nn.functional.cross_entropy(model(x), y)
first = loss.item()
loss.backward()
optimizer.step(loss=loss)
with torch.no_grad():
    after = torch.nn.functional.cross_entropy(model(x), y).item()
print(f"L = {L:.3f}: one step lowers the loss by {optimizer.last.guarantee:.2e} or more; it was {first - after:.2e}")

# %% A whole run: the monitor writes down what the proofs are about.
with lorate.Monitor(directory, full_batch=True) as monitor:
    for _ in range(1000):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step(loss=loss)
        monitor.update(optimizer, samples=len(x))

# %% The certificate: every inequality against every step. `lorate certify DIRECTORY` prints the same.
certificate = certify(directory)
for line in certificate.lines:
    print(f"{line.verdict}: {line.claim} {line.figures}")
print("not proved:", "; ".join(certificate.not_proved))
print(f"training loss {first:.3f} before, {loss.item():.3f} after 1000 steps; draw it: lorate report {directory}")
