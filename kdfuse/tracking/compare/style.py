"""How the page of a comparison looks, light and dark, and the few lines that sort its tables."""

STYLE = """
:root { --ink: #1f2933; --paper: #ffffff; --grid: #e4e7eb; --soft: #7b8794; --blue: #1f5fbf; --mark: #eef4fd; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7eb; --paper: #15191e; --grid: #323b45; --soft: #9aa5b1; --blue: #6ea8fe; --mark: #1c2a3d; }
}
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1500px; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
p { margin: .3rem 0 .8rem; } .note { color: var(--soft); font-size: .85rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--grid); text-align: left; white-space: nowrap; }
th { cursor: pointer; color: var(--soft); font-weight: 600; vertical-align: bottom; white-space: normal; } th:hover { color: var(--ink); }
th[aria-sort=ascending]::after { content: " ▲"; } th[aria-sort=descending]::after { content: " ▼"; }
td.number { text-align: right; } tr.front { background: var(--mark); }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 1rem; }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(560px, 100%), 1fr)); gap: 1rem; }
figure { margin: 0; } svg { width: 100%; height: auto; max-width: 760px; display: block; } svg text { font-family: inherit !important; }
.point:hover { stroke: var(--ink); stroke-width: 2px; }
"""

SCRIPT = """
for (const head of document.querySelectorAll('th')) {
  head.tabIndex = 0;
  const sort = () => {
    const body = head.closest('table').tBodies[0], place = head.cellIndex, up = head.ariaSort !== 'ascending';
    for (const other of head.parentNode.cells) other.ariaSort = null;
    head.ariaSort = up ? 'ascending' : 'descending';
    const value = row => { const cell = row.cells[place]; return 'value' in cell.dataset ? Number(cell.dataset.value) : cell.textContent; };
    const order = (a, b) => {
      const x = value(a), y = value(b);
      if (x === '' || y === '') return (x === '') - (y === '');
      const found = typeof x === 'number' && typeof y === 'number' ? x - y : String(x).localeCompare(String(y), undefined, {numeric: true});
      return up ? found : -found;
    };
    body.append(...[...body.rows].sort(order));
  };
  head.onclick = sort;
  head.onkeydown = event => { if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); sort(); } };
}
"""
