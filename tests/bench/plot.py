"""The plot: panels of bars, as an SVG that is the same for the same figures."""

from __future__ import annotations

from html import escape

from tests.bench.bars import Results

WIDTH, LABEL, ROW, TOP = 760, 250, 24, 44

NAMES = {
    "direct": "no gateway",
    "nginx": "nginx, as a proxy",
    "floor": "bare Python proxy",
    "floor:parse": "bare proxy that parses",
    "talaria": "Talaria",
    "talaria-full": "Talaria, all on",
    "talaria-tls": "Talaria, TLS to the vendor",
    "talaria:anthropic": "Talaria, Anthropic translated",
    "talaria:mercury": "Talaria, Mercury's dialect",
    "litellm": "LiteLLM 1.106.2",
    "sglang-router": "sglang-router 0.3.2",
    "portkey": "Portkey 1.15.2",
}

STYLE = """\
text{font:13px system-ui,sans-serif;fill:#24292f}.t{font-weight:600}.v{fill:#57606a}
.o{fill:#afb8c1}.m{fill:#0969da}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.v{fill:#9198a1}.o{fill:#57606a}.m{fill:#4493f8}}"""


def panels(results: Results) -> list[tuple[str, str, list[tuple[str, float]]]]:
    """For each panel its title, the form of its values, and its bars."""

    def figures(scenario: str, figure: str, *entries: str) -> list[tuple[str, float]]:
        found = [(entry, results.value(scenario, entry, figure)) for entry in entries]
        return [(NAMES[entry], value) for entry, value in found if value is not None]

    def waits(*entries: str) -> list[tuple[str, float]]:
        found = [(entry, results.added("streams-16", entry, "ttft_p50_ms")) for entry in entries]
        return [(NAMES[entry], max(0.0, value)) for entry, value in found if value is not None]

    calm = (results.run.get("stall_free") or {}).get("entries", {})
    told = [
        (
            "CPU for a plain request, 32 connections (µs)",
            "{:,.0f}",
            figures("plain-32", "cpu_us", "nginx", "floor", "talaria", "talaria-full", "talaria:anthropic"),
        ),
        (
            "CPU for a chunk, 16 streams of 1,000 tokens/s (µs)",
            "{:.1f}",
            figures("streams-16", "cpu_us", *("nginx", "floor", "floor:parse", "talaria", "talaria:anthropic")),
        ),
        (
            "Added to the first token, 16 streams, median (ms)",
            "{:.1f}",
            waits("nginx", "floor", "floor:parse", "talaria", "talaria:anthropic"),
        ),
        (
            "Streams of 1,000 tokens/s at a time without a silence over 20 ms",
            "{:.0f}",
            [(NAMES[entry], float(found["streams"])) for entry, found in calm.items()],
        ),
    ]
    return [panel for panel in told if panel[2]]


def svg(results: Results) -> str:
    parts: list[str] = []
    y = 0
    for title, form, bars in panels(results):
        parts.append(f'<text class="t" x="0" y="{y + 22}">{escape(title)}</text>')
        most = max(value for _, value in bars) or 1.0
        for number, (name, value) in enumerate(bars):
            at = y + TOP - 10 + number * ROW
            wide = max(1.0, value / most * (WIDTH - LABEL - 70))
            kind = "m" if name.startswith("Talaria") else "o"
            parts.append(f'<text x="{LABEL - 10}" y="{at + 15}" text-anchor="end">{escape(name)}</text>')
            parts.append(f'<rect class="{kind}" x="{LABEL}" y="{at + 2}" width="{wide:.1f}" height="17" rx="2"/>')
            parts.append(f'<text class="v" x="{LABEL + wide + 6:.1f}" y="{at + 15}">{form.format(value)}</text>')
        y += TOP + len(bars) * ROW + 8
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}">'
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, "</svg>", ""])
