/* Step 2: the page around the strip and the scatter. One view draws it all; the other views only carry data to it
   (coordinates, UMAP results, the open pair and its tokens, what a run moved), so that a pick or a click never sends the
   coordinates again. */
(() => {
  const { h, svg } = rw;
  const L = rw.layers = { view: null, data: null, umap: null, pair: null, tokens: null, colour: null, movedView: null, movedData: null,
    layer: 0, projection: 'pca', picked: [], plain: false, open: {}, send: () => {}, readTokens: () => {}, leave: () => {} };

  const ICONS = { arrow: 'M3 8h10M9 4l4 4-4 4', download: 'M8 2.5v8M4.5 7.5 8 11l3.5-3.5M3 13.5h10', check: 'm3 8.5 3.2 3L13 4.8', back: 'M10 3 5 8l5 5', on: 'm6 3 5 5-5 5',
    stop: 'M5 4h6a1 1 0 0 1 1 1v6a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V5a1 1 0 0 1 1-1z', again: 'M13 8a5 5 0 1 1-1.6-3.7M13 2.4v2.8h-2.8',
    err: 'M8 5v3.6M8 11.2v.1M8 1.8a6.2 6.2 0 1 1 0 12.4a6.2 6.2 0 1 1 0-12.4', warn: 'M8 2.2 14.4 13.4H1.6zM8 6.4v3.2M8 11.4v.1',
    info: 'M8 7.4v3.6M8 4.9v.1M8 1.8a6.2 6.2 0 1 1 0 12.4a6.2 6.2 0 1 1 0-12.4' };
  L.icon = (name, size = 16) => svg('svg', { width: size, height: size, viewBox: '0 0 16 16', fill: 'none', stroke: 'currentColor', 'stroke-width': 1.6,
    'stroke-linecap': 'round', 'stroke-linejoin': 'round', 'aria-hidden': 'true' }, svg('path', { d: ICONS[name] }));
  L.and = list => list.length ? list.join(', ').replace(/, (?=[^,]*$)/, ' and ') : 'none';
  L.signed = value => (value < 0 ? '\u2212' : '+') + Math.abs(value).toFixed(2);
  L.button = (label, classes, onclick, attributes = {}) => h('button', { type: 'button', class: `btn ${classes}`, onclick, ...attributes }, label);
  const button = L.button;

  /** A row of choices of which exactly one holds; `pick` gets the chosen key. */
  L.segments = (name, options, current, pick) => h('div', { class: 'seg fit sm', role: 'radiogroup', 'aria-label': name },
    options.map(([key, label]) => h('label', {},
      h('input', { type: 'radio', name: `rw-${name}`, value: key, checked: key === current, onchange: () => pick(key) }), h('span', {}, label))));

  /** A fold that stays as the visitor left it when what is around it is drawn anew. */
  L.fold = (key, summary, content, classes = 'more') => {
    const fold = h('details', { class: classes, open: !!L.open[key], 'data-fold': key }, h('summary', { onclick: () => { L.open[key] = !fold.open; } }, summary), content);
    fold.addEventListener('toggle', () => { if (fold.isConnected) L.open[key] = fold.open; });
    return fold;
  };

  // -- title and notes ------------------------------------------------------------------------------------------------
  const alignLabel = () => L.picked.length ? ['Align ', L.picked.length > 1 ? 'blocks ' : 'block ', h('span', { 'data-picks': '' }, L.and(L.picked)), L.icon('arrow')]
    : ['Align', L.icon('arrow')];

  const note = n => h('div', { class: `note ${n.kind || ''} ${n.classes || ''}`, style: 'margin-bottom:20px', role: n.kind === 'err' ? 'alert' : null, id: n.id },
    L.icon(n.kind || 'info', 18), h('div', {}, n.strong && h('b', {}, n.strong, ' '), n.text,
      n.actions && h('div', { class: 'acts' }, n.actions.map(a => button([a.icon && L.icon(a.icon), a.label], a.ghost ? 'ghost' : '', () => L.send({ action: a.action }))))));

  const drawTitle = host => {
    const v = L.view;
    const acts = (v.actions || []).map(a => button([a.icon && L.icon(a.icon), a.label], a.primary ? 'primary' : '',
      () => L.send({ action: a.action }), { disabled: a.off, title: a.why, id: a.id }));
    if (v.phase === 'ready') acts.push(downloads(),
      h('button', { type: 'button', class: 'btn primary', id: 'rw-align-picked', onclick: () => L.picked.length && document.querySelector('#rw-layers-to-align').click() }));
    const slot = h('div', { 'aria-live': 'polite' });
    if (v.shortcut && v.shortcut.explains) slot.append(note({ kind: 'warn', strong: v.shortcut.text, classes: 'rw-shortcut', id: 'rw-shortcut' }));
    if (v.note) slot.append(note(v.note));
    host.replaceChildren(h('div', { class: 'title' },
      h('div', {}, h('h1', {}, v.title), h('p', {}, v.lead)), acts.length > 0 && h('div', { class: 'acts' }, acts)), slot);
  };

  L.save = (name, type, content) => {
    const link = h('a', { href: URL.createObjectURL(new Blob([content], { type })), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const downloads = () => {
    const save = (...file) => { L.save(...file); menu.open = false; };
    const { keys, rows } = L.view.table;
    const csv = () => [keys, ...rows.map(row => row.map(cell => cell ?? ''))].map(row => row.join(',')).join('\n') + '\n';
    const menu = h('details', { class: 'rw-menu', onkeydown: event => { if (event.key === 'Escape') { menu.open = false; menu.firstChild.focus(); } } },
      h('summary', { class: 'btn hide-sm', 'aria-label': 'Download scores' }, L.icon('download'), 'Download scores'),
      h('div', { class: 'rw-menu-list' },
        button('Table (CSV)', 'ghost', () => save('layers.csv', 'text/csv', csv())),
        button('Everything (JSON)', 'ghost', () => save('layers.json', 'application/json', JSON.stringify(L.view.scores, null, 1)))));
    menu.addEventListener('focusout', event => { if (!menu.contains(event.relatedTarget)) menu.open = false; });
    return menu;
  };

  // -- what is read ----------------------------------------------------------------------------------------------------
  let again = ''; // the choice that was just made keeps the focus when the page is drawn anew
  const reading = () => {
    const r = L.view.reading;
    const choice = (title, key, options) => h('fieldset', { class: 'rw-choice' }, h('legend', {}, title), options.map(([value, name, meaning, captured]) => h('label', {},
      h('input', { type: 'radio', name: `rw-read-${key}`, value, checked: value === r[key], onchange: () => { again = `${key}=${value}`; L.send({ action: 'read', pooling: r.pooling, site: r.site, [key]: value }); } }),
      h('span', {}, h('b', {}, name), captured && h('span', { class: 'tag' }, 'captured'), h('small', {}, meaning)))));
    return L.fold('reading', [h('span', {}, 'Read: ', h('b', {}, r.words)), h('small', {}, r.meaning)],
      h('div', { class: 'rw-choices2', id: 'rw-layers-reading' }, choice('One vector per answer', 'pooling', r.poolings), choice('Where in each block', 'site', r.sites)), 'more rw-readfold');
  };
  const refocus = host => {
    if (!again) return;
    const [key, value] = again.split('=');
    const input = host.querySelector(`input[name="rw-read-${key}"][value="${value}"]`);
    if (input && input.checked) { input.focus({ preventScroll: true }); again = ''; }
  };

  // -- before and while capturing ------------------------------------------------------------------------------------
  const before = () => h('section', { class: 'panel', id: 'rw-strip' },
    h('header', {}, h('div', {}, h('h2', {}, 'Separability, block by block'), h('p', {}, L.view.work || '\u00a0'))), reading(), L.ghostStrip(L.view.blocks_ahead || 8));

  /** The place the scatter and its panels will take. */
  const ghostRow = () => h('div', { class: 'row', 'aria-hidden': 'true', style: 'margin-top:20px' },
    h('section', { class: 'panel g2 rw-ghost' }, h('span', { class: 'skel', style: 'width:46%' }), h('span', { class: 'skel', style: 'width:62%' }), h('div', { class: 'rw-ghost-plot' })),
    h('div', { class: 'g1 stack' }, h('section', { class: 'panel rw-ghost' }, [58, 90, 84, 66].map(w => h('span', { class: 'skel', style: `width:${w}%` }))),
      h('section', { class: 'panel rw-ghost', style: 'flex:1' }, [64, 92, 92, 92].map(w => h('span', { class: 'skel', style: `width:${w}%` })))));

  /** How far each stage of a run is. */
  L.stages = (p, label) => {
    const bar = part => {
      const fill = h('i', {});
      fill.style.setProperty('--p', `${Math.round(100 * part.done)}%`);
      return h('div', {}, h('div', { class: 'bar' + (part.err ? ' err' : '') }, fill), h('p', { class: 'tx1' }, h('b', {}, part.name), ' ', part.note));
    };
    return h('div', { class: 'stages', role: 'progressbar', 'aria-label': label, 'aria-valuemin': 0, 'aria-valuemax': 100, 'aria-valuenow': Math.round(100 * p.whole),
      style: `grid-template-columns:${p.stages.map(s => s.weight + 'fr').join(' ')};margin:0 0 24px` }, p.stages.map(bar));
  };
  const progress = () => {
    const p = L.view.progress;
    return h('section', { class: 'panel', id: 'rw-strip' },
      h('header', {}, h('h2', { style: 'display:flex;gap:8px;align-items:center' }, p.live && h('i', { class: 'dot live' }), h('span', { id: 'rw-layers-left' }, p.heading)),
        h('span', { class: 'q sm' }, p.when)),
      L.stages(p, 'Capture'), reading(), L.ghostStrip(L.view.blocks_ahead || 8));
  };

  // -- numbers and controls --------------------------------------------------------------------------------------------
  const POINT = 'Point at a column\u2019s name, or move to it with the keyboard, for what it means.';
  /** A table whose heads explain themselves in the line below it; `columns` are [title, meaning], cells [text, interval]. */
  L.meaningTable = (caption, columns, rows, selected = () => false) => {
    const meaning = h('p', { class: 'xs s rw-meaning', role: 'status' }, POINT);
    const head = ([title, words]) => {
      const tell = () => meaning.replaceChildren(h('b', {}, title), ': ', words);
      return h('th', { class: 'num', scope: 'col' }, h('button', { type: 'button', class: 'rw-th', title: words, onmouseenter: tell, onfocus: tell, onclick: tell }, title));
    };
    const cell = ([value, range], i) => h(i ? 'td' : 'th', { class: 'num', scope: i ? null : 'row' }, value, range && h('span', { class: 'q rw-range' }, ' ', range));
    return [h('div', { class: 'tablewrap', tabindex: 0, role: 'region', 'aria-label': caption }, h('table', { class: 'rw-scores' }, h('caption', { class: 'sr' }, caption),
      h('thead', {}, h('tr', {}, columns.map(head))),
      h('tbody', {}, rows.map((row, i) => h('tr', { class: selected(i) ? 'sel' : null }, row.map(cell)))))), meaning];
  };
  L.table = () => {
    const t = L.view.table;
    return h('div', { class: 'rw-numbers' },
      L.meaningTable('All scores', t.columns.map(c => [c.title, c.meaning]), t.cells, i => L.picked.includes(L.view.blocks[i].l)),
      L.fold('meanings', 'What do these numbers mean', h('dl', { class: 'rw-terms' }, t.explanations.map(([term, words]) => h('div', {}, h('dt', {}, term), h('dd', {}, words))))));
  };

  const drawControls = panel => {
    const c = L.view.controls, mine = c.blocks[L.layer], at = value => `${100 * Math.min(1, Math.max(0, (value - c.from) / (1 - c.from)))}%`;
    const known = value => value !== null && value !== undefined, range = (low, high) => known(low) ? `[${low.toFixed(2)}, ${high.toFixed(2)}]` : '';
    const row = (r, me) => {
      const band = known(r.nlo) ? h('span', { class: 'nb' }) : null;
      if (band) { band.style.left = at(r.nlo); band.style.width = `calc(${at(r.nhi)} - ${at(r.nlo)})`; }
      const whisker = known(r.low) ? h('span', { class: 'rw-whisk' }) : null;
      if (whisker) { whisker.style.left = at(r.low); whisker.style.width = `calc(${at(r.high)} - ${at(r.low)})`; }
      const point = h('i', { class: me ? 'me' : null });
      point.style.left = at(r.auc);
      const said = whisker ? `, 95% interval ${r.low.toFixed(2)} to ${r.high.toFixed(2)}` : ', no interval';
      return [h('span', { class: me ? 'b' : 's', title: r.help }, r.name), h('span', { class: 't', title: `${r.name}: AUC ${r.auc.toFixed(2)}${said}` }, band, whisker, point), h('span', { class: 'num' }, r.auc.toFixed(2))];
    };
    const rows = [mine, ...c.rows].map(r => [[r.name, ''], [r.auc.toFixed(2), range(r.low, r.high)], [range(r.nlo, r.nhi) || '\u2013', ''], [r.help, '']]);
    const table = h('div', { class: 'tablewrap', tabindex: 0, role: 'region', 'aria-label': 'Shortcuts in numbers' }, h('table', { class: 'rw-scores rw-words' }, h('caption', { class: 'sr' }, 'Shortcuts in numbers'),
      h('thead', {}, h('tr', {}, ['What the probe reads', 'AUC, 95% interval', 'Chance, 95%'].map((text, i) => h('th', { scope: 'col', class: i ? 'num' : null }, text)))),
      h('tbody', {}, rows.map(([name, auc, band, help]) => h('tr', {}, h('th', { scope: 'row' }, name[0], h('small', {}, help[0])), h('td', { class: 'num' }, auc[0], h('span', { class: 'q rw-range' }, ' ', auc[1])), h('td', { class: 'num q' }, band[0]))))));
    const said = L.view.shortcut;
    panel.replaceChildren(...[h('header', {}, h('div', {}, h('h2', {}, mine.title), h('p', {}, c.caption))),
      h('div', { class: 'dots' }, row(mine, true), c.rows.map(r => row(r, false))),
      c.leak && h('p', { class: 'fielderr', role: 'alert' }, L.icon('err', 14), c.leak),
      [...(said && !said.explains ? [said.text] : []), ...(c.notes || [])].map(text => h('p', { class: 'xs q rw-remark' }, text)),
      L.fold('controls', 'Numbers and meanings', table)].flat().filter(Boolean));
  };

  // -- the whole ---------------------------------------------------------------------------------------------------------
  rw.define('layers', (host, send) => {
    L.send = send;
    const top = h('div', {}), middle = h('div', {});
    const pairPanel = h('section', { class: 'panel', id: 'rw-pair' }), controls = h('section', { class: 'panel', id: 'rw-controls', style: 'flex:1' });
    host.replaceChildren(top, middle);
    let shown = '', read = '', strip = null, pair = null, moved = null, keep = 0;

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
    /** Keep how the visitor looks at the picture, once they have settled. */
    L.keep = () => {
      clearTimeout(keep);
      keep = setTimeout(() => L.send({ action: 'look', layer: L.layer, projection: L.projection, plain: L.plain, grid: !!L.open.grid, ...(L.movedAxes ? { moved_axes: L.movedAxes } : {}), ...(L.looks ? L.looks() : {}) }), 700);
    };
    L.show = (layer, { quiet = false } = {}) => {
      const all = L.view.blocks;
      L.layer = Math.max(0, Math.min(all.length - 1, layer));
      strip && strip.show();
      L.scatter && L.scatter.show();
      L.gridShown && L.gridShown.show && L.gridShown.show();
      drawControls(controls);
      pair && pair.show();
      moved && moved.show();
      if (!quiet) L.keep();
    };
    L.redrawPair = () => {
      if (pair) pair.draw();
      if (moved) moved.pair();
      if (!L.scatter) return;
      if (L.pair && L.pair.kind === 'none') L.scatter.clear();
      L.scatter.pair();
    };
    L.redrawTokens = () => pair && pair.tokens();
    L.redrawMoved = () => moved && moved.draw();
    L.redrawMovedData = () => moved && moved.data();

    /** All blocks at once, made when it is first looked at. */
    const gridPanel = () => {
      const place = h('div', { class: 'rw-gridplace' });
      const fill = () => { if (fold.open && !place.firstChild) L.gridShown = L.grid(place) || null; };
      const fold = h('details', { class: 'panel rw-bigfold', id: 'rw-grid', open: !!L.open.grid }, h('summary', {}, h('h2', {}, 'All blocks at once'), h('small', {}, 'One small picture a block; press one to look at it closely.')), place);
      fold.addEventListener('toggle', () => { if (L.open.grid !== fold.open) { L.open.grid = fold.open; L.keep(); } fill(); });
      queueMicrotask(fill);
      return fold;
    };

    return view => {
      if (!view) return;
      L.view = view;
      const same = JSON.stringify([view.phase, view.run, view.blocks && view.blocks.length]);
      if (view.phase !== 'ready') {
        strip = pair = moved = L.scatter = L.gridShown = null;
        drawTitle(top);
        middle.replaceChildren(...(view.phase === 'none' ? [] : view.progress ? [progress(), ...(view.phase === 'running' ? [ghostRow()] : [])] : [before()]));
        refocus(middle);
        shown = same;
        return;
      }
      L.picked = view.picked || [];
      drawTitle(top);
      if (same !== shown) {
        const before = shown;
        shown = same;
        L.layer = Math.max(0, Math.min(view.blocks.length - 1, view.layer ?? 0));
        L.projection = view.projection || 'pca';
        if (!before) { L.plain = !!view.plain; L.open.grid = !!view.grid; }
        const scatterPanel = h('section', { class: 'panel g2', id: 'rw-scatter' }), movedPanel = h('section', { class: 'panel', id: 'rw-moved' });
        const stripPanel = h('section', { class: 'panel', id: 'rw-strip', style: 'margin-bottom:20px' });
        L.gridShown = null;
        middle.replaceChildren(...[stripPanel, h('div', { class: 'row' }, scatterPanel, h('div', { class: 'g1 stack' }, pairPanel, controls)), L.grid && gridPanel(), movedPanel].filter(Boolean));
        strip = L.strip(stripPanel, () => null);
        L.scatter = L.makeScatter(scatterPanel);
        pair = L.pairPanel(pairPanel);
        moved = L.moved(movedPanel);
        L.show(L.layer, { quiet: true });
        pair.draw();
        moved.draw();
      }
      const stripPanel = middle.firstChild, old = stripPanel.querySelector('.rw-readfold'), now = JSON.stringify(view.reading);
      if (!old) stripPanel.querySelector('header').after(reading()); else if (now !== read) old.replaceWith(reading());
      read = now;
      refocus(middle);
      drawControls(controls);
      applyPicks();
    };
  });

  const carrier = (name, key, after) => rw.define(name, () => data => { L[key] = data; if (L.view && L.view.phase === 'ready') after(data); });
  carrier('layers-data', 'data', () => { L.scatter && L.scatter.load(); L.gridShown && L.gridShown.load && L.gridShown.load(); });
  carrier('layers-umap', 'umap', () => { L.scatter && L.scatter.umap(); L.gridShown && L.gridShown.umap && L.gridShown.umap(); });
  carrier('layers-pair', 'pair', () => { L.redrawPair && L.redrawPair(); });
  carrier('layers-colour', 'colour', () => { L.scatter && L.scatter.colour && L.scatter.colour(); L.gridShown && L.gridShown.colour && L.gridShown.colour(); });
  carrier('layers-moved', 'movedView', () => { L.redrawMoved && L.redrawMoved(); });
  carrier('layers-moved-data', 'movedData', () => { L.redrawMovedData && L.redrawMovedData(); });
  rw.define('layers-tokens', (host, send) => {
    L.readTokens = id => send({ id });
    return data => { L.tokens = data; if (L.view && L.view.phase === 'ready' && L.redrawTokens) L.redrawTokens(); };
  });
  rw.define('layers-leave', (host, send) => { L.leave = id => send({ id }); });
})();
