"""Draws the pictures of docs/: boxes, arrows and text as SVG, readable on light and dark pages."""
import html

LIGHT = {"page": "#ffffff", "ink": "#1f2328", "quiet": "#59636e", "line": "#818b98", "soft": "#f0f3f6", "edge": "#c2cad2",
         "accent": "#0a5cc2", "accent_soft": "#dcebfd", "good": "#146c2e", "good_soft": "#dcf3e1", "warn": "#8a4600",
         "warn_soft": "#fdeccf"}
DARK = {"page": "#0d1117", "ink": "#e6edf3", "quiet": "#9aa4af", "line": "#768390", "soft": "#1c2330", "edge": "#3d4754",
        "accent": "#79b8ff", "accent_soft": "#12294a", "good": "#6fdd8b", "good_soft": "#12301c", "warn": "#f0b35a",
        "warn_soft": "#3a2810"}
FONT = "-apple-system, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif"
MONO = "ui-monospace, 'SF Mono', 'DejaVu Sans Mono', Menlo, Consolas, monospace"


def rules(colors):
    """One class for each use of a colour: f-NAME fills, s-NAME strokes."""
    return "".join(f".f-{name}{{fill:{value}}}.s-{name}{{stroke:{value}}}" for name, value in colors.items())


class Picture:
    def __init__(self, width, height, title):
        self.width, self.height, self.title, self.parts = width, height, title, []
        self.rect(0.5, 0.5, width - 1, height - 1, fill="page", stroke="edge", radius=10)

    def rect(self, x, y, w, h, fill="soft", stroke="edge", radius=7, dashed=False):
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="{radius}" class="f-{fill} s-{stroke}"{dash}/>')

    def text(self, x, y, content, size=13, color="ink", bold=False, anchor="middle", mono=False):
        weight = ' font-weight="600"' if bold else ""
        family = ' class="mono f-' + color + '"' if mono else f' class="f-{color}"'
        self.parts.append(f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}"{weight}{family}>{html.escape(content)}</text>')

    def box(self, x, y, w, h, title, lines=(), fill="soft", stroke="edge", color="ink", dashed=False, mono=False):
        """A rectangle with a title and smaller lines under it, all in its middle."""
        self.rect(x, y, w, h, fill, stroke, dashed=dashed)
        top = y + h / 2 - 8.5 * len(lines) + 5
        self.text(x + w / 2, top, title, 14, color, bold=True, mono=mono)
        for number, line in enumerate(lines):
            self.text(x + w / 2, top + 18 + 17 * number, line, 12, "quiet")

    def arrow(self, points, color="line", dashed=False):
        path = "M" + " L".join(f"{x} {y}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(f'<path d="{path}" class="s-{color}" fill="none" stroke-width="1.6"{dash}/>')
        (x0, y0), (x1, y1) = points[-2:]
        length = max(abs(x1 - x0), abs(y1 - y0)) or 1
        dx, dy = (x1 - x0) / length, (y1 - y0) / length  # along an axis
        tip = f"{x1},{y1} {x1 - 8 * dx + 4.5 * dy},{y1 - 8 * dy + 4.5 * dx} {x1 - 8 * dx - 4.5 * dy},{y1 - 8 * dy - 4.5 * dx}"
        self.parts.append(f'<polygon points="{tip}" class="f-{color}"/>')

    def svg(self, only=None):
        """The picture; `only` takes one set of colours in place of the reader's own choice."""
        style = rules(only or LIGHT) + ("" if only else "@media (prefers-color-scheme: dark){" + rules(DARK) + "}")
        body = "\n".join(self.parts)
        return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}" '
                f'viewBox="0 0 {self.width} {self.height}" role="img">\n<title>{html.escape(self.title)}</title>\n'
                f'<style>text{{font-family:{FONT}}}.mono{{font-family:{MONO}}}{style}</style>\n{body}\n</svg>\n')
