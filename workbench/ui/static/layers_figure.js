/* Step 2: figures for a paper, as SVG text: the picture on view, all blocks, the strip of scores. White, in the light
   theme's colours, with title, axes and units; plain shapes and system fonts, so that any program opens them. */
(() => {
  const L = rw.layers, P = L.picture;
  const FONT = "'IBM Plex Sans', 'Helvetica Neue', Helvetica, Arial, sans-serif";
  const clean = text => String(text).replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '').replace(/[&<>"']/g, c => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' })[c]);
  const num = value => (Math.abs(value) < 0.005 ? 0 : value).toFixed(2).replace(/\.?0+$/, '');
  const tag = (name, attributes, inner = null) => `<${name}${Object.entries(attributes).filter(([, v]) => v !== null && v !== undefined).map(([k, v]) => ` ${k}="${typeof v === 'number' ? num(v) : clean(v)}"`).join('')}${inner === null ? '/>' : `>${inner}</${name}>`}`;
  const text = (x, y, said, more = {}) => tag('text', { x, y, 'font-size': 12, fill: P.token('ink-2', true), ...more }, clean(said));
  const line = (x1, y1, x2, y2, stroke, more = {}) => tag('line', { x1, y1, x2, y2, stroke, 'stroke-width': 1, ...more });
  const whole = (wide, high, title, parts) => `<svg xmlns="http://www.w3.org/2000/svg" width="${wide}" height="${high}" viewBox="0 0 ${wide} ${high}" font-family="${clean(FONT)}" role="img">`
    + `<title>${clean(title)}</title>${tag('rect', { width: wide, height: high, fill: '#ffffff' })}${parts.join('')}</svg>\n`;
  let pen = null;
  /** How wide a text is, about: other programs may have another font. */
  const measure = (said, size = 12, weight = 400) => {
    pen = pen || document.createElement('canvas').getContext('2d');
    pen.font = `${weight} ${size}px ${FONT}`;
    return 1.04 * pen.measureText(said).width;
  };
  const cut = (said, wide, size = 12) => {
    if (measure(said, size, size > 12 ? 700 : 400) <= wide) return said;
    let end = said.length;
    while (end > 4 && measure(said.slice(0, end) + '\u2026', size, size > 12 ? 700 : 400) > wide) end -= 1;
    return said.slice(0, end) + '\u2026';
  };

  const ticks = (low, high) => {
    const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough)), step = [1, 2, 2.5, 5, 10].find(s => s * power >= rough) * power, out = [];
    for (let v = Math.ceil(low / step) * step; v <= high + 1e-9 * step; v += step) out.push(Math.abs(v) < step / 1e6 ? 0 : v);
    return out;
  };
  const said = value => String(+value.toPrecision(3)).replace('-', '\u2212');

  /** Shapes of 2N points, rejected below chosen, `r` pixels in radius. */
  const points = (at, colours, r, order) => {
    const n = P.n, one = i => i < n ? tag('circle', { cx: at.x[i], cy: at.y[i], r, fill: colours.all[i], 'fill-opacity': colours.above && colours.above(i) ? 1 : 0.65 })
      : tag('rect', { x: at.x[i] - r * 0.9, y: at.y[i] - r * 0.9, width: 1.8 * r, height: 1.8 * r, fill: 'none', stroke: colours.all[i], 'stroke-width': r > 2 ? 1.3 : 0.8, 'stroke-opacity': 0.85 });
    const all = order || [...Array(n).keys()].map(i => n + i).concat([...Array(n).keys()]);
    return tag('g', {}, all.map(one).join(''));
  };
  /** The same, small and in few elements: one path for each colour and side. */
  const specks = (at, all, r) => {
    const paths = (from, to, shape, style) => {
      const by = new Map();
      for (let i = from; i < to; i++) by.set(all[i], (by.get(all[i]) || '') + shape(i));
      return [...by].map(([stroke, d]) => tag('path', { d, stroke, fill: 'none', ...style })).join('');
    };
    const side = num(1.8 * r);
    return paths(P.n, 2 * P.n, i => `M${num(at.x[i] - 0.9 * r)} ${num(at.y[i] - 0.9 * r)}h${side}v${side}h-${side}z`, { 'stroke-width': 0.8, 'stroke-opacity': 0.85 })
      + paths(0, P.n, i => `M${num(at.x[i])} ${num(at.y[i])}h0`, { 'stroke-width': 2 * r, 'stroke-linecap': 'round', 'stroke-opacity': 0.65 });
  };
  const pairLines = at => tag('g', { stroke: P.token('control-line', true), 'stroke-width': 0.6, 'stroke-opacity': 0.55 }, P.ids.map((_, i) => tag('line', { x1: at.x[P.n + i], y1: at.y[P.n + i], x2: at.x[i], y2: at.y[i] })).join(''));
  const means = at => {
    const n = P.n, mean = (a, from) => { let s = 0; for (let i = from; i < from + n; i++) s += a[i]; return s / n; }, c = [mean(at.x, 0), mean(at.y, 0)], r = [mean(at.x, n), mean(at.y, n)];
    return line(c[0], c[1], r[0], r[1], P.token('ink', true), { 'stroke-width': 1.5, 'stroke-dasharray': '1.5 4' })
      + tag('circle', { cx: c[0], cy: c[1], r: 6.5, fill: P.token('chosen', true), stroke: '#ffffff', 'stroke-width': 2.5 })
      + tag('rect', { x: r[0] - 6, y: r[1] - 6, width: 12, height: 12, fill: P.token('rejected', true), stroke: '#ffffff', 'stroke-width': 2.5 });
  };

  /** What the shapes are, and the colours where they say more; returns [markup, height]. */
  const legend = (x, y, wide, made) => {
    const plain = P.colour === 'side', ink = P.token('ink-2', true), chosen = plain ? P.token('chosen', true) : ink, rejected = plain ? P.token('rejected', true) : ink, parts = [];
    let at = x, row = y;
    const room = width => { if (at + width > x + wide && at > x) { at = x; row += 18; } const here = at; at += width; return here; };
    const width = label => measure(label) + 30;
    let here = room(measure('chosen', 12, 700) + 28);
    parts.push(tag('circle', { cx: here + 5, cy: row - 4, r: 4, fill: chosen }), text(here + 14, row, 'chosen', { fill: chosen, 'font-weight': 700 }));
    here = room(measure('rejected', 12, 700) + 42);
    parts.push(tag('rect', { x: here + 1.5, y: row - 7.5, width: 7, height: 7, fill: 'none', stroke: rejected, 'stroke-width': 1.5 }), text(here + 14, row, 'rejected', { fill: rejected, 'font-weight': 700 }));
    const l = made.legend;
    if (l.kind === 'scale') {
      here = room(measure(l.title, 12, 700) + 14);
      parts.push(text(here, row, l.title, { 'font-weight': 700 }));
      here = room(measure(l.low + l.high) + 128);
      parts.push(text(here, row, l.low));
      const left = here + measure(l.low) + 6, step = 96 / l.steps.length;
      parts.push(...l.steps.map((fill, i) => tag('rect', { x: left + i * step, y: row - 8, width: step + 0.4, height: 8, fill })), text(left + 102, row, l.high));
      if (l.note) { here = room(measure(l.note) + 12); parts.push(text(here, row, l.note, { fill: P.token('ink-3', true) })); }
    } else if (l.kind === 'kinds') {
      here = room(measure(l.title, 12, 700) + 14);
      parts.push(text(here, row, l.title, { 'font-weight': 700 }));
      for (const item of l.items) {
        const label = `${item.label} ${item.count.toLocaleString('en')}`;
        here = room(width(label));
        parts.push(tag('circle', { cx: here + 5, cy: row - 4, r: 4, fill: item.colour }), text(here + 14, row, label));
      }
    }
    return [parts.join(''), row - y + 18];
  };

  /** What stands above and below a picture: its finding, what it is of, the block's score. */
  const captions = () => {
    const b = L.view.blocks[L.layer], c = L.scatter.solid() ? P.solid() : P.flat(), kind = c.standIn || L.projection === 'pca' ? 'PCA' : L.projection === 'umap' ? 'UMAP' : 'Preference axis';
    return { c, kind, title: `Block ${b.l}: ${c.finding}`, about: `${kind === 'PCA' ? `PCA (${c.z ? 'three' : 'two'} components, turned onto the block before)` : kind} of ${L.data.caption.replace(/\.$/, '')}. Probe AUC ${b.auc.toFixed(2)} [${b.low.toFixed(2)}, ${b.high.toFixed(2)}] on held-out pairs.` };
  };

  const flat = () => {
    const { c, title, about } = captions(), made = P.colours(L.layer, true), W = 760, left = 64, right = 22, top = 66, high = 440, wide = W - left - right, f = P.fit(c, wide - 20, high - 20), cx = left + wide / 2, cy = top + high / 2;
    const at = { x: Array.from(c.x, v => cx + (v - f.mx) * f.kx), y: Array.from(c.y, v => cy - (v - f.my) * f.ky) }, faint = P.token('line', true), quiet = P.token('ink-3', true), units = P.unit(L.projection, c);
    const parts = [text(left, 26, cut(title, wide, 16), { 'font-size': 16, 'font-weight': 700, fill: P.token('ink', true) }), text(left, 46, cut(about, wide))];
    for (const v of ticks(f.mx - wide / 2 / f.kx, f.mx + wide / 2 / f.kx)) { const x = cx + (v - f.mx) * f.kx; parts.push(line(x, top, x, top + high, faint), text(x, top + high + 16, said(v), { 'text-anchor': 'middle', 'font-size': 11, fill: quiet })); }
    for (const v of ticks(f.my - high / 2 / f.ky, f.my + high / 2 / f.ky)) { const y = cy - (v - f.my) * f.ky; parts.push(line(left, y, left + wide, y, faint), text(left - 8, y + 4, said(v), { 'text-anchor': 'end', 'font-size': 11, fill: quiet })); }
    parts.push(text(cx, top + high + 36, c.names[0] + units[0], { 'text-anchor': 'middle' }), tag('g', { transform: `translate(16 ${num(cy)}) rotate(-90)` }, text(0, 4, c.names[1] + units[1], { 'text-anchor': 'middle' })));
    if (P.lines) parts.push(pairLines(at));
    parts.push(points(at, made, P.n > 400 ? 3 : 3.8), means(at));
    const [key, tall] = legend(left, top + high + 64, wide, made);
    return { wide: W, high: top + high + 56 + tall, title, markup: whole(W, top + high + 56 + tall, title, [...parts, key]) };
  };

  /** The solid picture as the camera sees it, without perspective. */
  const solid = () => {
    const { c, title, about } = captions(), made = P.colours(L.layer, true), W = 760, top = 62, high = 470, eye = L.scatter.camera().eye, up = (L.scatter.camera().up) || { x: 0, y: 0, z: 1 };
    const unit = v => { const s = Math.hypot(...v) || 1; return v.map(a => a / s); }, cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]], dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
    const back = unit([eye.x, eye.y, eye.z]), side = unit(cross([up.x, up.y, up.z], back)), over = cross(back, side), cube = P.cube(c), k = 148, cx = W / 2, cy = top + high / 2;
    const place = p => [cx + k * dot(p, side), cy - k * dot(p, over), dot(p, back)], all = [...Array(2 * P.n).keys()].map(i => place([cube[0][i], cube[1][i], cube[2][i]]));
    const at = { x: all.map(p => p[0]), y: all.map(p => p[1]) }, faint = P.token('line-strong', true), parts = [text(40, 26, cut(title, W - 60, 16), { 'font-size': 16, 'font-weight': 700, fill: P.token('ink', true) }), text(40, 46, cut(about, W - 60))];
    const corners = [-1, 1], names = [];
    for (const a of corners) for (const b of corners) for (const [p, q] of [[[-1, a, b], [1, a, b]], [[a, -1, b], [a, 1, b]], [[a, b, -1], [a, b, 1]]]) {
      const [s, t] = [place(p), place(q)];
      parts.push(line(s[0], s[1], t[0], t[1], faint, { 'stroke-width': 0.7, 'stroke-opacity': 0.7 }));
    }
    [[1, 0, 0], [0, 1, 0], [0, 0, 1]].forEach((axis, i) => {
      const [s, t, far] = [place(axis.map(v => -v)), place(axis), place(axis.map(v => 1.1 * v))];
      parts.push(line(s[0], s[1], t[0], t[1], P.token('ink-3', true)));
      names.push(text(far[0], far[1] + 4, ['1', '2', '3'][i], { 'text-anchor': 'middle', 'font-weight': 700, fill: P.token('ink', true), stroke: '#ffffff', 'stroke-width': 3, 'paint-order': 'stroke' }));
    });
    if (P.lines) parts.push(pairLines(at));
    parts.push(points(at, made, 3.2, all.map((p, i) => [p[2], i]).sort((p, q) => p[0] - q[0]).map(p => p[1])), means(at), ...names);
    parts.push(text(40, top + high + 12, cut(c.names.map((name, i) => `${i + 1}: ${name}`).join('; '), W - 60)),
      text(40, top + high + 29, L.projection === 'axis' ? "Axes 2 and 3 in units of the block's spread." : "All axes in units of the block's spread.", { fill: P.token('ink-3', true) }));
    const [key, tall] = legend(40, top + high + 56, W - 60, made);
    return { wide: W, high: top + high + 48 + tall, title, markup: whole(W, top + high + 48 + tall, title, [...parts, key]) };
  };

  /** All blocks in a grid. */
  const grid = () => {
    const blocks = L.view.blocks, per = Math.min(blocks.length <= 12 ? 4 : 8, blocks.length), cell = per > 4 ? 132 : 190, tall = cell * 0.75, gap = 12, rows = Math.ceil(blocks.length / per), W = 40 + per * cell + (per - 1) * gap, top = 62;
    const title = L.headline(), kind = L.projection === 'axis' ? 'Preference axis' : L.projection === 'umap' && P.hasUmap() ? 'UMAP' : 'PCA', parts = [text(20, 26, cut(title, W - 40, 16), { 'font-size': 16, 'font-weight': 700, fill: P.token('ink', true) }),
      text(20, 46, cut(`${kind}, ${L.data.caption.replace(/\.$/, '')}, each block to its own scale; beside each block's number its held-out probe AUC.`, W - 40))];
    blocks.forEach((b, layer) => {
      const x = 20 + (layer % per) * (cell + gap), y = top + Math.floor(layer / per) * (tall + 30), c = P.flat(layer), f = P.fit(c, cell - 12, tall - 12), made = P.colours(layer, true), cx = x + cell / 2, cy = y + 18 + tall / 2;
      parts.push(text(x, y + 12, `Block ${b.l}`, { 'font-weight': 700 }), text(x + cell, y + 12, b.auc.toFixed(2), { 'text-anchor': 'end' }), tag('rect', { x, y: y + 18, width: cell, height: tall, fill: 'none', stroke: P.token('line', true) }),
        specks({ x: Array.from(c.x, v => cx + (v - f.mx) * f.kx), y: Array.from(c.y, v => cy - (v - f.my) * f.ky) }, made.all, P.n > 400 ? 1.3 : 1.7));
    });
    const low = top + rows * (tall + 30) + 10, [key, height] = legend(20, low, W - 40, P.perBlock() && P.colour === 'right' ? { legend: { kind: 'kinds', title: 'Read rightly', items: [] } } : P.colours(0, true));
    return { wide: W, high: low + height, title, markup: whole(W, low + height, title, [...parts, key]) };
  };

  /** The strip: probe AUC of all blocks with intervals, and what chance reaches. */
  const strip = () => {
    const v = L.view, blocks = v.blocks, n = blocks.length, W = Math.max(520, Math.min(1100, 120 + 64 * n)), left = 64, right = 24, top = 66, high = 240, wide = W - left - right, x = i => left + wide * (i + 0.5) / n, y = at => top + high * (1 - at / 100);
    const ink = P.token('ink', true), quiet = P.token('ink-3', true), parts = [text(left, 26, cut(v.title, wide, 16), { 'font-size': 16, 'font-weight': 700, fill: ink }), text(left, 46, cut(`A linear probe on the states of each block: ${v.caption}.`, wide))];
    for (const t of v.axis.ticks) parts.push(line(left, y(t.at), left + wide, y(t.at), P.token('line', true)), text(left - 10, y(t.at) + 4, t.text, { 'text-anchor': 'end', 'font-size': 11, fill: quiet }));
    const edge = list => [[left, list[0][1]], ...list, [left + wide, list[n - 1][1]]], band = [...edge(blocks.map((b, i) => [x(i), y(b.nlo)])), ...edge(blocks.map((b, i) => [x(i), y(b.nhi)])).reverse()];
    parts.push(tag('path', { d: 'M' + band.map(p => p.map(num).join(' ')).join('L') + 'Z', fill: P.token('null', true) }), line(left, y(v.axis.chance), left + wide, y(v.axis.chance), P.token('control-line', true), { 'stroke-dasharray': '3 3' }),
      text(left + wide - 4, y(v.axis.chance) - 5, `chance: ${v.chance_caption}`, { 'text-anchor': 'end', 'font-size': 11, fill: P.token('null-ink', true) }),
      tag('path', { d: 'M' + blocks.map((b, i) => `${num(x(i))} ${num(y(b.v))}`).join('L'), fill: 'none', stroke: ink, 'stroke-width': 1.5, 'stroke-opacity': 0.55 }));
    blocks.forEach((b, i) => {
      const picked = L.picked.includes(b.l);
      parts.push(line(x(i), y(b.lo), x(i), y(b.hi), ink, { 'stroke-width': n > 24 ? 2 : 3, 'stroke-opacity': 0.35 }), tag('circle', { cx: x(i), cy: y(b.v), r: n > 24 ? 3 : 4.5, fill: picked ? ink : '#ffffff', stroke: ink, 'stroke-width': 1.75 }));
      if (n <= 16) parts.push(text(x(i), b.up ? y(b.hi) - 8 : y(b.lo) + 16, b.auc.toFixed(2), { 'text-anchor': 'middle', 'font-weight': 700, fill: ink }));
      if (n <= 24 || b.l % 4 === 0) parts.push(text(x(i), top + high + 18, String(b.l), { 'text-anchor': 'middle', 'font-weight': picked ? 700 : null, fill: picked ? ink : quiet }));
    });
    parts.push(text(left + wide / 2, top + high + 38, 'Block', { 'text-anchor': 'middle' }), tag('g', { transform: `translate(18 ${num(top + high / 2)}) rotate(-90)` }, text(0, 4, 'Probe AUC', { 'text-anchor': 'middle' })));
    if (L.picked.length) parts.push(text(left, top + high + 38, `Filled: picked for alignment (${L.and(L.picked)})`, { fill: quiet, 'font-size': 11 }));
    return { wide: W, high: top + high + 52, title: v.title, markup: whole(W, top + high + 52, v.title, parts) };
  };

  L.figure = { picture: () => L.scatter.solid() ? solid() : flat(), grid, strip, captions, clean };
})();
