/**
 * The look of the status page. Colours are variables with a light and a dark value each; text has a
 * contrast of 4.5 : 1 at least on its ground, lines and areas of plots 3 : 1.
 */
export const STYLE = `
:root {
  color-scheme: light dark;
  --paper: #f6f7f9; --card: #fff; --ink: #151a21; --soft: #56606d; --line: #dde2e8; --grid: #e8ebef;
  --ok: #17754a; --bad: #b42318; --loud: #ffd84d; --loud-ink: #2b2100;
  --s1: #2459c9; --s2: #0a8273; --s3: #a2620c; --s4: #9b3a77; --s5: #75808e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #0e1116; --card: #151a21; --ink: #e6eaef; --soft: #9aa6b3; --line: #29313b; --grid: #222932;
    --ok: #4fc38d; --bad: #ff8078; --loud: #ffd84d; --loud-ink: #2b2100;
    --s1: #7aa5ff; --s2: #42c9b5; --s3: #e3ab4c; --s4: #e288bb; --s5: #8d99a7;
  }
}
* { box-sizing: border-box; margin: 0; padding: 0; }
body {
  background: var(--paper); color: var(--ink);
  font: 15px/1.5 -apple-system, "Segoe UI", Inter, Roboto, "Noto Sans", system-ui, sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere;
}
ul, ol { list-style: none; }
code, .mono { font: 0.9em/1.4 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
a { color: inherit; text-underline-offset: 0.2em; }
a:focus-visible { outline: 2px solid var(--s1); outline-offset: 2px; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.wide { max-width: 1120px; margin: 0 auto; padding-inline: 20px; }

.dev { background: var(--loud); color: var(--loud-ink); border-bottom: 6px solid;
  border-image: repeating-linear-gradient(-45deg, #2b2100 0 10px, #ffd84d 10px 20px) 6; }
.dev p { padding-top: 10px; padding-bottom: 10px; }
.dev strong { margin-right: 0.6em; letter-spacing: 0.06em; text-transform: uppercase; }

.top { display: flex; flex-wrap: wrap; gap: 4px 16px; align-items: center; justify-content: space-between; padding-top: 20px; padding-bottom: 20px; }
.brand { display: flex; gap: 10px; align-items: center; font-weight: 600; }
.brand svg { width: 26px; height: 18px; }
.brand .first { fill: var(--s1); }
.brand .second { fill: var(--s2); }
.top .note { color: var(--soft); font-size: 13px; }

.state { display: grid; gap: 24px 48px; grid-template-columns: minmax(0, 1fr); padding-top: 12px; padding-bottom: 36px; }
h1 { display: flex; gap: 14px; align-items: center; font-size: 40px; line-height: 1.15; font-weight: 650; letter-spacing: -0.025em; }
h1 svg { width: 30px; height: 30px; flex: none; }
svg.good, svg.poor { stroke: var(--paper); stroke-width: 1.8; fill: none; }
svg.good > :first-child { fill: var(--ok); stroke: none; }
svg.poor > :first-child { fill: var(--bad); stroke: none; }
.poor h1, .checks .poor { color: var(--bad); }
.lede { margin-top: 6px; color: var(--soft); }
.checks { display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: 8px 16px; margin-top: 22px; }
.checks li { display: flex; gap: 7px; align-items: center; }
.checks svg { width: 16px; height: 16px; flex: none; }
.checks code { color: var(--soft); }
.checks .poor code { color: inherit; font-weight: 600; }

dl { display: grid; grid-template-columns: minmax(6.5em, max-content) minmax(0, 1fr); gap: 3px 18px; }
dt { color: var(--soft); }
dd small { display: block; color: var(--soft); font-size: 13px; }
dd code.poor { color: var(--bad); font-weight: 600; }

h2 { font-size: 18px; font-weight: 600; letter-spacing: -0.01em; }
h2 + .note { color: var(--soft); font-size: 13px; }
.part { border-top: 1px solid var(--line); padding-top: 24px; padding-bottom: 36px; }
.facts { display: grid; gap: 32px 48px; grid-template-columns: minmax(0, 1fr); margin-top: 16px; }
h3 { font-size: 15px; font-weight: 600; }
.facts > div { display: grid; gap: 28px; align-content: start; }
.facts h3 { margin-bottom: 8px; }
.tags { display: flex; flex-wrap: wrap; gap: 4px 6px; margin-top: 8px; }
.tags li { border: 1px solid var(--line); border-radius: 4px; padding: 0 6px; background: var(--card); font-size: 12.5px; }
.tags .no { color: var(--soft); background: none; border-style: dashed; text-decoration: line-through; }

.plots { display: grid; gap: 36px 48px; grid-template-columns: minmax(0, 1fr); margin-top: 20px; }
figure { display: grid; grid-row: span 2; grid-template: subgrid / minmax(0, 1fr); row-gap: 14px; }
h3 small { color: var(--soft); font-size: 13px; font-weight: 400; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; margin-top: 2px; font-size: 13px; color: var(--soft); }
.legend b { color: var(--ink); font-weight: 600; margin-left: 2px; }
.key { display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin-right: 6px; vertical-align: -1px; background: currentColor; }
.key.lines { height: 0; border-top: 2px solid; background: none; vertical-align: 4px; width: 16px; }
.key.lines.s3 { border-top-style: dashed; }
.s1 { color: var(--s1); } .s2 { color: var(--s2); } .s3 { color: var(--s3); }
.s4 { color: var(--s4); } .s5 { color: var(--s5); } .bad { color: var(--bad); }
.frame { position: relative; display: grid; grid-template-columns: 3.4em minmax(0, 1fr); gap: 6px 8px; font-size: 12px; line-height: 1; color: var(--soft); }
.frame svg { width: 100%; height: 150px; overflow: visible; }
.frame path { vector-effect: non-scaling-stroke; }
.grid { stroke: var(--grid); fill: none; }
.area { fill: currentColor; }
.line { fill: none; stroke: currentColor; stroke-width: 1.75; stroke-linejoin: round; }
.line.s3 { stroke-dasharray: 5 3; }
.up { display: flex; flex-direction: column; justify-content: space-between; text-align: right; margin: -0.5em 0; }
.across { grid-column: 2; display: grid; grid-template-columns: repeat(3, 1fr); position: relative; }
.across li:last-child { position: absolute; right: 0; }
.empty { position: absolute; inset: 60px 0 auto 3.4em; text-align: center; font-size: 13px; }

footer { border-top: 1px solid var(--line); color: var(--soft); font-size: 13px; }
footer p { padding-top: 16px; padding-bottom: 40px; max-width: 76ch; }

@media (min-width: 760px) {
  .wide { padding-inline: 32px; }
  .state { grid-template-columns: minmax(0, 1.35fr) minmax(0, 1fr); align-items: end; }
  .plots, .facts { grid-template-columns: repeat(2, minmax(0, 1fr)); }
}
@media (min-width: 1000px) {
  .facts { grid-template-columns: repeat(3, minmax(0, 1fr)); }
}
`;
