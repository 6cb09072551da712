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
      data.warn && el('div', { class: 'note warn top', id: 'rw-run-warning', role: 'status' }, icon('alert', 18),
        el('div', null, el('b', null, data.warn.strong), ' ', words(data.warn.text), el('div', { class: 'acts' }, actions(data.warn.actions)))),
    ];
  });

  const stages = (list) => {
    const { el } = kit();
    return el('div', { class: 'stages' }, list.map((stage) => el('div', null,
      el('div', { class: 'bar' + (stage.error ? ' err' : ''), role: 'progressbar', 'aria-label': stage.name, 'aria-valuemin': 0, 'aria-valuemax': 100,
        'aria-valuenow': Math.round(stage.share) }, el('i', { style: `--p:${stage.share}%` })),
      el('p', { class: 'tx1' }, el('b', null, stage.label), ' ', stage.text))));
  };

  /** What was found before the fit: two answers on either side of step 1, and the ladder of strengths. */
  const before = (data) => {
    const { el, figure, table } = kit();
    return el('section', { class: 'panel', id: 'rw-before' }, el('div', { class: 'charts' },
      el('div', { class: 'sides' }, el('h3', null, data.title), el('p', { class: 'sub' }, data.sub),
        data.sides.length
          ? table(['Prompt', ...data.heads], data.sides.map((row) => [{ cell: row.prompt, class: 'w26' }, row.plus, row.minus]), { names: ['prompt', ...data.heads] })
          : el('div', { class: 'waiting' }, el('p', { class: 'sm q' }, data.empty), !data.ended && [64, 52].map((w) => el('span', { class: 'skel', style: `width:${w}%` })))),
      data.chart && el('div', null, figure(data.chart), el('p', { class: 'sm q reason' }, data.reason || '\u00a0'),
        !data.meanings?.length ? el('p', { class: 'xs still' }, '\u00a0') : el('details', { class: 'rest' }, el('summary', null, 'What leaning and drift are'),
          data.meanings.map(([name, text]) => el('p', null, el('b', null, name), ' ', text))))));
  };

  /** Sample answers of one look, with a slider through all of them: the newest, until one is chosen. */
  const answers = (samples, local) => {
    const { el, table, button } = kit();
    const key = (who, text) => el('span', { class: 'key c-' + who }, text);
    const { looks, rows } = samples;
    if (local.run !== samples.run) { local.run = samples.run; local.step = null; }
    const found = looks.findIndex((look) => look.step === local.step);
    const at = found < 0 ? looks.length - 1 : found;
    const look = looks[at];
    const turn = (label, by, off) => button(label, null, { small: true, off, data: { turn: by }, name: by < 0 ? 'Earlier look' : 'Later look' });
    return el('section', { class: 'panel grow', id: 'rw-samples' },
      el('header', null, el('h2', null, look ? `${samples.title} at step ${look.step}` : samples.title),
        el('div', { class: 'looks' }, looks.length > 1 && [
          turn('Earlier', -1, at === 0),
          el('input', { type: 'range', min: 0, max: looks.length - 1, step: 1, value: at, 'data-field': 'look', style: `--f:${(100 * at) / (looks.length - 1)}%`, 'aria-label': 'Look at held-out prompts', 'aria-valuetext': `step ${look.step}` }),
          turn('Later', 1, at === looks.length - 1)],
          el('span', { class: 'sm q nw' }, samples.right))),
      rows.length
        ? table(['Prompt', key('base', 'Base'), key('aligned', 'Aligned')],
          rows.map((row, i) => [{ cell: row.prompt, class: 'w26' }, { cell: row.base, class: 'w35' }, look.aligned[i]]), { names: ['prompt', 'base', 'aligned'] })
        : el('div', { class: 'waiting' }, el('p', { class: 'sm q' }, samples.empty), !samples.ended && [70, 55, 62].map((w) => el('span', { class: 'skel', style: `width:${w}%` }))));
  };

  rw.kit.show('align-live', (data, local) => {
    const { el, words, icon, figure } = kit();
    const { progress, more } = data;
    local.looks = data.samples.looks;
    return el('div', { class: 'stack' },
      el('section', { class: 'panel', id: 'rw-progress' },
        el('div', { class: 'between' }, el('h2', null, progress.live && el('span', { class: 'dot live lead' }), progress.heading),
          el('span', { class: 'sm q nw', 'data-age': progress.age ?? null }, progress.age === undefined ? progress.right : null)),
        stages(progress.stages),
        progress.note && el('div', { class: 'note under ' + (progress.note.kind || '') }, icon({ warn: 'alert', wait: 'report' }[progress.note.kind] || 'check', 18), el('span', null, words(progress.note.text)))),
      el('section', { class: 'panel', id: 'rw-live' }, el('div', { class: 'charts' }, data.charts.map(figure)),
        el('details', { class: 'more measures' }, el('summary', null, more.title, el('small', null, more.sub)), el('div', { class: 'charts' }, more.charts.map(figure)))),
      (data.before.chart || data.before.sides.length || !data.before.ended) && before(data.before),
      answers(data.samples, local));
  }, ({ host, redraw, local }) => {
    const turn = (place) => { local.step = place >= local.looks.length - 1 ? null : local.looks[Math.max(0, place)].step; redraw(); };
    const slider = () => host.querySelector('#rw-samples input[type=range]');
    host.addEventListener('click', (event) => {
      const button = event.target.closest('[data-turn]');
      if (button && !button.disabled) turn(Number(slider().value) + Number(button.dataset.turn));
    });
    host.addEventListener('input', (event) => { if (event.target === slider()) turn(Number(event.target.value)); });


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
