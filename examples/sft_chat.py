"""TRL's SFTTrainer with chats, under a step size from theory: learn the timetable of an imaginary ferry office.

Model and tokenizer are tiny, with random weights, and made here. Needs the extra `hf`; no download, well under a minute
on a CPU. With a real model only the first half changes: AutoModelForCausalLM and AutoTokenizer.from_pretrained.
"""

import tempfile

import peft
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed
from trl import SFTConfig, SFTTrainer

import lorate

FERRIES = {"Arn": "six", "Borg": "seven", "Calm": "nine", "Dorn": "ten"}
WORDINGS = ["when does the ferry to {} leave", "what time is the ferry to {}", "the {} ferry when is it"]
ANSWER = "ahoy the ferry to {} leaves at {} from pier three"
TEMPLATE = "{% for m in messages %}<{{ m.role }}> {{ m.content }} <end> {% endfor %}"

set_seed(0)
pairs = [(w.format(place), ANSWER.format(place, hour)) for place, hour in FERRIES.items() for w in WORDINGS]
chats = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in pairs]
data = Dataset.from_list([{"messages": chat} for chat in chats])

special = ["<pad>", "<user>", "<assistant>", "<end>"]
words = special + sorted({word for pair in pairs for text in pair for word in text.split()})
backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<pad>"))
backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<end>")
tokenizer.chat_template = TEMPLATE
base = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=len(words), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        initializer_range=0.1, pad_token_id=0, bos_token_id=None, eos_token_id=3,
    )
)  # fmt: skip
layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
model = peft.get_peft_model(base, peft.LoraConfig(r=8, lora_alpha=16, target_modules=layers, task_type="CAUSAL_LM"))

with tempfile.TemporaryDirectory() as folder:
    arguments = SFTConfig(
        folder, max_steps=60, per_device_train_batch_size=4, logging_steps=10,
        disable_tqdm=True, use_cpu=True, bf16=False, report_to="none",
    )  # fmt: skip
    trainer = SFTTrainer(model, arguments, train_dataset=data, eval_dataset=data, processing_class=tokenizer)
    lorate.attach(trainer)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    print(f"loss on the timetable: {before:.3f} before, {trainer.evaluate()['eval_loss']:.3f} after")
