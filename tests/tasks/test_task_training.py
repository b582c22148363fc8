"""The prepared data under the real trainers."""

import json

import pytest
import torch
from transformers import Trainer, TrainingArguments

from lorate.tasks import ImageCollator, cut_texts, load_data, load_model, text_collator, text_limit, tokenised


def gradients(model, train, collator, accumulate, tmp_path, **options):
    """Gradients of the first step of batch 8, taken in ``accumulate`` parts."""
    arguments = TrainingArguments(
        output_dir=str(tmp_path / str(accumulate)),
        per_device_train_batch_size=8 // accumulate,
        gradient_accumulation_steps=accumulate,
        max_steps=1,
        max_grad_norm=0,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        seed=1,
        **options,
    )
    caught = {}

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            caught.update({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})

    optimizer = Watched(model.parameters(), lr=0.0)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    Trainer(model, arguments, collator, train_dataset=train, optimizers=(optimizer, schedule)).train()
    return caught


def assert_same_gradients(make, *args, **options):
    whole, parts = (gradients(make(), *args[:2], k, args[2], **options) for k in (1, 8))
    assert whole.keys() == parts.keys() and whole
    for name in whole:
        torch.testing.assert_close(whole[name], parts[name], rtol=2e-3, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


@pytest.fixture
def reviews(tmp_path):
    words = ["good film", "bad book", "a good one", "bad", "film", "one two three", "book a", "good", "bad c", "d e"]
    rows = [{"text": text, "label": "good" if "good" in text else "other"} for text in words]
    path = tmp_path / "reviews.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return load_data(str(path), kind="sequence-classification", eval_fraction=0.2)


@pytest.mark.parametrize("family", ["bert_dir", "llama_dir"])
def test_text_classifier_batch_8_equals_8_times_1(request, reviews, tmp_path, family):
    path = str(request.getfixturevalue(family))

    def make():
        torch.manual_seed(0)
        loaded = load_model(path, "sequence-classification", labels=reviews.labels)
        make.tokenizer = loaded.processor
        return loaded.model

    make()
    train = tokenised(reviews.train, make.tokenizer, limit=8)
    assert set(train.column_names) >= {"input_ids", "attention_mask", "labels"}
    assert_same_gradients(make, train, text_collator(make.tokenizer), tmp_path)


def test_image_classifier_batch_8_equals_8_times_1(resnet_dir, image_folder, tmp_path):
    data = load_data(str(image_folder), kind="image-classification", eval_fraction=0.3)
    loaded = load_model(str(resnet_dir), "image-classification", labels=data.labels)

    def make():
        torch.manual_seed(0)
        model = load_model(str(resnet_dir), "image-classification", labels=data.labels).model
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):  # its batch statistics do depend on the batch size
                module.train = lambda mode=True, module=module: module
                module.training = False
        return model

    assert_same_gradients(make, data.train, ImageCollator(loaded.processor), tmp_path, remove_unused_columns=False)


def test_image_collator_takes_every_mode(resnet_dir, image_folder):
    data = load_data(str(image_folder), kind="image-classification")
    assert len({row["image"].mode for row in data.train}) == 3
    processor = load_model(str(resnet_dir), "image-classification", labels=data.labels).processor
    batch = ImageCollator(processor)(list(data.train))
    assert batch["pixel_values"].shape == (len(data.train), 3, 32, 32)
    assert batch["labels"].tolist() == list(data.train["label"])


def test_grey_images_for_a_model_with_one_channel(image_folder):
    from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil

    data = load_data(str(image_folder), kind="image-classification")
    processor = ConvNextImageProcessorPil(size={"shortest_edge": 32}, image_mean=[0.5], image_std=[0.5])
    assert ImageCollator(processor, channels=1)(list(data.train))["pixel_values"].shape[1:] == (1, 32, 32)


def test_long_texts_are_cut_at_the_lowest_limit_and_counted(reviews, bert_dir):
    loaded = load_model(str(bert_dir), "sequence-classification", labels=reviews.labels)
    tokenizer, model = loaded.processor, loaded.model
    assert text_limit(512, tokenizer, model) == 32 and text_limit(2, tokenizer, model) == 2
    tokenizer.model_max_length = 10**30  # as where the tokenizer's files do not say
    assert text_limit(512, tokenizer, model) == 32
    assert max(map(len, tokenised(reviews.train, tokenizer, 2)["input_ids"])) == 2
    longer = sum(len(text.split()) > 2 for text in reviews.train["text"])
    assert cut_texts(reviews.train, tokenizer, 2) == longer > 0 and cut_texts(reviews.train, tokenizer, 32) == 0
