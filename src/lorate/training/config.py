"""The options of a fine-tuning run: one flat set, the same on the command line and in a YAML file."""

import dataclasses
import difflib
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Self

from lorate.errors import LorateError
from lorate.monitor.alarm import OnAlarm
from lorate.rules import RULES, make_rule
from lorate.rules.rule import LORA_NEEDS
from lorate.scaling import lora_alpha
from lorate.tasks.formats import parse_columns
from lorate.tasks.kinds import PREFERENCES, RecordKind, TaskKind, TrainOn
from lorate.training.options import BRIEFLY, POSITIVE, Range, check_options, describe_options, option

Dtype = Literal["float32", "bfloat16", "float16"]
LAW = "law"
"""Instead of a number for alpha: the square-root law."""
ALL_LINEAR = "all-linear"
"""As the only target: every linear layer but the output."""
CHANGES_BASE = ("pissa", "pissa_niter_16", "olora")
"""Initialisations that move a part of the base weights into the adapter."""
DEFAULT_EPOCHS, FEWEST_STEPS, MOST_STEPS = 3, 100, 1000
"""The length of a run that was not given one."""

_NEED_L = ", ".join(name for name, rule in RULES.items() if "smoothness" in rule.needs)
_ABOVE_0: Range = (lambda value: 0 < value < math.inf, "a finite number above 0")
_DEVICE = re.compile(r"(cpu|cuda|mps|xpu|npu|hpu|mlu|musa|mtia)(:\d+)?")
_SOME: Range = (lambda value: len(value) > 0, "at least one layer name")
_base, _data, _adapter, _steps, _checks = (
    partial(option, panel) for panel in ("Base model", "Data", "Adapter", "Training", "Evaluation and records")
)


