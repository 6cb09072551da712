/* Step 2: what is drawn, whoever draws it: the coordinates of a block in each projection, and the colour of every point.
   The scatter, the small pictures and the exported files all ask here, so that they always show the same. */
(() => {
  const { h } = rw, L = rw.layers;
  const RAMP = 24; // steps of a sequential scale: more cannot be told apart, and equal colours are drawn in one go
  /* Safe for colour-blind eyes (found by search: least distance under simulated protan, deutan and tritan sight), and
     apart from what chosen and rejected look like. */
  const KINDS = {
    light: ['#2448db', '#ea7b91', '#4d2e19', '#479933', '#a77bea', '#635a36', '#a65996', '#152b84'],
    dark: ['#7b91ea', '#e2e250', '#e2508a', '#50e2e2', '#af1d92', '#afaf1d', '#5050e2', '#736326'],
  };
  const SCALE = { light: ['#93b7ec', '#3f72cc', '#0a1c54'], dark: ['#33529c', '#7ea4f2', '#f1f5ff'] };
  const MIDDLE = { light: '#a5a097', dark: '#6f757c' };

  const P = L.picture = { dims: 2, colour: 'side', lines: null, ids: [], n: 0, index: new Map() };
  let sets = {}, ofUmap = null, asked = '', painted = new Map();

  // -- coordinates ---------------------------------------------------------------------------------------------------
  const unpack = set => {
    const bytes = Uint8Array.from(atob(set.xy), c => c.charCodeAt(0)), whole = new Int16Array(bytes.buffer), per = whole.length / set.scale.length;
    const xyz = new Float32Array(whole.length);
    set.scale.forEach((scale, layer) => { for (let i = layer * per; i < (layer + 1) * per; i++) xyz[i] = whole[i] * scale; });
    return { ...set, xyz, per };
  };

  /** Take what the server sent (L.data). False if it is not there or of another run. */
  P.load = () => {
    const d = L.data;
    sets = {};
    ofUmap = null;
    painted.clear();
    P.ids = [];
    P.index = new Map();
    P.n = 0;
    if (!d || !L.view || d.run !== L.view.run) return false;
    for (const [name, set] of Object.entries(d.sets)) sets[name] = unpack(set);
    P.ids = d.ids;
    P.n = d.ids.length;
    d.ids.forEach((id, i) => P.index.set(id, i));
    if (!P.columns().some(([key]) => key === P.colour)) P.colour = 'side';
    if (P.lines === null) P.lines = P.n <= 400;
    return true;
  };
  P.ready = () => P.n > 0;

  const read = (set, layer) => {
    const n = 2 * P.n, axes = Array.from({ length: set.dims }, () => new Float32Array(n));
    for (let i = 0, at = set.per * layer; i < n; i++) for (let k = 0; k < set.dims; k++) axes[k][i] = set.xyz[at++];
    const [x, y, z] = axes;
    return { x, y, z, finding: set.findings[layer], parted: set.parted[layer], names: set.names[layer], same: set.same, centred: true };
  };
  const umapSet = () => {
    const u = L.umap;
    if (!u || !u.set || !L.view || u.run !== L.view.run) return null;
    if (!ofUmap || ofUmap.from !== u.set) ofUmap = { from: u.set, ...unpack(u.set) };
    return ofUmap.per === 4 * P.n ? ofUmap : null;
  };
  /** How far UMAP is: {state, step, total, why}. */
  P.umap = () => L.umap && L.view && L.umap.run === L.view.run ? L.umap : { state: 'none', step: 0, total: 0, why: '' };
  P.hasUmap = () => Boolean(umapSet());

  /** One block in the projection on view, flat: {x, y} of 2N points, chosen first; `standIn` where it is PCA for UMAP. */
  P.flat = (layer = L.layer) => {
    if (L.projection !== 'umap') return read(sets[L.projection], layer);
    const set = umapSet();
    return set ? { ...read(set, layer), centred: false } : { ...read(sets.pca, layer), standIn: true };
  };
  /** The same in three dimensions, or null where there are none. */
  P.solid = (layer = L.layer) => L.projection !== 'umap' && sets[`${L.projection}3`] ? read(sets[`${L.projection}3`], layer) : null;
  P.hasSolid = () => L.projection !== 'umap' && Boolean(sets[`${L.projection}3`]);
  /** Held-out places on the preference axis of a block, 2N, chosen first: -1 the rejected mean, +1 the chosen mean. */
  P.places = (layer = L.layer) => read(sets.axis, layer).x;
  P.findingsOf = () => { const set = L.projection === 'umap' ? umapSet() || sets.pca : sets[L.projection]; return set ? set.parted : []; };

  const span = (a, centred) => {
    let lo = Infinity, hi = -Infinity;
    for (const v of a) { if (v < lo) lo = v; if (v > hi) hi = v; }
    return centred ? [0, Math.max(Math.abs(lo), Math.abs(hi), 1e-9)] : [(lo + hi) / 2, Math.max((hi - lo) / 2, 1e-9)];
  };
  /** How points become pixels of a box, as large as fits: x -> (x - mx) * kx from the middle. In PCA neither direction
      is stretched more than 1.6 times the other. */
  P.fit = (c, wide, high) => {
    const [mx, rx] = span(c.x, c.centred), [my, ry] = span(c.y, c.centred), w = wide / 2, t = high / 2;
    const limit = c.same ? 1.6 * Math.min(w / rx, t / ry) : Infinity;
    return { mx, my, kx: Math.min(w / rx, limit), ky: Math.min(t / ry, limit) };
  };
  /** Three coordinates into the cube from -1 to 1, with the same rule. */
  P.cube = c => {
    const spans = [c.x, c.y, c.z].map(a => span(a, true)[1]), limit = c.same ? 1.6 / Math.max(...spans) : Infinity;
    return [c.x, c.y, c.z].map((a, k) => Array.from(a, v => v * Math.min(1 / spans[k], limit)));
  };

  /** What the numbers along the axes are in, as an addition to their names. */
  P.unit = (projection, c) => {
    const spread = " (in units of the block's spread)";
    return c.standIn || projection === 'pca' ? [spread, spread, spread] : projection === 'axis' ? ['', spread, spread] : ['', ' (no unit)', ''];
  };

  // -- colours -------------------------------------------------------------------------------------------------------
  /** A value of the design; `light` gives the light theme's whatever is on view (exported files are white). */
  P.token = (name, light) => getComputedStyle(light ? document.documentElement : document.body).getPropertyValue(`--rw-${name}`).trim();
  const themeOf = light => light || !document.body.classList.contains('dark') ? 'light' : 'dark';
  const rgb = hex => [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16));
  const mix = (a, b, t) => '#' + rgb(a).map((v, i) => Math.round(v + (rgb(b)[i] - v) * t).toString(16).padStart(2, '0')).join('');
  const ramp = stops => Array.from({ length: RAMP }, (_, i) => {
    const t = i / (RAMP - 1) * (stops.length - 1), k = Math.min(stops.length - 2, Math.floor(t));
    return mix(stops[k], stops[k + 1], t - k);
  });
  const onRamp = (steps, value, low, high) => steps[Math.max(0, Math.min(RAMP - 1, Math.round((RAMP - 1) * (high > low ? (value - low) / (high - low) : 0.5))))];

  /** What points can be coloured by: [key, name]. */
  P.columns = () => [['side', 'Side'], ['score', 'Held-out score'], ['right', 'Read rightly'], ...((L.data && L.data.columns) || []).map(c => [c.key, c.name])];
  P.columnName = () => (P.columns().find(([key]) => key === P.colour) || ['', ''])[1];
  const values = () => L.colour && L.colour.run === L.view.run && L.colour.column === P.colour ? L.colour : null;
  /** Whether the colours of a point change with the block. */
  P.perBlock = () => P.colour === 'score' || P.colour === 'right';

  const PAINT = {
    side: (layer, light) => ({ of: i => P.token(i < P.n ? 'chosen' : 'rejected', light), legend: { kind: 'side' } }),
    score: (layer, light) => {
      const steps = ramp([P.token('rejected', light), MIDDLE[themeOf(light)], P.token('chosen', light)]), at = P.places(layer);
      return { of: i => onRamp(steps, at[i], -1.5, 1.5), legend: { kind: 'scale', title: 'Held-out place on the preference axis', steps, low: '\u22121.5', high: '+1.5', note: 'rejected mean at \u22121, chosen at +1' } };
    },
    right: (layer, light) => {
      const at = P.places(layer), yes = themeOf(light) === 'light' ? '#b9b8b2' : '#4d545c', no = P.token('ink', light);
      const wrong = P.ids.map((_, i) => !(at[i] > at[P.n + i])), count = wrong.filter(Boolean).length;
      return { of: i => wrong[i % P.n] ? no : yes, above: i => wrong[i % P.n],
        legend: { kind: 'kinds', title: `Block ${L.view.blocks[layer].l} reads ${(P.n - count).toLocaleString('en')} of ${P.n.toLocaleString('en')} drawn pairs rightly: chosen further along than rejected`,
          items: [{ colour: yes, label: 'rightly', count: P.n - count }, { colour: no, label: 'wrongly', count }] } };
    },
    number: (v, light) => {
      const steps = ramp(SCALE[themeOf(light)]), none = P.token('control-line', light);
      return { of: i => { const value = v.values[v.size === P.n ? i % P.n : i]; return value === null ? none : onRamp(steps, value, v.low, v.high); },
        legend: { kind: 'scale', title: v.name, steps, low: (v.least < v.low ? '\u2264 ' : '') + P.number(v.low), high: (v.most > v.high ? '\u2265 ' : '') + P.number(v.high) + (v.unit ? ` ${v.unit}` : ''),
          note: v.missing ? `${v.missing.toLocaleString('en')} without a value` : '', none: v.missing ? none : null } };
    },
    category: (v, light) => {
      const kinds = KINDS[themeOf(light)], other = P.token('control-line', light), none = P.token('line-strong', light);
      const items = v.labels.map((label, k) => ({ colour: kinds[k], label, count: v.counts[k] }));
      if (v.other) items.push({ colour: other, label: `${v.others.toLocaleString('en')} others`, count: v.other });
      if (v.missing) items.push({ colour: none, label: 'no value', count: v.missing });
      return { of: i => { const code = v.codes[v.size === P.n ? i % P.n : i]; return code >= 0 ? kinds[code] : code === -1 ? other : none; }, legend: { kind: 'kinds', title: v.name, items } };
    },
  };
  P.number = value => Math.abs(value) >= 1000 || Number.isInteger(value) ? Math.round(value).toLocaleString('en') : String(+value.toPrecision(3));

  /** The colours of a block's 2N points (chosen first) and their legend. Asks the server for a column's values once;
      until they are there all points are grey. */
  P.colours = (layer = L.layer, light = false) => {
    const key = [P.colour, P.perBlock() ? layer : '', themeOf(light), light].join(' '), v = values();
    if (painted.has(key)) return painted.get(key);
    const local = ['side', 'score', 'right'].includes(P.colour);
    if (!local && !v) {
      const wish = `${L.view.run} ${P.colour}`;
      if (asked !== wish) { asked = wish; L.send({ action: 'colour', column: P.colour }); }
      const grey = P.token('control-line', light);
      return { all: new Array(2 * P.n).fill(grey), legend: { kind: 'wait', title: `Reading ${P.columnName()}` } };
    }
    const { of, above, legend } = local ? PAINT[P.colour](layer, light) : PAINT[v.kind](v, light);
    const all = new Array(2 * P.n);
    if (P.colour === 'side') { all.fill(of(0), 0, P.n); all.fill(of(P.n), P.n); } else for (let i = 0; i < 2 * P.n; i++) all[i] = of(i);
    const made = { all, above, legend };
    painted.set(key, made);
    return made;
  };
  P.setColour = key => { P.colour = key; asked = ''; painted.clear(); P.keep(); };
  P.forget = () => painted.clear();

  /** What a point's colour says, in words, or '' where colour says nothing more than the shape. */
  P.valueOf = (i, layer = L.layer) => {
    if (!P.ready() || P.colour === 'side') return '';
    if (P.perBlock()) { const at = P.places(layer)[i]; return `${at < 0 ? '\u2212' : '+'}${Math.abs(at).toFixed(2)} on the axis`; }
    const v = values();
    if (!v) return '';
    const k = v.size === P.n ? i % P.n : i;
    const said = v.kind === 'number' ? v.values[k] === null ? 'no value' : P.number(v.values[k]) + (v.unit ? ` ${v.unit}` : '') : v.codes[k] >= 0 ? v.labels[v.codes[k]] : v.codes[k] === -1 ? 'another value' : 'no value';
    return `${v.name}: ${said}`;
  };
  /** The same as a plain value for a table, or null. */
  P.cellOf = (i, layer = L.layer) => {
    if (P.colour === 'right') { const at = P.places(layer), k = i % P.n; return at[k] > at[P.n + k] ? 'yes' : 'no'; }
    const v = values();
    if (!v) return null;
    const k = v.size === P.n ? i % P.n : i;
    return v.kind === 'number' ? v.values[k] : v.codes[k] >= 0 ? v.labels[v.codes[k]] : v.codes[k] === -1 ? '(another value)' : null;
  };

  /** The legend of the colours on view, as elements. Labels are texts of users: they are set as text. */
  P.legend = legend => {
    const swatch = colour => { const dot = h('i', { class: 'rw-swatch', 'aria-hidden': 'true' }); dot.style.background = colour; return dot; };
    if (legend.kind === 'side') return [];
    if (legend.kind === 'wait') return [h('span', { class: 'q' }, legend.title, '\u2026')];
    const title = h('b', {}, legend.title);
    if (legend.kind === 'scale') {
      const bar = h('span', { class: 'rw-ramp', 'aria-hidden': 'true' });
      bar.style.background = `linear-gradient(90deg, ${legend.steps.join(',')})`;
      return [title, h('span', { class: 'rw-item' }, legend.low, bar, legend.high), legend.note && h('span', { class: 'q' }, legend.none && swatch(legend.none), legend.note)].filter(Boolean);
    }
    return [title, ...legend.items.map(item => h('span', { class: 'rw-item' }, swatch(item.colour), item.label, ' ', h('span', { class: 'q' }, item.count.toLocaleString('en'))))];
  };

  // -- what the visitor chose is kept with the block on view ---------------------------------------------------------
  let begun = false;
  /** Take up what was kept, once: later the tab knows better. */
  P.begin = () => {
    if (begun) return;
    begun = true;
    P.dims = L.view.dims === 3 ? 3 : 2;
    P.colour = L.view.colour || 'side';
    if (typeof L.view.lines === 'boolean') P.lines = L.view.lines;
  };
  P.keep = () => L.keep && L.keep();
  L.looks = () => ({ dims: P.dims, colour: P.colour, ...(P.lines === null ? {} : { lines: P.lines }) });
})();
