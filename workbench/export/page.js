(() => {
  'use strict';
  const data = JSON.parse(document.getElementById('data').textContent);
  const $ = (one) => document.querySelector(one);
  const SVG = 'http://www.w3.org/2000/svg';
  const el = (tag, attributes, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) if (value !== null && value !== false) made.setAttribute(name, value === true ? '' : value);
    for (const child of children.flat()) if (child !== null && child !== undefined && child !== false) made.append(child);
    return made;
  };

  /* the theme: as the system has it, until somebody chooses */
  const theme = $('#theme'), root = document.documentElement;
  const dark = () => (root.dataset.theme || (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')) === 'dark';
  const named = () => { theme.textContent = dark() ? 'Light' : 'Dark'; };
  theme.hidden = false; named();
  theme.addEventListener('click', () => { root.dataset.theme = dark() ? 'light' : 'dark'; named(); });

  /* figures: the nearest point tells its numbers, by pointer or by arrow keys; series can be switched off */
  const tip = $('#tip');
  const hide = () => { tip.hidden = true; document.querySelectorAll('[data-at]').forEach((one) => one.removeAttribute('data-at')); };
  const showAt = (points, x, y) => {
    hide();
    points.forEach((one) => one.setAttribute('data-at', ''));
    tip.textContent = points.map((one) => one.dataset.t).join('\n');
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(8, Math.min(x + 14, innerWidth - box.width - 8)) + 'px';
    tip.style.top = Math.max(8, y - box.height - 14) + 'px';
  };
  const shown = (plot) => [...plot.querySelectorAll('.sr:not([data-off]) .pt')];
  const middle = (one) => { const box = one.getBoundingClientRect(); return [box.left + box.width / 2, box.top + box.height / 2]; };
  for (const plot of document.querySelectorAll('.wide, .narrow')) {
    const lines = !plot.closest('#fig-held-out');
    const column = (target) => { // all series at the same place
      const [x] = middle(target);
      return lines ? shown(plot).filter((one) => Math.abs(middle(one)[0] - x) < 1.5) : [target];
    };
    plot.addEventListener('pointermove', (event) => {
      let best = null, least = Infinity;
      for (const one of shown(plot)) {
        const [x, y] = middle(one), far = Math.abs(x - event.clientX) + Math.abs(y - event.clientY) * (lines ? 0.15 : 1);
        if (far < least) { least = far; best = one; }
      }
      if (best) showAt(column(best), event.clientX, event.clientY);
    });
    plot.addEventListener('pointerleave', hide);
    plot.addEventListener('blur', hide);
    let at = -1;
    plot.addEventListener('keydown', (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1, Home: -1e9, End: 1e9 }[event.key];
      if (event.key === 'Escape') hide();
      if (!step) return;
      event.preventDefault();
      const points = shown(plot);
      if (!points.length) return;
      at = Math.max(0, Math.min(points.length - 1, at + step));
      showAt(column(points[at]), ...middle(points[at]));
    });
  }
  for (const button of document.querySelectorAll('.sw')) button.addEventListener('click', () => {
    const on = button.getAttribute('aria-pressed') !== 'true';
    button.setAttribute('aria-pressed', String(on));
    for (const line of button.closest('.fig').querySelectorAll(`.sr[data-series="${button.dataset.series}"]`)) line.toggleAttribute('data-off', !on);
    hide();
  });
  addEventListener('scroll', hide, { passive: true });

  /* answers side by side; every text is a text */
  const ask = (columns, row) => el('div', { class: 'ask' }, el('p', { class: 'q' }, row.prompt), el('div', { class: 'cols' },
    row.answers.map((answer, at) => el('div', { class: 'ans c-' + (columns[at].colour || 'ink') }, el('b', null, columns[at].name), el('div', null, answer.text || '(nothing)'), answer.note && el('p', { class: 's' }, answer.note)))));
  const MOST = 6;
  const fill = (host, columns, rows, most = MOST) => {
    const more = rows.length > most && el('button', { type: 'button' }, `Show all ${rows.length}`);
    if (more) more.addEventListener('click', () => fill(host, columns, rows, rows.length));
    host.replaceChildren(...rows.slice(0, most).map((row) => ask(columns, row)), more || '');
    if (!rows.length) host.replaceChildren(el('p', { class: 's' }, 'Nothing fits that search.'));
  };
  const answers = $('#answers-host');
  if (answers && data.looks && data.looks.length) {
    const range = $('#look'), told = $('#look-said'), search = $('#find');
    const redraw = () => {
      const look = data.looks[range ? Number(range.value) : 0], wanted = (search ? search.value : '').toLowerCase();
      if (told) told.textContent = look.name;
      const rows = look.rows.filter((row) => !wanted || [row.prompt, ...row.answers.map((one) => one.text)].some((text) => text.toLowerCase().includes(wanted)));
      fill(answers, data.columns, rows);
    };
    if (range) { range.max = String(data.looks.length - 1); range.value = range.max; range.addEventListener('input', redraw); }
    if (search) search.addEventListener('input', redraw);
    redraw();
  }

  /* the scatter of every block: the same points move from block to block */
  const cloud = $('#cloud');
  if (cloud && data.cloud) {
    const range = $('#block'), told = $('#block-said'), count = data.cloud.prompts.length;
    const marks = [];
    for (let at = 0; at < 2 * count; at++) {
      const up = at < count, mark = document.createElementNS(SVG, up ? 'circle' : 'rect');
      mark.setAttribute('class', up ? 'up' : 'down');
      if (up) mark.setAttribute('r', '4'); else { mark.setAttribute('x', '-3.5'); mark.setAttribute('y', '-3.5'); mark.setAttribute('width', '7'); mark.setAttribute('height', '7'); }
      const title = document.createElementNS(SVG, 'title');
      title.textContent = (up ? 'chosen: ' : 'rejected: ') + data.cloud.prompts[at % count];
      mark.append(title); cloud.append(mark); marks.push(mark);
    }
    const redraw = () => {
      const place = Number(range.value), flat = data.cloud.points[place];
      marks.forEach((mark, at) => mark.setAttribute('transform', `translate(${12 + flat[2 * at] * 0.636} ${408 - flat[2 * at + 1] * 0.396})`));
      told.textContent = 'Block ' + data.cloud.blocks[place];
    };
    range.max = String(data.cloud.points.length - 1);
    range.value = String(data.cloud.start || 0);
    range.addEventListener('input', redraw);
    redraw();
  }
  addEventListener('beforeprint', () => { if (answers && data.looks && data.looks.length) { const last = data.looks[data.looks.length - 1]; fill(answers, data.columns, last.rows, last.rows.length); } });
})();
