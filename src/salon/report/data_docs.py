"""The verdict on the data as one page that reads without a network."""

import base64
from pathlib import Path
from typing import Any

from salon.data.validate.measure import SampleImage
from salon.data.validate.results import Verdict
from salon.files import write_text
from salon.templates import page_environment


def write_data_docs(folder: Path, verdict: Verdict) -> None:
    """Write `index.html` into `folder`, whole or not at all."""
    write_text(folder / "index.html", render_data_docs(verdict))


def render_data_docs(verdict: Verdict) -> str:
    """The page as HTML. Captions and ids are the users' text: everything is escaped."""
    environment = page_environment("salon.report")
    pictures: dict[str, list[dict[str, str]]] = {}
    for picture in verdict.measured.pictures:
        pictures.setdefault(picture.split, []).append(_inline(picture))
    report: dict[str, Any] = verdict.report()
    return environment.get_template("data_docs.html").render(
        report=report, failures=verdict.failures, pictures=pictures
    )


def _inline(picture: SampleImage) -> dict[str, str]:
    data = base64.b64encode(picture.image_bytes).decode("ascii")
    return {"uri": f"data:{picture.mime};base64,{data}", "caption": picture.caption}
