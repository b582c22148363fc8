"""What is learned of a conversation, for the templates of well-known models: to the letter, and token by token."""

import pytest
from chat_tokenizers import chat_tokenizer, template

from lorate.errors import LorateError
from lorate.tasks import Encoder, marked
from lorate.tasks.chat_template import ChatTemplate
from lorate.tasks.embedded import smollm2_path

LLAMA = {"bos": "<|begin_of_text|>", "eos": "<|eot_id|>"}
CHATML = {"eos": "<|im_end|>"}
GEMMA = {"bos": "<bos>", "eos": "<end_of_turn>"}
DEEPSEEK = {"bos": "<｜begin▁of▁sentence｜>", "eos": "<｜end▁of▁sentence｜>"}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


SYSTEM = [{"role": "system", "content": "SYS"}]
TURNS = [user("q1"), assistant("a1"), user("q2"), assistant("a2")]
THOUGHTS = [
    user("q1"),
    assistant("<think>\nhm1\n</think>\n\na1"),
    user("q2"),
    assistant("<think>\nhm2\n</think>\n\na2"),
]
REASONS = [user("q1"), assistant("a1", reasoning_content="hm1"), user("q2"), assistant("a2", reasoning_content="hm2")]
CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}
CALLS = [
    user("q1"),
    assistant("", tool_calls=[CALL]),
    {"role": "tool", "tool_call_id": "abcdefghi", "name": "weather", "content": "sunny"},
    assistant("a2"),
]
CITY = {"type": "object", "properties": {"city": {"type": "string", "description": "c"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "d", "parameters": CITY}}]


def shown(tokenizer, turns, tools=None, train_on="answers"):
    """The sequences that are trained on, from their tokens: learned parts in marks, as the terminal shows them."""
    record = {"messages": turns, "tools": tools}
    rows = Encoder(tokenizer, "messages", train_on, 10_000).rows_of(record)
    texts = [
        "".join(f"⟦{text}⟧" if learned else text for text, learned in marked(ids, labels, tokenizer))
        for ids, labels in rows
    ]
    whole = ChatTemplate(tokenizer).render(turns, tools)
    for text in texts:  # what is shown is what the template writes, in the same order
        assert len(texts) > 1 or whole.startswith(text.replace("⟦", "").replace("⟧", "")) or "<think>" in text
    return texts


def learned(tokenizer, turns, tools=None, train_on="answers"):
    """The learned parts alone, a list for each sequence."""
    texts = shown(tokenizer, turns, tools, train_on)
    return [[part.split("⟧")[0] for part in text.split("⟦")[1:]] for text in texts]


