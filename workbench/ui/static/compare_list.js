/* Step 4: the list of prompts, answered by all columns. */
(() => {
  const kit = () => rw.kit;
  const at = (score) => 50 + 45 * Math.max(-1.1, Math.min(1.1, score)); // per cent of the axis

  /** The means of a row's answers on one axis, a dot a column. */
  const dots = (row, data) => {
    const { el, signed } = kit();
    const known = row.means.map((value, place) => [value, place]).filter(([value]) => typeof value === 'number');
    if (!known.length) return el('span', { class: 'q' }, row.wait ? '\u2026' : '\u2013');
    const places = known.map(([value]) => at(value));
    const low = Math.min(...places);
    return el('div', { class: 'dumb', role: 'img', 'aria-label': known.map(([value, place]) => `${data.names[place]} ${signed(value)}`).join(', ') },
      el('u', { style: `left:${low}%;width:${Math.max(...places) - low}%` }),
      known.map(([value, place], i) => el('i', { class: `${data.looks[place].who === 'base' ? 'ba' : 'al'} l-${data.looks[place].line}`, style: `left:${places[i]}%`, title: `${data.names[place]} ${signed(value)}` })));
  };

  rw.kit.show('compare-many-head', (data) => {
    const { el } = kit();
    return el('div', { class: 'phead' }, el('div', null, el('h2', null, data.title), el('p', { class: 's sm', role: 'status' }, data.sub)));
  });

  rw.kit.show('compare-many', (data, local) => {
    const { el, table } = kit();
    const key = (place) => el('span', { class: `key c-${data.looks[place].who} l-${data.looks[place].line}` }, data.names[place]);
    const ends = el('span', { class: 'ends' }, el('span', { class: 'c-rejected' }, 'rejected'), el('span', { class: 'c-chosen' }, 'chosen'));
    const said = (row, place) => [row.said[place] || (row.wait ? '\u2026' : '\u2013'), row.oracle[place] && el('small', { class: 'q' }, row.oracle[place])];
    const scored = data.rows.some((row) => row.means.some((value) => typeof value === 'number'));
    const rows = data.rows.map((row) => [row.prompt, ...data.names.map((_, place) => ({ cell: el('div', { class: 'saidcell' }, said(row, place)) })),
      ...(scored ? [{ cell: dots(row, data), class: 'dumbcell' }] : [])]);
    const busy = Boolean(data.bar);
    return el('section', { id: 'rw-many' },
      el('div', { class: 'meter', hidden: !busy, role: busy ? 'progressbar' : null, 'aria-label': busy ? data.bar.text : null, 'aria-valuenow': busy ? Math.round(data.bar.share) : null, 'aria-valuemin': 0, 'aria-valuemax': 100 },
        el('div', { class: 'bar' }, el('i', { style: `--p:${busy ? data.bar.share : 0}%` })), el('p', { class: 'xs q', role: 'status' }, busy ? data.bar.text : '')),
      rows.length ? el('div', { class: 'manyrows' }, table(['Prompt', ...data.names.map((_, place) => key(place)), ...(scored ? [ends] : [])], rows,
        { names: ['prompt', ...data.names, 'preference'], selected: data.selected, act: busy ? null : 'row' }))
        : el('div', { class: 'waiting' }, [80, 66, 74, 58].map((w) => el('span', { class: 'skel', style: `width:${w}%` }))),
      scored && el('p', { class: 'xs q' }, `Dots: the mean preference of an answer's tokens at block ${data.block}, by the probe's axis; single answers, no intervals.`),
      el('details', { class: 'more own' }, el('summary', null, 'Your own prompts', el('small', null, 'One per line, up to 200; or a file: text with one a line, or a column prompt (JSONL, JSON, CSV, TSV, Parquet).')),
        el('div', { class: 'ownrow' }, el('textarea', { class: 'in', rows: 3, id: 'rw-own', 'aria-label': 'Your own prompts, one per line' }), el('button', { type: 'button', class: 'btn sm', 'data-own': '1', disabled: busy }, 'Ask them'))));
  }, ({ host, send }) => host.addEventListener('click', (event) => {
    if (event.target.closest('[data-own]')) send({ action: 'own', text: host.querySelector('#rw-own').value });
  }));
})();
