/* Step 1: which column is which, with a look at the pairs that come of it; and the seed of the split. */
(() => {
  const { h } = rw;
  const kit = () => rw.pairs.kit;
  const M = { columns: null, chosen: {}, changed: false, ask: () => {}, try: () => {} };
  const SIDES = { prompt: 'Prompt', chosen: 'Chosen', rejected: 'Rejected' };
  const label = side => (side === 'prompt' ? 'Prompt' : h('span', { class: `key c-${side}` }, SIDES[side]));

  rw.define('pairs-columns', (host, send) => { M.ask = send; return value => {
    M.columns = value;
    M.chosen = { ...(value ? value.chosen : {}) };
    M.changed = false;
    if (!value || !value.columns || value.columns.length < 2) { host.replaceChildren(); if (M.clear) M.clear(); return; }
    const field = side => {
      const none = side === 'prompt' ? 'None: what both begin with' : 'Choose a column';
      const choice = h('select', { class: 'in', id: `rw-column-${side}`, onchange: () => { M.chosen[side] = choice.value; M.changed = true; M.try(); } },
        h('option', { value: '' }, value.waiting && side === 'prompt' ? 'Choose, or none' : none), value.columns.map(name => h('option', { value: name }, name)));
      choice.value = M.chosen[side] || '';
      return h('div', { class: 'field' }, h('label', { class: 'lab', for: `rw-column-${side}` }, label(side)), choice);
    };
    host.replaceChildren(h('div', { class: 'columns' }, Object.keys(SIDES).map(field)));
    if (value.waiting) M.try(); else if (M.clear) M.clear();
  }; });

  rw.define('pairs-trial', (host, send) => {
    const { button, number, pairs } = kit();
    if (M.asker) M.asker.settle();
    const asker = M.asker = rw.pairs.asker(data => M.ask(data), () => ({ columns: M.chosen }),
      () => host.replaceChildren(h('p', {}, 'The server does not answer. ', button('Try again', 'sm', () => asker.retry()))));
    M.try = () => { host.classList.add('asking'); asker.ask(); };
    M.clear = () => { asker.settle(); host.classList.remove('asking'); host.replaceChildren(); };
    const back = () => { if (M.columns && M.columns.waiting) { send({ action: 'leave' }); return; } M.chosen = { ...M.columns.chosen }; for (const side of Object.keys(SIDES)) document.getElementById(`rw-column-${side}`).value = M.chosen[side] || ''; M.clear(); };

    const text = (side, words) => h('div', { class: `tx ${side}` }, h('div', { class: 'h' }, h('b', {}, SIDES[side])), h('div', { class: 'said', dir: 'auto' }, words || '(nothing)'));
    const pair = one => h('li', {}, h('p', { class: 'said s', dir: 'auto' }, one.prompt || '(no prompt)'), h('div', { class: 'pairtx' }, text('chosen', one.chosen), text('rejected', one.rejected)));
    const raw = value => h('div', { class: 'tablewrap', tabindex: 0, role: 'region', 'aria-label': 'The first rows as they stand there' }, h('table', { class: 'raw' },
      h('thead', {}, h('tr', {}, value.columns.map(name => h('th', { scope: 'col' }, name)))),
      h('tbody', {}, value.rows.map(row => h('tr', {}, row.map(cell => h('td', {}, h('span', { class: 'clip3', dir: 'auto' }, cell))))))));
    const dropped = value => h('div', { class: 'list' }, value.dropped.map(one => h('div', {}, h('span', {}, one.reason), h('b', {}, number(one.count)))));

    function draw(value) {
      host.classList.remove('asking');
      if (!value || value.kind === 'none') { host.replaceChildren(); return; }
      const use = button('Use these columns', 'primary', () => { use.disabled = true; setTimeout(() => { use.disabled = false; }, 3000); send({ action: 'use', columns: M.chosen }); }, { id: 'rw-use-columns', disabled: !value.pairs || !value.pairs.length });
      const stay = value.waiting ? (value.have ? 'Keep the earlier pairs' : 'Bring other pairs') : 'Leave it as it is';
      const ready = value.pairs && value.pairs.length > 0;
      const heading = value.error ? 'These columns cannot be read' : ready ? 'Read like this?' : value.pairs ? 'No pair comes of these columns' : 'Which column is which?';
      const lead = value.error ? value.error : ready ? `The first ${value.pairs.length === 1 ? 'pair' : `${value.pairs.length} pairs`}, as they will be read. Of the first ${number(value.looked)} rows, ${number(value.fit)} ${value.fit === 1 ? 'is' : 'are'} usable.`
        : value.pairs ? `All of the first ${number(value.looked)} rows would be dropped.` : `${value.name} was read, but what its columns mean was not recognised. Choose at least the chosen and the rejected answers. Its first rows:`;
      host.replaceChildren(h('header', {}, h('div', {}, h('h2', {}, heading), h('p', { role: value.error ? 'alert' : 'status' }, lead)), h('div', { class: 'acts' }, button(stay, 'ghost', back), use)),
        ...(ready ? [h('ol', { class: 'trial' }, value.pairs.map(pair))] : []),
        ...(value.pairs && value.dropped.length ? [h('h3', { class: 'under8' }, `Would be dropped, of the first ${number(value.looked)}`), dropped(value)] : []),
        ...(!ready && value.rows.length ? [raw(value)] : []));
    }
    if (M.columns && (M.columns.waiting || M.changed)) M.try();
    return value => {
      if (!value) return;
      if (value.tab === undefined) { if (M.columns && M.columns.waiting) M.try(); else { asker.settle(); draw(value); } return; }
      if (asker.answers(value)) { draw(value); if (M.changed) host.scrollIntoView({ block: 'nearest', behavior: rw.calm() ? 'auto' : 'smooth' }); }
    };
  });

  rw.define('pairs-seed', (host, send) => {
    let shown = null;
    const field = h('input', { class: 'in', id: 'rw-seed', type: 'text', inputmode: 'numeric', autocomplete: 'off', maxlength: 20, 'aria-describedby': 'rw-seed-said' });
    const said = h('p', { class: 'info', id: 'rw-seed-said' });
    const again = () => {
      const text = field.value.trim(), right = /^\d{1,10}$/.test(text) && Number(text) < 2 ** 31;
      field.classList.toggle('bad', !right);
      field.setAttribute('aria-invalid', String(!right));
      said.classList.toggle('wrong', !right);
      said.textContent = right ? 'Which prompts are held out; step 3 uses the same.' : 'A whole number from 0 to 2147483647.';
      use.hidden = !right || text === String(shown);
      return right && text !== String(shown);
    };
    const apply = () => { if (again()) send({ seed: field.value.trim() }); };
    const use = h('button', { type: 'button', class: 'btn sm', onclick: apply }, 'Split again');
    field.addEventListener('input', again);
    field.addEventListener('keydown', event => { if (event.key === 'Enter') { event.preventDefault(); apply(); } if (event.key === 'Escape') { field.value = shown; again(); } });
    const row = h('div', { class: 'field seed' }, h('label', { class: 'lab', for: 'rw-seed' }, 'Split seed'), h('div', { class: 'seedrow' }, field, use), said);
    return value => {
      if (!value || value.seed === undefined) { host.replaceChildren(); shown = null; return; }
      if (!row.isConnected) host.replaceChildren(row);
      if (value.seed !== shown) { shown = value.seed; field.value = shown; }
      again();
    };
  });

  // A button in Python's markup that narrows the table: data-show="near".
  document.addEventListener('click', event => {
    const button = event.target.closest && event.target.closest('[data-show]');
    if (button && rw.pairs.show) { event.preventDefault(); rw.pairs.show(button.dataset.show); }
  });
})();
