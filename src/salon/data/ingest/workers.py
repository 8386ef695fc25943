"""What a source finds, prepared on all cores into files of one chunk each; killed, it goes on from there.

Memory holds a few chunks for each process and about fifty bytes a row, however many pictures there are.
"""

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing import parent_process
from pathlib import Path

from tqdm import tqdm

from salon.cpus import count_cpus
from salon.data.ingest.prepare import Chunk, Preparation
from salon.data.ingest.quarantine import Reason, Rejection
from salon.data.ingest.sources.base import Found, Source
from salon.errors import SalonError
from salon.params.sources import CaptionedParams

FORMAT = 1  # of the chunks: another number, and what an older version left is begun anew
CHUNK_PICTURES = 512
CHUNK_BYTES = 16 * 2**20  # of encoded pictures that come through this process
CHUNK_PIXEL_BYTES = 32 * 2**20  # of decoded ones


def work_folder(scratch: Path, source: Source, settings: CaptionedParams) -> Path:
    """Where the chunks of just this content with just these settings lie; those of others are deleted."""
    identity = json.dumps([FORMAT, source.name, source.fingerprint, settings.model_dump(mode="json")])
    folder = scratch / hashlib.sha256(identity.encode()).hexdigest()[:16]
    if scratch.is_dir():
        for other in scratch.iterdir():
            if other.is_dir() and other != folder:
                shutil.rmtree(other, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def prepare_source(
    source: Source, preparation: Preparation, *, workers: int | None = None
) -> tuple[int, int]:
    """Write a file for each chunk that has none yet; the number of rows found and of chunks."""
    found_rows = chunks = 0
    with tqdm(desc="ingest", total=source.total, unit=" pictures", mininterval=0.5) as progress:

        def missing() -> Iterator[Chunk]:
            nonlocal found_rows, chunks
            for chunk in cut_into_chunks(source.find(), preparation.settings):
                chunks += 1
                found_rows += sum(len(found.captions) for found in chunk.found)
                if chunk.path(preparation.folder).exists():
                    progress.initial += len(chunk.found)  # done before: not to be taken for today's speed
                    progress.update(len(chunk.found))
                else:
                    yield chunk

        for chunk in WorkerPool(preparation, workers or count_cpus()).prepare(missing()):
            progress.update(len(chunk.found))
    return found_rows, chunks


def cut_into_chunks(found: Iterator[Found], settings: CaptionedParams) -> Iterator[Chunk]:
    """The same pictures in the same chunks, whenever it is asked."""
    most = max(1, min(CHUNK_PICTURES, CHUNK_PIXEL_BYTES // (3 * settings.image_size**2)))
    held: list[Found] = []
    size = number = 0
    for picture in found:
        held.append(picture)
        size += len(picture.image) if isinstance(picture.image, bytes) else 0
        if len(held) == most or size >= CHUNK_BYTES:
            yield Chunk(number, held)
            held, size, number = [], 0, number + 1
    if held:
        yield Chunk(number, held)


@dataclass(frozen=True)
class WorkerPool:
    """Worker processes. A picture on which one dies (a fault in a decoder, too little memory) is refused."""

    preparation: Preparation
    workers: int

    def prepare(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        """Yield every chunk when it is done."""
        waiting: list[Chunk] = []
        while True:
            try:
                with self._pool(self.workers) as pool:
                    # a bounded window: memory does not grow with the number of pictures
                    window: list[tuple[Chunk, Future[int]]] = []
                    while True:
                        for chunk in islice(chunks, 2 * self.workers - len(window)):
                            waiting.append(chunk)
                            window.append((chunk, pool.submit(self.preparation.prepare, chunk)))
                        if not window:
                            return
                        chunk, future = window.pop(0)
                        future.result()
                        waiting.remove(chunk)
                        yield chunk
            except BrokenProcessPool:
                while waiting:
                    self._prepare_carefully(waiting[0])
                    yield waiting.pop(0)

    def _prepare_carefully(self, chunk: Chunk) -> None:
        """One picture at a time, each of which may take its process with it."""
        if chunk.path(self.preparation.folder).exists():
            return
        mended: list[Found] = []
        pictures = iter(chunk.found)
        while len(mended) < len(chunk.found):
            with self._pool(1) as pool:
                for found in pictures:
                    try:
                        pool.submit(self.preparation.decode, found).result()
                        mended.append(found)
                    except BrokenProcessPool:
                        problem = Rejection(Reason.UNDECODABLE, "a process died of decoding it")
                        mended.append(replace(found, image=problem))
                        break
        try:
            with self._pool(1) as pool:
                pool.submit(self.preparation.prepare, Chunk(chunk.number, mended)).result()
        except BrokenProcessPool:
            raise SalonError(
                f"a worker process died on the pictures from {mended[0].where} to {mended[-1].where}, though "
                "on none of them alone: there may be too little memory; lower max_pixels"
            ) from None

    def _pool(self, workers: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(workers, initializer=_start_worker)


def _start_worker() -> None:
    # a worker whose parent was killed would wait for work for ever
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