@describe_options
@dataclass(frozen=True)
class TrainConfig:
    """What to train, on what, and how.

    Raises:
        LorateError: an option is out of range, of a wrong type, or does not fit another one.
    """

    model: str | None = _base(
        None, "Hub id, local directory or .gguf file. Default: the embedded SmolLM2-135M-Instruct."
    )
    task: TaskKind = _base("causal-lm", "Kind of model.")
    dtype: Dtype = _base("float32", "Type of the base model's weights; adapters are float32.")
    autocast: Literal["bfloat16", "float16"] | None = _base(
        None, "Type to compute in under autocast. Default: --dtype on a GPU, off on a CPU."
    )
    quantize: Literal["4bit", "8bit"] | None = _base(
        None, "Load the base weights in 4 (nf4) or 8 bits with bitsandbytes."
    )
    attention: str | None = _base(None, "Implementation of attention: eager, sdpa, flash_attention_2, ...")
    gradient_checkpointing: bool = _base(False, "Recompute activations in the backward pass: slower, but less memory.")
    chat_template: str | None = _base(None, "File with a Jinja chat template. Default: the tokenizer's own.")
    end_token: str | None = _base(None, "Token that ends an answer. Default: the tokenizer's own.")
    add_tokens: list[str] | None = _base(None, "New tokens; the embedding is then trained in full.", _SOME)
    device: str | None = _base(
        None,
        "cpu, cuda, cuda:1, mps. Default: a GPU if there is one.",
        (lambda value: _DEVICE.fullmatch(value) is not None, "cpu, cuda, cuda:1, mps"),
    )

    data: str | None = _data(None, "File, folder or hub id (name:configuration:split); several separated by commas.")
    eval_data: str | None = _data(None, "Held-out data. Default: a part of --data.")
    max_length: int = _data(512, "Maximum tokens per text; longer ones are cut.", POSITIVE)
    train_on: TrainOn = _data(
        "answers",
        "What is learned. answers: what the assistant says, and completions; last: the last answer; all: every token.",
    )
    columns: str | None = _data(None, "Columns to read, such as prompt=question,completion=answer.")
    max_records: int | None = _data(None, "Draw at most this many records from each data set.", POSITIVE)
    eval_fraction: float = _data(
        0.1, "Share of the data to hold out.", (lambda value: 0 < value < 1, "between 0 and 1")
    )
    eval_examples: int = _data(64, "Maximum number of held-out examples to evaluate.", POSITIVE)

    rank: int = _adapter(8, "Rank r of the adapters.", POSITIVE)
    alpha: float = _adapter(
        16.0, "lora_alpha; the scaling is alpha / rank. law: 256·√rank, see lorate alpha law.", _ABOVE_0, law=LAW
    )
    targets: list[str] | None = _adapter(
        None,
        "Layers to adapt: names, all-linear, or one regular expression. Default: the architecture's usual ones.",
        _SOME,
    )
    exclude: list[str] | None = _adapter(None, "Layers of --targets to leave out.", _SOME)
    dropout: float = _adapter(
        0.0, "Dropout probability on the adapters' input.", (lambda value: 0 <= value < 1, "from 0 to below 1")
    )

    init: Literal["default", "gaussian", "orthogonal", "olora", "pissa", "pissa_niter_16"] = _adapter(
        "default", "How PEFT initialises A and B."
    )
    rslora: bool = _adapter(False, "Scaling alpha / √rank instead of alpha / rank.")
    dora: bool = _adapter(False, "DoRA: a trained magnitude beside the direction.")
    modules_to_save: list[str] | None = _adapter(None, "Layers to train in full, and to save with the adapter.", _SOME)
    adapter: str | None = _adapter(None, "Start from this adapter: a run, or a directory in PEFT's format.")

    rule: str = _steps("auto", f"Rule for the step size: {', '.join(RULES)}.")
    lr: float | None = _steps(None, "The rule's constant a. Each rule has a default, except constant.", _ABOVE_0)
    smoothness: float | None = _steps(None, f"Smoothness L of the loss, for the rules that need it: {_NEED_L}.")
    batch_size: int = _steps(4, "Samples per micro-batch.", POSITIVE)
    accumulate: int = _steps(1, "Micro-batches per step.", POSITIVE)
    epochs: float | None = _steps(
        None,
        "Passes over the data, instead of --steps. Default: 3, but no fewer than 100 and no more than 1,000 steps.",
        (lambda value: 0 < value <= 1e6, "above 0 and at most 1,000,000"),
    )
    steps: int | None = _steps(None, "Optimizer steps, instead of --epochs.", POSITIVE)
    beta: float = _steps(0.1, "DPO's beta, for preference records: a larger one stays closer to the base.", _ABOVE_0)
    packing: bool = _steps(False, "Pack several records, which do not see each other, into one sequence.")
    group_by_length: bool = _steps(False, "Put records of similar length into the same batch, which saves padding.")
    seed: int = _steps(0, "Random seed.", (lambda value: 0 <= value < 2**32, "from 0 to 2³² - 1"))
    on_alarm: OnAlarm = _steps("warn", "At a diverging or non-finite alarm: only warn, stop, or halve the step size.")
    on_alarm_run: str | None = _steps(
        None, "Command to run at every alarm. It gets the alarm as JSON on standard input and as text in $LORATE_ALARM."
    )

    eval_every: int | None = _checks(
        None,
        "Steps between evaluations; one before and one after come on top. Default: an eighth of the run.",
        POSITIVE,
    )
    keep: Literal["best", "last"] = _checks(
        "best", "Which adapter to keep: the one with the lowest held-out loss, or the last one."
    )
    patience: int | None = _checks(None, "Stop after this many evaluations without improvement.", POSITIVE)
    metric_command: str | None = _checks(
        None, "Command that takes an adapter's directory and prints a number; the adapter with the highest is kept."
    )
    save_every: int | None = _checks(
        None, "Steps between checkpoints. Default: a quarter of the run, at most 200.", POSITIVE
    )
    samples: int = _checks(2, "Prompts to complete before and after training.", (lambda value: value >= 0, "0 or more"))
    report_to: str = _checks("none", "Also log to an integration of the transformers Trainer, such as wandb.")

    def __post_init__(self) -> None:
        check_options(self)
        if None not in (self.steps, self.epochs):
            raise LorateError("give steps or epochs, not both: they may disagree about the length of the run.")
        if self.task != "causal-lm":
            for name in ("packing", "chat_template", "end_token", "add_tokens"):
                if getattr(self, name):
                    raise LorateError(f"{name} is for language models, and the task is {self.task}; leave it out.")
        if self.targets is not None and len(self.targets) > 1 and any(is_pattern(name) for name in self.targets):
            raise LorateError("targets must be names, or all-linear alone, or one regular expression alone.")
        parse_columns(self.columns)
        self.check_precision(self.device)
        if self.quantize and self.init.startswith("pissa"):
            raise LorateError(
                f"init {self.init} decomposes the base weights, which PEFT does only in 16 or 32 bits; choose another "
                "init, or leave quantize out."
            )
        if self.dora and self.init in CHANGES_BASE:
            raise LorateError(
                f"init {self.init} moves a part of the base into the adapter, and with dora PEFT does not save it as "
                "it was trained; choose another init, or leave dora out."
            )
        rule = make_rule(self.rule, self.smoothness)
        if self.dora and rule.needs & LORA_NEEDS:
            raise LorateError(
                f"rule {self.rule!r} rests on W = W0 + s B A, which does not hold for DoRA; use 'auto', "
                "'adaptive-loss', 'normalized' or 'constant', or leave dora out."
            )
        if "closure" in rule.needs:
            raise LorateError(
                f"rule {self.rule!r} tries several steps on the whole data, which the Trainer cannot do; use another "
                "rule, or lorate.create_optimizer and optimizer.step(closure) in a loop of your own."
            )
        if rule.default_lr is None and self.lr is None:
            raise LorateError(f"rule {self.rule!r} needs lr (--lr): it has no constant that is right by default.")
        if not 0 < self.scaling < math.inf:
            raise LorateError(f"alpha must be a finite number above 0 after division by the rank, got {self.alpha!r}.")

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any], source: str) -> Self:
        """Options by name, as a YAML file holds them; what is left out has its default.

        Args:
            options: names with underscores or hyphens, and values.
            source: where they come from, for the error.

        Raises:
            LorateError: an unknown name (with the nearest known one), or a value that does not fit.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        named = {str(name).replace("-", "_"): value for name, value in options.items()}
        for name in named:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"
                raise LorateError(f"{source} holds an unknown option {BRIEFLY.repr(name)}{hint}.")
        if named.get("train_on") == "completion":
            warnings.warn(
                "train_on completion is now called answers; the old name goes with version 0.3.",
                FutureWarning,
                stacklevel=2,
            )
            named["train_on"] = "answers"
        if named.get("alpha") == LAW:
            named["alpha"] = lora_alpha(named.get("rank", cls.rank), use_rslora=named.get("rslora") is True)
        return cls(**named)

    def to_mapping(self) -> dict[str, Any]:
        """All options as plain values."""
        return dataclasses.asdict(self)

    def check_precision(self, device: str | None) -> None:
        """A CPU computes in float16 without a loss scale, and gradients vanish.

        Raises:
            LorateError: that was asked for.
        """
        if device == "cpu" and "float16" in (self.autocast, self.quantize and self.dtype):
            raise LorateError("float16 on a CPU has no range for gradients; choose bfloat16, or leave --autocast out.")

    def check_kind(self, kind: RecordKind) -> None:
        """Preference records, and all others, have options without a meaning for them.

        Raises:
            LorateError: such an option was given.
        """
        if kind not in PREFERENCES:
            if self.beta != type(self).beta:
                raise LorateError(
                    f"beta is for preference records (prompt, chosen, rejected), and these are {kind} records; leave "
                    "it out."
                )
            return
        reasons = {
            "train_on": "what is learned is which of two answers to prefer",
            "packing": "TRL's DPOTrainer takes each pair apart from the others",
            "group_by_length": "TRL's DPOTrainer does not know the length of a pair",
            "dropout": "TRL's DPOTrainer turns dropout off",
        }
        for name, reason in reasons.items():
            if getattr(self, name) != getattr(type(self), name):
                raise LorateError(f"{name} does not apply to preference records, because {reason}; leave it out.")
        if self.init in CHANGES_BASE:
            raise LorateError(
                f"init {self.init} moves a part of the base into the adapter, and preference records are judged "
                "against the base as it is; choose default, gaussian or orthogonal."
            )

    @property
    def scaling(self) -> float:
        """The scaling of the adapters, s = alpha / rank, or alpha / √rank."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    def with_steps(self, records: int, samples: int) -> Self:
        """The same with the number of steps filled in, for so many records (or sequences) and samples a step."""
        if self.steps is not None:
            return self
        # an epoch has one step at least, which then takes fewer samples
        steps = math.ceil((self.epochs or DEFAULT_EPOCHS) * records / min(samples, records))
        if self.epochs is None:
            steps = min(max(steps, FEWEST_STEPS), MOST_STEPS)
        return dataclasses.replace(self, steps=steps, epochs=None)

    @property
    def step_count(self) -> int:
        """Steps of the run, once they are known, see `with_steps`."""
        assert self.steps is not None
        return self.steps

    @property
    def evaluation_interval(self) -> int:
        """Steps between evaluations: eight in a run, with the last one."""
        return self.eval_every or math.ceil(self.step_count / 8)

    @property
    def checkpoint_interval(self) -> int:
        """Steps between checkpoints."""
        return self.save_every or max(1, min(200, self.step_count // 4))

    @property
    def resolved_lr(self) -> float:
        """The rule's constant, its default filled in."""
        lr = self.lr if self.lr is not None else RULES[self.rule].default_lr
        assert lr is not None
        return lr


def is_pattern(target: str) -> bool:
    """Whether a target is not a name: ``all-linear``, or a regular expression.

    >>> is_pattern("q_proj"), is_pattern("layers.3.mlp.up_proj"), is_pattern(r".*[qv]_proj"), is_pattern("all-linear")
    (False, False, True, True)
    """
    return target == ALL_LINEAR or any(letter in target for letter in r"*+?[](){}|^$\\")
