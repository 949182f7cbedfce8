"""What a full run leaves in the repository: the two pictures, and the tables of the README."""

from benchmarks.plot import draw
from benchmarks.plot_gateway import draw_gateway, is_drawable
from benchmarks.processes import ROOT
from benchmarks.readme import block
from benchmarks.results import Results

IMAGES = ROOT / "docs" / "images"
README = ROOT / "README.md"
BEGIN, END = "<!-- bench:begin -->\n", "<!-- bench:end -->"


def publish(results: Results) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    written = {IMAGES / "benchmark.svg": draw(results)}
    if is_drawable(results):
        written[IMAGES / "gateway.svg"] = draw_gateway(results)
    before, begin, rest = README.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if begin and end:
        written[README] = f"{before}{BEGIN}{block(results)}{END}{after}"
    for path, text in written.items():
        path.write_text(text)
        print(f"Written: {path.relative_to(ROOT)}")
