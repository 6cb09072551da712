/* Step 5: the heading, the commands that repeat a run, and its model card. */
(() => {
  const kit = () => rw.kit;

  rw.kit.show('export-head', (data) => {
    const { el, words } = kit();
    return el('div', { class: 'title' }, el('div', null, el('h1', null, data.title), el('p', null, words(data.sub))));
  });

  rw.kit.show('export-take', (data) => {
    const { el, icon, words } = kit();
    return el('div', { class: 'taken' + (data.off ? ' off' : '') }, el('span', { class: 'ic' }, icon(data.icon, 18)),
      el('div', { class: 'what' }, el('h3', null, data.title), el('p', null, words(data.text)),
        data.off && el('p', { class: 'why' }, data.off), data.trouble && el('p', { class: 'trouble', role: 'alert' }, data.trouble),
        data.busy && el('div', { class: 'going' }, el('i', { style: data.share === null || data.share === undefined ? 'width:8%' : `width:${Math.round(100 * data.share)}%` }))),
      el('span', { class: 'sm q sz' + (data.busy ? '' : ' nw'), role: 'status' }, data.size));
  });

  rw.kit.show('export-links', (data, local) => {
    const { el, icon } = kit();
    if (!data.links.length) return el('p', { class: 'sm q' }, 'No links yet.');
    return el('ul', { class: 'links', 'aria-label': 'Links' }, data.links.map((one) => {
      const url = new URL(one.path.slice(1), location.origin + location.pathname).href;
      return el('li', { 'data-key': one.id, class: one.fresh ? 'fresh' : null },
        el('div', null, el('a', { href: url, target: '_blank', rel: 'noopener noreferrer' }, one.title), el('p', { class: 'sm q' }, one.about)),
        el('div', { class: 'do' }, el('button', { type: 'button', class: 'btn sm', 'data-copy': url, 'aria-label': 'Copy the link to ' + one.title }, icon('copy', 14), local.copied === url ? 'Copied' : 'Copy link'),
          el('button', { type: 'button', class: 'btn sm', 'data-act': 'revoke', 'data-share': one.id, 'aria-label': 'Take back the link to ' + one.title }, 'Take back')));
    }));
  }, ({ host, local, redraw }) => {
    host.addEventListener('click', async (event) => {
      const press = event.target.closest('[data-copy]');
      if (!press) return;
      try { await navigator.clipboard.writeText(press.dataset.copy); } catch { return; }
      local.copied = press.dataset.copy; redraw();
    });
  });

  rw.kit.show('export-repeat', (data, local) => {
    const { el, button, icon } = kit();
    const language = local.language || 'terminal';
    return el('section', { class: 'panel', id: 'rw-repeat' },
      el('header', null, el('div', null, el('h2', null, 'Repeat it'), el('p', null, 'The same run from a terminal, or the adapter from Python.')),
        el('div', { class: 'seg fit sm', role: 'radiogroup', 'aria-label': 'Language' }, ['terminal', 'python'].map((name) => el('label', null,
          el('input', { type: 'radio', name: 'rw-language', value: name, checked: name === language, 'data-language': name }),
          el('span', null, name === 'terminal' ? 'Terminal' : 'Python'))))),
      el('div', { class: 'code' }, el('button', { type: 'button', class: 'btn sm', 'data-copy': '1', 'aria-label': 'Copy commands' }, icon('copy', 14), local.copied ? 'Copied' : 'Copy'),
        el('pre', { tabindex: 0 }, data[language])));
  }, ({ host, local, redraw }) => {
    host.addEventListener('change', (event) => { if (event.target.dataset.language) { local.language = event.target.dataset.language; redraw(); } });
    host.addEventListener('click', async (event) => {
      if (!event.target.closest('[data-copy]')) return;
      try { await navigator.clipboard.writeText(host.querySelector('pre').textContent); } catch { return; }
      local.copied = true; redraw();
      setTimeout(() => { local.copied = false; redraw(); }, 1500);
    });
  });

  rw.kit.show('export-card', (data) => {
    const { el, words } = kit();
    const list = (rows) => el('dl', { class: 'kv ruled' }, rows.map((row) => [el('dt', null, row[0]), el('dd', null, row[1] && el('b', null, row[1]), row[2] && [' ', el('span', { class: 'q' }, row[2])])]));
    const plain = (rows) => el('dl', { class: 'kv ruled' }, rows.map((row) => [el('dt', null, row[0]), el('dd', null, row[1])]));
    return el('section', { class: 'panel card', id: 'rw-card' }, el('header', null, el('h2', null, 'Model card')),
      el('p', { class: 'b big' }, data.name), el('p', { class: 's' }, words(data.lead)),
      data.results.length > 0 && [el('h3', null, 'Held-out results'), list(data.results)],
      el('h3', null, 'How it was made'), plain(data.made),
      data.sample && [el('h3', null, 'An answer'), el('p', { class: 's under8' }, data.sample.prompt),
        el('div', { class: 'pairtx' }, el('div', { class: 'tx base' }, el('div', { class: 'h' }, el('b', null, 'Base')), data.sample.base),
          el('div', { class: 'tx aligned' }, el('div', { class: 'h' }, el('b', null, 'Aligned')), data.sample.aligned))],
      data.limits && [el('h3', null, 'Limits'), el('p', { class: 's' }, data.limits)],
      data.markdown && el('details', { class: 'more' }, el('summary', null, 'The card’s file', el('small', null, 'README.md, as it goes with adapter and model')), el('pre', { class: 'md' }, data.markdown)));
  });
})();
