"""What the model says to a few held-out prompts, to look at before and after."""

import torch

from lorate.tasks import LoadedData, quiet
from lorate.training.preparation import Prepared

NEW_TOKENS = 48


def sample_prompts(prepared: Prepared, count: int, max_length: int) -> list[str]:
    """Prompts from the first held-out records that leave room for an answer.

    Plain texts give their first words; chats all but the last answer; labelled texts themselves; images their label.
    """
    if prepared.data.record_kind in ("labelled-text", "labelled-image"):
        return [_labelled_prompt(prepared.data, i) for i in range(min(count, len(prepared.data.eval)))]
    assert prepared.encoded is not None
    encoder, prompts = prepared.encoded.encoder, []
    for record in prepared.data.eval:
        prompt = encoder.prompt(record)
        if prompt and len(encoder.prompt_ids(prompt)) < max_length:
            prompts.append(prompt)
        if len(prompts) >= count:
            break
    return prompts[:count]


def answers(prepared: Prepared, prompts: list[str]) -> list[str]:
    """The model's greedy completion, or its predicted class, for each prompt of `sample_prompts`."""
    if not prompts:
        return []
    training = prepared.model.training
    prepared.model.eval()
    try:
        with torch.no_grad(), quiet():
            if prepared.data.record_kind in ("labelled-text", "labelled-image"):
                return [_predicted_class(prepared, i) for i in range(len(prompts))]
            return [_completion(prepared, prompt) for prompt in prompts]
    finally:
        prepared.model.train(training)


def _completion(prepared: Prepared, prompt: str) -> str:
    tokenizer = prepared.base.processor
    assert prepared.encoded is not None
    ids = torch.tensor([prepared.encoded.encoder.prompt_ids(prompt)], device=prepared.model.device)
    output = prepared.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
    )
    return str(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True))


def _labelled_prompt(data: LoadedData, index: int) -> str:
    record = data.eval[index]
    label = (data.labels or [])[record["label"]]
    what = record["text"] if "text" in record else f"held-out image {index + 1}"
    return f"{what} [label: {label}]"


def _predicted_class(prepared: Prepared, index: int) -> str:
    record, processor = prepared.data.eval[index], prepared.base.processor
    if "text" in record:
        limit = min(processor.model_max_length, 512)
        inputs = processor(record["text"], return_tensors="pt", truncation=True, max_length=limit)
    else:
        mode = "L" if getattr(prepared.base.model.config, "num_channels", 3) == 1 else "RGB"
        inputs = processor(record["image"].convert(mode), return_tensors="pt")
    logits = prepared.model(**{name: value.to(prepared.device) for name, value in inputs.items()}).logits
    return str((prepared.data.labels or [])[int(logits.argmax())])
