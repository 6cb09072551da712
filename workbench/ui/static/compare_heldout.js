/* Step 4, the lower half: runs on held-out pairs. */
(() => {
  const kit = () => rw.kit;

  const rate = (row, mid) => {
    const { el } = kit();
    if (!row.rate) return el('span', { class: 'q' }, row.versus || '');
    const [value, low, high] = row.rate;
    const spread = typeof low === 'number' && typeof high === 'number';
    return el('div', { class: 'wh c-' + row.kind, style: `--mid:${100 * mid}%`, role: 'img', 'aria-label': spread ? `${value.toFixed(2)}, ${low.toFixed(2)} to ${high.toFixed(2)}` : value.toFixed(2) },
      spread && el('u', { style: `left:${100 * low}%;width:${100 * (high - low)}%` }), el('i', { style: `left:${100 * value}%` }));
  };

  rw.kit.show('compare-heldout', (data) => {
    const { el, words, button } = kit();
    const cell = (value) => (Array.isArray(value) ? [el('b', null, value[0]), value[1] && [' ', el('span', { class: 'q' }, value[1])]] : value ?? '');
    return el('section', { class: 'panel', id: 'rw-heldout' },
      el('header', null, el('div', null, el('h2', null, data.title), el('p', null, words(data.sub))),
        data.act && button(data.act.label, data.act.act, { small: true, off: data.act.off })),
      data.bar && el('div', { class: 'meter', role: 'progressbar', 'aria-label': data.bar.text, 'aria-valuenow': Math.round(data.bar.share), 'aria-valuemin': 0, 'aria-valuemax': 100 },
        el('div', { class: 'bar' }, el('i', { style: `--p:${data.bar.share}%` })), el('p', { class: 'xs q' }, data.bar.text)),
      el('div', { class: 'tablewrap' }, el('table', null,
        el('thead', null, el('tr', null, el('th', null, 'Model'), el('th', { class: 'hide-sm' }, el('span', { class: 'ends' }, el('span', null, '0'), el('span', null, data.measure), el('span', null, '1'))),
          el('th', null, `${data.measure_title}, 95% interval`), data.columns.map((title) => el('th', { class: 'num' }, title)))),
        el('tbody', null, data.rows.map((row) => el('tr', { class: row.mine ? 'sel' : null },
          el('td', { class: 'b who' }, el('span', { class: 'key c-' + row.kind }), row.name, row.mine && [' ', el('span', { class: 'tag' }, 'this run')]),
          el('td', { class: 'hide-sm ratecell' }, rate(row, data.mid)), el('td', { class: 'nw' }, cell(row.first)),
          row.cells.map((value) => el('td', { class: 'num nw' }, cell(value)))))))));
  });
})();
