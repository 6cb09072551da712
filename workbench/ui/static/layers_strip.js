/* Step 2: the strip of all blocks: a grid of real buttons, all placed by percentages over one stretched drawing. */
(() => {
  const { h, svg } = rw, L = rw.layers;
  const put = (element, properties) => { for (const [name, value] of Object.entries(properties)) element.style.setProperty(name, value); return element; };

  const density = (points, kind) => svg('path', { class: kind,
    d: 'M0 100L' + points.map((y, i) => `${(100 * i / (points.length - 1)).toFixed(1)} ${(100 - 86 * y).toFixed(1)}`).join('L') + 'L100 100Z' });

  const background = (axis, blocks) => {
    const n = blocks.length, x = i => (100 * (i + 0.5) / n).toFixed(2), y = at => (100 - at).toFixed(2);
    const low = blocks.map((b, i) => [x(i), y(b.nlo)]), high = blocks.map((b, i) => [x(i), y(b.nhi)]);
    const wide = line => [['0', line[0][1]], ...line, ['100', line[n - 1][1]]];
    const path = points => 'M' + points.map(p => p.join(' ')).join('L');
    return svg('svg', { viewBox: '0 0 100 100', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
      axis.ticks.filter(t => t.text !== '0.5').map(t => svg('line', { class: 'gl', x1: 0, x2: 100, y1: y(t.at), y2: y(t.at) })),
      svg('line', { class: 'gl', x1: 0, x2: 100, y1: 100, y2: 100 }),
      svg('path', { d: path([...wide(low), ...wide(high).reverse()]) + 'Z', style: 'fill:var(--rw-null)' }),
      svg('line', { x1: 0, x2: 100, y1: y(axis.chance), y2: y(axis.chance), 'stroke-dasharray': '3 3', style: 'stroke:var(--rw-control-line)' }),
      svg('path', { d: path(blocks.map((b, i) => [x(i), y(b.v)])), fill: 'none', 'stroke-width': 1.75, 'stroke-opacity': 0.55, style: 'stroke:var(--rw-ink)' }));
  };

  const block = (b, size) => {
    const number = put(h('span', { class: 'v' }, b.auc.toFixed(2)), b.up ? { bottom: `calc(${b.hi}% + ${size === 'full' ? 24 : 10}px)` } : {});
    const interval = put(h('span', { class: 'ci' }, `[${b.low.toFixed(2)}, ${b.high.toFixed(2)}]`), b.up ? { bottom: `calc(${b.hi}% + 8px)` } : {});
    const words = `Block ${b.l}: AUC ${b.auc.toFixed(2)}, interval ${b.low.toFixed(2)} to ${b.high.toFixed(2)}, chance reaches ${b.chance.toFixed(2)}`;
    return h('button', { type: 'button', class: `blk${b.up ? ' up' : ''}${b.suggested ? ' sug' : ''}`, 'data-l': b.l, 'aria-pressed': 'false', 'aria-label': words + (b.suggested ? ', suggested' : ''), title: words },
      put(h('span', { class: 'a' }, h('span', { class: 'w' }), h('span', { class: 'p' }), number, interval), { '--v': `${b.v}%`, '--lo': `${b.lo}%`, '--hi': `${b.hi}%` }),
      h('span', { class: 'd' }, b.rejected && svg('svg', { viewBox: '0 0 100 100', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, density(b.rejected, 'dr'), density(b.chosen, 'dc'))),
      h('span', { class: 'i' }, h('b', {}, L.icon('check', 12), size === 'full' || b.l % 4 === 0 || b.suggested ? String(b.l) : h('span', { class: 'rw-quiet' }, String(b.l))),
        h('small', {}, b.suggested ? (size === 'full' ? 'suggested' : '\u25b4') : '')));
  };

  const gutter = v => {
    const place = (at, extra) => `calc(var(--auc-h)*${(at / 100).toFixed(4)} + var(--den-h) + 64px${extra || ''})`;
    const words = (style, ...content) => h('span', { class: 't', style }, ...content);
    return h('div', { class: 'gut' },
      v.axis.ticks.map(t => h('span', { class: 'y', style: `bottom:${place(t.at)}` }, t.text)),
      words('top:12px', h('b', { class: 'rw-ink' }, 'Probe AUC'), h('br'), v.caption),
      words(`bottom:${place(v.axis.chance, ' - 16px')}`, h('b', { class: 'rw-ink' }, 'Chance'), h('br'), v.chance_caption),
      words('top:calc(var(--auc-h) + 12px);max-width:100px', h('b', { class: 'rw-ink' }, 'Preference axis'), h('br'), h('span', { class: 'c-rejected' }, 'rejected'), ' left, ', h('span', { class: 'c-chosen' }, 'chosen'), ' right'),
      words('bottom:30px', h('b', { class: 'rw-ink' }, 'Block')));
  };

  /** The place the strip will take, with its axes and without data. */
  L.ghostStrip = n => {
    const at = value => (value - 0.4) / 0.6 * 92, ticks = [1, 0.9, 0.8, 0.7, 0.6, 0.5].map(value => ({ at: at(value), text: value.toFixed(1) })), many = Math.min(n, 40);
    const line = (y, extra) => svg('line', { class: 'gl', x1: 0, x2: 100, y1: 100 - y, y2: 100 - y, ...extra });
    const cols = put(h('div', { class: 'cols' }, h('div', { class: 'bg' }, svg('svg', { viewBox: '0 0 100 100', preserveAspectRatio: 'none' },
      ticks.map(t => line(t.at, t.text === '0.5' ? { 'stroke-dasharray': '3 3' } : {})), line(0))),
      Array.from({ length: many }, (_, i) => h('div', { class: 'blk' }, h('span', { class: 'a' }), h('span', { class: 'd' }),
        h('span', { class: 'i' }, h('b', { class: 'q' }, n <= 12 || i % 4 === 0 ? String(i) : ''))))), { '--n': many });
    return h('div', { class: `strip rw-ghost-strip ${n <= 12 ? 'rw-full' : 'rw-dense'}`, 'aria-hidden': 'true' },
      gutter({ axis: { ticks, chance: at(0.5) }, caption: 'on held-out pairs', chance_caption: 'random swaps' }), h('div', { class: 'rw-lane' }, cols));
  };

  /** Draw the strip into `panel`; returns what changes it afterwards. */
  L.strip = (panel, poolingChoice) => {
    const v = L.view, n = v.blocks.length, size = n <= 12 ? 'full' : n <= 40 ? 'dense' : 'scroll';
    const picks = h('b', { class: 'rw-ink', 'data-picks': '' }), tableHost = h('div', { hidden: true, style: 'margin-top:16px' });
    const numbers = h('button', { type: 'button', class: 'btn ghost sm', 'aria-expanded': 'false', onclick: () => {
      tableHost.hidden = !tableHost.hidden;
      numbers.setAttribute('aria-expanded', String(!tableHost.hidden));
      tableHost.replaceChildren(...(tableHost.hidden ? [] : [L.table()]));
    } }, 'Numbers');
    const suggest = h('button', { type: 'button', class: 'btn ghost sm', onclick: () => L.pick(L.view.suggested) }, 'Use suggestion');
    const cols = h('div', { class: 'cols' }, h('div', { class: 'bg' }, background(v.axis, v.blocks),
      h('span', { class: 'only-sm inlab', style: `bottom:calc(${v.axis.ticks[0].at}% + 4px)` }, 'AUC 1.0'),
      h('span', { class: 'only-sm inlab', style: `bottom:calc(${v.axis.chance}% - 14px)` }, '0.5'),
      h('span', { class: 'only-sm inlab', style: `bottom:calc(${v.axis.chance}% - 14px);left:20%` }, 'chance, 95% of swaps')));
    put(cols, { '--n': n });
    const buttons = v.blocks.map(b => block(b, size));
    cols.append(...buttons);
    cols.addEventListener('click', event => {
      const b = event.target.closest('.blk');
      if (!b) return;
      const l = +b.dataset.l, on = L.picked.includes(l);
      L.pick(on ? L.picked.filter(x => x !== l) : [...L.picked, l]);
      L.show(buttons.indexOf(b));
    });
    cols.addEventListener('keydown', event => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key], at = buttons.indexOf(event.target);
      if (!step || at < 0) return;
      event.preventDefault();
      buttons[Math.max(0, Math.min(n - 1, at + step))].focus();
    });
    panel.replaceChildren(
      h('header', {}, h('div', {}, h('h2', {}, 'Separability, block by block'), h('p', {}, 'Press a block to pick it for alignment. Picked: ', picks, '.')),
        h('div', { class: 'acts' }, poolingChoice(), numbers, suggest)),
      h('div', { class: `strip rw-${size}`, role: 'group', 'aria-label': 'Separability of every block; press a block to pick it' }, gutter(v), h('div', { class: 'rw-lane' }, cols)),
      h('p', { class: 'xs q only-sm', style: 'margin-top:8px' }, 'Bottom row: held-out pairs along the preference axis, ', h('span', { class: 'c-rejected' }, 'rejected'), ' left, ', h('span', { class: 'c-chosen' }, 'chosen'), ' right.'),
      tableHost);
    const notch = h('span', { class: 'view' });
    return {
      picks: () => {
        picks.textContent = L.and(L.picked);
        buttons.forEach((b, i) => b.setAttribute('aria-pressed', String(L.picked.includes(v.blocks[i].l))));
        suggest.disabled = JSON.stringify(L.view.suggested) === JSON.stringify(L.picked);
        if (!tableHost.hidden) tableHost.replaceChildren(L.table());
      },
      show: () => {
        const now = buttons[L.layer], lane = cols.parentNode, x = now.offsetLeft;
        now.append(notch);
        buttons.forEach(b => b.classList.toggle('now', b === now));
        if (x < lane.scrollLeft || x + now.offsetWidth > lane.scrollLeft + lane.clientWidth) lane.scrollLeft = x - lane.clientWidth / 2;
      },
    };
  };
})();
