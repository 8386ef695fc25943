"""Pictures as PNG files that say where they come from."""

import io
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import salon

# IPTC's term for pictures made by a trained model; what platforms read to label them
DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


@dataclass(frozen=True)
class Provenance:
    """What it takes to draw a picture again."""

    prompt: str
    seed: int
    method: str
    model_version: str
    data_sha256: str
    num_inference_steps: int | None = None
    guidance_scale: float | None = None


def encode_png(pixels: UInt8[np.ndarray, "h w 3"], provenance: Provenance) -> bytes:
    """The same pixels and provenance give the same bytes: no time, no place."""
    info = PngInfo()
    info.add_text("Software", f"salon {salon.__version__}")
    info.add_text("Source", "AI-generated")
    info.add_itxt("Description", provenance.prompt)
    for name, value in vars(provenance).items():
        if value is not None:
            info.add_itxt(name, str(value))
    info.add_itxt("XML:com.adobe.xmp", _xmp(provenance))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def _xmp(provenance: Provenance) -> str:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
        ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        f" xmp:CreatorTool={quoteattr(f'salon {salon.__version__} {provenance.method}')}"
        f" Iptc4xmpExt:DigitalSourceType={quoteattr(DIGITAL_SOURCE_TYPE)}/></rdf:RDF></x:xmpmeta>"
    )
