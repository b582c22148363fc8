"""Generation, and the loss of texts."""

import torch
from torch.nn.functional import cross_entropy


@torch.inference_mode()
def evaluate(model, tokenizer, ds, batch_size, generate_kwargs, use_tqdm=False):
    assert not model.training
    predictions, responses = [], []
    for start in range(0, len(ds), batch_size):
        rows = ds[start : start + batch_size]
        responses += rows.pop("response")
        batch = tokenizer.pad(rows, return_tensors="pt", padding_side="left")
        output = model.generate(
            **batch, max_new_tokens=generate_kwargs["max_new_tokens"], pad_token_id=tokenizer.eos_token_id
        )
        predictions += tokenizer.batch_decode(output, skip_special_tokens=True)
    return predictions, responses


@torch.inference_mode()
def calculate_mean_per_token_loss(model, tokenizer, rows, batch_size, max_length):
    losses = []
    for row in rows:
        ids = tokenizer(row, return_tensors="pt", truncation=True, max_length=max_length)["input_ids"]
        losses.append(cross_entropy(model(input_ids=ids).logits[0, :-1], ids[0, 1:], reduction="none"))
    return torch.cat(losses).mean().item()
