"""The report's style sheet and the little script behind its tooltips."""

STYLE = """
:root{color-scheme:light dark;--page:#f5f6f8;--card:#fff;--ink:#16202c;--soft:#5b6775;--rule:#e3e7ec;--served:#1f62d0;--static:#98a2ae;
--alarm:#c8372d;--promotion:#1c8a4c;--refusal:#c77c11;--rollback:#8b3fb5;--bar:#7fa6e6;--h0:#e8eef7;--h1:#c3d6f0;--h2:#f3c77a;--h3:#e8894a;
--h4:#bf3b2b;--empty:#f5f6f8}
@media(prefers-color-scheme:dark){:root{--page:#0f141a;--card:#171e26;--ink:#e6ebf1;--soft:#94a1b0;--rule:#2a343f;--served:#6aa5ff;
--static:#7b8794;--alarm:#ff6b5e;--promotion:#4bc982;--refusal:#f0ab48;--rollback:#c58be8;--bar:#3f69ad;--h0:#1d2936;--h1:#2b4a73;
--h2:#8a6b2c;--h3:#b9642f;--h4:#e0503f;--empty:#141a21}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1180px;margin:0 auto;padding:36px 24px 60px}
h1{font-size:28px;margin:0;letter-spacing:-.02em}
header p{font-size:17px;color:var(--soft);margin:6px 0 22px;max-width:80ch}
h2{font-size:17px;margin:0}
section>p{margin:2px 0 12px;color:var(--soft);font-size:14px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(160px,1fr));gap:12px;margin-bottom:18px}
.tile{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:12px 14px}
.tile span{color:var(--soft);font-size:13px;display:block}
.tile b{font-size:23px;font-weight:650;letter-spacing:-.02em;font-variant-numeric:tabular-nums;display:block}
.tile i{font-style:normal;color:var(--soft);font-size:12.5px}
.grid-page{display:grid;grid-template-columns:1fr 1fr;gap:18px}
section{background:var(--card);border:1px solid var(--rule);border-radius:12px;padding:18px 20px;min-width:0}
.wide{grid-column:1/-1}
@media(max-width:820px){.grid-page{grid-template-columns:1fr}}
svg{display:block;width:100%;height:auto;overflow:visible}
svg text{fill:var(--ink);font-size:12px}
svg .tick{fill:var(--soft)}
svg .note{font-weight:600}
svg .mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:11px}
.grid{stroke:var(--rule)}
.faint{stroke-dasharray:2 4}
.axis{stroke:var(--soft)}
.curve{fill:none;stroke-width:2.4;stroke-linejoin:round;stroke-linecap:round}
.curve.served{stroke:var(--served)}
.curve.static{stroke:var(--static)}
.curve.refit{stroke:var(--refusal);stroke-width:1.6;stroke-dasharray:5 4}
line.promoted{stroke:var(--promotion);stroke-dasharray:4 4;opacity:.75}
.quantile{stroke:var(--ink);stroke-dasharray:3 3;opacity:.6}
.bar{fill:var(--bar)}
.hover{fill:transparent}
.hover:hover{fill:var(--served);fill-opacity:.08}
.mark.alarm{fill:var(--alarm)}
.mark.promotion{fill:var(--promotion)}.mark.trial{fill:none;stroke:var(--promotion);stroke-width:2}.mark.step_back{fill:var(--refusal)}
.mark.refusal{fill:var(--refusal)}
.mark.rollback{fill:var(--rollback)}
rect.heat.none{fill:var(--empty)}
rect.h0{fill:var(--h0)}
rect.h1{fill:var(--h1)}
rect.h2{fill:var(--h2)}
rect.h3{fill:var(--h3)}
rect.h4{fill:var(--h4)}
i.h0{background:var(--h0)}
i.h1{background:var(--h1)}
i.h2{background:var(--h2)}
i.h3{background:var(--h3)}
i.h4{background:var(--h4)}
.keys{display:flex;flex-wrap:wrap;gap:6px 18px;margin-bottom:10px;font-size:13px;color:var(--soft)}
.key i{display:inline-block;width:20px;height:4px;border-radius:2px;margin-right:7px;vertical-align:middle}
.key i.heat{width:14px;height:14px;border-radius:3px}
.key i.served{background:var(--served)}
.key i.static{background:var(--static)}
.key i.refit{background:var(--refusal)}
.key i.promoted{height:0;border-top:2px dashed var(--promotion);border-radius:0}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:13.5px;font-variant-numeric:tabular-nums}
th{text-align:left;color:var(--soft);font-weight:600}
th,td{padding:6px 14px 6px 0;border-bottom:1px solid var(--rule);vertical-align:top}
th{vertical-align:bottom}
tbody tr:last-child td{border-bottom:0}
.n{white-space:nowrap}
td.w{min-width:240px}
.none{color:var(--soft)}
#tip{position:fixed;pointer-events:none;background:var(--ink);color:var(--page);font-size:12.5px;padding:6px 9px;border-radius:6px;
white-space:pre;opacity:0;z-index:9}
"""

SCRIPT = """
const tip=document.getElementById('tip');
document.addEventListener('mousemove',e=>{const t=e.target.closest&&e.target.closest('[data-tip]');
if(!t){tip.style.opacity=0;return}tip.textContent=t.dataset.tip;tip.style.opacity=.95;
tip.style.left=Math.min(e.clientX+14,innerWidth-tip.offsetWidth-8)+'px';tip.style.top=Math.min(e.clientY+14,innerHeight-tip.offsetHeight-8)+'px'});
"""
