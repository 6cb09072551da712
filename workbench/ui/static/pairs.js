/* Step 1: the table of pairs with its toolbar, and the editor. What is asked for (search text, filters, order, page, the
   open pair) lives here and travels with every question; the server answers one page. An answer that belongs to an older
   question is ignored, and a question without answer is asked again. Text only ever becomes text. */
(() => {
  const { h, svg } = rw;
  const FIRST = { query: '', split: 'all', show: 'all', sort: 'row', page: 0 };
  const P = rw.pairs = { tab: Math.random().toString(36).slice(2), set: null, want: { ...FIRST }, typed: 0, picked: new Set(), version: null, open: null, ask: () => {}, edit: () => {}, look: () => {}, redraw: () => {}, refresh: () => {}, show: () => {} };

  const PATHS = { back: 'M10 3 5 8l5 5', on: 'm6 3 5 5-5 5', undo: 'M3.5 6.5h6a3.5 3.5 0 1 1 0 7H6M6 3.5l-3 3 3 3', redo: 'M12.5 6.5h-6a3.5 3.5 0 1 0 0 7H10M10 3.5l3 3-3 3',
    warn: 'M8 2.2 14.4 13.4H1.6zM8 6.4v3.2M8 11.4v.1' };
  const icon = (name, size = 16) => svg('svg', { width: size, height: size, viewBox: '0 0 16 16', fill: 'none', stroke: 'currentColor', 'stroke-width': 1.6, 'stroke-linecap': 'round', 'stroke-linejoin': 'round', 'aria-hidden': 'true' },
    svg('path', { d: PATHS[name] }));
  const button = (label, classes, onclick, attributes = {}) => h('button', { type: 'button', class: `btn ${classes}`, onclick, ...attributes }, label);
  const number = value => value.toLocaleString('en');
  const pairs = count => `${number(count)} ${count === 1 ? 'pair' : 'pairs'}`;
  P.kit = { icon, button, number, pairs };

  /** Asks until the answer to the newest question is there: a question or an answer may get lost while the page mounts. */
  P.asker = (send, question, gaveUp) => {
    let seq = 0, answered = 0, tries = 0, timer = 0;
    const again = () => {
      clearTimeout(timer);
      if (tries >= 8) { gaveUp(); return; }
      tries += 1;
      send({ ...question(), tab: P.tab, seq });
      timer = setTimeout(again, Math.min(2500 * 2 ** (tries - 1), 12000));
    };
    return {
      ask(wait = 0) { seq += 1; tries = 0; clearTimeout(timer); if (wait) timer = setTimeout(again, wait); else again(); },
      retry() { tries = 0; again(); },
      answers(value) { if (value.tab !== P.tab || value.seq !== seq) return false; answered = seq; clearTimeout(timer); return true; },
      settle() { seq += 1; answered = seq; clearTimeout(timer); },
      get waiting() { return answered !== seq; },
    };
  };

  // -- the table -------------------------------------------------------------------------------------------------------

  const select = (label, id, choices, change) => {
    const field = h('select', { class: 'in', id, 'aria-label': label, onchange: () => change(field.value) }, choices.map(([key, text]) => h('option', { value: key }, text)));
    return field;
  };
  const SHOWS = { all: 'All pairs', near: 'Near-duplicates', edited: 'Edited here', long: 'Too long, cut' };

  rw.define('pairs-table', (host, send) => {
    let shown = null;
    P.ask = send;
    if (P.table) P.table.settle(); // the view was made anew: the old one asks no more
    const asker = P.table = P.asker(data => send({ action: 'rows', ...data }), () => P.want, () => { status('The server does not answer.', button('Try again', 'sm', () => asker.retry())); });

    const search = h('input', { class: 'in', type: 'search', placeholder: 'Search prompts and answers', 'aria-label': 'Search the pairs', id: 'rw-search', autocomplete: 'off', spellcheck: 'false', dir: 'auto', maxlength: 400,
      oninput: () => { P.typed = Date.now(); want({ query: search.value, page: 0 }, 150); },
      onkeydown: event => { if (event.key === 'ArrowDown') { event.preventDefault(); focusRow(0); } } });
    const split = select('Filter by split', 'rw-filter', [['all', 'All splits'], ['train', 'Training'], ['held_out', 'Held out']], value => want({ split: value, page: 0 }));
    const show = select('Show', 'rw-show', Object.entries(SHOWS), value => want({ show: value, page: 0 }));
    const sort = select('Order', 'rw-sort', [['row', 'In row order'], ['longest', 'Longest chosen first'], ['shortest', 'Shortest chosen first'], ['chosen_longer', 'Chosen longer by most'], ['rejected_longer', 'Rejected longer by most']],
      value => want({ sort: value, page: 0 }));
    const undo = button([icon('undo', 15)], 'sm square', () => P.edit({ action: 'undo' }), { 'aria-label': 'Undo', id: 'rw-undo', disabled: true });
    const redo = button([icon('redo', 15)], 'sm square', () => P.edit({ action: 'redo' }), { 'aria-label': 'Redo', id: 'rw-redo', disabled: true });
    const add = button('Add a pair', 'sm', () => P.look(null), { id: 'rw-add' });
    const body = h('tbody', {}), found = h('span', { class: 'q', role: 'status' }), bar = h('div', { class: 'pickbar' });
    const all = h('input', { type: 'checkbox', 'aria-label': 'Select all on this page', onchange: () => { for (const row of shown ? shown.rows : []) P.picked[all.checked ? 'add' : 'delete'](row.id); drawRows(); } });
    const table = h('table', {}, h('caption', { class: 'sr' }, 'The pairs. Arrow keys move through the rows, Enter opens one.'),
      h('thead', {}, h('tr', {}, h('th', { scope: 'col', class: 'tick' }, all), h('th', { scope: 'col', class: 'hide-sm id' }, '#'), h('th', { scope: 'col', class: 'wide' }, 'Prompt'), h('th', { scope: 'col' }, h('span', { class: 'key c-chosen' }, 'Chosen')),
        h('th', { scope: 'col' }, h('span', { class: 'key c-rejected' }, 'Rejected')), h('th', { scope: 'col', class: 'num hide-sm tok' }, 'Tokens'), h('th', { scope: 'col', class: 'hide-sm part' }, 'Split'))), body);
    const nothing = h('div', { class: 'nothing' });
    const wrap = h('div', { class: 'tablewrap cardrows pairs' }, table);
    const before = button('Previous', 'sm', () => want({ page: shown.page - 1 })), after = button('Next', 'sm', () => want({ page: shown.page + 1 }));
    host.replaceChildren(
      h('div', { class: 'tablehead' }, search, h('div', { class: 'filters' }, split, show, sort), h('div', { class: 'acts' }, undo, redo, add)),
      bar, wrap, nothing, h('div', { class: 'pager sm' }, found, h('span', { class: 'acts' }, before, after)));

    function status(...parts) { found.replaceChildren(...parts); }

    /** Want something else: at once, or `wait` milliseconds after the last key. */
    function want(changes, wait = 0) { Object.assign(P.want, changes); host.classList.add('asking'); wrap.setAttribute('aria-busy', 'true'); asker.ask(wait); }
    P.show = which => { P.want = { ...FIRST, show: which }; fields(); want({}); host.scrollIntoView({ block: 'nearest', behavior: rw.calm() ? 'auto' : 'smooth' }); search.focus({ preventScroll: true }); };

    /** The fields as they are wanted; never the text of the field that is being typed in. */
    function fields() {
      if (search.value !== P.want.query) search.value = P.want.query;
      split.value = P.want.split; show.value = P.want.show; sort.value = P.want.sort;
    }

    const focusables = () => [...body.querySelectorAll('.plain')];
    function focusRow(at) { const all = focusables(); if (all.length) all[Math.max(0, Math.min(at, all.length - 1))].focus(); }
    body.addEventListener('keydown', event => {
      const at = focusables().indexOf(event.target);
      if (at < 0) return;
      const last = focusables().length - 1, pages = Math.ceil(shown.total / shown.per) - 1;
      const turn = (page, row) => { if (page >= 0 && page <= pages && page !== shown.page) { P.focus = row; want({ page }); } };
      const move = { ArrowDown: () => (at < last ? focusRow(at + 1) : turn(shown.page + 1, 0)), ArrowUp: () => (at > 0 ? focusRow(at - 1) : shown.page > 0 ? turn(shown.page - 1, 1e9) : search.focus()),
        Home: () => focusRow(0), End: () => focusRow(last), PageDown: () => turn(shown.page + 1, at), PageUp: () => turn(shown.page - 1, at) }[event.key];
      if (move) { event.preventDefault(); move(); }
    });

    const cell = (name, text) => h('td', { 'data-l': name }, h('span', { class: 'clip', dir: 'auto' }, text));
    function drawRow(row) {
      const picked = P.picked.has(row.id), here = P.open === row.id;
      const tick = h('input', { type: 'checkbox', 'aria-label': `Select pair ${row.id}`, checked: picked, onclick: event => event.stopPropagation(),
        onchange: event => { P.picked[event.target.checked ? 'add' : 'delete'](row.id); drawBar(); } });
      const open = h('button', { type: 'button', class: 'plain clip', dir: 'auto', 'aria-current': here ? 'true' : null }, row.prompt);
      return h('tr', { class: here ? 'sel' : null, 'data-pair': row.id, onclick: event => { if (event.target !== tick && !event.target.closest('.tick')) P.look(row.id); } },
        h('td', { class: 'tick' }, tick), h('td', { class: 'q hide-sm id', title: row.edited ? 'Edited here' : null }, String(row.id), row.edited && h('span', { class: 'sr' }, ', edited here'), row.edited && h('i', { class: 'mark', 'aria-hidden': 'true' })),
        h('td', { 'data-l': 'prompt' }, open), cell('chosen', row.chosen), cell('rejected', row.rejected), h('td', { class: 'num nw hide-sm tok' }, row.tokens ? `${row.tokens[0]} / ${row.tokens[1]}` : ''),
        h('td', { class: 'nw hide-sm part' }, h('span', { class: row.split === 'held_out' ? 'b' : 'q' }, row.split === 'held_out' ? 'held out' : row.split ? 'train' : '')));
    }
    function drawRows() {
      const at = P.focus !== undefined ? P.focus : focusables().indexOf(document.activeElement);
      body.replaceChildren(...shown.rows.map(drawRow));
      if (at >= 0) focusRow(at);
      P.focus = undefined;
      all.checked = shown.rows.length > 0 && shown.rows.every(row => P.picked.has(row.id));
      drawBar();
    }
    P.refresh = () => { if (host.isConnected && !asker.waiting) asker.ask(); };
    P.redraw = () => { if (shown && host.isConnected) drawRows(); };

    /** What can be done with the selected pairs, or with all that were found. */
    let sure = ''; // for which rows it was asked
    const about = () => `${shown.version} ${shown.total}`;
    function drawBar() {
      const narrowed = shown && shown.total > 0 && shown.total < shown.everything;
      const parts = [];
      if (sure && narrowed && sure === about()) {
        parts.push(h('span', { role: 'alert' }, `Remove all ${pairs(shown.total)} found? Undo brings them back.`), button(`Remove ${number(shown.total)}`, 'sm', () => { sure = ''; P.edit({ action: 'remove_found', want: { ...P.want }, count: shown.total, version: shown.version }); }, { id: 'rw-remove-sure' }),
          button('Keep them', 'ghost sm', () => { sure = ''; drawBar(); }));
      } else if (P.picked.size) {
        const ids = [...P.picked];
        parts.push(h('span', {}, `${number(ids.length)} selected`), button('Remove', 'sm', () => P.edit({ action: 'remove', ids, version: shown.version }), { id: 'rw-remove-picked', 'aria-label': `Remove the ${number(ids.length)} selected` }),
          button('Clear', 'ghost sm', () => { P.picked.clear(); drawRows(); }));
      } else if (narrowed) {
        parts.push(button(`Remove all ${number(shown.total)} found`, 'ghost sm', () => { sure = about(); drawBar(); bar.querySelector('button').focus(); }, { id: 'rw-remove-found' }));
      }
      bar.replaceChildren(...parts);
    }

    function draw() {
      const { rows, total, everything, page, per, counts } = shown;
      host.classList.remove('asking'); wrap.removeAttribute('aria-busy');
      wrap.hidden = !rows.length; nothing.hidden = rows.length > 0;
      nothing.replaceChildren(h('b', {}, 'No pair fits.'), h('p', { class: 's sm' }, 'Search for something else, or show all of them.'), button('Show all pairs', 'sm', () => { P.want = { ...FIRST }; fields(); want({}); search.focus(); }));
      for (const option of show.options) {
        const count = counts[option.value];
        option.textContent = SHOWS[option.value] + (count === undefined ? '' : ` (${number(count)})`);
        option.disabled = count === 0 && P.want.show !== option.value;
      }
      const first = page * per + 1;
      status(rows.length ? `${number(first)} to ${number(first + rows.length - 1)} of ${number(total)}${total !== everything ? ` found in ${number(everything)}` : ''}` : '');
      before.disabled = page === 0; after.disabled = first + rows.length > total;
      for (const [one, about, name] of [[undo, shown.undo, 'Undo'], [redo, shown.redo, 'Redo']]) {
        one.disabled = !about;
        one.title = about ? `${name}: ${about}` : `Nothing to ${name.toLowerCase()}`;
        one.setAttribute('aria-label', about ? `${name}: ${about}` : name);
      }
      drawRows();
    }

    const same = (a, b) => ['split', 'show', 'sort'].every(key => a[key] === b[key]) && a.query === b.query.trim().replace(/\s+/g, ' ');
    fields();
    return value => {
      if (!value) return;
      if (value.set !== P.set) {
        const typing = Date.now() - P.typed < 3000; // what was typed just now was meant for what is coming
        if (P.set !== null && !typing) { P.want = { ...FIRST }; fields(); }
        P.set = value.set; P.open = null;
      }
      if (value.version !== P.version) { P.version = value.version; P.picked.clear(); }
      if (asker.answers(value)) { P.want.page = value.page; shown = value; draw(); return; }
      if (value.tab !== null) { if (!shown && !asker.waiting) want({}); return; } // an older answer, or one of before the view was made anew
      if (same(value.want, P.want) && P.want.page === value.page) { asker.settle(); shown = value; draw(); } else want({});
    };
  });

  // -- the editor ------------------------------------------------------------------------------------------------------

  rw.define('pairs-editor', (host, send) => {
    let now = null, fieldsOf = {};
    const asker = P.editor = P.asker(data => P.ask({ action: 'open', ...data }), () => ({ pair: P.open }), () => draw({ kind: 'none' }));
    let sent = '', at = 0;
    /** Change something. A second press of a double click is no second change (but two undos are two). */
    P.edit = data => {
      const text = JSON.stringify(data), again = text === sent && Date.now() - at < 1500;
      if (again && data.action !== 'undo' && data.action !== 'redo') return;
      const own = data.action === 'save' || data.action === 'add' || (data.action === 'remove' && now && data.ids.length === 1 && data.ids[0] === now.id);
      if (dirty() && !own) { // numbers may mean other pairs afterwards
        ask('Discard, and go on', () => { forget(); P.edit(data); });
        return;
      }
      sent = text; at = Date.now();
      send({ version: P.version, ...data });
      setTimeout(P.refresh, 3000); // should another tab have been faster: see what there is
    };

    const dirty = () => now && Object.keys(fieldsOf).some(side => fieldsOf[side].value !== (now[side] ?? '').replace(/\r\n?/g, '\n'));
    /** Open a pair (null: write a new one), but never lose what was typed. */
    P.look = id => {
      if (dirty()) {
        if (now.id === id) return;
        ask(id === null ? 'Discard, write a new pair' : `Discard, open pair ${id}`, () => { forget(); P.look(id); });
        return;
      }
      P.open = id;
      P.redraw();
      if (id === null) { draw({ kind: 'new', prompt: '', chosen: '', rejected: '', turns: 1, version: P.version }, true); asker.settle(); } else { host.classList.add('asking'); asker.ask(); }
    };
    const close = () => { P.open = null; now = null; fieldsOf = {}; draw({ kind: 'none' }); P.redraw(); };
    const forget = () => { now = null; fieldsOf = {}; };

    function ask(label, go) {
      const slot = host.querySelector('.unsaved');
      if (!slot) return;
      slot.replaceChildren(h('div', { class: 'note warn', role: 'alert' }, icon('warn', 18), h('div', {}, h('b', {}, 'Your changes are not saved.'), ' Save them first, or let them go.',
        h('div', { class: 'acts' }, button(label, 'sm', go), button('Keep editing', 'ghost sm', () => { slot.replaceChildren(); fieldsOf.chosen.focus(); })))));
      reveal();
    }

    host.style.scrollMargin = '24px 0 44px';
    const into = behavior => host.scrollIntoView({ block: host.offsetHeight > innerHeight ? 'start' : 'nearest', behavior });
    /** Bring the editor into sight: once its fields have their heights, and again should the way there have been cut off. */
    const reveal = () => {
      requestAnimationFrame(() => into(rw.calm() ? 'auto' : 'smooth'));
      setTimeout(() => { if (now && host.getBoundingClientRect().top > innerHeight - Math.min(host.offsetHeight, 200)) into('auto'); }, 800);
    };

    const values = () => Object.fromEntries(Object.entries(fieldsOf).map(([side, field]) => [side, field.value]));
    const grow = field => { field.style.height = 'auto'; field.style.height = `${Math.min(field.scrollHeight + 2, 420)}px`; };

    function draw(value, focus = false) {
      host.classList.remove('asking');
      if (value.kind === 'none') { host.replaceChildren(); return; }
      now = value;
      const isNew = value.kind === 'new', part = value.split === 'held_out' ? 'held out' : value.split ? 'train' : '';
      const save = button('Save', 'sm', () => P.edit({ action: isNew ? 'add' : 'save', pair: value.id, version: isNew ? null : value.version, ...values() }), { disabled: true, id: 'rw-save' });
      const changed = () => { save.disabled = !dirty(); };
      const area = (side, label, rows) => {
        const name = `rw-edit-${side}`, locked = side === 'prompt' && value.turns > 1;
        const field = fieldsOf[side] = h('textarea', { class: 'in', id: name, rows, dir: 'auto', readonly: locked, spellcheck: 'false', oninput: () => { changed(); grow(field); },
          onkeydown: event => { if (event.key === 'Enter' && (event.ctrlKey || event.metaKey) && dirty()) { event.preventDefault(); save.click(); } } });
        field.value = value[side];
        return h('div', { class: 'field' }, h('label', { class: 'lab', for: name }, side === 'prompt' ? label : h('span', { class: `key c-${side}` }, label)), field,
          locked && h('p', { class: 'info' }, `A dialogue of ${value.turns} turns: its answers can be changed here, the dialogue only in the file.`));
      };
      host.replaceChildren(
        h('header', { class: 'edithead' }, h('h2', {}, isNew ? 'A new pair' : `Pair ${value.id} `, part && h('span', { class: 'tag' }, part)),
          h('div', { class: 'acts' }, !isNew && button('Remove', 'ghost sm', () => P.edit({ action: 'remove', ids: [value.id], version: value.version })),
            !isNew && button('Swap sides', 'sm', () => P.edit({ action: 'swap', pair: value.id, version: value.version })), save, button('Close', 'ghost sm', close))),
        h('div', { class: 'unsaved' }),
        h('div', { class: 'editfields' }, area('prompt', 'Prompt', 1), h('div', { class: 'pairtx' }, area('chosen', 'Chosen', 2), area('rejected', 'Rejected', 2))));
      Object.values(fieldsOf).forEach(grow);
      if (focus) { fieldsOf.prompt.focus({ preventScroll: true }); reveal(); }
    }

    draw({ kind: 'none' });
    return value => {
      if (!value) return;
      if (value.tab === undefined) { // after a change, or when the step is shown: what the server says holds
        if (value.kind === 'none') { if (value.keep && dirty()) return; close(); return; }
        P.open = value.id;
        asker.settle(); fieldsOf = {}; draw(value); P.redraw();
        if (value.see) setTimeout(() => host.scrollIntoView({ block: 'center' }), 300); // step 2 opened it: the column is just being shown
        return;
      }
      if (!asker.answers(value)) return;
      if (value.kind === 'gone') { close(); return; }
      draw(value);
      reveal();
    };
  });
})();
