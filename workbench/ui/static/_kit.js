/* What every drawn part of the page shares: an element builder, an in-place update, icons, numbers and the line chart.
   Text only ever becomes a text node or an attribute: nothing here parses markup. */

(() => {
  const SVG = 'http://www.w3.org/2000/svg';
  const SVG_TAGS = new Set(['svg', 'path', 'line', 'circle', 'rect']);

  /** An element. `attrs` with null, undefined or false are left out; children may be nested arrays, strings or nodes. */
  function el(tag, attrs, ...children) {
    const node = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attrs || {})) {
      if (value === null || value === undefined || value === false) continue;
      node.setAttribute(name, value === true ? '' : String(value));
    }
    for (const child of children.flat(Infinity)) {
      if (child === null || child === undefined || child === false) continue;
      node.appendChild(child instanceof Node ? child : document.createTextNode(String(child)));
    }
    return node;
  }

  /* What a person is doing in a field must survive an update: an open fold, and the text of the field that has focus. */
  const kept = (node, name) => name === 'open' && node.nodeName === 'DETAILS';

  /** Make `old` look like `fresh` with as few changes as possible, so that nothing flickers and focus stays. */
  function morph(old, fresh) {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || old.dataset?.key !== fresh.dataset?.key) {
      old.replaceWith(fresh);
      return;
    }
    if (old.nodeType === Node.TEXT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && !kept(old, name)) old.removeAttribute(name);
    for (const { name, value } of [...fresh.attributes])
      if (old.getAttribute(name) !== value && !kept(old, name)) old.setAttribute(name, value);
    const ours = fresh.dataset && (fresh.dataset.field || fresh.type === 'checkbox' || fresh.type === 'radio'); // others keep what was typed
    if (ours && (old.nodeName === 'INPUT' || old.nodeName === 'SELECT' || old.nodeName === 'TEXTAREA')) {
      const typing = old === document.activeElement && !old.disabled && old.type !== 'checkbox' && old.type !== 'radio';
      if (old.type === 'checkbox' || old.type === 'radio') old.checked = fresh.hasAttribute('checked');
      else if (old.nodeName === 'INPUT' && !typing) old.value = fresh.getAttribute('value') ?? '';
      else if (old.nodeName === 'TEXTAREA' && !typing) old.value = fresh.value;
    }
    const picked = fresh.value; // asked before its options move over to `old`
    morphChildren(old, fresh);
    if (old.nodeName === 'SELECT' && old !== document.activeElement) old.value = picked;
  }

  function morphChildren(old, fresh) {
    const next = [...fresh.childNodes];
    const before = [...old.childNodes];
    next.forEach((child, i) => (i < before.length ? morph(before[i], child) : old.appendChild(child)));
    before.slice(next.length).forEach((child) => child.remove());
  }

  const ICONS = {
    check: ['M3 8.5l3.2 3L13 4.8'],
    alert: ['M8 4.8v3.7M8 11v.2', 'M8 1.8a6.2 6.2 0 1 1 0 12.4a6.2 6.2 0 1 1 0-12.4'],
    pause: ['M5.5 3.5v9M10.5 3.5v9'],
    stop: ['M5 4h6a1 1 0 0 1 1 1v6a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V5a1 1 0 0 1 1-1z'],
    again: ['M13 8a5 5 0 1 1-1.6-3.7M13 2.5v3h-3'],
    next: ['M3 8h10M9 4l4 4-4 4'],
    down: ['M8 2.5v8M4.5 7.5 8 11l3.5-3.5M3 13.5h10'],
    up: ['M8 10.5v-8M4.5 6 8 2.5 11.5 6M3 13.5h10'],
    box: ['M2.5 5 8 2l5.5 3v6L8 14l-5.5-3zM2.5 5 8 8l5.5-3M8 8v6'],
    page: ['M4 1.8h5L12.5 5.3v8.9H4zM9 1.8v3.5h3.5'],
    report: ['M3.5 2h9v12h-9zM6 5.2h4M6 8h4M6 10.8h2.5'],
    rows: ['M2.5 4h11M2.5 8h11M2.5 12h11'],
    copy: ['M6.5 5.5h6a1 1 0 0 1 1 1v6a1 1 0 0 1-1 1h-6a1 1 0 0 1-1-1v-6a1 1 0 0 1 1-1z', 'M10.5 3.5a1 1 0 0 0-1-1h-6a1 1 0 0 0-1 1v6a1 1 0 0 0 1 1'],
  };

  function icon(name, size = 16) {
    return el('svg', { width: size, height: size, viewBox: '0 0 16 16', fill: 'none', stroke: 'currentColor', 'stroke-width': 1.6,
      'stroke-linecap': 'round', 'stroke-linejoin': 'round', 'aria-hidden': 'true' }, (ICONS[name] || []).map((d) => el('path', { d })));
  }

  /** A button that reports `action` (and whatever else stands in `data`) to the server. */
  function button(label, action, { primary, small, ghost, mark, off, data, title, name } = {}) {
    const attrs = { type: 'button', class: ['btn', primary && 'primary', small && 'sm', ghost && 'ghost'].filter(Boolean).join(' '),
      'data-act': action, disabled: off, title, 'aria-label': name };
    for (const [key, value] of Object.entries(data || {})) attrs['data-' + key] = value;
    return el('button', attrs, mark && mark !== 'next' && icon(mark), label, mark === 'next' && icon(mark));
  }

  /** -0.58 as a person reads it: a real minus, always a sign, two decimals. */
  const signed = (value) => (value < 0 ? '\u2212' : '+') + Math.abs(value).toFixed(2);

  /** Words with parts: a string, or a list of strings and {text, as: 'b'|'q'|'c-aligned'...}. */
  function words(parts) {
    return [parts].flat().map((part) => {
      if (part === null || part === undefined) return null;
      if (typeof part === 'string' || typeof part === 'number') return String(part);
      return part.as === 'b' ? el('b', null, part.text) : el('span', { class: part.as }, part.text);
    });
  }

  const line = (points) => 'M' + points.map(([x, y]) => `${x.toFixed(2)} ${(100 - y).toFixed(2)}`).join('L');
  const paint = (color) => `var(--rw-${color || 'ink'})`;

  /** One line chart from the JSON of charts.py: coordinates are per cent of the plot, y upwards. */
  function chart(spec) {
    const shapes = [];
    for (const tick of spec.y) shapes.push(el('line', { class: tick.zero ? 'gl z' : 'gl', x1: 0, x2: 100, y1: 100 - tick.at, y2: 100 - tick.at }));
    for (const mark of spec.marks || [])
      shapes.push(el('line', { x1: mark.at, x2: mark.at, y1: 0, y2: 100, stroke: paint(mark.stop ? 'error' : 'line-strong'),
        'stroke-width': mark.stop ? 1.5 : 1, 'stroke-dasharray': mark.stop ? null : '2 3' }));
    for (const band of spec.bands || [])
      if (band.points.length > 1)
        shapes.push(el('path', { d: line([...band.points.map(([x, , high]) => [x, high]), ...band.points.map(([x, low]) => [x, low]).reverse()]) + 'Z',
          fill: paint(band.color), 'fill-opacity': 0.18 }));
    for (const one of spec.lines || []) {
      if (one.points.length > 1)
        shapes.push(el('path', { d: line(one.points), fill: 'none', stroke: paint(one.color), 'stroke-width': one.faint ? 1 : 2,
          'stroke-linejoin': 'round', 'stroke-opacity': one.faint ? 0.45 : null, 'stroke-dasharray': one.dash || null }));
    }
    for (const ref of spec.refs || [])
      shapes.push(el('line', { x1: 0, x2: 100, y1: 100 - ref.at, y2: 100 - ref.at, stroke: paint(ref.color), 'stroke-width': 1.5, 'stroke-dasharray': '4 3' }));
    const dots = (spec.lines || []).filter((one) => one.points.length === 1 && !one.faint).map((one) =>
      el('i', { class: 'dot1', style: `left:${one.points[0][0]}%;bottom:${one.points[0][1]}%;background:${paint(one.color)}` }));
    for (const dot of spec.dots || []) dots.push(el('i', { class: 'dot1 big', style: `left:${dot.x}%;bottom:${dot.y}%;background:${paint(dot.color)}` }));
    const labels = [
      ...spec.y.map((tick) => el('span', { class: 'yt', style: `bottom:${tick.at}%` }, tick.text)),
      ...spec.x.map((tick) => el('span', { class: 'xt ' + (tick.edge || ''), style: `left:${tick.at}%` }, tick.text, tick.more && el('i', null, tick.more))),
      ...(spec.labels || []).map((label) => el('span', { class: 'dl ' + (label.side || ''), style: `left:${label.x}%;bottom:${label.y}%` },
        label.text, label.text && label.strong ? ' ' : null,
        label.strong && el('b', { class: label.color ? 'c-' + label.color : 'c-ink' }, label.strong))),
    ];
    return el('div', { class: spec.two ? 'plot two' : 'plot', style: `--h:${spec.height || 118}px;--l:34px` },
      el('svg', { viewBox: '0 0 100 100', preserveAspectRatio: 'none', role: 'img', 'aria-label': spec.name }, shapes), dots, labels,
      spec.empty && el('span', { class: 'plot-empty' }, el('span', {}, spec.empty)));
  }

  /** A chart with its finding as title, and its numbers one click away. */
  function figure(spec) {
    return el('div', { class: 'fig' },
      el('h3', null, spec.title, spec.interval && el('span', { class: 'q thin' }, ' ' + spec.interval)), el('p', { class: 'sub' }, spec.sub || '\u00a0'),
      chart(spec), spec.table && numbers(spec.table, spec.name));
  }

  /** The numbers behind a picture. */
  function numbers(table, name) {
    return el('details', { class: 'numbers' }, el('summary', { 'aria-label': 'Numbers: ' + name }, 'Numbers'),
      el('div', { class: 'tablewrap' }, el('table', null,
        el('thead', null, el('tr', null, table.head.map((text) => el('th', { class: 'num' }, text)))),
        el('tbody', null, table.rows.map((row) => el('tr', null, row.map((text) => el('td', { class: 'num' }, text))))))));
  }

  /** A table of texts; cells are strings, {text, as}, lists of those, or nodes. `names` label the cells on narrow screens. */
  function table(head, rows, { names = [], selected = -1, act } = {}) {
    const cell = (value) => (value instanceof Node ? value : words(value));
    return el('div', { class: 'tablewrap cardrows' }, el('table', null,
      el('thead', null, el('tr', null, head.map((title) => el('th', title?.num ? { class: 'num' } : null, cell(title?.num ?? title))))),
      el('tbody', null, rows.map((row, at) => el('tr', { class: at === selected ? 'sel' : null, 'data-act': act || null, 'data-row': act ? at : null,
        tabindex: act ? 0 : null }, row.map((value, i) => el('td', { 'data-l': names[i] || null, class: value?.class || null }, cell(value?.cell ?? value))))))));
  }

  /** Define a view that `render(value, local)` draws as a whole at each change, and the page applies as a difference.
        A press on [data-act] arrives in Python as {action, ...the other data attributes}; `local` is this view's own memory
        (kept in the browser only), and `wire({host, redraw, local, send})` adds what presses cannot do; a `local.hold(go)`
        decides when a press is sent. */
  function show(name, render, wire) {
    rw.define(name, (host, send) => {
      const local = {};
      let value = null, shown = null;
      const redraw = () => {
        if (!value) { host.replaceChildren(); shown = null; return; }
        const fresh = el('div', { class: 'drawn' }, render(value, local));
        if (shown && shown.isConnected) morph(shown, fresh);
        else { host.replaceChildren(fresh); shown = fresh; }
      };
      const press = (target) => {
        const { act: action, key, ...data } = target.dataset;
        if (action.startsWith('open:')) { // another step: the line of steps knows how, and whether
          document.querySelector(`#rw-steps [data-step="${CSS.escape(action.slice(5))}"]`)?.click();
          return;
        }
        const go = () => send({ action, ...data });
        if (local.hold) local.hold(go);
        else go();
      };
      host.addEventListener('click', (event) => {
        const target = event.target.closest('[data-act]');
        if (!target || target.disabled || !host.contains(target)) return;
        event.preventDefault();
        press(target);
      });
      host.addEventListener('keydown', (event) => {
        const row = event.target;
        if ((event.key === 'Enter' || event.key === ' ') && row.nodeName === 'TR' && row.dataset.act) { event.preventDefault(); press(row); }
      });
      if (wire) wire({ host, redraw, local, send });
      return (next) => { value = next; redraw(); };
    });
  }

  rw.kit = { el, icon, button, words, signed, figure, chart, numbers, table, show };
})();
