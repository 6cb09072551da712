/* Step 4: two to four columns of answers, their tokens coloured, their words held against the reference's, and the chat. */
(() => {
  const kit = () => rw.kit;
  const at = (score) => 50 + 45 * Math.max(-1.1, Math.min(1.1, score)); // a score's place on the shared axis, per cent
  const FULL = 2; // nats at which a difference has its strongest colour

  /* Seven steps, so that a colour can be named: p1..p3 and m1..m3 for preference, a1..a3 and b1..b3 for likelier under the
     other model or the reference. */
  const steps = (score, up, down) => {
    const size = Math.abs(score);
    const step = size < 0.2 ? 0 : size < 0.5 ? 1 : size < 0.8 ? 2 : 3;
    return step ? (score > 0 ? up : down) + step : '';
  };

  rw.kit.show('compare-head', (data) => {
    const { el, words, button } = kit();
    return el('div', { class: 'title' }, el('div', null, el('h1', null, data.title), el('p', null, words(data.sub))),
      el('div', { class: 'acts' }, (data.actions || []).map((one) => button(one.label, one.act, one))));
  });

  /** What is shown of a pane's tokens in this mode: a value in -1..1 for each, and its classes; null where nothing was read. */
  const values = (pane, data, mode, block, place) => {
    if (mode === 'preference') {
      const line = pane.prefs && pane.prefs[block];
      return line ? line.map((score) => ({ score, tone: steps(score, 'p', 'm') })) : null;
    }
    if (mode !== 'difference' || !pane.own || !pane.other) return null;
    const sign = place === data.reference ? -1 : 1; // always the other model less the reference
    return pane.own.map((own, i) => {
      const nats = sign * (own - pane.other[i]);
      return { score: nats / FULL, nats, tone: steps(nats / FULL, 'a', 'b') };
    });
  };

  const percent = (logp) => {
    const share = 100 * Math.exp(logp);
    return share >= 10 ? share.toFixed(0) + '%' : share >= 0.1 ? share.toFixed(1) + '%' : '<0.1%';
  };

  /** One token in words: for whoever points at it, taps it or reaches it by keys. */
  const told = (pane, column, data, i, block) => {
    const { signed } = kit();
    const parts = [];
    if (pane.prefs && pane.prefs[block]) parts.push(`preference ${signed(pane.prefs[block][i])} at block ${block}`);
    if (pane.own && pane.other) parts.push(`probability ${percent(pane.own[i])} under ${column.name}, ${percent(pane.other[i])} under ${pane.against}`);
    return `\u201c${pane.pieces[i].trim() || 'space'}\u201d: ${parts.join('; ')}`;
  };

  /** A token's text with the words that the reference has not underlined; `from` is where it begins in the answer. */
  const underlined = (text, from, ranges) => {
    const { el } = kit();
    const out = [];
    let done = 0;
    for (const [start, end] of ranges) {
      const a = Math.max(0, start - from), b = Math.min(text.length, end - from);
      if (b <= a) continue;
      if (a > done) out.push(text.slice(done, a));
      out.push(el('u', { class: 'df' }, text.slice(a, b)));
      done = b;
    }
    if (done < text.length) out.push(text.slice(done));
    return out;
  };

  const tokens = (pane, column, data, local, shown, place) => {
    const { el } = kit();
    const ranges = (local.same !== true && pane.differs) || [];
    if (!pane.pieces) return ranges.length ? underlined(pane.text, 0, ranges) : pane.text;
    let from = 0;
    return pane.pieces.map((piece, i) => {
      const part = place !== data.reference && pane.parts === i;
      const token = el('span', { class: ['tk', shown && shown[i].tone, part && 'part'].filter(Boolean).join(' '), tabindex: 0, 'data-token': i, 'aria-label': told(pane, column, data, i, local.block) },
        underlined(piece, from, ranges));
      from += piece.length;
      return token;
    });
  };

  /** The chooser of a column, and what can be set of it. */
  const chooser = (column, data, place) => {
    const { el } = kit();
    const off = Boolean(data.live);
    const offers = data.choices.some((one) => one.value === column.value) ? data.choices : [...data.choices, { value: column.value, label: column.name }];
    const select = el('select', { class: 'in pick', 'data-field': 'choose', 'data-choose': place, disabled: off, 'aria-label': `Column ${place + 1}` },
      offers.map((one) => el('option', { value: one.value, selected: one.value === column.value }, one.value === column.value ? column.name : one.label)));
    return [select, data.columns.length > data.least && el('button', { type: 'button', class: 'btn ghost sm drop1', 'data-act': 'remove-column', 'data-at': place, disabled: off, 'aria-label': `Take away column ${place + 1}, ${column.name}`, title: 'Take this column away' }, '\u00d7')];
  };

  const setting = (column, data, place) => {
    const { el } = kit();
    const off = Boolean(data.live);
    if (column.text !== undefined) return el('label', { class: 'set' }, el('span', null, 'p+'), el('input', { class: 'in', type: 'text', value: column.text, maxlength: 1000, 'data-field': 'text', 'data-text': place, disabled: off, 'aria-label': `p+ of column ${place + 1}` }));
    if (column.alpha === undefined) return null;
    return el('label', { class: 'set' }, el('input', { type: 'range', min: -column.most, max: column.most, step: 0.05, value: column.alpha, 'data-field': 'alpha', 'data-alpha': place, disabled: off,
      style: `--f:${50 + 50 * column.alpha / column.most}%`, 'aria-label': `Alpha of column ${place + 1}` }), el('output', { class: 'nw' }, `alpha ${column.alpha}`), el('small', { class: 'q' }, column.strength));
  };

  const mean = (line) => (line && line.length ? line.reduce((sum, value) => sum + value, 0) / line.length : null);

  const answer = (pane, place, data, local) => {
    const { el, signed } = kit();
    const column = data.columns[place];
    const shown = pane.pieces ? values(pane, data, local.mode, local.block, place) : null;
    const score = pane.prefs && mean(pane.prefs[local.block]);
    const settings = data.columns.some((one) => one.text !== undefined || one.alpha !== undefined);
    const what = local.mode === 'difference' ? (place === data.reference ? `log p under ${pane.against} \u2212 own, nats` : `log p \u2212 log p under ${pane.against}, nats`) : 'Preference by token';
    const drawn = el('article', { class: `ans ${column.who} l-${column.line}`, 'aria-busy': data.live ? 'true' : null, 'aria-label': column.name, 'data-pane': place },
      el('div', { class: 'who' }, chooser(column, data, place)),
      settings && el('div', { class: 'sets' }, setting(column, data, place)),
      el('div', { class: 'facts' }, pane.note || '\u00a0'),
      el('p', { class: 'say', 'aria-live': data.live ? 'off' : 'polite' }, pane.text || !pane.wait ? tokens(pane, column, data, local, shown, place) : el('span', { class: 'q' }, pane.wait)),
      el('div', { class: 'tokinfo', role: 'status' }, '\u00a0'),
      local.mode !== 'none' && el('div', { class: 'bars ' + local.mode, role: 'img', 'aria-label': `${what}, ${column.name}` },
        (shown || []).slice(0, 120).map((one) => el('i', { class: one.score >= 0 ? 'u' : 'n', style: `--v:${Math.min(1, Math.abs(one.score)).toFixed(3)}` }))),
      el('div', { class: 'ft' }, el('span', null, local.mode !== 'none' && shown ? what : '\u00a0'),
        el('span', { class: 'nw' }, typeof score === 'number' && el('b', { class: score < 0 ? 'c-rejected' : 'c-chosen', title: `Mean preference of the tokens at block ${local.block}, by the probe's axis; one answer, no interval` }, 'mean preference ' + signed(score)))),
      el('div', { class: 'ends2' }, pane.oracle && el('span', null, 'Oracle: ', el('b', null, pane.oracle)), pane.below && el('span', null, pane.below), pane.parting && el('span', null, pane.parting),
        !(pane.oracle || pane.below || pane.parting) && '\u00a0'));
    drawn.style.setProperty('--parts', drawn.childElementCount); // the rows of all columns stand at one height
    return drawn;
  };

  /** All columns on one preference axis: dots and names above it for two, a line each for more. */
  const axis = (data, local) => {
    const { el, signed } = kit();
    const means = data.panes.map((pane) => (pane.prefs ? mean(pane.prefs[local.block]) : null));
    const text = data.no_axis || (data.live ? 'Measured when all have ended' : means.some((value) => value !== null) ? `0: halfway. Preference axis of block ${local.block}, one answer each, no interval` : 'All answers on one preference axis');
    const ends = [el('span', { class: 'en c-rejected', style: 'left:0' }, 'like rejected'), el('span', { class: 'en c-chosen', style: 'right:0' }, 'like chosen'), el('span', { class: 'en q hide-sm middle' }, text)];
    const known = data.columns.map((column, place) => ({ column, value: means[place] })).filter((one) => one.value !== null);
    const name = known.map((one) => `${one.column.name} ${signed(one.value)}`).join(', ') || text;
    const dot = ({ column, value }) => el('span', { class: `pt0 c-${column.who} l-${column.line}`, style: `left:${at(value)}%` });
    const held = (place) => Math.min(88, Math.max(12, place)); // words stay on the panel
    if (data.columns.length > 2) {
      return el('div', { class: 'axes', role: 'img', 'aria-label': name },
        data.columns.map((column, place) => el('div', { class: 'ax' }, el('span', { class: `nm c-${column.who}` }, column.name), el('div', { class: 'axis thin' }, el('span', { class: 'ln' }), el('span', { class: 'z' }), means[place] !== null && dot({ column, value: means[place] })),
          el('b', { class: 'num' }, means[place] === null ? '\u2013' : signed(means[place])))),
        el('div', { class: 'ax' }, el('span', null), el('div', { class: 'axis foot' }, ends), el('span', null)));
    }
    const places = known.map((one) => at(one.value));
    const low = Math.min(...places), wide = Math.abs(places[0] - places[1]);
    const label = (one, place) => el('span', { class: `tl c-${one.column.who}`, style: `left:${held(place)}%` }, `${one.column.name} ${signed(one.value)}`);
    const labels = known.length < 2 || wide >= 34 ? known.map((one, i) => label(one, places[i]))
      : el('span', { class: 'tl', style: `left:${Math.min(74, Math.max(26, low + wide / 2))}%` }, known.map((one, i) => [i ? ', ' : null, el('span', { class: `c-${one.column.who}` }, `${one.column.name} ${signed(one.value)}`)]));
    return el('div', { class: 'axis', role: 'img', 'aria-label': name }, el('span', { class: 'ln' }), el('span', { class: 'z' }),
      known.length === 2 && el('span', { class: 'mid', style: `left:${low}%;width:${wide}%` }), labels, known.map(dot), ends);
  };

  const tools = (data, local) => {
    const { el } = kit();
    const modes = [['none', 'None'], ['preference', 'Preference'], ['difference', 'Log-probability']];
    const other = data.columns.length === 2 ? data.columns[1 - data.reference]?.name : 'each column';
    const means = local.mode === 'difference' ? `Likelier under ${other} (solid line) or under ${data.columns[data.reference]?.name} (dotted), \u2212${FULL} to +${FULL} nats in seven steps; a bar marks where an answer parts.` : local.mode === 'preference' ? data.no_axis || 'Like chosen (solid line) or like rejected (dotted) answers, \u22121 to +1 in seven steps.' : 'Tokens without colour.';
    return el('div', { class: 'toolrow sm' },
      el('div', { class: 'tool' }, el('span', { class: 's', id: 'rw-colour-by' }, 'Colour tokens by'),
        el('div', { class: 'seg fit sm', role: 'radiogroup', 'aria-labelledby': 'rw-colour-by' }, modes.map(([value, label]) => el('label', null, el('input', { type: 'radio', name: 'rw-colour', value, checked: local.mode === value, 'data-mode': value }), el('span', null, label))))),
      local.mode === 'preference' && data.blocks > 1 && el('label', { class: 'tool' }, el('span', { class: 's nw' }, `Block ${local.block}`),
        el('input', { type: 'range', class: 'short', min: 0, max: data.blocks - 1, step: 1, value: local.block, 'data-field': 'block', 'data-block': '1', style: `--f:${(100 * local.block) / (data.blocks - 1)}%`, 'aria-label': 'Block whose preference axis colours' })),
      el('label', { class: 's tickrow' }, el('input', { type: 'checkbox', class: 'tick', checked: local.same !== true, 'data-same': '1' }), ` Underline words that ${data.columns[data.reference]?.name || 'the first'} does not have`),
      el('p', { class: 'xs q means' }, means));
  };

  const chat = (data) => {
    const { el, button } = kit();
    return el('div', { class: 'chatbar' },
      el('div', { class: 'replyrow' }, el('textarea', { class: 'in', rows: 1, maxlength: 4000, id: 'rw-reply', placeholder: data.reply ? 'Reply to all columns' : 'Reply, once all have answered', 'aria-label': 'Reply to all columns', title: 'The same message to all columns, each with its own history', disabled: !data.reply }),
        el('button', { type: 'button', class: 'btn', 'data-reply': '1', disabled: !data.reply }, 'Reply')),
      el('div', { class: 'acts' }, button('Next seed', 'next-seed', { small: true, mark: 'again', off: !data.again, title: 'Answer the same once more with the next seed' }),
        button('Same seed', 'same-seed', { small: true, mark: 'again', off: !data.again, title: 'Answer the same once more with the same seed: the same answers, token for token' }),
        button('New chat', 'new-chat', { small: true, off: Boolean(data.live) }),
        button('Add column', 'add-column', { small: true, off: Boolean(data.live) || data.columns.length >= data.most, title: data.columns.length >= data.most ? `There may be ${data.most} columns at most` : null })));
  };

  rw.kit.show('compare-answers', (data, local) => {
    const { el } = kit();
    if (!local.mode) local.mode = 'preference';
    local.sent = Object.keys(data.panes.find((pane) => pane.prefs)?.prefs || {}).map(Number); // blocks whose scores are here
    if (data.stamp !== local.stamp) {
      const axes = data.panes.find((pane) => pane.prefs)?.prefs;
      const there = axes && axes[local.block] !== undefined;
      if (data.block !== null && !(local.moved && there) && data.blocks) local.block = data.block;
      local.stamp = data.stamp;
    }
    if (local.block === undefined) local.block = data.block;
    return [
      tools(data, local),
      data.notice && el('p', { class: 'notice sm', role: 'status' }, data.notice),
      data.history.length ? el('ol', { class: 'past' }, data.history.map((turn) => el('li', null, el('p', { class: 'you' }, turn.user),
        el('div', { class: 'cols', style: `--n:${data.columns.length}` }, turn.said.map((text, place) => el('p', { class: `was c-${data.columns[place].who} l-${data.columns[place].line}` }, el('span', null, text || '\u2013'))))))) : null,
      data.history.length ? el('p', { class: 'you now' }, data.asked) : null,
      el('div', { class: 'cols', style: `--n:${data.columns.length}` }, data.panes.map((pane, place) => answer(pane, place, data, local))),
      el('div', { class: 'shift' }, axis(data, local)),
      chat(data),
    ];
  }, ({ host, local, redraw, send }) => {
    const inform = (event) => {
      const token = event.target.closest?.('[data-token]');
      const pane = event.target.closest?.('[data-pane]');
      if (token && pane) pane.querySelector('.tokinfo').textContent = token.getAttribute('aria-label');
    };
    for (const kind of ['mouseover', 'focusin', 'click']) host.addEventListener(kind, inform);
    host.addEventListener('input', (event) => {
      const data = event.target.dataset;
      if (data.block) { local.block = Number(event.target.value); local.moved = true; redraw(); }
      if (data.alpha) {
        event.target.nextElementSibling.textContent = `alpha ${event.target.value}`;
        event.target.style.setProperty('--f', `${50 + 50 * event.target.value / event.target.max}%`);
      }
    });
    host.addEventListener('change', (event) => {
      const target = event.target, data = target.dataset;
      if (data.mode) { local.mode = data.mode; redraw(); }
      else if (data.same) { local.same = !target.checked; redraw(); }
      else if (data.choose) { send({ action: 'choose-column', at: Number(data.choose), value: target.value }); target.blur(); }
      else if (data.block && !local.sent?.includes(Number(target.value))) send({ action: 'block', value: Number(target.value) });
      else if (data.text) send({ action: 'set-text', at: Number(data.text), value: target.value });
      else if (data.alpha) send({ action: 'set-alpha', at: Number(data.alpha), value: Number(target.value) });
    });
    const reply = () => {
      const box = host.querySelector('#rw-reply');
      if (!box.value.trim() || box.disabled) return;
      send({ action: 'reply', text: box.value });
      box.value = '';
    };
    host.addEventListener('click', (event) => { if (event.target.closest('[data-reply]')) reply(); });
    host.addEventListener('keydown', (event) => {
      if (event.target.id === 'rw-reply' && event.key === 'Enter' && !event.shiftKey) { event.preventDefault(); reply(); }
    });
  });
})();
