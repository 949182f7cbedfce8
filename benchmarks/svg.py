"""A few shapes as SVG text, in colours that follow the reader's light or dark theme.

The picture paints its own background, so it can be read on any page, also where the theme of the
page is not that of the reader's system.
"""

from html import escape

STYLE = """
svg { font-family: -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; }
.card { fill: #ffffff; stroke: #d0d7de; }
.rule { stroke: #d8dee4; }
.track { fill: #f3f5f8; }
.text { fill: #1f2328; }
.muted { fill: #59636e; }
.ours { fill: #d9480f; }
.peer { fill: #7f9bb8; }
.reference { fill: #c3ccd6; }
.title { font-size: 21px; font-weight: 650; }
.heading { font-size: 14px; font-weight: 600; }
.label { font-size: 13px; }
.small { font-size: 12px; }
.strong { font-weight: 650; }
.number { font-variant-numeric: tabular-nums; }
@media (prefers-color-scheme: dark) {
  .card { fill: #0d1117; stroke: #30363d; }
  .rule { stroke: #262c34; }
  .track { fill: #151b23; }
  .text { fill: #e6edf3; }
  .muted { fill: #9198a1; }
  .ours { fill: #ff7a3d; }
  .peer { fill: #5d7c9b; }
  .reference { fill: #3b444f; }
}
"""


def document(width: float, height: float, title: str, description: str, body: list[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
            f'viewBox="0 0 {width:g} {height:g}" role="img" aria-labelledby="title desc">',
            f'<title id="title">{escape(title)}</title>',
            f'<desc id="desc">{escape(description)}</desc>',
            f"<style>{STYLE}</style>",
            f'<rect class="card" x="0.5" y="0.5" width="{width - 1:g}" height="{height - 1:g}" '
            'rx="10"/>',
            *body,
            "</svg>\n",
        ]
    )


def text(x: float, y: float, words: str, classes: str, anchor: str = "start") -> str:
    where = f'x="{x:.1f}" y="{y:.1f}"'
    return f'<text class="{classes}" {where} text-anchor="{anchor}">{escape(words)}</text>'


def bar(x: float, y: float, width: float, height: float, classes: str) -> str:
    size = f'width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="{classes}" x="{x:.1f}" y="{y:.1f}" {size} rx="2.5"/>'


def rule(x1: float, x2: float, y: float) -> str:
    return f'<line class="rule" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
