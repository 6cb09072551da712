/* Step 2: the page around the strip and the scatter. One view draws it all; the other views only carry data to it
   (coordinates, UMAP results, the open pair), so that a pick or a click never sends the coordinates again. */
(() => {
  const { h, svg } = rw;
  const L = rw.layers = { view: null, data: null, umap: null, pair: null, layer: 0, projection: 'pca', picked: [], send: () => {} };

  const ICONS = { arrow: 'M3 8h10M9 4l4 4-4 4', download: 'M8 2.5v8M4.5 7.5 8 11l3.5-3.5M3 13.5h10', check: 'm3 8.5 3.2 3L13 4.8', back: 'M10 3 5 8l5 5', on: 'm6 3 5 5-5 5',
    stop: 'M5 4h6a1 1 0 0 1 1 1v6a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V5a1 1 0 0 1 1-1z', again: 'M13 8a5 5 0 1 1-1.6-3.7M13 2.4v2.8h-2.8',
    err: 'M8 5v3.6M8 11.2v.1M8 1.8a6.2 6.2 0 1 1 0 12.4a6.2 6.2 0 1 1 0-12.4', warn: 'M8 2.2 14.4 13.4H1.6zM8 6.4v3.2M8 11.4v.1',
    info: 'M8 7.4v3.6M8 4.9v.1M8 1.8a6.2 6.2 0 1 1 0 12.4a6.2 6.2 0 1 1 0-12.4' };
  L.icon = (name, size = 16) => svg('svg', { width: size, height: size, viewBox: '0 0 16 16', fill: 'none', stroke: 'currentColor', 'stroke-width': 1.6,
    'stroke-linecap': 'round', 'stroke-linejoin': 'round', 'aria-hidden': 'true' }, svg('path', { d: ICONS[name] }));
  L.and = list => list.length ? list.join(', ').replace(/, (?=[^,]*$)/, ' and ') : 'none';
  const button = (label, classes, onclick, attributes = {}) => h('button', { type: 'button', class: `btn ${classes}`, onclick, ...attributes }, label);

  /** A row of choices of which exactly one holds; `pick` gets the chosen key. */
  L.segments = (name, options, current, pick) => h('div', { class: 'seg fit sm', role: 'radiogroup', 'aria-label': name },
    options.map(([key, label]) => h('label', {},
      h('input', { type: 'radio', name: `rw-${name}`, value: key, checked: key === current, onchange: () => pick(key) }), h('span', {}, label))));

  // -- title and notes ------------------------------------------------------------------------------------------------
  const alignLabel = () => L.picked.length ? ['Align ', L.picked.length > 1 ? 'blocks ' : 'block ', h('span', { 'data-picks': '' }, L.and(L.picked)), L.icon('arrow')]
    : ['Align', L.icon('arrow')];

  const drawTitle = host => {
    const v = L.view;
    const acts = (v.actions || []).map(a => button([a.icon && L.icon(a.icon), a.label], a.primary ? 'primary' : '',
      () => L.send({ action: a.action }), { disabled: a.off, title: a.why, id: a.id }));
    if (v.phase === 'ready') acts.push(downloads(),
      h('button', { type: 'button', class: 'btn primary', id: 'rw-align-picked', onclick: () => L.picked.length && document.querySelector('#rw-layers-to-align').click() }));
    host.replaceChildren(h('div', { class: 'title' },
      h('div', {}, h('h1', {}, v.title), h('p', {}, v.lead)), acts.length > 0 && h('div', { class: 'acts' }, acts)));
    const slot = h('div', { 'aria-live': 'polite' });
    if (v.note) slot.append(h('div', { class: `note ${v.note.kind || ''}`, style: 'margin-bottom:20px', role: v.note.kind === 'err' ? 'alert' : null },
      L.icon(v.note.kind || 'info', 18), h('div', {}, v.note.strong && h('b', {}, v.note.strong, ' '), v.note.text,
        v.note.actions && h('div', { class: 'acts' }, v.note.actions.map(a => button([a.icon && L.icon(a.icon), a.label], a.ghost ? 'ghost' : '', () => L.send({ action: a.action })))))));
    host.append(slot);
  };

  const downloads = () => {
    const save = (name, type, text) => {
      const link = h('a', { href: URL.createObjectURL(new Blob([text], { type })), download: name });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
      menu.open = false;
    };
    const { head, keys, rows } = L.view.table;
    const csv = () => [keys, ...rows.map(row => row.map(cell => cell ?? ''))].map(row => row.join(',')).join('\n') + '\n';
    const menu = h('details', { class: 'rw-menu', onkeydown: event => { if (event.key === 'Escape') { menu.open = false; menu.firstChild.focus(); } } },
      h('summary', { class: 'btn hide-sm', 'aria-label': 'Download scores' }, L.icon('download'), 'Download scores'),
      h('div', { class: 'rw-menu-list' },
        button('Table (CSV)', 'ghost', () => save('layers.csv', 'text/csv', csv())),
        button('Everything (JSON)', 'ghost', () => save('layers.json', 'application/json', JSON.stringify(L.view.scores, null, 1)))));
    menu.addEventListener('focusout', event => { if (!menu.contains(event.relatedTarget)) menu.open = false; });
    return menu;
  };

  // -- before and while capturing ------------------------------------------------------------------------------------
  const poolingChoice = () => L.segments('Pooling', L.view.poolings, L.view.pooling, key => L.send({ action: 'pooling', pooling: key }));

  const before = () => h('section', { class: 'panel', id: 'rw-strip' },
    h('header', {}, h('div', {}, h('h2', {}, 'Separability, block by block'), h('p', {}, L.view.work)), h('div', { class: 'acts' }, poolingChoice())),
    h('p', { class: 'sm s', style: 'max-width:118ch;margin:-4px 0 8px' }, L.view.poolingHelp),
    L.ghostStrip(L.view.blocks_ahead || 8));

  /** The place the scatter and its panels will take. */
  const ghostRow = () => h('div', { class: 'row', 'aria-hidden': 'true', style: 'margin-top:20px' },
    h('section', { class: 'panel g2 rw-ghost' }, h('span', { class: 'skel', style: 'width:46%' }), h('span', { class: 'skel', style: 'width:62%' }), h('div', { class: 'rw-ghost-plot' })),
    h('div', { class: 'g1 stack' }, h('section', { class: 'panel rw-ghost' }, [58, 90, 84, 66].map(w => h('span', { class: 'skel', style: `width:${w}%` }))),
      h('section', { class: 'panel rw-ghost', style: 'flex:1' }, [64, 92, 92, 92].map(w => h('span', { class: 'skel', style: `width:${w}%` })))));

  const progress = () => {
    const p = L.view.progress;
    const bar = part => {
      const fill = h('i', {});
      fill.style.setProperty('--p', `${Math.round(100 * part.done)}%`);
      return h('div', {}, h('div', { class: 'bar' + (part.err ? ' err' : '') }, fill), h('p', { class: 'tx1' }, h('b', {}, part.name), ' ', part.note));
    };
    return h('section', { class: 'panel', id: 'rw-strip' },
      h('header', {}, h('h2', { style: 'display:flex;gap:8px;align-items:center' }, p.live && h('i', { class: 'dot live' }), h('span', { id: 'rw-layers-left' }, p.heading)),
        h('span', { class: 'q sm' }, p.when)),
      h('div', { class: 'stages', role: 'progressbar', 'aria-label': 'Capture', 'aria-valuemin': 0, 'aria-valuemax': 100, 'aria-valuenow': Math.round(100 * p.whole),
        style: `grid-template-columns:${p.stages.map(s => s.weight + 'fr').join(' ')};margin:0 0 24px` }, p.stages.map(bar)),
      L.ghostStrip(L.view.blocks_ahead || 8));
  };

  // -- numbers, pair, controls -----------------------------------------------------------------------------------------
  L.table = () => {
    const { head, rows } = L.view.table, show = cell => cell === null || cell === undefined ? '–' : typeof cell === 'number' && !Number.isInteger(cell) ? cell.toFixed(3) : String(cell);
    return h('div', { class: 'tablewrap', tabindex: 0, role: 'region', 'aria-label': 'All scores' }, h('table', {}, h('caption', { class: 'sr' }, 'Scores of every block'),
      h('thead', {}, h('tr', {}, head.map(text => h('th', { class: 'num', scope: 'col' }, text)))),
      h('tbody', {}, rows.map((row, i) => h('tr', { class: L.picked.includes(L.view.blocks[i].l) ? 'sel' : null }, row.map(cell => h('td', { class: 'num' }, show(cell))))))));
  };

  const signed = value => (value < 0 ? '\u2212' : '+') + Math.abs(value).toFixed(2) + ' on the axis';
  const drawPair = panel => {
    const p = L.pair, step = by => L.scatter && L.send({ action: 'open', id: L.scatter.neighbour(p && p.kind === 'pair' ? p.id : null, by) });
    const hint = h('div', { class: 'rw-hint' }, h('p', { class: 'xs q' }, 'Click a point to read its pair; draw a lasso to inspect or drop several.'),
      button(L.icon('back', 14), 'ghost sm', () => step(-1), { 'aria-label': 'Previous pair', title: 'Previous pair' }), button(L.icon('on', 14), 'ghost sm', () => step(1), { 'aria-label': 'Next pair', title: 'Next pair' }));
    if (!p || p.kind === 'none') {
      panel.replaceChildren(h('header', {}, h('h2', {}, 'Pairs')), ...(p && p.note ? [h('p', { class: 'sm s', role: 'status' }, p.note)] : []), hint);
      return;
    }
    if (p.kind === 'list') {
      panel.replaceChildren(
        h('header', {}, h('h2', {}, `${p.count} ${p.count === 1 ? 'pair' : 'pairs'} in the lasso`),
          h('div', { class: 'acts' }, button('Clear', 'ghost sm', () => { L.scatter && L.scatter.clear(); L.send({ action: 'clear' }); }),
            button(`Drop ${p.count}`, 'ghost sm', () => L.send({ action: 'drop', ids: p.ids }), { id: 'rw-pair-drop' }))),
        h('ul', { class: 'rw-picked', tabindex: 0, 'aria-label': 'Pairs in the lasso' }, p.items.map(item => h('li', {},
          h('button', { type: 'button', class: 'lk', onclick: () => L.send({ action: 'open', id: item.id }) }, `Pair ${item.id}`), h('span', { class: 'clip s' }, item.prompt)))),
        ...(p.count > p.items.length ? [h('p', { class: 'xs q', style: 'margin-top:8px' }, `and ${p.count - p.items.length} more`)] : []), hint);
      return;
    }
    const axis = L.scatter && L.scatter.axisOf(p.id, L.layer);
    const side = (kind, text, value) => h('div', { class: `tx ${kind}` },
      h('div', { class: 'h' }, h('b', {}, kind === 'chosen' ? 'Chosen' : 'Rejected'), h('span', {}, value === undefined ? '' : signed(value))), h('div', { class: 'rw-read', tabindex: text.length > 400 ? 0 : null }, text));
    panel.replaceChildren(
      h('header', {}, h('h2', {}, `Pair ${p.id}`), h('div', { class: 'acts' },
        p.dropped ? h('span', { class: 'tag' }, 'dropped') : button('Drop', 'ghost sm', () => L.send({ action: 'drop', ids: [p.id] }), { id: 'rw-pair-drop', title: 'Leave this pair out' }))),
      h('p', { class: 's rw-prompt', tabindex: p.prompt.length > 300 ? 0 : null }, p.prompt), side('chosen', p.chosen, axis && axis[0]), side('rejected', p.rejected, axis && axis[1]), hint);
  };

  const drawControls = panel => {
    const c = L.view.controls, mine = c.blocks[L.layer], at = value => `${100 * Math.min(1, Math.max(0, (value - c.from) / (1 - c.from)))}%`;
    const row = (r, me) => {
      const band = r.nlo === null || r.nlo === undefined ? null : h('span', { class: 'nb' });
      if (band) { band.style.left = at(r.nlo); band.style.width = `calc(${at(r.nhi)} - ${at(r.nlo)})`; }
      const whisker = r.low === null || r.low === undefined ? null : h('span', { class: 'rw-whisk' });
      if (whisker) { whisker.style.left = at(r.low); whisker.style.width = `calc(${at(r.high)} - ${at(r.low)})`; }
      const point = h('i', { class: me ? 'me' : null });
      point.style.left = at(r.auc);
      const range = whisker ? `, 95% interval ${r.low.toFixed(2)} to ${r.high.toFixed(2)}` : ', no interval';
      return [h('span', { class: me ? 'b' : 's' }, r.name), h('span', { class: 't', title: `${r.name}: AUC ${r.auc.toFixed(2)}${range}` }, band, whisker, point), h('span', { class: 'num' }, r.auc.toFixed(2))];
    };
    panel.replaceChildren(h('header', {}, h('div', {}, h('h2', {}, mine.title), h('p', {}, c.caption))),
      h('div', { class: 'dots' }, row(mine, true), c.rows.map(r => row(r, false))));
  };

  // -- the whole ---------------------------------------------------------------------------------------------------------
  rw.define('layers', (host, send) => {
    L.send = send;
    const top = h('div', {}), middle = h('div', {});
    const pairPanel = h('section', { class: 'panel', id: 'rw-pair', 'aria-live': 'polite' }), controls = h('section', { class: 'panel', id: 'rw-controls', style: 'flex:1' });
    host.replaceChildren(top, middle);
    let shown = '', strip = null, keep = 0;

    const applyPicks = () => {
      strip && strip.picks();
      const align = host.querySelector('#rw-align-picked');
      if (align) {
        align.replaceChildren(...alignLabel().flat());
        align.disabled = !L.picked.length;
        align.title = L.picked.length ? '' : 'Pick a block in the strip first';
      }
    };
    L.pick = picked => { L.picked = [...picked].sort((a, b) => a - b); applyPicks(); L.send({ action: 'pick', picked: L.picked }); };
    L.show = (layer, { quiet = false } = {}) => {
      const all = L.view.blocks;
      L.layer = Math.max(0, Math.min(all.length - 1, layer));
      strip && strip.show();
      L.scatter && L.scatter.show();
      drawControls(controls);
      if (L.pair && L.pair.kind === 'pair') drawPair(pairPanel);
      clearTimeout(keep);
      if (!quiet) keep = setTimeout(() => L.send({ action: 'look', layer: L.layer, projection: L.projection }), 700);
    };
    L.redrawPair = () => {
      // Buttons are made anew: the one that was pressed keeps the focus.
      const focused = pairPanel.contains(document.activeElement) && document.activeElement.getAttribute('aria-label');
      drawPair(pairPanel);
      const again = focused && [...pairPanel.querySelectorAll('button')].find(b => b.getAttribute('aria-label') === focused);
      if (again) again.focus();
      if (!L.scatter) return;
      if (L.pair && L.pair.kind === 'none') L.scatter.clear();
      L.scatter.pair();
    };

    return view => {
      if (!view) return;
      L.view = view;
      const same = JSON.stringify([view.phase, view.run, view.pooling, view.blocks && view.blocks.length]);
      if (view.phase !== 'ready') {
        strip = L.scatter = null;
        drawTitle(top);
        middle.replaceChildren(...(view.phase === 'none' ? [] : view.progress ? [progress(), ...(view.phase === 'running' ? [ghostRow()] : [])] : [before()]));
        shown = same;
        return;
      }
      L.picked = view.picked || [];
      drawTitle(top);
      if (same !== shown) {
        shown = same;
        L.layer = Math.max(0, Math.min(view.blocks.length - 1, view.layer ?? 0));
        L.projection = view.projection || 'pca';
        const scatterPanel = h('section', { class: 'panel g2', id: 'rw-scatter' });
        const stripPanel = h('section', { class: 'panel', id: 'rw-strip', style: 'margin-bottom:20px' });
        middle.replaceChildren(stripPanel, h('div', { class: 'row' }, scatterPanel, h('div', { class: 'g1 stack' }, pairPanel, controls)));
        strip = L.strip(stripPanel, poolingChoice);
        L.scatter = L.makeScatter(scatterPanel);
        L.show(L.layer, { quiet: true });
        drawPair(pairPanel);
      }
      applyPicks();
    };
  });

  const carrier = (name, key, after) => rw.define(name, () => data => { L[key] = data; after(); });
  carrier('layers-data', 'data', () => { L.scatter && L.scatter.load(); });
  carrier('layers-umap', 'umap', () => { L.scatter && L.scatter.umap(); });
  carrier('layers-pair', 'pair', () => { L.redrawPair && L.view && L.view.phase === 'ready' && L.redrawPair(); });
})();
