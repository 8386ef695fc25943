"""Run the notebooks on what this workspace holds, and keep their outputs without noise: `make notebooks`."""

import base64
import io
import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

FOLDER = Path(__file__).parent
QUIET = {
    "TQDM_DISABLE": "1",
    "PYTHONWARNINGS": "ignore:IProgress not found",  # progress bars as widgets, which nobody would see move
    "TOKENIZERS_PARALLELISM": "false",
}


def execute(path: Path) -> None:
    """Run one notebook from top to bottom in its own folder and write it back.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed; the file stays as it was.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    tidy(notebook)
    temporary = path.with_suffix(".part")
    nbformat.write(notebook, temporary)
    temporary.replace(path)


def tidy(notebook: NotebookNode) -> None:
    """Keep what a reader looks at: no versions of this machine, pictures once and small."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                data.pop("text/plain", None)
                data["image/png"] = shrink(data["image/png"])


def shrink(png: str) -> str:
    """A base64 PNG in 256 colours: a third of the bytes, which git keeps for ever."""
    buffer = io.BytesIO()
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


if __name__ == "__main__":
    os.environ.update(QUIET)
    for notebook_path in sorted(FOLDER.glob("*.ipynb")):
        execute(notebook_path)
        print(f"{notebook_path.name}: executed")
