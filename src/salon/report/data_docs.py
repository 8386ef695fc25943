"""The verdict on the data as one page that reads without a network."""

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from salon.data.validate.measure import SampleImage
from salon.data.validate.results import Verdict


def write_data_docs(folder: Path, verdict: Verdict) -> None:
    """Write `index.html` into `folder`, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / ".index.html.part"
    temporary.write_text(render_data_docs(verdict), encoding="utf-8")
    temporary.replace(folder / "index.html")


def render_data_docs(verdict: Verdict) -> str:
    """The page as HTML. Captions and ids are the users' text: everything is escaped."""
    environment = Environment(
        loader=PackageLoader("salon.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    pictures: dict[str, list[dict[str, str]]] = {}
    for picture in verdict.evidence.pictures:
        pictures.setdefault(picture.split, []).append(_inline(picture))
    report: dict[str, Any] = verdict.report()
    return environment.get_template("data_docs.html").render(
        report=report, failures=verdict.failures, pictures=pictures
    )


def _inline(picture: SampleImage) -> dict[str, str]:
    data = base64.b64encode(picture.image_bytes).decode("ascii")
    return {"uri": f"data:{picture.mime};base64,{data}", "caption": picture.caption}
