/* Step 3: what a run is doing (heading, error, stages, curves, sample answers), as JSON from align_view.py. */
(() => {
  const kit = () => rw.kit;

  rw.kit.show('align-head', (data) => {
    const { el, words, button, icon } = kit();
    const actions = (list) => (list || []).map((one) => button(one.label, one.act, one));
    return [
      el('div', { class: 'title' }, el('div', null, el('h1', null, data.title), el('p', null, words(data.sub))),
        el('div', { class: 'acts' }, actions(data.actions))),
      data.error && el('div', { class: 'note err top', id: 'rw-run-error', role: 'alert' }, icon('alert', 18),
        el('div', null, el('b', null, data.error.strong), ' ', words(data.error.text),
          data.error.log && el('details', { class: 'log' }, el('summary', null, 'Show log'), el('pre', null, data.error.log)),
          el('div', { class: 'acts' }, actions(data.error.actions)))),
    ];
  });

  const stages = (list) => {
    const { el } = kit();
    return el('div', { class: 'stages' }, list.map((stage) => el('div', null,
      el('div', { class: 'bar' + (stage.error ? ' err' : ''), role: 'progressbar', 'aria-label': stage.name, 'aria-valuemin': 0, 'aria-valuemax': 100,
        'aria-valuenow': Math.round(stage.share) }, el('i', { style: `--p:${stage.share}%` })),
      el('p', { class: 'tx1' }, el('b', null, stage.label), ' ', stage.text))));
  };

  rw.kit.show('align-live', (data) => {
    const { el, words, icon, figure, table } = kit();
    const { progress, samples } = data;
    const key = (who, text) => el('span', { class: 'key c-' + who }, text);
    return el('div', { class: 'stack' },
      el('section', { class: 'panel', id: 'rw-progress' },
        el('div', { class: 'between' }, el('h2', null, progress.live && el('span', { class: 'dot live before' }), progress.heading),
          el('span', { class: 'sm q nw', 'data-age': progress.age ?? null }, progress.age === undefined ? progress.right : null)),
        stages(progress.stages),
        progress.note && el('div', { class: 'note under ' + (progress.note.kind || '') }, icon(progress.note.kind ? 'alert' : 'check', 18), el('span', null, words(progress.note.text)))),
      el('section', { class: 'panel', id: 'rw-live' }, el('div', { class: 'charts' }, data.charts.map(figure))),
      el('section', { class: 'panel grow', id: 'rw-samples' },
        el('header', null, el('h2', null, samples.title), el('span', { class: 'sm q nw' }, samples.right)),
        samples.rows.length
          ? table(['Prompt', key('base', 'Base'), key('aligned', 'Aligned')],
            samples.rows.map((row) => [{ cell: row.prompt, class: 'w26' }, { cell: row.base, class: 'w35' }, row.aligned]), { names: ['prompt', 'base', 'aligned'] })
          : el('div', { class: 'waiting' }, el('p', { class: 'sm q' }, samples.empty), [70, 55, 62].map((w) => el('span', { class: 'skel', style: `width:${w}%` })))));
  }, ({ host }) => {
    // "updated 3 s ago" counts on by itself: the server says how old its news was, the page adds its own clock.
    let seen = null, at = 0;
    const tick = () => {
      const node = host.querySelector('[data-age]');
      if (!node) return;
      if (node.dataset.age !== seen) { seen = node.dataset.age; at = performance.now(); }
      const text = `updated ${Math.round(Number(seen.split('@')[0]) + (performance.now() - at) / 1000)} s ago`;
      if (node.textContent !== text) node.textContent = text;
    };
    setInterval(tick, 1000);
    new MutationObserver(tick).observe(host, { childList: true, subtree: true, attributes: true, attributeFilter: ['data-age'] });
  });
})();
