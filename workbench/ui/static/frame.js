/* The header and the steps line. */
(() => {
  const h = rw.h;
  const brand = () => {
    const mark = rw.svg('svg', { width: 22, height: 22, viewBox: '0 0 22 22', fill: 'none', 'stroke-width': 2.6, 'stroke-linecap': 'round', 'aria-hidden': 'true' },
      rw.svg('path', { d: 'M3 11h5c4 0 5-6 11-6', stroke: 'var(--rw-chosen)' }), rw.svg('path', { d: 'M8 11c4 0 5 6 11 6', stroke: 'var(--rw-rejected)' }));
    return h('span', { class: 'brand' }, mark, 'RAHF Workbench');
  };
  const half = () => rw.svg('svg', { width: 16, height: 16, viewBox: '0 0 16 16', fill: 'none', stroke: 'currentColor', 'stroke-width': 1.6, 'aria-hidden': 'true' },
    rw.svg('circle', { cx: 8, cy: 8, r: 5.5 }), rw.svg('path', { d: 'M8 2.5a5.5 5.5 0 0 1 0 11z', fill: 'currentColor' }));
  const tick = () => rw.svg('svg', { width: 13, height: 13, viewBox: '0 0 16 16', fill: 'none', stroke: 'currentColor', 'stroke-width': 1.6, 'stroke-linecap': 'round', 'stroke-linejoin': 'round', 'aria-hidden': 'true' },
    rw.svg('path', { d: 'm3 8.5 3.2 3L13 4.8' }));

  rw.define('context', (host, send) => {
    const items = h('div', { class: 'ctx', role: 'group', 'aria-label': 'What is loaded' });
    const theme = h('button', { class: 'theme', type: 'button', 'aria-label': 'Switch between light and dark', title: 'Light or dark', onclick: () => rw.toggleTheme() }, half());
    host.replaceChildren(h('header', { class: 'head' }, h('div', { class: 'wrap' }, brand(), items, theme)));
    return data => {
      const focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.item : null;
      items.replaceChildren(...(data ? data.items : []).map(({ item, label, text, dot, wait }) => h('button', { type: 'button', 'data-item': item, onclick: () => send({ item }) },
        h('span', { class: 'k' }, label),
        wait ? h('span', { class: 'skel', style: 'width:74px;margin:0', role: 'status', 'aria-label': 'being looked at' })
          : h('span', { class: text ? 'v' : 'v none' }, dot ? h('span', { class: `dot ${dot}`, style: 'margin-right:6px;vertical-align:1px' }) : null, text || 'none yet'))));
      if (focused) { const again = items.querySelector(`[data-item="${focused}"]`); if (again) again.focus(); }
    };
  });

  rw.define('steps', (host, send) => {
    const list = h('ol');
    host.replaceChildren(h('nav', { class: 'steps', 'aria-label': 'Steps' }, list));
    return data => {
      const focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.step : null;
      list.replaceChildren(...(data ? data.items : []).map(({ step, n, label, text, on, done, err, off }) => {
        const classes = [on && 'on', done && !on && 'done', err && 'err'].filter(Boolean).join(' ');
        const inner = [h('span', { class: 'n' }, done && !on ? tick() : String(n)), h('span', { class: 'l' }, label), h('span', { class: 'st', title: text }, text)];
        if (off) return h('li', {}, h('span', { class: 'off', 'aria-disabled': 'true', title: off }, ...inner));
        return h('li', {}, h('a', { class: classes, href: `#${step}`, 'data-step': step, 'aria-current': on ? 'step' : null,
          onclick: event => { event.preventDefault(); if (!on) { window.scrollTo({ top: 0 }); send({ step }); } } }, ...inner));
      }));
      if (focused) { const again = list.querySelector(`[data-step="${focused}"]`); if (again) again.focus(); }
    };
  });
})();
