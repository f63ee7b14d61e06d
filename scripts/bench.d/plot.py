"""The plot of doc/packing.svg: seconds and bytes of every way to pack."""
import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 460, 70, 130, 40, 60
OURS = ("portable", "small", "fast")


def packing(found: dict, sizes: dict) -> str:
    """Of all of snappy together, or of what there is."""
    kind = "snappy" if "snappy" in found else next(iter(found))
    size = sizes[kind]
    points = {name: (size / 1e6 / one["pack"].seconds, one["bytes"] / size) for name, one in found[kind].items()}
    speeds = [speed for speed, _ in points.values()]
    low, high = math.floor(math.log10(min(speeds))), math.ceil(math.log10(max(speeds)))
    most = math.ceil(max(share for _, share in points.values()) * 10) / 10

    def place(speed: float, share: float) -> tuple[float, float]:
        x = LEFT + (math.log10(speed) - low) / (high - low) * (WIDTH - LEFT - RIGHT)
        return x, HEIGHT - BOTTOM - share / most * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">Packing {size / 1e6:.0f} MB of collections, indexes and oplog (snappy): down and to the right is better</text>',
    ]
    for power in range(low, high + 1):
        for step in (1, 2, 5):
            speed = step * 10**power
            if not 10**low <= speed <= 10**high:
                continue
            x, _ = place(speed, 0)
            parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}" stroke="#e4e4e4"/>')
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{speed}</text>')
    for tenth in range(0, round(most * 10) + 1):
        _, y = place(10**low, tenth / 10)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tenth * 10} %</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 14}" text-anchor="middle">MB of data packed in a second</text>')
    parts.append(f'<text transform="translate(18 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">bytes of the archive, of the data</text>')
    for name, point in points.items():
        x, y = place(*point)
        colour = "#b03a2e" if name in OURS else "#566573"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>')
        parts.append(f'<text x="{x + 9:.1f}" y="{y + 4:.1f}" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])
