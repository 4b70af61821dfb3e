"""The style sheet of a report: light and dark, wide and narrow, screen and paper."""

from __future__ import annotations

__all__ = ["CSS"]

CSS = """
:root { color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1d2329; --soft: #59636e; --line: #dde2e8;
  --accent: #0b5cad; --good: #10663a; --good-bg: #ddf3e4; --bad: #9b1c1c; --bad-bg: #fde3e1;
  --open: #6b4e00; --open-bg: #fdf0cd; }
@media (prefers-color-scheme: dark) { :root {
  --page: #14181d; --card: #1c2229; --ink: #e6eaee; --soft: #a3adb8; --line: #343c46;
  --accent: #7ab8f5; --good: #8fe0ac; --good-bg: #143a25; --bad: #ffb1a8; --bad-bg: #4a1a17;
  --open: #f2d58a; --open-bg: #3f3210; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
header { border-bottom: 3px solid var(--accent); padding-bottom: .9rem; margin-bottom: 1.5rem; }
h1 { font-size: clamp(1.45rem, 4.5vw, 2.1rem); line-height: 1.2; margin: 0 0 .35rem;
  overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 2.4rem 0 .7rem; }
p { max-width: 46rem; margin: .6rem 0; overflow-wrap: anywhere; }
.subtitle, figcaption, .note { color: var(--soft); font-size: .92rem; }
.subtitle { margin: 0; }
.cards { display: grid; gap: .75rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(13rem, 100%), 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: .8rem 1rem; min-width: 0; }
.card .label { color: var(--soft); font-size: .85rem; }
.card .value { font-size: 1.15rem; font-weight: 650; font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere; }
figure { margin: 1.1rem 0; }
figcaption { margin-top: .45rem; max-width: 46rem; }
.plot { background: #ffffff; border: 1px solid var(--line); border-radius: .6rem; padding: .6rem;
  max-width: 42rem; }
.plot svg { display: block; width: 100%; height: auto; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line);
  border-radius: .6rem; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { padding: .5rem .8rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; }
tr:last-child td { border-bottom: 0; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
td.words { min-width: 6.4rem; } td.detail { min-width: 14rem; }
.missing { color: var(--soft); font-style: italic; }
.value .missing { font-size: 1rem; font-weight: 400; }
.badge { display: inline-block; border-radius: 1rem; padding: .05rem .65rem; font-size: .82rem;
  font-weight: 650; white-space: nowrap; }
.holds { color: var(--good); background: var(--good-bg); }
.fails { color: var(--bad); background: var(--bad-bg); }
.open { color: var(--open); background: var(--open-bg); }
.columns { display: grid; gap: .75rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(17rem, 100%), 1fr)); }
.column { min-width: 0; }
.column h3 { font-size: .95rem; margin: 0 0 .5rem; }
pre { margin: 0 0 .6rem; padding: .65rem .8rem; background: var(--card); color: var(--ink);
  border: 1px solid var(--line); border-radius: .6rem; white-space: pre-wrap;
  overflow-wrap: anywhere;
  font: .82rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
details { margin: .8rem 0; }
summary { cursor: pointer; color: var(--accent); font-weight: 600; margin-bottom: .5rem; }
@media (max-width: 34rem) { main { padding: 1.2rem .8rem 3rem; }
  th, td { padding: .4rem .6rem; } .plot { padding: .3rem; } }
@media print { body { background: #fff; } main { max-width: none; padding: 0; }
  figure, .card, pre, tr { break-inside: avoid; } h2 { break-after: avoid; } }
""".strip()
