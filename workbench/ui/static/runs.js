/* All runs, below step 3: the list with names, notes and the queue, the bin, and runs beside each other.
   Which row is being renamed is the browser's own business; everything else comes from runs_view.py. */
(() => {
  const SIGNS = { finished: 'check', stopped: 'pause' };

  const form = (run) => {
    const { el, button } = rw.kit;
    return el('form', { class: 'rename', 'data-rename': run.run },
      el('label', null, 'Name', el('input', { class: 'in', name: 'title', maxlength: 80, value: run.title, autocomplete: 'off', placeholder: run.name })),
      el('label', null, 'Note', el('textarea', { class: 'in', name: 'note', maxlength: 2000, rows: 2 }, run.note)),
      el('div', { class: 'acts' }, el('button', { type: 'submit', class: 'btn sm primary' }, 'Save'),
        button('Cancel', 'none', { small: true, data: { edit: '' } })));
  };

  const row = (run, editing) => {
    const { el, button, icon } = rw.kit;
    const act = (label, action, more = {}) => button(label, action, { small: true, ghost: true, data: { run: run.run }, name: `${label}: ${run.name}`, ...more });
    const sign = SIGNS[run.state] ? icon(SIGNS[run.state], 13) : el('span', { class: 'dot ' + (run.state === 'queued' ? '' : run.state) });
    return el('li', { class: run.selected ? 'sel' : null, 'data-key': run.run },
      el('label', { class: 'pick', title: 'Compare' }, el('input', { class: 'tick', type: 'checkbox', checked: run.compared, 'data-compare': run.run, 'aria-label': 'Compare ' + run.name })),
      el('div', { class: 'what' }, sign, ' ', el('button', { type: 'button', class: 'lk', 'data-act': 'open', 'data-run': run.run, 'aria-current': run.selected ? 'true' : null, title: run.id }, run.name),
        el('span', { class: 'sm s' }, ' ', run.words), el('span', { class: 'xs q nw' }, [run.when, run.took].filter(Boolean).join(', ')),
        run.note && el('p', { class: 'sm s note1' }, run.note)),
      el('div', { class: 'acts' },
        run.waits && [act('Sooner', 'sooner', { off: !run.sooner }), act('Later', 'later', { off: !run.later })],
        act('Rename', 'none', { data: { edit: run.run } }), run.can_delete && act('Delete', 'delete')),
      editing === run.run && form(run));
  };

  const beside = (found) => {
    const { el, button, figure, table } = rw.kit;
    const part = (title, rows, none) => [el('h3', null, title), rows.length ? table(['', ...found.names], rows, { names: ['', ...found.names] }) : el('p', { class: 'sm q' }, none)];
    return el('div', { id: 'rw-beside', class: 'stack' },
      el('div', { class: 'between' }, el('h2', null, found.names.join(' and ')), button('Close', 'compare-none', { small: true })),
      part('Settings that differ', found.settings, 'All settings are the same.'), el('p', { class: 'xs q' }, `${found.same} other settings are the same.`),
      part('What came of it', found.figures, 'No figures yet.'),
      found.charts.length ? el('div', { class: 'charts' }, found.charts.map(figure)) : el('p', { class: 'sm q' }, 'No curves yet: they begin with stage 3.'));
  };

  rw.kit.show('align-runs', (data, local) => {
    const { el, button, icon } = rw.kit;
    if (!data.rows.length && !data.undo && !data.bin.length) return [];
    return el('section', { class: 'panel runs-all', 'aria-label': 'All runs' },
      el('header', null, el('div', null, el('h2', null, 'All runs'), el('p', null, 'Tick two or more to see them beside each other.'))),
      data.undo && el('div', { class: 'note', role: 'status' }, icon('check', 18), el('span', null, data.undo.text, ' ',
        el('button', { type: 'button', class: 'lk', 'data-act': 'restore', 'data-run': data.undo.run }, 'Undo'))),
      el('ul', { class: 'runrows' }, data.rows.map((run) => row(run, local.editing))),
      data.picked === 1 && el('p', { class: 'sm q' }, 'Tick one more to compare.'),
      data.compared && beside(data.compared),
      data.bin.length > 0 && el('details', { class: 'bin' }, el('summary', null, `Bin, ${data.bin.length}`),
        el('p', { class: 'xs q' }, 'Deleted runs stay here for a week.'),
        el('ul', null, data.bin.map((one) => el('li', { 'data-key': one.run }, el('span', null, one.name), ' ', button('Take back', 'restore', { small: true, data: { run: one.run }, name: 'Take back ' + one.name }))))));
  }, ({ host, redraw, local, send }) => {
    host.addEventListener('click', (event) => { // before the kit's own listener sends it
      const target = event.target.closest('[data-edit]');
      if (!target) return;
      event.preventDefault();
      event.stopPropagation();
      local.editing = target.dataset.edit || null;
      redraw();
      host.querySelector('form.rename input')?.focus();
    }, true);
    host.addEventListener('change', (event) => {
      const run = event.target.dataset.compare;
      if (run) send({ action: 'compare', run });
    });
    host.addEventListener('submit', (event) => {
      const run = event.target.dataset.rename;
      if (!run) return;
      event.preventDefault();
      const said = new FormData(event.target);
      local.editing = null;
      send({ action: 'describe', run, title: String(said.get('title')), note: String(said.get('note')) });
      redraw();
    });
  });
})();
