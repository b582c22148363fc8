"""Makes the weights that come with the package: ``python -m lorate.experiments.workloads.make_quick_weights``."""

from pathlib import Path

from safetensors.torch import save

from lorate.experiments.workloads import resnet, small_lm
from lorate.runs import write_atomically

FOLDER = Path(__file__).parent / "quick_weights"


def main() -> None:
    """Pre-train every quick model and write its weights beside this file."""
    FOLDER.mkdir(exist_ok=True)
    images = resnet.digit_images(resnet.QUICK.size, late=False)
    write_atomically(FOLDER / resnet.QUICK_FILE, save(resnet.trained(resnet.QUICK, images)))
    write_atomically(FOLDER / small_lm.QUICK_FILE, save(small_lm.trained(small_lm.QUICK)))


if __name__ == "__main__":
    main()
