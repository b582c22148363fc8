"""Opening a model, data, options or a checkpoint runs nothing that stands in it."""

import ast
import json
import pickle
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lorate.cli.app import run as command
from lorate.errors import LorateError
from lorate.runs import RunDirectory
from lorate.tasks import load_data, load_model
from lorate.training import TrainConfig, resume, train
from lorate.training.checkpoints import checkpoints, seal
from security.payload import Payload
from training_runs import PowerCut

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own deprecations

ROOT = Path(__file__).parent.parent.parent
CODE = sorted((ROOT / "src").rglob("*.py"))
RUNS_CODE = ("joblib.load", "eval", "exec", "yaml.load", "yaml.load_all")
KNOWN_ERROR = "pickle.UnpicklingError"
"""Names what torch refused; opens nothing."""
OWN_CODE = "open({proof!r}, 'w').close()\nclass Own: pass\n"


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    """Exists once the code in a file was run."""
    return tmp_path / "it-was-run"


@pytest.fixture
def model(llama_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(llama_dir, tmp_path / "model"))


def sentence(error: pytest.ExceptionInfo[LorateError]) -> str:
    text = str(error.value)
    assert "\n" not in text and text.endswith(".") and len(text) < 500, text
    return text


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def calls(tree: ast.AST) -> Iterator[tuple[str, dict[str | None, str]]]:
    """What is called, and with which keywords."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def offences(tree: ast.AST) -> Iterator[str]:
    """Calls that run what stands in a file, or that leave it to the version of a library whether they do."""
    for name, keywords in calls(tree):
        last = name.rpartition(".")[2]
        safe_torch = name not in ("torch.load", "torch.hub.load") or keywords.get("weights_only") == "True"
        safe_name = name not in RUNS_CODE and last not in ("unsafe_load", "full_load", "unsafe_load_all")
        plain = all(keywords.get(key, "False") == "False" for key in ("allow_pickle", "trust_remote_code"))
        if not (safe_torch and safe_name and plain):
            yield name
    for name in imports(tree):
        if name.split(".")[0] in ("pickle", "dill", "cloudpickle", "marshal", "shelve") and name != KNOWN_ERROR:
            yield f"import {name}"


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(f)", "torch.load(f, weights_only=False)", "joblib.load(f)", "import pickle", "eval(x)",
        "yaml.load(f)", "from pickle import loads", "np.load(f, allow_pickle=True)",
        "a.from_pretrained(b, trust_remote_code=True)", "yaml.full_load(f)", "torch.hub.load(f)",
    ],
)  # fmt: skip
def test_the_search_finds_what_it_looks_for(code: str) -> None:
    assert list(offences(ast.parse(code)))


def test_no_module_opens_files_in_a_way_that_runs_code() -> None:
    found = {str(file.relative_to(ROOT)): list(offences(parsed(file))) for file in CODE}
    assert {file: names for file, names in found.items() if names} == {}


def test_every_loader_of_transformers_is_told_to_run_no_code() -> None:
    """Left out, the question comes up at the terminal in the middle of a run."""
    loaders = [
        (file.name, keywords)
        for file in CODE
        for name, keywords in calls(parsed(file))
        if name.endswith((".from_pretrained", ".from_config"))
        and name != "peft.PeftModel.from_pretrained"  # takes a model that is there, and reads tensors alone
    ]
    assert sorted(file for file, _ in loaders) == ["adapter.py", "merging.py", *["models.py"] * 6]
    assert all(keywords.get(None) in ("NO_CODE", "options", "given") for _, keywords in loaders)


@pytest.mark.parametrize("form", ["zip", "plain pickle"])
def test_a_pickle_in_place_of_weights_is_not_opened(model: Path, proof: Path, form: str) -> None:
    (model / "model.safetensors").unlink()
    weights = model / "pytorch_model.bin"
    if form == "zip":
        torch.save({"lm_head.weight": Payload(proof)}, weights)
    else:
        weights.write_bytes(pickle.dumps(Payload(proof)))
    with pytest.raises(LorateError, match=r"may run code: get the model as \.safetensors") as error:
        load_model(str(model), "causal-lm")
    assert sentence(error).startswith(str(model))
    assert not proof.exists()
    pickle.loads(pickle.dumps(Payload(proof)))
    assert proof.exists(), "the payload is none"


def test_safetensors_are_preferred(model: Path, proof: Path, llama_dir: Path) -> None:
    torch.save({"lm_head.weight": Payload(proof)}, model / "pytorch_model.bin")
    loaded, right = (load_model(str(place), "causal-lm").model.state_dict() for place in (model, llama_dir))
    assert all(torch.equal(loaded[name], right[name]) for name in right)
    assert not proof.exists()


@pytest.mark.parametrize("part", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_code_beside_a_model_is_not_run(model: Path, proof: Path, part: str, known: bool) -> None:
    """An architecture that transformers knows is loaded with its class; another one is refused."""
    (model / "own.py").write_text(OWN_CODE.format(proof=str(proof)))
    settings = json.loads((model / part).read_text())
    if part == "config.json":
        settings["auto_map"] = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}
        settings["model_type"] = "llama" if known else "own"
    else:
        settings["auto_map"] = {"AutoTokenizer": ["own.Own", "own.Own"]}
        settings["tokenizer_class"] = "PreTrainedTokenizerFast" if known else "Own"
    (model / part).write_text(json.dumps(settings))
    if known:
        assert load_model(str(model), "causal-lm").model.num_parameters() > 0
    else:
        with pytest.raises(LorateError, match="lorate runs no code from a model") as error:
            load_model(str(model), "causal-lm")
        sentence(error)
    assert not proof.exists()
    assert not any(name.startswith("transformers_modules.model") for name in sys.modules)


def test_nobody_is_asked_whether_code_may_run(model: Path, proof: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who types y at whatever is asked."""
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda text="": asked.append(text) or "y")
    test_code_beside_a_model_is_not_run(model, proof, "config.json", known=False)
    assert asked == []


