/* Step 3: the settings of a run, as JSON from align_form.py; edits go back as events. */
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
    const common = { id: `rw-set-${field.name}`, 'data-field': field.name, disabled: locked, class: 'in' + (error ? ' bad' : ''),
      'aria-invalid': error ? 'true' : null, 'aria-describedby': error ? `rw-bad-${field.name}` : null };
    if (field.kind === 'choice')
      return el('select', common, field.options.map((one) => el('option', { value: one.value, selected: one.value === field.value }, one.label)));
    if (field.kind === 'check')
      return el('input', { ...common, class: 'tick', type: 'checkbox', checked: field.value === true });
    if (field.kind === 'long') {
      return el('textarea', { ...common, rows: 3 }, field.value ?? '');
    }
    return el('input', { ...common, type: 'text', inputmode: field.kind === 'number' ? 'decimal' : null, autocomplete: 'off', spellcheck: 'false',
      value: field.value ?? '', placeholder: field.placeholder });
  };

  const setting = (field, data) => {
    const { el } = kit();
    const error = data.errors[field.name];
    return el('div', { class: 'field' + (field.kind === 'check' ? ' row1' : ''), 'data-key': field.name },
      el('div', { class: 'lab' }, el('label', { for: `rw-set-${field.name}` }, field.label)), control(field, error, data.locked),
      error ? problem(field.name, error) : field.help && el('p', { class: 'info' }, field.help));
  };

  const strengthPart = (data) => {
    const { el } = kit();
    const auto = data.alpha === 'auto';
    const shown = auto ? (data.alpha_found ?? 'auto') : data.alpha;
    const number = Number(shown);
    const at = Number.isFinite(number) ? Math.min(3, Math.max(0, number)) : 1;
    const error = data.errors.alpha;
    return el('div', { class: 'field' },
      el('div', { class: 'lab' }, el('label', { for: 'rw-set-alpha' }, 'Strength, alpha'),
        data.locked ? el('span', { class: 'q thin' }, auto ? 'chosen automatically' : 'set by hand')
          : el('button', { type: 'button', class: 'lk thin', 'data-act': 'alpha-mode' }, auto ? 'Set by hand' : 'Choose automatically')),
      el('div', { class: 'slide' + (auto ? ' auto' : '') },
        el('input', { type: 'range', id: 'rw-set-alpha', min: 0, max: 3, step: 0.05, value: at, disabled: data.locked || auto, 'data-field': 'alpha',
          'aria-label': 'Strength, alpha', style: `--f:${(at / 3) * 100}%` }),
        el('input', { class: 'in' + (error ? ' bad' : ''), value: shown, 'aria-label': 'Alpha, value', 'data-field': 'alpha', disabled: data.locked || auto,
          inputmode: 'decimal', autocomplete: 'off', 'aria-invalid': error ? 'true' : null, 'aria-describedby': error ? 'rw-bad-alpha' : null })),
      problem('alpha', error),
      !error && auto && !data.locked && el('p', { class: 'info' }, 'Chosen in stage 2 from the measured strength and from what the answers do.'),
      el('div', { class: 'sm rel' }, el('span', { class: 'b' }, 'Relative strength'), ' ', el('span', { class: 'q' }, '\u2016\u03b1v\u2016 / \u2016h\u2016, mean')),
      gauge(data.strength), el('p', { class: 'xs q gap' }, data.strength.text));
  };

  rw.kit.show('align-settings', (data) => {
    const { el, button } = kit();
    const seg = (name, label, value, options, info) => el('div', { class: 'field' }, el('div', { class: 'lab' }, label),
      el('div', { class: 'seg', role: 'radiogroup', 'aria-label': label }, options.map((one) => el('label', null,
        el('input', { type: 'radio', name: 'rw-' + name, 'data-field': name, value: one.value, checked: one.value === value, disabled: data.locked }), el('span', null, one.label)))),
      el('p', { class: 'info' }, info));
    return el('section', { class: 'panel', id: 'rw-settings' },
      el('header', null, el('div', null, el('h2', null, data.heading), el('p', null, data.sub)),
        data.copy && button('Copy to new', 'copy', { small: true })),
      el('div', { class: data.locked ? 'locked' : null },
        el('div', { class: 'fields' },
          data.presets && data.presets.length > 0 && !data.locked && el('div', { class: 'field' }, el('div', { class: 'lab' }, el('label', { for: 'rw-set-preset' }, 'Preset')),
            el('select', { class: 'in', id: 'rw-set-preset', 'data-field': 'preset' }, data.presets.map((one) =>
              el('option', { value: one.value, selected: one.value === data.preset }, one.label))), el('p', { class: 'info' }, data.preset_help)),
          seg('method', 'Method', data.method, [{ value: 'scit', label: 'SCIT' }, { value: 'dual', label: 'Dual' }],
            'SCIT: one model that learns both instructions. Dual: two adapters, one per side, on one base.'),
          strengthPart(data),
          el('div', { class: 'field' }, el('div', { class: 'lab' }, 'Blocks'),
            el('div', { class: 'tags' }, data.layers.length ? data.layers.map((block) => el('span', { class: 'tag' }, String(block))) : el('span', { class: 'sm q' }, data.layers_text),
              el('button', { type: 'button', class: 'lk end', 'data-act': 'open:layers' }, 'Change in step 2')), problem('layers', data.errors.layers)),
          data.main.map((field) => setting(field, data))),
        el('details', { class: 'more' }, el('summary', null, 'More settings ', el('small', null, data.summary)),
          data.groups.map((group) => el('fieldset', { class: 'group', 'data-key': group.title }, el('legend', null, group.title),
            el('div', { class: 'two' }, group.fields.map((field) => setting(field, data))))))),
      data.start && el('div', { class: 'startrow' },
        button(data.start.label, 'start', { primary: !data.start.quiet, off: !data.start.on, name: data.start.label }),
        data.mend && button(data.mend.label, 'mend', {}),
        el('p', { class: data.start.on ? 'xs q' : 'sm s', id: 'rw-why' }, data.start.text)),
      data.facts && data.facts.length > 0 && [el('hr', { class: 'hr' }), el('dl', { class: 'kv' }, data.facts.map((fact) =>
        [el('dt', null, fact[0]), el('dd', { class: fact[2] ? 'b' : null }, fact[1])]))]);
  }, ({ host, send }) => {
    let later = null;
    const say = (target) => {
      clearTimeout(later);
      const value = target.type === 'checkbox' ? target.checked : target.value;
      send({ action: 'set', name: target.dataset.field, value });
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
      later = setTimeout(() => say(target), 350);
    });
    host.addEventListener('change', (event) => { if (event.target.dataset.field) say(event.target); });
  });
})();
