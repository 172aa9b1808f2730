// SPDX-License-Identifier: Apache-2.0
#include "launch/report/report_style.h"

namespace conclave::launch {

const char kReportStyle[] = R"css(
:root {
  color-scheme: light dark;
  --ground: #f7f7f5; --card: #ffffff; --text: #1c1c1e; --muted: #63636a; --line: #dededb; --bar: #a9c4e4;
  --better: #00684a; --worse: #a8400a;
  --s0: #0068b0; --s1: #c44e00; --s2: #008060; --s3: #a8508a;
  --s4: #8a6d00; --s5: #2f8fc4; --s6: #555555; --s7: #6a4fc0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #131416; --card: #1c1e21; --text: #ececee; --muted: #a0a2a8; --line: #34373c; --bar: #3b6390;
    --better: #4cc9a0; --worse: #ff9a66;
    --s0: #5cb4f0; --s1: #ff8f4d; --s2: #2cc79a; --s3: #e59bc8;
    --s4: #e6c34a; --s5: #9fd4f5; --s6: #c0c0c4; --s7: #b3a1ff;
  }
}
.s0 { --c: var(--s0); } .s1 { --c: var(--s1); } .s2 { --c: var(--s2); } .s3 { --c: var(--s3); }
.s4 { --c: var(--s4); } .s5 { --c: var(--s5); } .s6 { --c: var(--s6); } .s7 { --c: var(--s7); }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 960px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 8px 0 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 12px; }
small, .note, .lead { color: var(--muted); }
small { font-size: .84em; }
.lead { margin: 2px 0 16px; }
.note { font-size: .87rem; margin: 10px 0; }
header dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(156px, 1fr)); gap: 12px 16px; margin: 0;
  padding: 16px; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.wide { grid-column: 1 / -1; }
dt { font-size: .8rem; color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; }
section { margin-top: 20px; padding: 16px; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 14px 6px 0; text-align: left; vertical-align: baseline; white-space: nowrap; }
tr + tr > * { border-top: 1px solid var(--line); }
tr:first-child > * { font-size: .8rem; font-weight: 400; color: var(--muted); }
th { font-weight: 600; }
th small { font-weight: 400; }
.number { text-align: right; }
.group th { padding-top: 16px; font-weight: 400; color: var(--muted); }
.better { color: var(--better); } .worse { color: var(--worse); } .same { color: var(--muted); }
th:first-child { position: sticky; left: 0; background: var(--card); }
.compare { list-style: none; margin: 0; padding: 0; font-variant-numeric: tabular-nums; }
.compare li { display: grid; grid-template-columns: 9.5em 1fr auto; gap: 0 10px; font-size: .95rem;
  align-items: baseline; padding: 6px 0; }
.compare li + li { border-top: 1px solid var(--line); }
.compare span, .compare small { min-width: 0; overflow-wrap: anywhere; }
.tree ul { list-style: none; margin: 0; padding: 0; }
.tree ul ul { margin-left: 12px; padding-left: 16px; border-left: 2px solid var(--line); }
.tree li { position: relative; }
.tree ul ul > li::before { content: ""; position: absolute; left: -16px; top: 26px; width: 12px; border-top: 2px solid
  var(--line); }
.node > div:first-child { min-width: 0; overflow-wrap: anywhere; }
.node { display: flex; justify-content: space-between; gap: 12px; align-items: center; padding: 6px 0;
  line-height: 1.3; }
.node i { font-style: normal; font-size: .75rem; color: var(--muted); border: 1px solid var(--line); border-radius: 9px;
  padding: 0 7px; }
.open b { color: var(--muted); font-weight: 400; }
.now > .score small { color: var(--s1); font-weight: 600; }
.score { flex: 0 0 112px; text-align: right; font-variant-numeric: tabular-nums; }
.meter { height: 6px; border-radius: 3px; background: var(--line); overflow: hidden; }
.meter div { height: 6px; background: var(--s0); }
.control .meter div { background: var(--s6); }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(320px, 100%), 1fr)); gap: 16px 24px; }
figure { margin: 0; }
figcaption { font-size: .87rem; margin-bottom: 2px; }
.chart { display: block; width: 100%; height: auto; overflow: visible; }
.chart text { font-size: 11px; fill: var(--muted); }
.chart .x { text-anchor: middle; } .chart .y { text-anchor: end; }
.grid { stroke: var(--line); stroke-width: 1; }
.line, .faint { fill: none; stroke: var(--c); stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.faint { stroke-width: 1; opacity: .32; }
.dashed .line { stroke-dasharray: 6 4; }
.dot { fill: var(--c); } .bar { stroke: var(--c); stroke-width: 1.5; }
.tip { fill: transparent; } .tip:hover { fill: var(--c); fill-opacity: .45; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 4px 20px; margin: 0 0 12px; padding: 0;
  font-size: .9rem; }
.key { width: 24px; height: 8px; margin-right: 7px; vertical-align: middle; }
.bars { min-width: 150px; width: 40%; }
.bars div { height: 8px; min-width: 1px; border-radius: 2px; background: var(--bar); }
.bars span { font-size: .84rem; color: var(--muted); }
pre, code, .response { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .84rem; }
pre { overflow-x: auto; margin: 8px 0 0; padding: 12px; background: var(--ground); border-radius: 6px;
  line-height: 1.45; }
.response { white-space: pre-wrap; overflow-wrap: anywhere; min-width: 220px; width: 100%; padding-right: 0; }
.samples td, .samples th { padding-top: 2px; padding-bottom: 2px; }
.samples tr:not(.first) + tr:not(.first) > *, .samples .first + tr:not(.first) > * { border-top-color: transparent; }
details + details { margin-top: 12px; }
summary { cursor: pointer; overflow-wrap: anywhere; }
summary code { font-size: .95rem; white-space: pre-wrap; }
@media (max-width: 600px) {
  main { padding: 12px 8px 48px; }
  section, header dl { padding: 12px; }
  .compare li { grid-template-columns: auto 1fr; }
  .compare small { grid-row: 1; grid-column: 2; text-align: right; }
  .compare span + span { grid-row: 2; grid-column: 1 / -1; }
  .tree ul ul { margin-left: 5px; padding-left: 12px; }
  .tree ul ul > li::before { left: -12px; width: 8px; }
  .score { flex-basis: 84px; }
  .samples, .samples tbody { display: block; }
  .samples tr { display: flex; flex-wrap: wrap; gap: 0 12px; }
  .samples tr:first-child { display: none; }
  .samples tr > * { border-top: 0 !important; padding-right: 0; }
  .samples .first { border-top: 1px solid var(--line); }
  .samples .first th { flex: 1 0 100%; }
  .samples tr:not(.first) th { display: none; }
  .samples td:nth-child(2)::before { content: "step "; color: var(--muted); }
  .samples td:nth-child(4)::before { content: "reward "; color: var(--muted); }
  .samples .response { flex: 1 0 100%; min-width: 0; }
}
)css";

}  // namespace conclave::launch
