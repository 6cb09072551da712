/* Step 2: small pictures of all blocks, in the projection and the colours of the large one. Drawn on canvases: 32 blocks
   of 2,000 points in a fraction of a second. A press goes to the block. */
(() => {
  const { h } = rw, L = rw.layers, P = L.picture;
  const PARTED = 0.85;

  /** What all the pictures together show. */
  const headline = () => {
    const parted = P.findingsOf(), from = parted.findLastIndex(value => value < PARTED) + 1, b = L.view.blocks;
    const which = { pca: 'In PCA', umap: P.hasUmap() ? 'In UMAP' : 'In PCA', axis: 'On the preference axis' }[L.projection];
    if (!parted.length) return 'All blocks';
    if (from === 0) return `${which} chosen and rejected part in every block`;
    if (from < parted.length) return `${which} chosen and rejected part from block ${b[from].l} on`;
    const best = parted.indexOf(Math.max(...parted));
    return parted[best] >= PARTED ? `${which} chosen and rejected part most in block ${b[best].l}` : `${which} chosen and rejected overlap in every block`;
  };
  L.headline = headline;

  /** Indices of points by colour, so that a colour is set once. */
  const byColour = (all, from, to) => {
    const groups = new Map();
    for (let i = from; i < to; i++) { const list = groups.get(all[i]); if (list) list.push(i); else groups.set(all[i], [i]); }
    return groups;
  };

  const paint = (canvas, layer) => {
    const ratio = Math.min(2, window.devicePixelRatio || 1), wide = canvas.clientWidth, high = Math.round(wide * 0.75), n = P.n;
    if (!wide) return;
    canvas.width = wide * ratio;
    canvas.height = high * ratio;
    const pen = canvas.getContext('2d'), c = P.flat(layer), f = P.fit(c, wide - 8, high - 8), { all } = P.colours(layer), px = i => wide / 2 + (c.x[i] - f.mx) * f.kx, py = i => high / 2 - (c.y[i] - f.my) * f.ky;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.strokeStyle = P.token('line');
    pen.beginPath(); pen.moveTo(0, high / 2); pen.lineTo(wide, high / 2); pen.moveTo(wide / 2, 0); pen.lineTo(wide / 2, high); pen.stroke();
    const r = n > 400 ? 1.1 : 1.5;
    pen.globalAlpha = 0.75;
    pen.lineWidth = 0.9;
    for (const [colour, list] of byColour(all, n, 2 * n)) { pen.strokeStyle = colour; pen.beginPath(); for (const i of list) pen.rect(px(i) - r, py(i) - r, 2 * r, 2 * r); pen.stroke(); }
    for (const [colour, list] of byColour(all, 0, n)) { pen.fillStyle = colour; pen.beginPath(); for (const i of list) { const x = px(i), y = py(i); pen.moveTo(x + r, y); pen.arc(x, y, r, 0, 7); } pen.fill(); }
  };

  /** Draw the small pictures into `host` (a panel). They follow the large picture by themselves. */
  L.grid = host => {
    const blocks = L.view.blocks, title = h('h3', {}), about = h('p', { class: 's sm' });
    const cells = blocks.map((b, i) => {
      const canvas = h('canvas', { 'aria-hidden': 'true' });
      const button = h('button', { type: 'button', class: 'rw-small', 'data-l': b.l, 'aria-label': `Block ${b.l}, AUC ${b.auc.toFixed(2)}: show it large`, onclick: () => L.show(i) },
        h('span', { class: 'n' }, h('b', {}, String(b.l)), h('span', { title: 'Held-out probe AUC' }, b.auc.toFixed(2))), canvas);
      return { button, canvas };
    });
    const grid = h('div', { class: 'rw-smalls', role: 'group', 'aria-label': 'Small pictures of all blocks' }, cells.map(c => c.button));
    if (blocks.length > 16) grid.style.setProperty('--cell', '112px');
    grid.addEventListener('keydown', event => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key], at = cells.findIndex(c => c.button === event.target);
      if (!step || at < 0) return;
      event.preventDefault();
      cells[Math.max(0, Math.min(cells.length - 1, at + step))].button.focus();
    });
    host.replaceChildren(h('div', { class: 'rw-gridhead' }, title, about), grid);
    let width = 0;
    const draw = () => {
      if (!grid.isConnected) return;
      if (!P.ready()) { title.textContent = 'All blocks'; about.textContent = 'The pictures are on their way.'; return; }
      const began = performance.now();
      title.textContent = headline();
      about.textContent = 'Every block as the large picture has it, with its probe AUC. Press one to see it large.';
      cells.forEach(({ canvas }, i) => paint(canvas, i));
      grid.dataset.drawn = `${L.projection} ${P.colour}`;
      grid.dataset.took = Math.round(performance.now() - began);
    };
    new ResizeObserver(() => { if (grid.clientWidth && grid.clientWidth !== width) { width = grid.clientWidth; draw(); } }).observe(grid);
    L.smalls = { draw, mark: () => cells.forEach(({ button }, i) => i === L.layer ? button.setAttribute('aria-current', 'true') : button.removeAttribute('aria-current')) };
    L.smalls.mark();
    draw();
    return L.smalls;
  };
})();