def test_a_chat_template_stays_in_its_sandbox(model: Path, proof: Path, tmp_path: Path) -> None:
    (model / "chat_template.jinja").write_text(
        "{{ cycler.__init__.__globals__.os.mkdir('PROOF') }}".replace("PROOF", str(proof))
    )
    data = tmp_path / "data.jsonl"
    turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    data.write_text("".join(json.dumps({"messages": turn + [turn[i % 2]] * i}) + "\n" for i in range(1, 9)))
    config = TrainConfig(model=str(model), data=str(data), rank=2, steps=1, max_length=32, samples=0, device="cpu")
    with pytest.raises(LorateError, match=r"template of .* refuses the conversation that begins with 'a'") as error:
        train(config, tmp_path / "run")
    sentence(error)
    assert not proof.exists() and not (tmp_path / "run").exists()


@pytest.mark.parametrize("task", ["causal-lm", "image-classification"])
def test_a_loading_script_is_data_of_no_kind(tmp_path: Path, proof: Path, task: Any) -> None:
    folder = tmp_path / "dataset"
    folder.mkdir()
    for name in ("dataset.py", "__init__.py", "conftest.py"):
        (folder / name).write_text(OWN_CODE.format(proof=str(proof)))
    with pytest.raises(LorateError, match=r"holds no (data files|images)") as error:
        load_data(str(folder), kind=task)
    sentence(error)
    assert not proof.exists()


def test_a_loading_script_of_the_hub_is_not_run(tmp_path: Path, proof: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The road of a hub id, with a local folder in its place."""
    from lorate.tasks.hub import fetch_hub

    (tmp_path / "owner" / "dataset").mkdir(parents=True)
    (tmp_path / "owner" / "dataset" / "dataset.py").write_text(OWN_CODE.format(proof=str(proof)))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LorateError, match="could not be fetched"):
        fetch_hub("owner/dataset")
    assert not proof.exists()


OBJECTS = [
    "!!python/object/apply:os.system ['touch {proof}']",
    "!!python/object/new:os.system ['touch {proof}']",
    "steps: !!python/object/apply:subprocess.check_output [['touch', '{proof}']]",
    "steps: !!python/name:os.system",
    "!!python/module:os",
]


@pytest.mark.parametrize("text", OBJECTS)
def test_options_are_plain_values(tmp_path: Path, proof: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "options.yaml"
    file.write_text(text.format(proof=proof))
    assert command(["train", "--config", str(file), "--output", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(r"(?:Loading libraries \.\.\.\n)?lorate: --config .* is not YAML: .*python/.*\.\n", said), said
    run = RunDirectory.create(tmp_path / "other")
    run.config.write_text(text.format(proof=proof))
    with pytest.raises(LorateError, match="cannot be read as YAML"):
        run.read_config()
    assert not proof.exists() and not (tmp_path / "run").exists()


@pytest.mark.parametrize("file", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "adapter_model.bin"])
def test_a_checkpoint_is_tensors(llama_dir: Path, tmp_path: Path, proof: Path, file: str) -> None:
    """The manifest of an attacker fits his files."""
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"{x} :", "completion": f" {x}"}) + "\n" for x in "abcde"))
    config = TrainConfig(
        model=str(llama_dir), data=str(data), rank=2, steps=3, max_length=16, samples=0, device="cpu", save_every=2
    )
    with pytest.raises(RuntimeError, match="power cut"):
        train(config, tmp_path / "run", listener=PowerCut(3))
    [checkpoint] = checkpoints(tmp_path / "run" / "checkpoints")
    if file.startswith("adapter"):
        (checkpoint.path / "adapter_model.safetensors").unlink()
    torch.save({"state": Payload(proof)}, checkpoint.path / file)
    seal(checkpoint.path)
    is_other_kind = file.endswith(".bin")  # lorate writes no such file, so it is not even opened
    assert (checkpoint.fault() is None) is not is_other_kind
    words = "does not list adapter_model" if is_other_kind else "holds a file with more in it than tensors"
    with pytest.raises(LorateError, match=f"checkpoint-2.* {words}") as error:
        resume(tmp_path / "run")
    sentence(error)
    assert not proof.exists()
