"""Images of data sets that ``datasets`` wrote here: what lies with the data is read, and nothing elsewhere is."""

from pathlib import Path

import datasets
import pyarrow.parquet
import pytest
from PIL import Image

from lorate.errors import LorateError
from lorate.tasks import load_data

FEATURES = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
ELSEWHERE = "its image is the file .*, which lies elsewhere and is not read: move the images into"


def naming(paths: list[Path | str]) -> datasets.Dataset:
    """A data set that holds the paths of images and not their bytes, of two classes in turn."""
    rows = [{"image": {"path": str(path), "bytes": None}, "label": "ab"[n % 2]} for n, path in enumerate(paths)]
    return datasets.Dataset.from_list(rows, features=FEATURES)


def unembedded(rows: datasets.Dataset, file: Path) -> str:
    """A Parquet file with the table as it is."""
    file.parent.mkdir(exist_ok=True)
    pyarrow.parquet.write_table(rows.data.table, file)
    return str(file)


def stored(rows: datasets.Dataset, folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder of ``save_to_disk``, or a Parquet file in the folder, that holds no bytes of images."""
    if kind == "parquet":
        return unembedded(rows, folder / "data.parquet")
    with monkeypatch.context() as patch:
        patch.setattr(datasets.arrow_writer, "embed_table_storage", lambda table, *_, **__: table)
        patch.setattr(datasets.Dataset, "_estimate_nbytes", lambda _: 1)
        rows.save_to_disk(str(folder))
    return str(folder)


def loaded(spec: object) -> int:
    """How many images are read, each of which opens."""
    data = load_data(str(spec), kind="image-classification")
    assert all(row["image"].size == (12, 10) for part in (data.train, data.eval) for row in part)
    return len(data.train) + len(data.eval)


@pytest.fixture
def files(image_folder: Path) -> list[Path]:
    return sorted(image_folder.glob("*/*.png"))


def test_what_datasets_makes_of_an_image_folder_is_read(image_folder: Path, tmp_path: Path) -> None:
    rows = datasets.load_dataset(
        "imagefolder", data_dir=str(image_folder), split="train", cache_dir=str(tmp_path / "c")
    )
    rows.save_to_disk(str(tmp_path / "saved"))
    datasets.DatasetDict(train=rows, test=rows).save_to_disk(str(tmp_path / "splits"))
    rows.to_parquet(str(tmp_path / "beside.parquet"))
    embedded = unembedded(datasets.load_from_disk(str(tmp_path / "saved")), tmp_path / "away" / "embedded.parquet")
    for spec in (
        tmp_path / "saved",
        tmp_path / "splits",
        f"{tmp_path}/splits:test",
        tmp_path / "beside.parquet",
        embedded,
    ):
        assert loaded(spec) == 12


@pytest.mark.parametrize("relative", [False, True])
def test_files_beside_the_data_are_read_from_wherever_the_command_is_given(
    files: list[Path], tmp_path: Path, relative: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = naming([file.relative_to(tmp_path) if relative else file for file in files])
    spec = unembedded(rows, tmp_path / "data.parquet")
    monkeypatch.chdir("/")
    assert loaded(spec) == 12


def test_a_saved_data_set_may_keep_its_images_in_its_own_folder(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As older versions of datasets saved them: the table holds paths."""
    saved = tmp_path / "saved"
    stored(naming([f"images/{number}.png" for number in range(len(files))]), saved, "saved", monkeypatch)
    (saved / "images").mkdir()
    for number, file in enumerate(files):
        file.rename(saved / "images" / f"{number}.png")
    assert loaded(saved) == 12


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret.png", "images/../../secret.png", "link.png", "/dev/zero"])
@pytest.mark.parametrize("kind", ["parquet", "saved"])
def test_a_file_elsewhere_is_not_read(path: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (12, 10)).save(tmp_path / "secret.png")
    folder = tmp_path / "data"
    spec = stored(naming([path] * 4), folder, kind, monkeypatch)
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(LorateError, match=f"row 1: {ELSEWHERE} {folder}"):
        loaded(spec)


@pytest.mark.parametrize("kind", ["parquet", "saved"])
def test_a_file_beside_the_data_that_is_no_image_is_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    spec = stored(naming(["secret.png"] * 4), folder, kind, monkeypatch)
    (folder / "secret.png").write_text("-----BEGIN OPENSSH PRIVATE KEY-----")
    with pytest.raises(LorateError, match=r"row 1: not a readable image"):
        loaded(spec)
