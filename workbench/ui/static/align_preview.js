/* Step 3: strengths tried before anything is fitted. All answers are here already; the slider only picks one. */
(() => {
  const kit = () => rw.kit;

  const place = (data, local) => {
    const last = data.rungs.length - 1;
    const wanted = local.at ?? (data.chosen || Math.ceil(last / 2));
    return Math.min(last, Math.max(1, wanted));
  };

  const strength = (rung) => (typeof rung.relative_strength === 'number' ? `moves states by ${rung.relative_strength.toFixed(2)} of their length` : '');
  const share = (value) => `${Math.round(100 * value)}%`;

  const answer = (who, name, note, text, data, below) => {
    const { el } = kit();
    const wait = data.live ? 'Thinking' : 'No answer yet';
    return el('article', { class: 'ans ' + who, 'aria-busy': data.live ? 'true' : null },
      el('div', { class: 'who' }, el('b', null, name), el('span', null, note)),
      el('p', { class: 'say' }, text || el('span', { class: 'q' }, data.texts.length && !data.live ? '(an empty answer)' : wait)),
      el('div', { class: 'ft' }, el('span', null, below)));
  };

  rw.kit.show('align-preview', (data, local) => {
    const { el } = kit();
    if (!data.shown) return [];
    const head = el('header', null, el('div', null, el('h2', null, 'Steering without training'),
      el('p', null, 'What a strength does before it is fitted: the difference between the two sides of stage 1, added while ' + (data.who === 'Base' || !data.who ? 'the base' : 'the instructed model') + ' answers.')));
    if (!data.ready) return el('section', { class: 'panel' }, head, el('p', { class: 'sm q' }, 'Strengths can be tried here once stage 1 of the run is done.'));
    if (local.run !== data.run) { local.run = data.run; local.at = null; local.text = null; }
    const at = place(data, local);
    const rung = data.rungs[at];
    const alpha = String(rung.alpha.toPrecision(2) * 1);
    const drift = typeof rung.drift === 'number' ? `in calibration, ${share(rung.drift)} of answers drifted at this strength` : '';
    const taken = at === data.chosen ? 'the strength of this run' : '';
    const last = data.rungs.length - 1;
    return el('section', { class: 'panel preview' }, head,
      el('form', { class: 'previewask', 'data-ask': '1' },
        el('label', { class: 'sr', for: 'rw-preview-prompt' }, 'Prompt for the preview'),
        el('textarea', { class: 'in', id: 'rw-preview-prompt', rows: 1, maxlength: 2000, placeholder: 'A prompt to try strengths on' }, local.text ?? data.prompt),
        data.live ? el('button', { type: 'button', class: 'btn', 'data-act': 'preview-stop' }, 'Stop')
          : el('button', { type: 'submit', class: 'btn', id: 'rw-preview-ask' }, 'Try strengths')),
      el('div', { class: 'previewslide' },
        el('label', { class: 'b nw', for: 'rw-preview-alpha' }, `Alpha ${alpha}`),
        el('input', { type: 'range', id: 'rw-preview-alpha', min: 1, max: last, step: 1, value: at, style: `--f:${last > 1 ? ((at - 1) / (last - 1)) * 100 : 100}%`,
          'aria-valuetext': [`alpha ${alpha}`, strength(rung)].filter(Boolean).join(', ') }),
        el('span', { class: 'sm q' }, [strength(rung), taken].filter(Boolean).join('; '))),
      el('div', { class: 'duo' },
        answer('base', data.who, 'alpha 0', data.texts[0], data, typeof data.seconds === 'number' ? `${last} strengths answered in ${data.seconds.toFixed(1)} s` : ''),
        answer('aligned', 'Steered', `alpha ${alpha}`, data.texts[at], data, drift)));
  }, ({ host, local, redraw, send }) => {
    const ask = () => {
      const box = host.querySelector('#rw-preview-prompt');
      local.text = null;
      send({ action: 'preview', prompt: box ? box.value : '' });
    };
    host.addEventListener('input', (event) => {
      if (event.target.id === 'rw-preview-alpha') { local.at = Number(event.target.value); redraw(); }
      if (event.target.id === 'rw-preview-prompt') local.text = event.target.value;
    });
    host.addEventListener('submit', (event) => { event.preventDefault(); ask(); });
    host.addEventListener('keydown', (event) => {
      if (event.target.id === 'rw-preview-prompt' && event.key === 'Enter' && !event.shiftKey) { event.preventDefault(); ask(); }
    });
  });
})();
