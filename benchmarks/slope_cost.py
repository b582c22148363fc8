"""What the slopes on unseen batches cost: time in the monitor's look at each step, as a share of the step.

A Llama with random weights (8 blocks of width 512, 256 tokens in a batch), LoRA of rank 8 on all its linear layers,
AdamW; CPU time on one thread.

    OMP_NUM_THREADS=1 python benchmarks/slope_cost.py     # two minutes; writes results/slope_cost.json
"""

import argparse
import statistics
import time

import peft
import torch
import transformers
from _record import record

from lorate.monitor.slopes import EndSlopes

STEPS = 12


def main() -> None:
    """Time the steps and, within them, the looks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry", action="store_true", help="write nothing")
    options = parser.parse_args()
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=4096, hidden_size=512, intermediate_size=1408, num_hidden_layers=8, num_attention_heads=8
    )
    base = transformers.LlamaForCausalLM(config)
    model = peft.get_peft_model(base, peft.LoraConfig(r=8, target_modules="all-linear"))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    slopes = EndSlopes(optimizer)
    steps, looks = [], []
    look = slopes._look

    def timed(*args: object) -> None:
        start = time.process_time()
        look(*args)  # type: ignore[arg-type]
        looks.append(time.process_time() - start)

    slopes.remove()
    optimizer.register_step_pre_hook(timed)
    for _ in range(STEPS):
        start = time.process_time()
        ids = torch.randint(4096, (2, 128))
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        steps.append(time.process_time() - start)
    share = statistics.median(looks[2:]) / statistics.median(steps[2:])
    found = {
        "trained numbers": sum(parameter.numel() for parameter in trained),
        "step, ms": round(1000 * statistics.median(steps[2:]), 1),
        "look, ms": round(1000 * statistics.median(looks[2:]), 2),
        "share of a step": round(share, 5),
    }
    if options.dry:
        print(found)
    else:
        record("slope_cost", "OMP_NUM_THREADS=1 python benchmarks/slope_cost.py", found)


if __name__ == "__main__":
    main()
