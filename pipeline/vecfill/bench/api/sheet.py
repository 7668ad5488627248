"""The style sheet of the page: it must read well at 390 and at 1,280 pixels, and on paper."""

SHEET = """
:root { --ink: #1d2529; --faint: #5c686f; --line: #dfe4e6; --local: #14687f; --api: #b5482a; --tint: #fbf6e9;
  --dash: #b9a873; --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  --serif: Charter, "Bitstream Charter", "Iowan Old Style", Georgia, "DejaVu Serif", serif }
* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100% }
body { margin: 0; color: var(--ink); background: #fff; font: 17px/1.55 var(--serif) }
main > section, header, footer { padding: 0 max(20px, calc((100vw - 1080px) / 2)) }
header { padding-top: 44px }
section { padding-top: 20px !important; padding-bottom: 28px !important }
.modelled { background: var(--tint); border-top: 2px dashed var(--dash); border-bottom: 2px dashed var(--dash) }
.modelled + section { padding-top: 28px !important }
h1 { font-size: clamp(28px, 5.2vw, 42px); line-height: 1.12; letter-spacing: -.015em; margin: 0 0 .3em }
h2 { font-size: clamp(22px, 3vw, 27px); line-height: 1.2; letter-spacing: -.01em; margin: .9em 0 .3em }
h3 { font: 600 16px/1.35 var(--sans); margin: 1.9em 0 .55em }
p, li { max-width: 70ch; overflow-wrap: anywhere }
p { margin: .5em 0 .9em }
ul { padding-left: 1.15em; margin: .5em 0 1em }
li { margin: .3em 0 }
.setting { color: var(--faint); font: 15px/1.5 var(--sans); margin-bottom: 1.4em }
.verdict { border-left: 4px solid var(--ink); padding: 2px 0 2px 18px; margin: 0 0 1.2em; font-size: 19px;
  line-height: 1.5 }
.badge { display: inline-block; font: 700 11.5px/1 var(--sans); letter-spacing: .09em; text-transform: uppercase;
  padding: 6px 9px; border-radius: 3px; margin-top: 14px }
.is-measured { background: var(--ink); color: #fff; border: 1.5px solid var(--ink) }
.is-modelled { color: #6b5a17; border: 1.5px dashed #6b5a17 }
.note { font: 15px/1.5 var(--sans); color: var(--faint) }
.figures { display: grid; grid-template-columns: minmax(0, 1fr); gap: 26px 34px; margin: 1.4em 0 }
@media (min-width: 860px) { .figures { grid-template-columns: repeat(2, minmax(0, 1fr)) } body { font-size: 18px } }
figure { margin: 0; min-width: 0 }
figure h3 { margin: 0 0 .5em }
figure svg { display: block; width: 100%; height: auto }
svg text { font-family: var(--sans) !important }
figcaption { font: 13px/1.45 var(--sans); color: var(--faint); margin-top: .5em; overflow-wrap: anywhere }
summary { cursor: pointer } details code { font-size: 12px }
.scroll { overflow-x: auto; -webkit-overflow-scrolling: touch; margin: .6em 0 1.2em }
table { border-collapse: collapse; font: 14.5px/1.4 var(--sans); font-variant-numeric: tabular-nums; width: 100%;
  max-width: 860px }
.wide { max-width: none; min-width: 720px }
th, td { padding: 7px 10px; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top }
.modelled th, .modelled td { border-bottom-color: #e6dcbd }
th:first-child, td:first-child { text-align: left; padding-left: 0 }
thead th { font-weight: 600; color: var(--faint); border-bottom: 1.5px solid var(--ink) }
.modelled thead th { border-bottom: 1.5px dashed #6b5a17 }
td:first-child { color: var(--faint) }
tr.main td { font-weight: 700; color: var(--ink) }
.local { color: var(--local) !important } .api { color: var(--api) !important }
.warn { font: 14.5px/1.5 var(--sans); border: 1px solid var(--dash); border-radius: 4px; padding: 10px 14px;
  margin: 1em 0; background: #fff }
.warn ul { margin: 0 } .warn li { max-width: none }
pre { font: 13.5px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  background: #f3f5f6; padding: 12px 14px; border-radius: 4px; overflow-x: auto; white-space: pre-wrap;
  overflow-wrap: anywhere }
footer { font: 13.5px/1.5 var(--sans); color: var(--faint); padding-bottom: 48px }
@media (max-width: 520px) { th, td { padding: 6px 6px } table { font-size: 13.5px } .verdict { font-size: 18px } }
@media print { .modelled { background: none } figure { break-inside: avoid } }
"""