EXPECTED = {
    "chatml": (CHATML, [*SYSTEM, *TURNS], "<|im_start|>system\nSYS<|im_end|>\n<|im_start|>user\nq1<|im_end|>\n"
     "<|im_start|>assistant\n⟦a1<|im_end|>⟧\n<|im_start|>user\nq2<|im_end|>\n<|im_start|>assistant\n⟦a2<|im_end|>⟧"),
    "zephyr": ({}, [*SYSTEM, *TURNS], "<|system|>\nSYS</s>\n<|user|>\nq1</s>\n<|assistant|>\n⟦a1</s>⟧\n"
     "<|user|>\nq2</s>\n<|assistant|>\n⟦a2</s>⟧"),
    "mistral_v1": ({}, TURNS, "<s>[INST] q1 [/INST]⟦ a1</s>⟧[INST] q2 [/INST]⟦ a2</s>⟧"),
    "phi4": (CHATML, TURNS, "<|im_start|>user<|im_sep|>q1<|im_end|><|im_start|>assistant<|im_sep|>⟦a1<|im_end|>⟧"
     "<|im_start|>user<|im_sep|>q2<|im_end|><|im_start|>assistant<|im_sep|>⟦a2<|im_end|>⟧"),
    "generation": (CHATML, TURNS, "<|im_start|>user\nq1<|im_end|>\n<|im_start|>assistant\n⟦a1<|im_end|>⟧\n"
     "<|im_start|>user\nq2<|im_end|>\n<|im_start|>assistant\n⟦a2<|im_end|>⟧"),
    # asks for an answer whether one is due or not: the header behind the answer is not learned
    "always_prompts": (CHATML, TURNS[:2], "<|im_start|>user\nq1<|im_end|>\n<|im_start|>assistant\n⟦a1<|im_end|>⟧"),
    # never asks: the model has to write the header itself
    "no_prompt": ({}, TURNS, "user: q1</s>\n⟦assistant: a1</s>⟧\nuser: q2</s>\n⟦assistant: a2</s>⟧"),
    "plain": ({}, TURNS, "### Instruction:\nq1\n\n### Response:\n⟦a1⟧\n\n### Instruction:\nq2\n\n### Response:\n⟦a2⟧"),
    "llama3": (LLAMA, [*SYSTEM, *TURNS], "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nSYS<|eot_id|>"
     "<|start_header_id|>user<|end_header_id|>\n\nq1<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
     "⟦a1<|eot_id|>⟧<|start_header_id|>user<|end_header_id|>\n\nq2<|eot_id|><|start_header_id|>assistant"
     "<|end_header_id|>\n\n⟦a2<|eot_id|>⟧"),
    "qwen2_5": (CHATML, [*SYSTEM, *TURNS], "<|im_start|>system\nSYS<|im_end|>\n<|im_start|>user\nq1<|im_end|>\n"
     "<|im_start|>assistant\n⟦a1<|im_end|>⟧\n<|im_start|>user\nq2<|im_end|>\n<|im_start|>assistant\n⟦a2<|im_end|>⟧"),
    "gemma3": (GEMMA, [*SYSTEM, *TURNS], "<bos><start_of_turn>user\nSYS\n\nq1<end_of_turn>\n<start_of_turn>model\n"
     "⟦a1<end_of_turn>⟧\n<start_of_turn>user\nq2<end_of_turn>\n<start_of_turn>model\n⟦a2<end_of_turn>⟧"),
    # the end token that Phi-3 writes behind a finished conversation is not in the way
    "phi3": ({"eos": "<|endoftext|>"}, TURNS, "<|user|>\nq1<|end|>\n<|assistant|>\n⟦a1<|end|>⟧\n<|user|>\nq2<|end|>\n"
     "<|assistant|>\n⟦a2<|end|>⟧"),
    "deepseek_r1_distill": (DEEPSEEK, TURNS, "<｜begin▁of▁sentence｜><｜User｜>q1<｜Assistant｜>"
     "⟦a1<｜end▁of▁sentence｜>⟧"
     "<｜User｜>q2<｜Assistant｜>⟦a2<｜end▁of▁sentence｜>⟧"),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_the_learned_part_to_the_letter(name):
    special, turns, expected = EXPECTED[name]
    assert shown(chat_tokenizer(template(name), **special), turns) == [expected]


def test_smollm2():
    gguf = pytest.importorskip("gguf")
    try:
        file = smollm2_path()
    except LorateError:
        pytest.skip("the embedded model is not installed")
    field = gguf.GGUFReader(file).fields["tokenizer.chat_template"]
    tokenizer = chat_tokenizer(bytes(field.parts[field.data[0]]).decode(), bos="<|im_start|>", eos="<|im_end|>")
    assert shown(tokenizer, TURNS[:2]) == [
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nq1<|im_end|>\n<|im_start|>assistant\n⟦a1<|im_end|>⟧"
    ]


QWEN_1 = "<|im_start|>user\nq1<|im_end|>\n<|im_start|>assistant\n"
QWEN_2 = QWEN_1 + "a1<|im_end|>\n<|im_start|>user\nq2<|im_end|>\n<|im_start|>assistant\n"


def test_a_template_that_rewrites_answers_gives_each_one_a_sequence_as_it_was_at_its_time():
    qwen = chat_tokenizer(template("qwen3"), **CHATML)
    assert shown(qwen, TURNS) == [
        QWEN_1 + "⟦<think>\n\n</think>\n\na1<|im_end|>⟧",
        QWEN_2 + "⟦<think>\n\n</think>\n\na2<|im_end|>⟧",
    ]
    thought = [QWEN_1 + "⟦<think>\nhm1\n</think>\n\na1<|im_end|>⟧", QWEN_2 + "⟦<think>\nhm2\n</think>\n\na2<|im_end|>⟧"]
    assert shown(qwen, THOUGHTS) == shown(qwen, REASONS) == thought
    assert learned(qwen, TURNS, train_on="last") == [["<think>\n\n</think>\n\na2<|im_end|>"]]
    mixed = [*TURNS, user("q3"), assistant("a3", weight=0)]
    assert shown(qwen, mixed) == shown(qwen, TURNS)


def test_answers_that_are_not_rewritten_share_a_sequence():
    """Qwen3 keeps the thoughts of all answers since the last question: the call and the answer to its result."""
    qwen = chat_tokenizer(template("qwen3"), **CHATML)
    said = [{**turn, "reasoning_content": "hm"} if turn["role"] == "assistant" else turn for turn in CALLS]
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call><|im_end|>'
    think = "<think>\nhm\n</think>\n\n"
    assert learned(qwen, said, TOOLS) == [[think + call, think + "a2<|im_end|>"]]


def test_thoughts_that_the_template_begins_itself():
    """R1's asks with <think>, and drops the thoughts of an answer that is over."""
    tokenizer = chat_tokenizer(template("deepseek_r1_distill"), **DEEPSEEK)
    begin = "<｜begin▁of▁sentence｜><｜User｜>q1<｜Assistant｜>"
    assert shown(tokenizer, THOUGHTS) == [
        begin + "<think>\n⟦hm1\n</think>\n\na1<｜end▁of▁sentence｜>⟧",
        begin
        + "\n\na1<｜end▁of▁sentence｜><｜User｜>q2<｜Assistant｜><think>\n⟦hm2\n</think>\n\na2<｜end▁of▁sentence｜>⟧",
    ]
    encoder = Encoder(tokenizer, "messages", "answers", 1000)
    encoder.rows_of({"messages": TURNS})
    assert (
        encoder.template is not None and "begins each answer with '<think>' when it asks" in encoder.template.notes()[0]
    )


def test_tool_calls_tools_and_their_results():
    qwen = chat_tokenizer(template("qwen2_5"), **CHATML)
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call><|im_end|>'
    assert learned(qwen, CALLS, TOOLS) == [[call, "a2<|im_end|>"]]
    (text,) = shown(qwen, CALLS, TOOLS)
    assert '{"type": "function", "function": {"name": "weather"' in text and "\nsunny\n" in text
    mistral = chat_tokenizer(template("mistral_v3"))
    call = '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Rome"}, "id": "abcdefghi"}]</s>'
    assert learned(mistral, CALLS, TOOLS) == [[call, " a2</s>"]]
    llama = chat_tokenizer(template("llama3_1"), **LLAMA)
    call = '{"name": "weather", "parameters": {"city": "Rome"}}<|eot_id|>'
    assert learned(llama, CALLS, TOOLS) == [[call, "a2<|eot_id|>"]]
    gptoss = chat_tokenizer(template("gptoss"), bos="<|startoftext|>", eos="<|return|>")
    call = ' to=functions.weather<|channel|>commentary json<|message|>{"city": "Rome"}<|call|>'
    assert learned(gptoss, CALLS, TOOLS) == [[call, "<|channel|>final<|message|>a2<|return|>"]]


def test_a_template_that_moves_the_system_message_gives_each_answer_a_sequence():
    """Mistral puts it before the last question."""
    mistral = chat_tokenizer(template("mistral_v3"))
    assert shown(mistral, [*SYSTEM, *TURNS]) == [
        "<s>[INST] SYS\n\nq1[/INST]⟦ a1</s>⟧",
        "<s>[INST] q1[/INST] a1</s>[INST] SYS\n\nq2[/INST]⟦ a2</s>⟧",
    ]


def test_arguments_as_text_for_a_template_that_joins_them():
    text = (
        "{% for m in messages %}{{ m.role + ':' + m.content }}{% for c in m.tool_calls %}"
        "{{ c.function.name + c.function.arguments }}{% endfor %}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    assert learned(chat_tokenizer(text), CALLS) == [['weather{"city": "Rome"}</s>', "a2</s>"]]


def test_weight_0_last_and_all():
    tokenizer = chat_tokenizer(template("chatml"), **CHATML)
    half = [TURNS[0], assistant("a1", weight=0), *TURNS[2:]]
    assert learned(tokenizer, half) == learned(tokenizer, TURNS, train_on="last") == [["a2<|im_end|>"]]
    last = [*TURNS[:3], assistant("a2", weight=0)]
    assert learned(tokenizer, last) == [["a1<|im_end|>"]] and learned(tokenizer, last, train_on="last") == []
    whole = ChatTemplate(tokenizer).render(TURNS)
    assert learned(tokenizer, TURNS, train_on="all") == [[whole]]
    before, after = whole.split("a1<|im_end|>")
    assert learned(tokenizer, half, train_on="all") == [[before, after]]
    greeting = [assistant("hello"), *TURNS]  # nothing asks for it
    assert learned(tokenizer, greeting) == [["a1<|im_end|>", "a2<|im_end|>"]]
    with pytest.raises(LorateError, match="rewrites earlier answers"):
        learned(chat_tokenizer(template("qwen3"), **CHATML), half, train_on="all")


@pytest.mark.parametrize(
    ("name", "turns", "message"),
    [
        ("mistral_v1", [*SYSTEM, *TURNS], "f, line 3: the chat template of .* refuses the conversation that beg"),
        ("chatml", REASONS, "f, line 3: the chat template of .* leaves out reasoning_content 'hm2'"),
        ("chatml", CALLS, "leaves out a tool call 'weather'"),
        ("deepseek_r1_distill", REASONS, "leaves out reasoning_content"),
        ("rewrites_question", TURNS, "writes the question in another way once it is answered"),
    ],
)  # fmt: skip
def test_what_a_template_cannot_show_is_refused_with_the_line(name, turns, message):
    special = DEEPSEEK if name.startswith("deep") else {}
    with pytest.raises(LorateError, match=message) as info:
        ChatTemplate(chat_tokenizer(template(name), **special)).rendered(turns, None, "answers", "f, line 3")
    assert "\n" not in str(info.value)


def test_without_a_template():
    with pytest.raises(LorateError, match=r"questions with answers, which become chats, but .* has no chat template"):
        ChatTemplate(chat_tokenizer())
