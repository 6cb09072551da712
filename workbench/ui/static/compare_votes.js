/* Step 4: the blind vote. Nothing here knows which answer is whose before the vote was counted. */
(() => {
  const kit = () => rw.kit;
  const KEYS = { a: 'a', arrowleft: 'a', b: 'b', arrowright: 'b', t: 't', arrowdown: 't', x: 'x' };

  rw.kit.show('compare-blind', (data, local) => {
    const { el, words, button } = kit();
    const box = (name, text) => el('div', { class: 'blind' }, el('div', { class: 'h' }, 'Answer ' + name), text || '\u00a0');
    local.ballot = data.ballot;
    const off = !data.ballot || local.sent === data.ballot;
    const vote = (label, key, sign) => el('button', { type: 'button', class: 'btn', 'data-cast': key, disabled: off }, label, ' ', el('kbd', { class: 'hide-sm' }, sign));
    return el('section', { id: 'rw-blind' },
      el('header', { class: 'phead' }, el('div', null, el('h2', null, data.title), el('p', { class: 's sm' }, data.prompt))),
      data.pairs.length > 1 && el('label', { class: 'sm between' }, el('span', { class: 's' }, 'Between'), el('select', { class: 'in', 'data-field': 'pair', 'data-pair': '1', 'aria-label': 'Which two columns to vote between' }, data.pairs.map((one) => el('option', { value: one.value, selected: one.value === data.pair }, one.label)))),
      el('div', { class: 'blindrows' }, box('A', data.a), box('B', data.b),
        el('div', { class: 'votes four' }, vote('A is better', 'a', 'A \u2190'), vote('Tie', 't', 'T \u2193'), vote('Both bad', 'x', 'X'), vote('B is better', 'b', 'B \u2192')),
        data.more && button(data.more.label, data.more.act, { small: true, off: data.more.off })),
      el('p', { class: 'xs q said', role: 'status' }, words(data.said)),
      el('hr', { class: 'hr' }), el('h3', null, data.tally.title), el('p', { class: 'xs q' }, data.tally.text), el('p', { class: 'xs q' }, data.tally.even || '\u00a0'), kit().chart(data.chart),
      data.chart.table && kit().numbers(data.chart.table, 'blind votes'),
      data.others && el('p', { class: 'xs q' }, data.others));
  }, ({ host, send, local, redraw }) => {
    let near = false; // whether the last press was in this panel: arrow keys scroll the page elsewhere
    const cast = (button) => {
      if (button.disabled || !local.ballot) return;
      local.sent = local.ballot; // once, however often the key is pressed
      send({ action: 'vote', vote: button.dataset.cast, ballot: local.ballot });
      redraw();
    };
    document.addEventListener('pointerdown', (event) => { near = Boolean(host.closest('#rw-blind-panel')?.contains(event.target)); });
    host.addEventListener('click', (event) => {
      const button = event.target.closest('[data-cast]');
      if (button) cast(button);
    });
    host.addEventListener('change', (event) => {
      if (event.target.dataset.pair) { send({ action: 'pair', value: event.target.value }); event.target.blur(); }
    });
    document.addEventListener('keydown', (event) => {
      if (!host.isConnected || !host.offsetParent || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
      if (event.target.closest?.('input, textarea, select, [contenteditable]')) return;
      const key = event.key.toLowerCase();
      if (!KEYS[key] || (key.startsWith('arrow') && !near && !host.contains(document.activeElement))) return;
      const button = host.querySelector(`[data-cast="${KEYS[key]}"]`);
      if (button && !button.disabled) { event.preventDefault(); cast(button); }
    });
  });
})();
