/* Step 4: two answers side by side with the preference of each token, lists of them, and the blind vote. */
(() => {
  const kit = () => rw.kit;
  const at = (score) => 50 + 45 * Math.max(-1.1, Math.min(1.1, score)); // a score's place on the shared axis, per cent
  const steps = (score) => { // seven steps, so that a colour can be named
    const size = Math.abs(score);
    const step = size < 0.2 ? 0 : size < 0.5 ? 1 : size < 0.8 ? 2 : 3;
    return step ? (score > 0 ? 'p' : 'm') + step : '';
  };

  rw.kit.show('compare-head', (data) => {
    const { el, words, button } = kit();
    return el('div', { class: 'title' }, el('div', null, el('h1', null, data.title), el('p', null, words(data.sub))),
      el('div', { class: 'acts' }, (data.actions || []).map((one) => button(one.label, one.act, one))));
  });

  const answer = (who, side, colour) => {
    const { el, signed } = kit();
    const name = who === 'base' ? 'Base' : 'Aligned';
    const scored = colour && side.tokens && side.tokens.length;
    const said = scored
      ? side.tokens.map((token) => el('span', { class: 'tk ' + steps(token.score), tabindex: 0, title: `${token.text.trim() || 'space'}: ${signed(token.score)}` }, token.text))
      : side.text || (side.wait ? el('span', { class: 'q' }, side.wait) : null);
    const bars = side.bars && el('div', { class: 'bars', role: 'img', 'aria-label': `Preference per token, ${who}` },
      (side.tokens || []).slice(0, 120).map((token) => el('i', { class: token.score >= 0 ? 'u' : 'n', style: `--v:${Math.min(1, Math.abs(token.score)).toFixed(3)}` })));
    const mean = side.mean;
    return el('article', { class: 'ans ' + who, 'aria-busy': side.live ? 'true' : null },
      el('div', { class: 'who' }, el('b', null, name), el('span', null, side.note || '')),
      el('p', { class: 'say', 'aria-live': side.live ? 'off' : 'polite' }, said), bars,
      el('div', { class: 'ft' }, el('span', null, side.tokens ? 'Preference of each token, in order' : side.below || ''),
        el('span', null, typeof mean === 'number' && el('b', { class: mean < 0 ? 'c-rejected' : 'c-chosen' }, 'mean ' + signed(mean)))));
  };

  const axis = (data) => {
    const { el, signed } = kit();
    const { base, aligned, text } = data.axis;
    const known = typeof base === 'number' && typeof aligned === 'number';
    const ends = [el('span', { class: 'en c-rejected', style: 'left:0' }, 'like rejected'), el('span', { class: 'en c-chosen', style: 'right:0' }, 'like chosen'),
      el('span', { class: 'en q hide-sm middle' }, text)];
    if (!known) return el('div', { class: 'axis', role: 'img', 'aria-label': text }, el('span', { class: 'ln' }), el('span', { class: 'z' }), ends);
    const low = Math.min(at(base), at(aligned));
    const wide = Math.abs(at(base) - at(aligned));
    const held = (place) => Math.min(92, Math.max(8, place)); // words stay on the panel
    const label = (who, word, score) => el('span', { class: 'tl c-' + who, style: `left:${held(at(score))}%` }, `${word} ${signed(score)}`);
    const dot = (who, score) => el('span', { class: 'pt0 c-' + who, style: `left:${at(score)}%` });
    const words = wide >= 26 ? [label('base', 'Base', base), label('aligned', 'Aligned', aligned)]
      : el('span', { class: 'tl', style: `left:${Math.min(80, Math.max(20, low + wide / 2))}%` },
        el('span', { class: 'c-base' }, `Base ${signed(base)}`), ', ', el('span', { class: 'c-aligned' }, `Aligned ${signed(aligned)}`));
    return el('div', { class: 'axis', role: 'img', 'aria-label': `Base ${signed(base)}, aligned ${signed(aligned)}` }, el('span', { class: 'ln' }), el('span', { class: 'z' }),
      el('span', { class: 'mid', style: `left:${low}%;width:${wide}%` }), words, dot('base', base), dot('aligned', aligned), ends);
  };

  rw.kit.show('compare-answers', (data, local) => {
    const { el } = kit();
    const colour = local.plain !== true;
    return [
      el('div', { class: 'toolrow sm' }, el('span', { class: 's' }, data.asked || ''),
        el('label', { class: 's tickrow' }, el('input', { type: 'checkbox', class: 'tick', checked: colour, 'data-colour': '1' }), ' Colour tokens by preference')),
      el('div', { class: 'duo' }, answer('base', data.base, colour), answer('aligned', data.aligned, colour)),
      el('div', { class: 'shift' }, axis(data)),
    ];
  }, ({ host, local, redraw }) => {
    host.addEventListener('change', (event) => {
      if (event.target.dataset.colour) { local.plain = !event.target.checked; redraw(); }
    });
  });

  const dumbbell = (row) => {
    const { el, signed } = kit();
    if (typeof row.b !== 'number' || typeof row.a !== 'number') return el('span', { class: 'q' }, row.wait || '\u2013');
    const low = Math.min(at(row.b), at(row.a));
    return el('div', { class: 'dumb', role: 'img', 'aria-label': `base ${signed(row.b)}, aligned ${signed(row.a)}` },
      el('u', { style: `left:${low}%;width:${Math.abs(at(row.b) - at(row.a))}%` }), el('i', { class: 'ba', style: `left:${at(row.b)}%` }), el('i', { class: 'al', style: `left:${at(row.a)}%` }));
  };

  rw.kit.show('compare-many', (data) => {
    const { el, button, table } = kit();
    const key = (who, text) => el('span', { class: 'key c-' + who }, text);
    const ends = el('span', { class: 'ends' }, el('span', { class: 'c-rejected' }, 'rejected'), el('span', { class: 'c-chosen' }, 'chosen'));
    const facts = data.rows.some((row) => row.fact);
    const rows = data.rows.map((row) => [row.prompt, { cell: row.base, class: 's' }, row.aligned, { cell: dumbbell(row), class: 'dumbcell' },
      ...(facts ? [{ cell: row.fact === 'wrong' ? { text: 'wrong', as: 'b' } : { text: row.fact || '', as: 'q' }, class: 'nw' }] : [])]);
    return el('section', { class: 'panel', id: 'rw-many' },
      el('header', null, el('div', null, el('h2', null, data.title), el('p', null, data.sub)),
        el('div', { class: 'acts' }, button(data.ask.label, data.ask.act, { small: true, off: data.ask.off, mark: data.ask.mark }))),
      rows.length ? table(['Prompt', key('base', 'Base'), key('aligned', 'Aligned'), ends, ...(facts ? ['Aligned fact'] : [])], rows,
        { names: ['prompt', 'base', 'aligned', '', 'fact'], selected: data.selected ?? -1, act: 'row' })
        : el('div', { class: 'waiting' }, [80, 66, 74, 58].map((w) => el('span', { class: 'skel', style: `width:${w}%` }))),
      el('details', { class: 'more own' }, el('summary', null, 'Your own prompts', el('small', null, 'One per line, up to twelve; both models answer them with the same seed.')),
        el('div', { class: 'ownrow' }, el('textarea', { class: 'in', rows: 3, id: 'rw-own', 'aria-label': 'Your own prompts, one per line' }), el('button', { type: 'button', class: 'btn sm', 'data-own': '1', disabled: data.ask.off }, 'Ask them'))));
  }, ({ host, send }) => host.addEventListener('click', (event) => {
    if (event.target.closest('[data-own]')) send({ action: 'own', text: host.querySelector('#rw-own').value });
  }));

  rw.kit.show('compare-blind', (data) => {
    const { el, words, button, figure } = kit();
    const box = (name, text) => el('div', { class: 'blind' }, el('div', { class: 'h' }, 'Answer ' + name), text || '\u00a0');
    const vote = (label, key, off) => el('button', { type: 'button', class: 'btn', 'data-act': 'vote', 'data-vote': key.toLowerCase(), 'data-ballot': data.ballot || '', disabled: off },
      label, ' ', el('kbd', { class: 'hide-sm' }, key));
    const off = !data.ballot;
    return el('section', { class: 'panel', id: 'rw-blind' }, el('header', null, el('div', null, el('h2', null, data.title), el('p', null, data.prompt))),
      el('div', { class: 'blindrows' }, box('A', data.a), box('B', data.b),
        el('div', { class: 'votes' }, vote('A is better', 'A', off), vote('Tie', 'T', off), vote('B is better', 'B', off)),
        data.more && button(data.more.label, data.more.act, { small: true, off: data.more.off })),
      el('p', { class: 'xs q said', role: 'status' }, words(data.said)),
      el('hr', { class: 'hr' }), el('h3', null, data.tally.title), el('p', { class: 'xs q' }, data.tally.text), kit().chart(data.chart),
      data.chart.table && kit().numbers(data.chart.table, 'blind votes'));
  }, ({ host, send }) => document.addEventListener('keydown', (event) => {
    if (!host.isConnected || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (event.target.closest?.('input, textarea, select, [contenteditable]')) return;
    const button = host.querySelector(`[data-vote="${CSS.escape(event.key.toLowerCase())}"]`);
    if (button && !button.disabled) { event.preventDefault(); button.click(); }
  }));
})();
