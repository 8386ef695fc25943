"""An ingested workspace whose rows and shards can be spoilt, and the checks that notice."""

import hashlib
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from salon.data.schema import STORED_SCHEMA, row_id
from salon.data.shards import HF_METADATA
from salon.errors import GateError
from salon.files import read_json
from salon.paths import Paths
from salon.stages import validate
from tiny import write_tiny_params

Record = dict[str, Any]


class World:
    """An ingested workspace whose shards can be spoilt."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths = Paths(root)

    def shard(self, split: str) -> Path:
        return self.paths.interim / f"{split}-00000.parquet"

    def read(self, split: str) -> list[Record]:
        return pq.read_table(self.shard(split)).to_pylist()

    def write(self, split: str, records: list[Record]) -> None:
        table = pa.Table.from_pylist(records, schema=STORED_SCHEMA).replace_schema_metadata(HF_METADATA)
        pq.write_table(table, self.shard(split))

    def change(self, split: str, **values: Any) -> Record:
        """Overwrite columns of row 3 of the split; with `seal=True` hashes and id fit again."""
        seal = values.pop("seal", False)
        records = self.read(split)
        records[3] |= values
        self.write(split, [*records[:3], sealed(records[3]) if seal else records[3], *records[4:]])
        return records[3]

    def failures(self, **settings: Any) -> dict[str, dict[str, Any]]:
        """Run the stage; the checks that failed, and the stage's message under the key `message`."""
        params = write_tiny_params(self.root, validate=settings)
        message = ""
        try:
            validate.run(params, self.paths)
        except GateError as error:
            message = str(error)
        report = read_json(self.paths.validation)
        assert report["verdict"] == ("failed" if message else "passed")
        assert (self.paths.data_docs / "index.html").is_file()
        failed = {check["name"]: check for check in report["checks"] if check["status"] == "failed"}
        assert all(name in message for name in failed)
        return failed | ({"message": {"text": message}} if message else {})

    def only_failure(self, name: str, **settings: Any) -> dict[str, Any]:
        """The one check that failed, with the stage's message."""
        failed = self.failures(**settings)
        message = failed.pop("message", {"text": ""})["text"]
        assert list(failed) == [name], message
        return failed[name] | {"message": message}


def sealed(record: Record) -> Record:
    """The record with hashes and id that fit its content."""
    data = record["image"]["bytes"]
    identity = row_id(data, record["caption"], record["lang"])
    return record | {"id": identity, "image_sha256": hashlib.sha256(data).hexdigest()}


def attributes_of(record: Record) -> dict[str, str]:
    return {entry["key"]: entry["value"] for entry in record["attributes"]}


def encode(image: Image.Image, **options: Any) -> dict[str, Any]:
    buffer = io.BytesIO()
    image.save(buffer, **{"format": "PNG"} | options)
    return {"bytes": buffer.getvalue(), "path": "picture.png"}


def repaint(record: Record) -> Record:
    """The same scene with one other pixel: a new picture of the same combination."""
    image = Image.open(io.BytesIO(record["image"]["bytes"])).copy()
    red, green, blue = image.getpixel((0, 0))
    image.putpixel((0, 0), (red ^ 1, green, blue))
    return sealed(record | {"image": encode(image)})
