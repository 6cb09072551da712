/* Step 2: what an alignment moved, and where. Bars for every block, and two scatters in the same axes that follow the
   block slider. Drawn on canvas: two pictures of some hundred points each, at once at every block. */
(() => {
  const { h, svg } = rw, L = rw.layers;
  const NEAR = 14; // pixels within which a press opens a point's pair

  const floats = packed => {
    const bytes = Uint8Array.from(atob(packed.xy), c => c.charCodeAt(0));
    return { whole: new Int16Array(bytes.buffer), scale: packed.scale };
  };
  const put = (element, properties) => { for (const [name, value] of Object.entries(properties)) element.style.setProperty(name, value); return element; };
  const two = value => (value === null || value === undefined ? '\u2013' : value.toFixed(2));

  L.moved = panel => {
    const v = () => L.movedView;
    let sets = null, kind = (L.movedAxes = L.movedAxes || L.view.moved_axes || 'axis'), boxes = null, bars = null, wanted = 0, drawnOf = '';

    const unpack = () => {
      const d = L.movedData;
      sets = null;
      if (!d || !v() || d.run !== v().run) return;
      sets = {};
      for (const [name, set] of Object.entries(d.sets)) sets[name] = { before: floats(set.before), after: floats(set.after), names: set.names };
    };
    /** Where the block on view is among the rows of the comparison. */
    const row = () => { const l = L.view.blocks[L.layer].l; return v().blocks.findIndex(b => b.l === l); };
    const points = (half, at) => {
      const n = 2 * L.movedData.ids.length, from = 2 * n * at, step = half.scale[at], x = new Float32Array(n), y = new Float32Array(n);
      for (let i = 0; i < n; i++) { x[i] = half.whole[from + 2 * i] * step; y[i] = half.whole[from + 2 * i + 1] * step; }
      return { x, y };
    };
    const mean = (a, from, to) => { let s = 0; for (let i = from; i < to; i++) s += a[i]; return s / Math.max(1, to - from); };

    // -- two scatters ----------------------------------------------------------------------------------------------------
    const reach = (...all) => { let m = 1e-9; for (const a of all) for (const value of a) if (Math.abs(value) > m) m = Math.abs(value); return m; };
    const sketch = () => {
      wanted = 0;
      if (!sets || !boxes || !panel.isConnected) return;
      const at = row();
      if (at < 0) return;
      const set = sets[kind] || sets.axis, n = L.movedData.ids.length, before = points(set.before, at), after = points(set.after, at);
      const rx = reach(before.x, after.x), ry = reach(before.y, after.y);
      const colours = { chosen: rw.token('chosen'), rejected: rw.token('rejected'), ink: rw.token('ink'), line: rw.token('line'), surface: rw.token('surface') };
      boxes.forEach(({ canvas }, which) => {
        const ratio = window.devicePixelRatio || 1, wide = canvas.clientWidth, high = canvas.clientHeight, pen = canvas.getContext('2d');
        if (!wide) return;
        if (canvas.width !== Math.round(wide * ratio) || canvas.height !== Math.round(high * ratio)) { canvas.width = Math.round(wide * ratio); canvas.height = Math.round(high * ratio); }
        pen.setTransform(ratio, 0, 0, ratio, 0, 0);
        pen.clearRect(0, 0, wide, high);
        const px = x => wide / 2 + x / rx * (wide / 2 - 10), py = y => high / 2 - y / ry * (high / 2 - 26);
        pen.lineWidth = 1; pen.strokeStyle = colours.line;
        pen.beginPath(); pen.moveTo(px(0), 0); pen.lineTo(px(0), high); pen.moveTo(0, py(0)); pen.lineTo(wide, py(0)); pen.stroke();
        const { x, y } = which ? after : before, open = L.pair && L.pair.kind === 'pair' ? L.movedData.ids.indexOf(L.pair.id) : -1;
        pen.strokeStyle = colours.rejected; pen.lineWidth = 1.25; pen.globalAlpha = 0.7;
        for (let i = n; i < 2 * n; i++) pen.strokeRect(px(x[i]) - 2.75, py(y[i]) - 2.75, 5.5, 5.5);
        pen.fillStyle = colours.chosen; pen.globalAlpha = 0.55;
        for (let i = 0; i < n; i++) { pen.beginPath(); pen.arc(px(x[i]), py(y[i]), 3, 0, 7); pen.fill(); }
        pen.globalAlpha = 1;
        for (const [from, to, side] of [[n, 2 * n, 'rejected'], [0, n, 'chosen']]) {
          const a = [px(mean(before.x, from, to)), py(mean(before.y, from, to))], b = [px(mean(after.x, from, to)), py(mean(after.y, from, to))];
          if (which) arrow(pen, a, b, colours);
          dot(pen, which ? b : a, side, colours);
        }
        if (open >= 0) for (const i of [open, n + open]) { pen.beginPath(); pen.arc(px(x[i]), py(y[i]), 8, 0, 7); pen.lineWidth = 1.75; pen.strokeStyle = colours.ink; pen.stroke(); }
        canvas.rwPlaces = { x: Array.from(x, px), y: Array.from(y, py) };
      });
      const [xName, yName] = set.names[at];
      boxes.forEach(box => { box.x.textContent = xName; box.y.textContent = yName; });
      panel.dataset.drawn = v().blocks[at].l;
    };
    const arrow = (pen, a, b, colours) => {
      const length = Math.hypot(b[0] - a[0], b[1] - a[1]), turn = Math.atan2(b[1] - a[1], b[0] - a[0]);
      if (length < 3) return;
      for (const [width, colour] of [[5, colours.surface], [2, colours.ink]]) {
        pen.lineWidth = width; pen.strokeStyle = colour; pen.lineCap = 'round';
        pen.beginPath(); pen.moveTo(...a); pen.lineTo(...b);
        if (length > 22) for (const side of [-1, 1]) { // the head stands behind the mean's mark
          const tip = [b[0] - 9 * Math.cos(turn), b[1] - 9 * Math.sin(turn)];
          pen.moveTo(...tip); pen.lineTo(tip[0] - 8 * Math.cos(turn + side * 0.5), tip[1] - 8 * Math.sin(turn + side * 0.5));
        }
        pen.stroke();
      }
      pen.beginPath(); pen.arc(...a, 3.5, 0, 7); pen.fillStyle = colours.surface; pen.fill(); pen.lineWidth = 1.5; pen.strokeStyle = colours.ink; pen.stroke();
    };
    const dot = (pen, [x, y], side, colours) => {
      pen.beginPath();
      if (side === 'chosen') pen.arc(x, y, 6.5, 0, 7); else pen.rect(x - 6, y - 6, 12, 12);
      pen.lineWidth = 3; pen.strokeStyle = colours.surface; pen.stroke();
      pen.fillStyle = colours[side]; pen.fill();
    };
    const later = () => { if (!wanted) wanted = requestAnimationFrame(sketch); };
    const press = event => {
      const places = event.currentTarget.rwPlaces;
      if (!places) return;
      const n = L.movedData.ids.length;
      let best = NEAR, at = -1;
      places.x.forEach((x, i) => { const far = Math.hypot(x - event.offsetX, places.y[i] - event.offsetY); if (far < best) { best = far; at = i; } });
      if (at >= 0) L.send({ action: 'open', id: L.movedData.ids[at % n] });
    };
    const scatter = (who, name) => {
      const canvas = h('canvas', { class: 'rw-duo-canvas', role: 'img', onclick: press });
      const x = h('span', { class: 'lb', style: 'right:0;bottom:2px' }), y = h('span', { class: 'lb rw-yname' });
      return { canvas, x, y, element: h('figure', {}, h('figcaption', {}, h('b', { class: `key c-${who}` }, who === 'base' ? 'Before: the base model' : `After: ${name}`), h('span', { class: 'q sm' }, '')),
        h('div', { class: 'scat', style: '--h:300px' }, canvas, h('span', { class: 'lb b c-rejected key', style: 'left:4px;top:2px' }, 'rejected'), h('span', { class: 'lb b c-chosen key', style: 'right:4px;top:2px' }, 'chosen'), x, y)) };
    };

    // -- bars ------------------------------------------------------------------------------------------------------------
    const chart = () => {
      const d = v(), n = d.blocks.length, size = n <= 12 ? 'full' : n <= 40 ? 'dense' : 'scroll';
      const least = Math.min(0, ...d.blocks.flatMap(b => [b.chosen, b.rejected])), top = d.top || 1, low = least < -0.04 * top ? -top : 0;
      const at = value => 100 * (value - low) / (top - low), ticks = low < 0 ? [top, 0, low] : [top, top / 2, 0];
      const bar = (side, value) => put(h('i', { class: side }), { bottom: `${Math.min(at(0), at(value))}%`, height: `${Math.abs(at(value) - at(0))}%` });
      const text = value => (Number.isInteger(value) ? String(value) : value.toFixed(2).replace(/0$/, '')).replace('-', '\u2212');
      const columns = d.blocks.map((b, i) => {
        const words = `Block ${b.l}${b.target ? ', aligned' : ''}: chosen moved ${L.signed(b.chosen)}, rejected moved ${L.signed(b.rejected)}, AUC ${two(b.before[0])} before and ${two(b.after[0])} after, relative size ${b.relative.toFixed(2)}`;
        return h('button', { type: 'button', class: `mv${b.target ? ' target' : ''}`, 'data-l': b.l, title: words, 'aria-label': words, onclick: () => { const k = L.view.blocks.findIndex(o => o.l === b.l); if (k >= 0) L.show(k); } },
          h('span', { class: 'mv-a' }, bar('chosen', b.chosen), bar('rejected', b.rejected)),
          h('span', { class: 'mv-auc' }, h('span', {}, two(b.before[0])), h('b', {}, two(b.after[0]))),
          h('span', { class: 'mv-rel' }, b.relative.toFixed(2)),
          h('span', { class: 'mv-l' }, h('b', { class: size === 'full' || b.l % 4 === 0 || b.target ? null : 'quiet' }, String(b.l)), h('small', {}, b.target && size === 'full' ? 'aligned' : '\u00a0')));
      });
      const line = (value, extra) => svg('line', { class: 'gl', x1: 0, x2: 100, y1: 100 - at(value), y2: 100 - at(value), ...extra });
      const grid = svg('svg', { viewBox: '0 0 100 100', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, ticks.map(t => line(t, t === 0 ? { class: 'gl z' } : {})),
        top > 2 && line(2, { 'stroke-dasharray': '3 3', style: 'stroke:var(--rw-control-line)' }));
      const gutter = h('div', { class: 'mv-gut' }, ticks.map(t => put(h('span', { class: 'y' }, t > 0 ? `+${text(t)}` : text(t)), { bottom: `calc(${at(t) / 100} * var(--mv-h) + var(--mv-below))` })),
        h('span', { class: 't' }, h('b', {}, 'Moved'), h('br'), 'along the axis; 2 is from mean to mean'),
        h('span', { class: 't auc' }, h('b', {}, 'AUC'), ' before, ', h('b', {}, 'after')), h('span', { class: 't rel' }, h('b', {}, 'Size'), ' of the move'), h('span', { class: 't blk' }, h('b', {}, 'Block')));
      bars = columns;
      return h('div', { class: `mv-strip rw-${size}`, role: 'group', 'aria-label': 'How far each block\u2019s states moved; press a block to look at it' }, gutter,
        h('div', { class: 'mv-lane' }, put(h('div', { class: 'mv-cols' }, h('div', { class: 'bg' }, grid), columns), { '--n': n })));
    };

    // -- the panel -------------------------------------------------------------------------------------------------------
    const ghost = () => h('div', { class: 'rw-ghost-moved', 'aria-hidden': 'true' });
    const header = d => {
      const runs = d.runs || [], choose = runs.length > 1 && h('select', { class: 'in rw-pickrun', 'aria-label': 'Run', disabled: d.phase === 'running', onchange: event => L.send({ action: 'move_choose', run: event.target.value }) },
        runs.map(([id, name]) => h('option', { value: id, selected: id === d.align }, name)));
      const ask = d.ask && L.button([d.ask.icon && L.icon(d.ask.icon), d.ask.label], 'sm', () => L.send({ action: d.ask.action }), { id: d.ask.id, disabled: d.ask.off });
      const kinds = d.phase === 'ready' && L.segments('Axes of before and after', [['axis', 'Preference axis'], ['pca', 'PCA']], kind, key => { kind = L.movedAxes = key; later(); L.keep(); });
      return h('header', {}, h('div', {}, h('h2', {}, d.title), h('p', {}, d.phase === 'ready' ? [`${d.pairs.toLocaleString('en')} pairs, read by both models: `, h('span', { class: 'key c-chosen' }, 'chosen'), ' and ', h('span', { class: 'key c-rejected' }, 'rejected'), ' answers.'] : d.lead)),
        h('div', { class: 'acts' }, choose, kinds, ask, d.phase === 'none' && L.button(['Go to step 3', L.icon('arrow')], 'sm', () => document.querySelector('#rw-align-picked').click())));
    };
    const body = d => {
      if (d.phase === 'running') {
        const p = d.progress;
        return [h('p', { class: 'sm s', style: 'display:flex;gap:8px;align-items:center;margin-bottom:8px', role: 'status' }, p.live && h('i', { class: 'dot live' }), p.heading, p.when && h('span', { class: 'q' }, p.when)), L.stages(p, 'Capture of the aligned model'), ghost()];
      }
      if (d.phase === 'failed' && d.error) return [h('div', { class: 'note err', role: 'alert' }, L.icon('err', 18), h('div', {}, d.error))];
      if (d.phase !== 'ready') return [];
      boxes = [scatter('base', d.name), scatter('aligned', d.name)];
      return [chart(), h('p', { class: 'xs q only-sm', style: 'margin:-14px 0 18px' }, 'Under each block: the AUC before, after, and the size of the move as a share of the state\u2019s.'), h('div', { class: 'rw-duo' }, boxes.map(b => b.element)),
        L.fold('moved', 'Numbers', L.meaningTable('What moved, block by block', d.head, d.cells, i => d.blocks[i].target))];
    };
    const words = () => {
      if (!boxes || v().phase !== 'ready') return;
      const b = v().blocks[row()];
      if (!b) return;
      bars.forEach((bar, i) => bar.classList.toggle('now', v().blocks[i] === b));
      const said = [`block ${b.l}, AUC ${two(b.before[0])}`, `block ${b.l}, AUC ${two(b.after[0])}; chosen moved ${L.signed(b.chosen)}, rejected ${L.signed(b.rejected)}`];
      boxes.forEach((box, i) => { box.element.querySelector('figcaption .q').textContent = said[i]; box.canvas.setAttribute('aria-label', `Scatter of the answers\u2019 states: ${said[i]}`); });
    };
    const draw = () => {
      const d = v();
      panel.hidden = !d;
      if (!d) return;
      const text = JSON.stringify(d);
      if (text === drawnOf && panel.firstChild) return;
      drawnOf = text;
      const focused = panel.contains(document.activeElement) && document.activeElement.id;
      boxes = bars = null;
      panel.dataset.phase = d.phase;
      panel.replaceChildren(header(d), ...body(d));
      if (focused) { const again = panel.querySelector(`#${CSS.escape(focused)}`); if (again) again.focus({ preventScroll: true }); }
      if (d.phase === 'ready') { unpack(); words(); later(); watch(); }
    };
    const sized = new ResizeObserver(later);
    const watch = () => { sized.disconnect(); boxes.forEach(box => sized.observe(box.canvas)); };
    const themed = () => { if (!panel.isConnected) return window.removeEventListener('rw-theme', themed); later(); };
    window.addEventListener('rw-theme', themed);

    return {
      draw,
      data: () => { unpack(); later(); },
      show: () => { if (v() && v().phase === 'ready' && boxes) { words(); later(); } },
      pair: later,
    };
  };
})();
