/* Step 2: the open pair. Its tokens are coloured by their place on the preference direction of the block on view; the
   places on all blocks come at once, so the slider recolours without asking. */
(() => {
  const { h } = rw, L = rw.layers;
  const STEPS = [0.2, 0.5, 0.8]; // where the seven colours change
  const WAIT = 250; // milliseconds a pair must stay open before its tokens are asked for: stepping through pairs asks for none
  const SCALE = ['m3', 'm2', 'm1', '', 'p1', 'p2', 'p3'];
  const NAMES = ['\u2212', '\u22120.8', '\u22120.5', '\u22120.2', '+0.2', '+0.5', '+0.8'];

  const step = value => {
    const size = Math.abs(value), n = size < STEPS[0] ? 0 : size < STEPS[1] ? 1 : size < STEPS[2] ? 2 : 3;
    return n ? (value > 0 ? 'p' : 'm') + n : '';
  };

  L.pairPanel = panel => {
    const kept = new Map(); // what was read of each pair of this capture
    const texts = { chosen: null, rejected: null };
    const tip = h('div', { class: 'rw-tip rw-toktip', id: 'rw-toktip', hidden: true });
    let state = null, places = {}, asked = null, waiting = 0;

    const move = by => L.scatter && L.send({ action: 'open', id: L.scatter.neighbour(L.pair && L.pair.kind === 'pair' ? L.pair.id : null, by) });
    const hint = () => h('div', { class: 'rw-hint' }, h('p', { class: 'xs q' }, 'Click a point to read its pair; a lasso takes several.'),
      L.button(L.icon('back', 14), 'ghost sm', () => move(-1), { 'aria-label': 'Previous pair', title: 'Previous pair' }),
      L.button(L.icon('on', 14), 'ghost sm', () => move(1), { 'aria-label': 'Next pair', title: 'Next pair' }));
    const undo = () => L.button([L.icon('again', 14), 'Undo'], 'sm', () => L.send({ action: 'undo' }), { id: 'rw-pair-undo' });

    // -- tokens --------------------------------------------------------------------------------------------------------
    const known = () => (L.pair && L.pair.kind === 'pair' ? kept.get(L.pair.id) : null);
    const ask = () => {
      clearTimeout(waiting);
      if (!L.pair || L.pair.kind !== 'pair' || L.plain || known() || asked === L.pair.id || !unasked()) return;
      const id = L.pair.id;
      waiting = setTimeout(() => { if (L.pair && L.pair.id === id && panel.isConnected) { asked = id; L.readTokens(id); } }, WAIT);
    };
    /** A large model is loaded only when somebody asks for it; once it is there, pairs are read as they are opened. */
    const unasked = () => L.view.unasked || kept.size > 0;
    const askFor = () => L.button('Read this pair token by token', 'sm', () => { asked = L.pair.id; L.readTokens(asked); words(); }, { id: 'rw-pair-read', title: 'Loads the model' });
    /** What of the text the tokens spell: they may begin with a space, and stop early where the text was cut. */
    const rest = (text, tokens) => {
      const joined = tokens.join(''), at = text.indexOf(joined.trim());
      if (!joined.trim() || at < 0) return '';
      return text.slice(at + joined.trim().length).trimEnd();
    };
    const fill = side => {
      const text = L.pair[side], found = known(), box = texts[side];
      if (!found || found.error || L.plain) { box.replaceChildren(text); box.removeAttribute('role'); box.removeAttribute('aria-label'); return; }
      const { tokens } = found[side], whole = text.trim().length;
      let seen = 0;
      const spans = tokens.map((token, i) => {
        if (!token) return null; // a part of a character: the last part shows it
        const end = seen >= whole && token.trim(); // the mark of the end stands after the text
        const span = h('span', { class: 'tk', 'data-i': i, 'data-end': end ? '' : null, tabindex: seen ? -1 : 0 }, end ? 'end' : token);
        seen += seen ? token.length : token.trimStart().length;
        return span;
      }).filter(Boolean);
      const left = rest(text, tokens);
      box.replaceChildren(...spans, ...(left ? [h('span', { class: 'q', title: 'Beyond what the model read' }, left)] : []));
      box.setAttribute('role', 'group');
      box.setAttribute('aria-label', `${side === 'chosen' ? 'Chosen' : 'Rejected'} answer, token by token: arrow keys move from one to the next`);
    };
    const colour = () => {
      const found = known();
      if (!found || found.error || L.plain || !L.pair) return;
      for (const side of ['chosen', 'rejected']) {
        const values = found[side].values[L.layer] || [];
        for (const span of texts[side].querySelectorAll('.tk')) span.className = `tk ${step(values[+span.dataset.i] ?? 0)}${'end' in span.dataset ? ' rw-end' : ''}`;
      }
    };
    const tell = span => {
      const found = known(), side = span && span.closest('.tx').dataset.side;
      if (!span || !found || found.error) { tip.hidden = true; return; }
      const value = found[side].values[L.layer][+span.dataset.i];
      tip.replaceChildren(h('p', {}, h('span', { dir: 'auto', class: 'mono' }, 'end' in span.dataset ? 'the end of the answer' : span.textContent.trim() || 'space')), h('p', {}, h('b', { class: value < 0 ? 'c-rejected' : 'c-chosen' }, L.signed(value)), h('span', { class: 'q' }, ` at block ${L.view.blocks[L.layer].l}`)));
      tip.hidden = false;
      const at = span.getClientRects()[0] || span.getBoundingClientRect(), box = panel.getBoundingClientRect();
      const left = Math.max(8, Math.min(at.left - box.left, box.width - tip.offsetWidth - 8));
      Object.assign(tip.style, { left: `${left}px`, top: `${at.bottom - box.top + 6}px` });
    };
    panel.addEventListener('mouseover', event => tell(event.target.closest('.tk')));
    panel.addEventListener('mouseleave', () => tell(null));
    panel.addEventListener('focusin', event => tell(event.target.closest('.tk')));
    panel.addEventListener('focusout', () => tell(null));
    panel.addEventListener('keydown', event => {
      const span = event.target.closest && event.target.closest('.tk');
      if (!span) return;
      if (event.key === 'Escape') return tell(null);
      const rtl = getComputedStyle(span.parentNode).direction === 'rtl', by = { ArrowRight: rtl ? -1 : 1, ArrowLeft: rtl ? 1 : -1 }[event.key];
      const all = [...span.parentNode.querySelectorAll('.tk')];
      const next = event.key === 'Home' ? all[0] : event.key === 'End' ? all[all.length - 1] : by && all[all.indexOf(span) + by];
      if (!next) return;
      event.preventDefault();
      span.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });

    const words = () => {
      if (!state) return;
      const found = known(), b = L.view.blocks[L.layer].l;
      const legend = h('div', { class: 'rw-scale', role: 'img', 'aria-label': 'Seven colours: from like rejected, below minus 0.8, over between, to like chosen, above 0.8' },
        h('span', { class: 'c-rejected' }, 'like rejected'), h('span', { class: 'rw-swatches' }, SCALE.map((name, i) => h('i', { class: `tk ${name}`, title: i === 3 ? '\u22120.2 to +0.2' : i < 3 ? `below ${NAMES[i + 1]}` : `above ${NAMES[i]}` }))), h('span', { class: 'c-chosen' }, 'like chosen'));
      state.replaceChildren(...(L.plain ? [h('p', { class: 'xs q' }, 'Each token\u2019s place on the preference direction, if you switch it on.')]
        : found && found.error ? [h('p', { class: 'xs s', role: 'alert' }, found.error)]
        : found ? [legend, h('p', { class: 'xs q' }, `Place on block ${b}\u2019s preference direction, fitted on all pairs; \u22121 and +1 are the sides\u2019 means.`)]
        : !unasked() && asked !== L.pair.id ? [askFor(), h('p', { class: 'xs q' }, 'The model is loaded for it, which takes a moment.')]
        : [h('p', { class: 'xs q rw-readnow', role: 'status' }, h('i', { class: 'dot live' }), 'Reading this pair')]));
    };
    const numbers = () => {
      const at = L.pair && L.pair.kind === 'pair' && (L.pair.axis || [])[L.layer];
      for (const [i, side] of ['chosen', 'rejected'].entries()) if (places[side]) places[side].textContent = at ? `${L.signed(at[i])} on the axis` : '';
    };

    // -- the three things the panel can show ---------------------------------------------------------------------------
    const nothing = p => [h('header', {}, h('h2', {}, 'Pairs')),
      h('div', { class: 'rw-said', role: 'status' }, p && p.note && h('p', { class: 'sm s' }, p.note), p && p.undo && undo()), hint()];

    const several = p => [
      h('header', {}, h('h2', {}, `${p.count} ${p.count === 1 ? 'pair' : 'pairs'} in the lasso`),
        h('div', { class: 'acts' }, L.button('Clear', 'ghost sm', () => { L.scatter && L.scatter.clear(); L.send({ action: 'clear' }); }),
          L.button(`Drop ${p.count}`, 'ghost sm', () => L.send({ action: 'drop', ids: p.ids }), { id: 'rw-pair-drop' }))),
      h('ul', { class: 'rw-picked', tabindex: 0, 'aria-label': 'Pairs in the lasso' }, p.items.map(item => h('li', {},
        h('button', { type: 'button', class: 'lk', onclick: () => L.send({ action: 'open', id: item.id }) }, `Pair ${item.id}`), h('span', { class: 'clip s', dir: 'auto' }, item.prompt)))),
      p.count > p.items.length && h('p', { class: 'xs q', style: 'margin-top:8px' }, `and ${p.count - p.items.length} more`), hint()];

    const one = p => {
      const side = kind => {
        texts[kind] = h('div', { class: 'rw-read', dir: 'auto', tabindex: p[kind].length > 400 ? 0 : null });
        places[kind] = h('span', {});
        return h('div', { class: `tx ${kind}`, 'data-side': kind }, h('div', { class: 'h' }, h('b', {}, kind === 'chosen' ? 'Chosen' : 'Rejected'), places[kind]), texts[kind]);
      };
      const tick = h('input', { type: 'checkbox', class: 'tick', id: 'rw-pair-colours', checked: !L.plain, onchange: () => { L.plain = !tick.checked; refill(); L.keep(); } });
      state = h('div', { class: 'rw-tokstate' });
      return [h('header', {}, h('h2', {}, `Pair ${p.id}`), h('div', { class: 'acts' },
        p.dropped ? h('span', { class: 'tag' }, 'dropped') : [
          L.button('Open in step 1', 'ghost sm', () => L.leave(p.id), { id: 'rw-pair-edit-there', title: 'Open this pair in step 1 to edit it' }),
          L.button('Drop', 'ghost sm', () => L.send({ action: 'drop', ids: [p.id] }), { id: 'rw-pair-drop', title: 'Leave this pair out' })])),
        h('p', { class: 's rw-prompt', dir: 'auto', tabindex: p.prompt.length > 300 ? 0 : null }, p.prompt), side('chosen'), side('rejected'),
        h('label', { class: 'xs s rw-tickrow' }, tick, ' Colour tokens by preference'), state, hint()];
    };
    const refill = () => { fill('chosen'); fill('rejected'); colour(); words(); ask(); };

    const api = {
      draw: () => {
        const p = L.pair, focused = panel.contains(document.activeElement) && (document.activeElement.getAttribute('aria-label') || document.activeElement.id);
        state = null;
        places = {};
        tip.hidden = true;
        if (p && p.kind === 'pair' && p.run !== L.view.run) return;
        if (L.tokens && L.tokens.run === L.view.run && !L.tokens.error) kept.set(L.tokens.id, L.tokens);
        if (p && kept.get(p.id) && kept.get(p.id).error) kept.delete(p.id); // opening a pair again tries again
        const parts = !p || p.kind === 'none' ? nothing(p) : p.kind === 'list' ? several(p) : one(p);
        panel.replaceChildren(...parts.filter(Boolean), tip);
        if (p && p.kind === 'pair') { asked = null; numbers(); refill(); }
        // Buttons are made anew: the one that was pressed keeps the focus.
        const again = focused && [...panel.querySelectorAll('button, input')].find(b => (b.getAttribute('aria-label') || b.id) === focused);
        if (again) again.focus({ preventScroll: true });
      },
      show: () => { if (L.pair && L.pair.kind === 'pair' && state) { numbers(); colour(); words(); } },
      tokens: () => {
        if (!L.tokens || L.tokens.run !== L.view.run) return;
        kept.set(L.tokens.id, L.tokens);
        if (L.pair && L.pair.kind === 'pair' && L.pair.id === L.tokens.id && state) refill(); // else another pair was opened meanwhile
      },
    };
    return api;
  };
})();
