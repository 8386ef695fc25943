"""Lay a profile over `params.yaml`."""

from salon.files import write_text
from salon.methods.base import read_config
from salon.params.profiles import lay_over
from salon.paths import Paths


def run(paths: Paths, name: str) -> None:
    """Rewrite `params.yaml`.

    Raises:
        SalonError: unknown profile or key, or a value out of range; then nothing is written.
    """
    text, params = lay_over(paths, name)
    for method, raw in params.methods.items():
        read_config(method, raw)
    write_text(paths.params, text)
    print(f"{paths.params} now follows profile {name}; `git checkout {paths.params}` brings the old one back")
