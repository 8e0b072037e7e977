"""Writes the documents that are generated from the tables in the code: `python -m gen.docs`."""

from pathlib import Path

from hls import regmap

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = {"docs/registers.md": regmap.markdown}


def main() -> None:
    for name, render in DOCUMENTS.items():
        (ROOT / name).write_text(render())
        print(name)


if __name__ == "__main__":
    main()
