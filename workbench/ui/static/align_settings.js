/* Step 3: the settings of a run, as JSON from align_form.py; edits go back as events. Save and load press Gradio's own
   buttons, which stand hidden beside this view. */
(() => {
  const kit = () => rw.kit;

  const ZONES = [['', 0.1], ['ok', 0.3], ['', 0.1], ['ri', 0.5], ['no', 0.25]];
  const END = 1.25; // relative strength at the right end of the gauge

  const gauge = (strength) => {
    const { el } = kit();
    const at = (value) => (100 * Math.min(value, END)) / END;
    const mean = strength.mean;
    const place = mean === null ? 0 : at(mean);
    const known = mean === null ? 'not measured yet' : mean.toFixed(2);
    return el('div', { class: 'gauge', role: 'img', 'aria-label': 'Relative strength ' + known },
      mean === null ? el('span', { class: 'mv none' }, known)
        : el('span', { class: 'mv' + (place > 80 ? ' end' : place < 8 ? ' start' : ''), style: `left:${place}%` }, known),
      el('div', { class: 'bar' }, ZONES.map(([kind, width]) => el('i', { class: kind, style: `flex:${width}` }))),
      mean !== null && el('span', { class: 'mk', style: `left:${place}%` }),
      [0, 0.1, 0.4, 0.5, 1].map((value) => el('span', { class: 'zl' + (value ? ' mid' : ''), style: `left:${at(value)}%` }, String(value))),
      el('span', { class: 'zl mid two ink', style: `left:${at(0.25)}%` }, 'works'),
      el('span', { class: 'zl mid two', style: `left:${at(0.75)}%` }, 'begins to collapse'),
      el('span', { class: 'zl two', style: 'right:0' }, 'collapses'));
  };

  const problem = (name, text) => {
    const { el, icon } = kit();
    return text && el('p', { class: 'fielderr', id: `rw-bad-${name}` }, icon('alert', 14), el('span', null, text));
  };

  const control = (field, error, locked) => {
    const { el } = kit();
    const common = { id: `rw-set-${field.name}`, 'data-field': field.name, disabled: locked || field.idle, class: 'in' + (error ? ' bad' : ''),
      'aria-invalid': error ? 'true' : null, 'aria-describedby': error ? `rw-bad-${field.name}` : `rw-about-${field.name}` };
    if (field.kind === 'choice')
      return el('select', common, field.options.map((one) => el('option', { value: one.value, selected: one.value === field.value }, one.label)));
    if (field.kind === 'check')
      return el('input', { ...common, class: 'tick', type: 'checkbox', checked: field.value === true });
    if (field.kind === 'long') {
      return el('textarea', { ...common, rows: 4 }, field.value ?? '');
    }
    return el('input', { ...common, type: 'text', inputmode: field.kind === 'number' ? 'decimal' : null, autocomplete: 'off', spellcheck: 'false',
      value: field.value ?? '', placeholder: field.placeholder });
  };

  /* What differs from the preset or the default says so, and can go back. */
  const mark = (name, label, back) => {
    const { el } = kit();
    return el('span', { class: 'chg' }, el('b', null, 'changed'),
      back && el('button', { type: 'button', class: 'lk thin', 'data-act': 'reset', 'data-name': name, 'aria-label': `Back to ${back}: ${label}` }, `Back to ${back}`));
  };

  const LAYOUT = { check: ' row1', number: ' row2' };

  const setting = (field, data) => {
    const { el } = kit();
    const error = data.errors[field.name];
    return el('div', { class: 'field' + (LAYOUT[field.kind] || '') + (field.idle ? ' idle' : ''), 'data-key': field.name },
      el('div', { class: 'lab' }, el('label', { for: `rw-set-${field.name}` }, field.label), field.changed && mark(field.name, field.label, field.back)),
      control(field, error, data.locked),
      error ? problem(field.name, error) : field.help && el('p', { class: 'info', id: `rw-about-${field.name}` }, field.help));
  };

  /* One number by slider or by key. */
  const slider = (name, label, most, step, value, error, off) => {
    const { el } = kit();
    const number = Number(value);
    const at = value !== '' && Number.isFinite(number) ? Math.min(most, Math.max(0, number)) : 0;
    return el('div', { class: 'slide' + (off ? ' auto' : '') },
      el('input', { type: 'range', id: `rw-set-${name}`, min: 0, max: most, step, value: at, disabled: off, 'data-field': name,
        'aria-label': label, style: `--f:${(at / most) * 100}%` }),
      el('input', { class: 'in' + (error ? ' bad' : ''), value, 'aria-label': `${label}, value`, 'data-field': name, disabled: off,
        inputmode: 'decimal', autocomplete: 'off', 'aria-invalid': error ? 'true' : null, 'aria-describedby': error ? `rw-bad-${name}` : null }));
  };

  const strengthPart = (data) => {
    const { el } = kit();
    const part = data.strength_part, locked = data.locked;
    const way = part.ways.find((one) => one.value === part.way);
    const alpha = locked ? (data.alpha_found ?? part.alpha) : part.alpha;
    return el('div', { class: 'field', 'data-key': 'strength' },
      el('div', { class: 'lab', id: 'rw-strength' }, 'Strength', part.changed && !locked && mark('strength', 'Strength', 'default')),
      locked ? el('p', { class: 'sm s way' }, way.label.replace(' (default)', '')) : el('div', { class: 'ways', role: 'radiogroup', 'aria-labelledby': 'rw-strength' },
        part.ways.map((one) => el('label', null,
          el('input', { type: 'radio', name: 'rw-strength', 'data-field': 'strength', value: one.value, checked: one.value === part.way }), el('span', null, one.label)))),
      !locked && el('p', { class: 'info' }, part.info),
      part.way === 'relative' && el('div', { class: 'one', 'data-key': 'aim' },
        slider('relative_strength', 'Relative strength', 1.25, 0.01, part.relative_strength, data.errors.relative_strength, locked), problem('relative_strength', data.errors.relative_strength)),
      (locked ? alpha !== '' : part.way === 'alpha') && el('div', { class: 'one', 'data-key': 'alpha' }, locked && el('p', { class: 'sm s' }, part.way === 'alpha' ? 'Alpha' : 'Alpha, found in stage 2'),
        slider('alpha', 'Strength, alpha', 3, 0.05, alpha, data.errors.alpha, locked), problem('alpha', data.errors.alpha)),
      data.calibration && el('div', { class: 'note chosen1', 'data-key': 'calibrated' }, kit().icon('check', 18),
        el('div', null, el('b', null, data.calibration.title), el('p', null, data.calibration.reason), el('p', { class: 'xs q' }, data.calibration.text))),
      el('div', { class: 'sm rel', 'data-key': 'rel' }, el('span', { class: 'b' }, 'Relative strength'), ' ', el('span', { class: 'q' }, '\u2016\u03b1v\u2016 / \u2016h\u2016, mean')),
      gauge(data.strength), el('p', { class: 'xs q gap' }, data.strength.text));
  };

  const rows = (list) => {
    const { el } = kit();
    return list && list.length > 0 && el('dl', { class: 'kv' }, list.map((row) => [el('dt', null, row[0]), el('dd', { class: row[2] ? 'b' : null }, row[1])]));
  };

  const SAYS = { stop: 'Stop. ', warn: 'Careful. ', note: '' };

  /* Before the start: what stands in the way, and what it will cost. */
  const before = (check) => {
    const { el, icon } = kit();
    return el('div', { class: 'before', id: 'rw-outlook', 'data-key': 'before' },
      el('div', { class: 'between' }, el('h3', null, 'Before the start'),
        el('span', { class: 'xs q', role: 'status' }, check.working ? 'looking at these settings \u2026' : '')),
      el('div', { class: check.working ? 'old' : null },
        check.problems.length > 0 && el('ul', null, check.problems.map((one) => el('li', { class: one.severity, 'data-severity': one.severity },
          icon(one.severity === 'note' ? 'check' : 'alert', 14),
          el('span', null, SAYS[one.severity] && el('b', null, SAYS[one.severity]), one.text, ' ',
            one.field && el('button', { type: 'button', class: 'lk thin', 'data-goto': one.field }, one.label))))),
        rows(check.rows), check.basis && el('p', { class: 'xs q' }, check.basis)));
  };

  const pressed = (id, mark, label) => {
    const { el, icon } = kit();
    return el('button', { type: 'button', class: 'btn ghost sm', 'data-press': id, 'aria-label': label }, icon(mark, 14), label.split(' ')[0]);
  };

  const presetPart = (data) => {
    const { el } = kit();
    const end = data.preset_help.indexOf('. ', 60) + 1; // what it is for; the rest is one click away
    return el('div', { class: 'field', 'data-key': 'preset' },
      el('div', { class: 'lab' }, el('label', { for: 'rw-set-preset' }, 'Preset'), data.changed > 0 && el('span', { class: 'chg' }, el('b', null, `${data.changed} changed`),
        el('button', { type: 'button', class: 'lk thin', 'data-act': 'reset', 'data-name': '' }, `Back to the preset`))),
      el('select', { class: 'in', id: 'rw-set-preset', 'data-field': 'preset', 'aria-describedby': 'rw-about-preset' }, data.presets.map((one) =>
        el('option', { value: one.value, selected: one.value === data.preset }, one.label))),
      el('p', { class: 'info', id: 'rw-about-preset' }, end > 0 ? data.preset_help.slice(0, end) : data.preset_help),
      end > 0 && el('details', { class: 'rest', 'data-key': data.preset }, el('summary', null, 'More about this preset'), el('p', { class: 'info' }, data.preset_help.slice(end))),
      el('div', { class: 'files' }, pressed('rw-load-settings', 'up', 'Load settings'), pressed('rw-save-settings', 'down', 'Save settings'),
        data.undo && el('button', { type: 'button', class: 'lk thin undo', 'data-act': 'undo', 'data-id': data.undo.id }, data.undo.label)));
  };

  const blocksPart = (data) => {
    const { el, button } = kit();
    const many = data.layers.length > 12;
    return el('div', { class: 'field', 'data-key': 'layers' }, el('div', { class: 'lab' }, 'Blocks'),
      el('div', { class: 'tags' }, data.layers.length ? (many ? [`${data.layers[0]} \u2026 ${data.layers[data.layers.length - 1]} (${data.layers.length})`] : data.layers).map((block) => el('span', { class: 'tag' }, String(block)))
        : el('span', { class: 'sm q' }, data.layers_text),
        el('button', { type: 'button', class: 'lk end', id: 'rw-set-layers', 'data-act': 'open:layers' }, 'Change in step 2')),
      problem('layers', data.errors.layers), data.layers_mend && button(data.layers_mend.label, 'layers-auto', { small: true }));
  };

  /* What was typed and not answered yet stays as typed, whatever an answer to something earlier says; presses wait for it. */
  const WAIT = 15000; // milliseconds after which the server's word counts
  const settle = (data, local) => {
    const waiting = local.waiting || {};
    for (const [name, { n, value, at }] of Object.entries(waiting)) {
      if ((data.answered && n <= data.answered) || data.locked || performance.now() - at > WAIT) { delete waiting[name]; continue; }
      if (name === 'method' || name === 'preset') data[name] = value;
      else if (name === 'strength') data.strength_part.way = value;
      else if (name in data.strength_part) data.strength_part[name] = value;
      else for (const field of [...data.main, ...data.groups.flatMap((group) => group.fields)]) if (field.name === name) field.value = value;
    }
    if (local.held?.length && !Object.keys(waiting).length) local.held.splice(0).forEach((go) => setTimeout(go));
    return data;
  };

  rw.kit.show('align-settings', (raw, local) => {
    const { el, button, icon } = kit();
    const data = settle(structuredClone(raw), local);
    const method = el('div', { class: 'field', 'data-key': 'method' },
      el('div', { class: 'lab' }, 'Method', data.method_changed && mark('method', 'Method', 'default')),
      el('div', { class: 'seg', role: 'radiogroup', 'aria-label': 'Method' }, [['scit', 'SCIT'], ['dual', 'Dual']].map(([value, label]) => el('label', null,
        el('input', { type: 'radio', name: 'rw-method', 'data-field': 'method', value, checked: value === data.method, disabled: data.locked }), el('span', null, label)))),
      el('p', { class: 'info' }, 'SCIT: one model that learns both instructions. Dual: two adapters, one per side, on one base.'));
    return el('section', { class: 'panel', id: 'rw-settings' },
      el('header', null, el('div', null, el('h2', null, data.heading), el('p', null, data.sub)),
        el('div', { class: 'heads' }, data.locked && data.files && pressed('rw-save-settings', 'down', 'Save settings'), data.copy && button('Copy to new', 'copy', { small: true }))),
      data.note && el('div', { class: 'note said', role: 'status', 'data-key': 'note' }, icon('page', 16), el('div', null, el('p', null, data.note),
        el('button', { type: 'button', class: 'lk thin', 'data-act': 'understood' }, 'Understood'))),
      el('div', { class: data.locked ? 'locked' : null, 'data-key': 'all' },
        el('div', { class: 'fields' },
          data.presets && data.presets.length > 0 && !data.locked && presetPart(data),
          method, strengthPart(data), blocksPart(data), data.main.map((field) => setting(field, data))),
        el('details', { class: 'more', open: data.groups.some((group) => group.fields.some((field) => data.errors[field.name])) }, el('summary', null, 'More settings ', el('small', null, data.summary)),
          data.errors[''] && problem('', data.errors['']),
          data.groups.map((group) => {
            const wrong = group.fields.some((field) => data.errors[field.name]);
            return el('details', { class: 'group', 'data-key': group.title, open: wrong },
              el('summary', null, el('span', null, group.title), wrong ? el('span', { class: 'chg bad' }, icon('alert', 12), el('b', null, 'needs a look'))
                : group.changed > 0 && el('span', { class: 'chg' }, el('b', null, `${group.changed} changed`)), el('small', null, group.about)),
              el('div', { class: 'two', role: 'group', 'aria-label': group.title }, group.fields.map((field) => setting(field, data))));
          }))),
      data.start && before(data.check),
      data.start && el('div', { class: 'startrow', 'data-key': 'start' },
        button(data.start.label, 'start', { primary: !data.start.quiet, off: !data.start.on, name: data.start.label }),
        data.mend && button(data.mend.label, 'mend', {}),
        el('p', { class: data.start.on ? 'xs q' : 'sm s', id: 'rw-why' }, data.start.text, data.start.field && [' ', el('button', { type: 'button', class: 'lk thin', 'data-goto': data.start.field }, 'Show it')])),
      data.facts && data.facts.length > 0 && [el('hr', { class: 'hr' }), rows(data.facts)]);
  }, ({ host, send, local, redraw }) => {
    let later = null, sent = 0;
    for (const id of ['rw-save-settings', 'rw-load-settings']) { // pressed from here: not once more for readers and the tab key
      const other = document.getElementById(id);
      for (const node of [other, ...(other ? other.querySelectorAll('button') : [])]) { node?.setAttribute('aria-hidden', 'true'); node?.setAttribute('tabindex', '-1'); }
    }
    local.waiting = {}; // what was typed, by field, until the server has answered it
    local.held = []; // presses since then: a start is a start with what was typed last
    local.hold = (go) => { if (Object.keys(local.waiting).length) local.held.push(go); else go(); };
    const note = (target) => {
      const value = target.type === 'checkbox' ? target.checked : target.value;
      const one = local.waiting[target.dataset.field] = { n: ++sent, value, at: performance.now() };
      setTimeout(() => { if (local.waiting[target.dataset.field] === one) redraw(); }, WAIT + 100); // refused, or never answered
      return one;
    };
    const say = (target) => {
      clearTimeout(later);
      const { n, value } = note(target);
      send({ action: 'set', name: target.dataset.field, value, n });
    };
    host.addEventListener('input', (event) => {
      const target = event.target;
      if (!target.dataset.field) return;
      if (target.type === 'range') {
        target.style.setProperty('--f', `${((target.value - target.min) / (target.max - target.min)) * 100}%`);
        const box = target.parentElement.querySelector('.in');
        if (box) box.value = target.value;
      }
      if (target.nodeName === 'SELECT' || target.type === 'checkbox' || target.type === 'radio') return; // `change` says it
      clearTimeout(later);
      note(target);
      later = setTimeout(() => say(target), 350);
    });
    host.addEventListener('change', (event) => { if (event.target.dataset.field) say(event.target); });

    /** Bring a setting into view and put the cursor into it; what is chosen elsewhere opens there. */
    const go = (name) => {
      if (name === 'pairs') { document.querySelector('#rw-steps [data-step="pairs"]')?.click(); return; }
      if (name === 'model') { document.querySelector('#rw-context [data-item="model"]')?.click(); return; }
      const field = host.querySelector(`#rw-set-${CSS.escape(name)}`) || host.querySelector(`[data-key="${CSS.escape(name)}"] [data-field]`)
        || (['alpha', 'relative_strength'].includes(name) ? host.querySelector('[data-field="strength"]:checked') : host.querySelector(`[data-field="${CSS.escape(name)}"]`));
      if (!field) return;
      for (let fold = field.closest('details'); fold; fold = fold.parentElement.closest('details')) fold.open = true;
      field.scrollIntoView({ block: 'center', behavior: rw.calm() ? 'auto' : 'smooth' });
      field.focus({ preventScroll: true });
    };
    host.addEventListener('click', (event) => {
      const target = event.target.closest('[data-goto], [data-press]');
      if (!target || !host.contains(target)) return;
      if (target.dataset.goto) go(target.dataset.goto);
      else { // Gradio's button, or the one within what carries the name
        const other = document.getElementById(target.dataset.press);
        const press = () => (other?.matches('button') ? other : other?.querySelector('button'))?.click();
        if (target.dataset.press === 'rw-save-settings') local.hold(press);
        else press(); // a file to choose: browsers open that window only for the press itself
      }
    });
  });
})();
