"""The named statements of the product, as the peers and pgbench run them: the very same SQL."""
import json
import pathlib
import re
import sys

SRC = pathlib.Path(__file__).resolve().parent.parent / "src"


def read():
    found = {}
    for path in SRC.rglob("*.sql"):
        name = None
        for line in path.read_text().splitlines():
            m = re.match(r"--\s*name:\s*(\w+)", line)
            if m:
                name = m.group(1)
                found[name] = ""
            elif name and not line.startswith("--"):
                found[name] += line + "\n"
    out = {}
    for name, text in found.items():
        order, types = [], {}

        def put(m):
            word, cast = m.group(1), m.group(2)
            if word not in order:
                order.append(word)
                types[word] = cast
            return f"${order.index(word) + 1}::{cast or types[word]}"

        text = re.sub(r"(?<![:\w]):([a-z_]\w*)(?:::(\w+(?:\[\])?))?", put, text)
        out[name] = {"text": re.sub(r"\s+", " ", text).strip(), "names": order}
    return out


if __name__ == "__main__":
    json.dump(read(), sys.stdout)
