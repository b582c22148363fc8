"""The transformers Trainer with a step size from theory.

A tiny Llama with random weights, made here, learns to count: 7, 8, 9, ... from any start, in steps of 1, 2 or 3.
Needs the extra `hf`; no download, well under a minute on a CPU.
"""

import tempfile

import numpy as np
import peft
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments, set_seed

import lorate

NUMBERS = 32
set_seed(0)
start, stride = np.random.randint(0, NUMBERS, (512, 1)), np.random.randint(1, 4, (512, 1))
sequences = (start + stride * np.arange(16)) % NUMBERS
data = Dataset.from_dict({"input_ids": sequences, "labels": sequences}).train_test_split(64, seed=0)

base = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=NUMBERS, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        initializer_range=0.1,
    )
)  # fmt: skip
layers = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj", "lm_head"]
model = peft.get_peft_model(base, peft.LoraConfig(r=8, lora_alpha=16, target_modules=layers, task_type="CAUSAL_LM"))

with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        folder,
        max_steps=200,
        per_device_train_batch_size=32,
        logging_steps=20,
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        report_to="none",
    )
    trainer = Trainer(model, arguments, train_dataset=data["train"], eval_dataset=data["test"])
    lorate.attach(trainer, monitor=f"{folder}/records")
    before = trainer.evaluate()["eval_loss"]
    trainer.train()  # each log line holds eta, stacked_norm and grad_norm
    print(f"held-out loss: {before:.3f} before, {trainer.evaluate()['eval_loss']:.3f} after")
