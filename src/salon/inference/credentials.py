"""Content Credentials (C2PA 2): a signed statement inside the PNG that a trained model made it.

An extra: `pip install .[c2pa]`. The variable SALON_C2PA says who signs: a folder with `certificate.pem` (the
chain, the signer's first) and `key.pem`; docs/serve.md makes one for development. Every manifest has an
identifier of its own, so that two signed files of one picture differ in bytes, though not in pixels and text.
"""

import io
import json
import os
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import salon
from salon.errors import SalonError
from salon.inference.provenance import DIGITAL_SOURCE_TYPE, PNG_SIGNATURE, Provenance

VARIABLE = "SALON_C2PA"
MANIFEST_CHUNK = b"caBX"  # where a PNG keeps its manifest, C2PA 2.2, sec. A.3.4
SETTINGS = {"verify": {"verify_after_sign": False}, "builder": {"thumbnail": {"enabled": False}}}


@dataclass(frozen=True)
class Credentials:
    """What the signature in a picture proves."""

    state: str
    """`trusted`; `valid`, by a signer whom this machine has no reason to trust; `invalid`, it was changed."""
    signer: str | None
    reasons: list[str]
    """What failed, in C2PA's own words."""


class Signer:
    """Adds Content Credentials to pictures; threads may share it."""

    def __init__(self, certificates: bytes, key: bytes) -> None:
        """Take a PEM chain and the PEM key of its first certificate.

        Raises:
            SalonError: they do not fit, or C2PA does not admit them.
        """
        c2pa = _library()
        try:
            info = c2pa.C2paSignerInfo(_algorithm(key), certificates, key, None)
            self._context = c2pa.Context.from_dict(SETTINGS, c2pa.Signer.from_info(info))
        except (c2pa.C2paError, ValueError, TypeError) as error:
            raise SalonError(f"{VARIABLE}: C2PA does not admit this certificate or key: {error}") from None
        self._lock = threading.Lock()

    def sign(self, png: bytes, provenance: Provenance) -> bytes:
        """The same picture with a manifest in front of its text."""
        agent = {"name": f"salon-{provenance.method}", "version": provenance.model_version}
        action = {"digitalSourceType": DIGITAL_SOURCE_TYPE, "softwareAgent": agent, "action": "c2pa.created"}
        manifest = {
            "claim_generator_info": [{"name": "salon", "version": salon.__version__}],
            "assertions": [{"label": "c2pa.actions", "data": {"actions": [action]}}],
        }
        signed = io.BytesIO()
        with self._lock, _library().Builder(manifest, self._context) as builder:
            builder.sign("image/png", io.BytesIO(png), signed)
        return signed.getvalue()


@cache
def configured_signer() -> Signer | None:
    """Who signs in this process, by SALON_C2PA; None where nobody does.

    Raises:
        SalonError: the extra is not installed, or certificate and key cannot be used.
    """
    if not (chosen := os.environ.get(VARIABLE)):
        return None
    _library()  # before its files are looked for
    try:
        chain, key = ((Path(chosen) / name).read_bytes() for name in ("certificate.pem", "key.pem"))
        return Signer(chain, key)
    except OSError as error:
        raise SalonError(
            f"{VARIABLE}={chosen}: {error.filename} cannot be read ({error.strerror}); name a folder with "
            "certificate.pem and key.pem (docs/serve.md says how to make them for development)"
        ) from None


def sign_as_configured(png: bytes, provenance: Provenance) -> bytes:
    """The picture, signed where this process signs."""
    signer = configured_signer()
    return png if signer is None else signer.sign(png, provenance)


def has_credentials(png: bytes) -> bool:
    """Whether the file carries a manifest, whatever it is worth."""
    position = len(PNG_SIGNATURE)
    while (kind := png[position + 4 : position + 8]) not in (MANIFEST_CHUNK, b""):
        position += 12 + int.from_bytes(png[position : position + 4], "big")
    return kind == MANIFEST_CHUNK


def read_credentials(png: bytes) -> Credentials:
    """Check the signature of a picture that has one.

    Raises:
        SalonError: the extra is not installed.
    """
    c2pa = _library()
    try:
        with c2pa.Reader("image/png", io.BytesIO(png)) as reader:
            report: dict[str, Any] = json.loads(reader.json())
    except c2pa.C2paError as error:
        return Credentials("invalid", None, [str(error)])
    manifest = report["manifests"][report["active_manifest"]]
    reasons = [status["code"] for status in report.get("validation_status", [])]
    signer = manifest.get("signature_info", {})
    named = ", ".join(signer[key] for key in ("common_name", "issuer") if signer.get(key))
    return Credentials(report["validation_state"].lower(), named or None, reasons)


def _algorithm(key: bytes) -> str:
    """The name by which C2PA calls the signature that this key makes."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    private = serialization.load_pem_private_key(key, password=None)
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(private, rsa.RSAPrivateKey):
        return "ps256"
    curves = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
    if isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name in curves:
        return curves[private.curve.name]
    raise ValueError("the key must be Ed25519, RSA, or on the curve P-256, P-384 or P-521")


def _library() -> Any:
    try:
        import c2pa
    except ImportError:
        raise SalonError("Content Credentials need an extra: pip install '.[c2pa]'") from None
    return c2pa
