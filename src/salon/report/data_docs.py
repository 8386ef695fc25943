"""The verdict on the data as one page that reads without a network."""

import base64
from collections import defaultdict
from pathlib import Path

from salon.data.validate.results import Verdict
from salon.files import write_text
from salon.templates import page_environment


def write_data_docs(folder: Path, verdict: Verdict) -> None:
    """Write `index.html` into `folder`. Captions and ids are the users' text: everything is escaped."""
    pictures: dict[str, list[dict[str, str]]] = defaultdict(list)
    for picture in verdict.measured.pictures:
        data = base64.b64encode(picture.image_bytes).decode("ascii")
        uri = f"data:{picture.mime};base64,{data}"
        pictures[picture.split].append({"uri": uri, "caption": picture.caption})
    page = page_environment("salon.report").get_template("data_docs.html")
    text = page.render(report=verdict.report(), failures=verdict.failures, pictures=pictures)
    write_text(folder / "index.html", text)
