/** The page's style. Colours follow the system, light or dark. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --ground: #f6f7f9; --card: #fff; --text: #16191d; --faint: #5b6470; --line: #dde1e6;
  --accent: #1257c9; --good: #18794e; --warn: #955a00; --bad: #c2272d; --idle: #e9ecf0; --busy: #cfe0fb;
  --first: #1257c9; --second: #b3541e; --third: #7a3e9d;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #101317; --card: #191d23; --text: #e8eaed; --faint: #9aa4b0; --line: #2c323a;
    --accent: #7fb0ff; --good: #4cc38a; --warn: #f0b04a; --bad: #ff8589; --idle: #242a31; --busy: #1d3a68;
    --first: #7fb0ff; --second: #f0a070; --third: #cf9df0;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--text); font: 15px/1.45 system-ui, sans-serif; }
.skip { position: absolute; left: -99em; }
.skip:focus { left: 1em; top: .5em; background: var(--card); padding: .5em; z-index: 2; }
header { display: flex; flex-wrap: wrap; align-items: center; gap: .3em 1.2em; padding: .7em 1.2em; background: var(--card); border-bottom: 1px solid var(--line); position: sticky; top: 0; z-index: 1; }
h1 { font-size: 1.05em; margin: 0; } h1 a { color: inherit; text-decoration: none; }
h2 { font-size: 1em; margin: 0 0 .6em; } h3 { font-size: .95em; margin: 1em 0 .3em; }
nav { display: flex; gap: .2em; margin-left: auto; flex-wrap: wrap; }
nav a { color: var(--text); text-decoration: none; padding: .25em .7em; border-radius: .4em; }
nav a[aria-current] { background: var(--idle); font-weight: 600; }
a { color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
main:focus { outline: none; }
#state { margin: 0; color: var(--faint); font-size: .9em; }
#state.good::before, #state.bad::before { content: "●"; margin-right: .35em; }
#state.good::before { color: var(--good); } #state.bad::before { color: var(--bad); }
main { padding: 1em 1.2em 3em; display: grid; gap: 1em; grid-template-columns: minmax(0, 1fr); max-width: 1500px; margin: 0 auto; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5em, 1fr)); gap: .7em; }
.tile, .card { background: var(--card); border: 1px solid var(--line); border-radius: .6em; padding: .8em 1em; min-width: 0; }
.tile dt { color: var(--faint); font-size: .85em; } .tile dd { margin: 0; font-size: 1.45em; font-variant-numeric: tabular-nums; white-space: nowrap; }
.tile.bad dd { color: var(--bad); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(19em, 1fr)); gap: .7em; }
.chart { height: 170px; overflow: hidden; } .key { color: var(--faint); font-size: .85em; margin: 0 0 .3em; display: flex; gap: 1em; flex-wrap: wrap; }
.key span::before { content: "—"; font-weight: 900; margin-right: .3em; }
.key .first::before { color: var(--first); } .key .second::before { color: var(--second); } .key .third::before { color: var(--third); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .93em; }
th, td { text-align: left; padding: .32em .8em .32em 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--faint); font-weight: 500; white-space: nowrap; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.number + :not(.number) { padding-left: 1.4em; }
td:first-child { white-space: nowrap; } td.long { min-width: 20em; overflow-wrap: anywhere; }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; }
th[aria-sort=descending] button::after { content: " ↓"; content: " ↓" / ""; } th[aria-sort=ascending] button::after { content: " ↑"; content: " ↑" / ""; }
tr:last-child td { border-bottom: 0; }
.faint { color: var(--faint); } .good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); }
.replicas { display: grid; grid-template-columns: repeat(auto-fill, minmax(17em, 1fr)); gap: .7em; }
.replica { border: 1px solid var(--line); border-radius: .5em; padding: .6em .8em; background: var(--card); min-width: 0; }
.replica header { all: unset; display: flex; justify-content: space-between; gap: .6em; }
.chips { display: flex; flex-wrap: wrap; gap: .3em; margin: .5em 0 0; padding: 0; list-style: none; }
.chips li { background: var(--idle); border-radius: .35em; padding: .05em .5em; font-size: .85em; max-width: 100%; overflow: hidden; text-overflow: ellipsis; }
.chips .loading { outline: 1px dashed var(--warn); } .chips .running { background: var(--busy); }
.bar { display: flex; height: .55em; border-radius: .3em; overflow: hidden; background: var(--idle); min-width: 7em; margin-top: .4em; }
.bar i { background: var(--first); } .bar i:nth-child(3n+2) { background: var(--second); } .bar i:nth-child(3n) { background: var(--third); }
ol.events { list-style: none; margin: 0; padding: 0; font-size: .92em; max-height: 30em; overflow: auto; }
ol.events li { display: flex; gap: .8em; padding: .15em 0; overflow-wrap: anywhere; } ol.events time { color: var(--faint); font-variant-numeric: tabular-nums; flex: none; }
form { display: grid; gap: .9em; grid-template-columns: minmax(0, 1fr); } fieldset { border: 1px solid var(--line); border-radius: .5em; padding: .7em .9em; min-width: 0; display: grid; gap: .5em; grid-template-columns: minmax(0, 1fr); }
legend { font-weight: 600; padding: 0 .3em; }
input, textarea, select, button.act { font: inherit; color: inherit; background: var(--ground); border: 1px solid var(--line); border-radius: .4em; padding: .35em .6em; max-width: 100%; }
textarea { width: 100%; min-height: 4.5em; font: .88em/1.4 ui-monospace, monospace; } input.dims { width: 12em; }
button.act { cursor: pointer; background: var(--card); } button.main { background: var(--accent); border-color: var(--accent); color: var(--card); font-weight: 600; justify-self: start; }
button:disabled { opacity: .55; cursor: default; }
.row { display: flex; flex-wrap: wrap; gap: .5em .9em; align-items: center; }
.drop { border: 2px dashed var(--line); border-radius: .5em; padding: .8em; text-align: center; color: var(--faint); } .drop.over { border-color: var(--accent); }
.drop input { width: 22em; } .drop select { max-width: 100%; }
[hidden] { display: none !important; }
.drop canvas { display: block; margin: .6em auto 0; max-width: 100%; max-height: 220px; image-rendering: pixelated; }
pre { overflow: auto; max-height: 16em; background: var(--ground); padding: .6em .8em; border-radius: .4em; font-size: .85em; margin: .4em 0 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.top { display: grid; grid-template-columns: auto minmax(0, 1fr) auto; gap: .25em .7em; align-items: center; font-variant-numeric: tabular-nums; }
.top .bar { margin: 0; }
@media (max-width: 40em) { main { padding: .8em; } header { padding: .6em .8em; } nav { margin-left: 0; } th, td { padding-right: .6em; } }
@media (prefers-reduced-motion: no-preference) { .bar i { transition: width .3s; } }
`;
