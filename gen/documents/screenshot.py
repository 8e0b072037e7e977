# SPDX-License-Identifier: Apache-2.0
"""The beginning of a page as Chromium shows it, as a small PNG for the documents."""

import argparse
import io
import shutil
import subprocess
import tempfile
from pathlib import Path

from hls.errors import HeepgenError
from hls.output import DOCUMENT, write_file

WIDTH, HEIGHT = 1100, 1500
COLOURS = 96


def screenshot(page: Path, out: Path, width: int = WIDTH, height: int = HEIGHT, dark: bool = False) -> None:
    """Write a PNG of the upper `height` pixels of `page`; raises `HeepgenError` where there is no Chromium."""
    from PIL import Image

    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        raise HeepgenError("there is no Chromium on PATH; install it (Debian: chromium).")
    with tempfile.TemporaryDirectory(prefix="heepgen-") as folder:
        picture = Path(folder) / "page.png"
        command = [
            program,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            f"--window-size={width},{height}",
            f"--screenshot={picture}",
            page.resolve().as_uri(),
        ]
        subprocess.run(command, capture_output=True, timeout=120, check=True)
        few = Image.open(picture).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    data = io.BytesIO()
    few.save(data, "PNG", optimize=True)
    write_file(out, data.getvalue(), DOCUMENT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path, help="what heepgen report wrote")
    parser.add_argument("out", type=Path, help="the PNG")
    parser.add_argument("--width", type=int, default=WIDTH, help="pixels; a phone has about 400")
    parser.add_argument("--height", type=int, default=HEIGHT, help="pixels")
    parser.add_argument("--dark", action="store_true", help="as to those who like it dark")
    options = parser.parse_args()
    screenshot(options.page, options.out, options.width, options.height, options.dark)


if __name__ == "__main__":
    main()
