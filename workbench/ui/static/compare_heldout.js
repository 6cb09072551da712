/* Step 4, the lower half: runs on held-out pairs, and other methods on the same pairs. */
(() => {
  const kit = () => rw.kit;

  const rate = (row, mid) => {
    const { el } = kit();
    if (!row.rate) return el('span', { class: 'q' }, row.versus || '');
    const [value, low, high] = row.rate;
    const spread = typeof low === 'number' && typeof high === 'number';
    return el('div', { class: 'wh c-' + (row.tag ? 'ink' : row.kind), style: `--mid:${100 * mid}%`, role: 'img', 'aria-label': spread ? `${value.toFixed(2)}, ${low.toFixed(2)} to ${high.toFixed(2)}` : value.toFixed(2) },
      spread && el('u', { style: `left:${100 * low}%;width:${100 * (high - low)}%` }), el('i', { style: `left:${100 * value}%` }));
  };
  const cell = (value) => {
    const { el } = kit();
    return Array.isArray(value) ? el('span', null, el('b', null, value[0]), value[1] && [' ', el('span', { class: 'q nw' }, value[1])]) : value || null;
  };
  const bar = (one) => {
    const { el } = kit();
    return one && el('div', { class: 'meter', role: 'progressbar', 'aria-label': one.text, 'aria-valuenow': Math.round(one.share || 0), 'aria-valuemin': 0, 'aria-valuemax': 100 },
      el('div', { class: 'bar' }, el('i', { style: `--p:${one.share || 0}%` })), el('p', { class: 'xs q' }, one.text));
  };
  const wrong = (text) => text && kit().el('p', { class: 'sm wrongline', role: 'alert' }, kit().icon('alert'), text);

  /* -- files, made here from what is shown -- */
  const plain = (value) => {
    if (value === null || value === undefined) return '';
    if (typeof value === 'number') return String(value);
    const text = /^\s*[=+\-@\t\r]/.test(value) ? `'${value}` : String(value); // a spreadsheet would take it for a formula
    return /[",\n\r;]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
  };
  const save = (name, type, text) => {
    const link = kit().el('a', { href: URL.createObjectURL(new Blob([text], { type })), download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 4000);
  };
  const files = {
    csv: (rows) => {
      const head = [...new Set(rows.flatMap((row) => Object.keys(row)))];
      save('held-out.csv', 'text/csv;charset=utf-8', [head, ...rows.map((row) => head.map((key) => row[key]))].map((row) => row.map(plain).join(',')).join('\r\n') + '\r\n');
    },
    json: (rows) => save('held-out.json', 'application/json', JSON.stringify(rows, null, 2) + '\n'),
  };

  const name = (row) => {
    const { el } = kit();
    return [el('span', { class: 'key c-' + (row.tag ? 'ink' : row.kind) }), el('span', { class: row.mine ? 'b' : null }, row.name),
      row.mine && [' ', el('span', { class: 'tag' }, 'this run')], row.tag && [' ', el('span', { class: 'tag' }, row.tag)],
      row.own && [' ', el('span', { class: 'tag', title: 'Measured when the run ended, on its own held-out pairs' }, 'own numbers')],
      row.votes && el('span', { class: 'q' }, row.votes)];
  };
  const pick = (row, local) => {
    const { el } = kit();
    if (!row.run) return null;
    const ticked = (local.picked || []).includes(row.run);
    return el('input', { type: 'checkbox', class: 'tick', 'data-pick': row.run, checked: ticked, disabled: row.off, 'aria-label': `Evaluate ${row.name}`,
      title: row.off ? 'Of another base model: evaluated beside runs of its own' : null });
  };

  const asked = (data, local) => { // which judge, and what it has to be told
    const { el } = kit();
    const now = data.judges.find((one) => one.value === local.judge) || data.judges[0];
    const field = (label, key, wide) => el('label', { class: 'fieldlet' + (wide ? ' wide' : '') }, el('span', { class: 'xs q' }, label),
      el('input', { type: 'text', class: 'in sm', 'data-field': key, value: local[key] || '', maxlength: 500, spellcheck: 'false' }));
    return el('div', { class: 'judging' },
      el('label', { class: 'fieldlet' }, el('span', { class: 'xs q' }, 'Judge'),
        el('select', { class: 'in sm', 'data-field': 'judge' }, data.judges.map((one) => el('option', { value: one.value, selected: one === now }, one.label)))),
      now.asks && field(now.asks, 'where', true),
      ['endpoint', 'fixed'].includes(now.value) && field('Price of a million tokens, in and out', 'price'));
  };

  const remember = (data, local) => { // once per value from the server; what is typed meanwhile stays
    const told = JSON.stringify([data.kept, data.rows.filter((row) => row.picked).map((row) => row.run)]);
    if (local.told === told) return;
    local.told = told;
    const offered = data.judges.some((one) => one.value === data.kept.judge);
    Object.assign(local, { judge: offered ? data.kept.judge : data.judges[0]?.value, where: data.kept.where, price: data.kept.price });
    local.picked = data.rows.filter((row) => row.picked).map((row) => row.run);
  };

  rw.kit.show('compare-heldout', (data, local) => {
    const { el, words, button, figure } = kit();
    remember(data, local);
    local.data = data;
    const head = [el('th', { class: 'rpick' }, el('span', { class: 'sr' }, 'Evaluate')), el('th', null, 'Model'),
      el('th', { class: 'hide-sm' }, el('span', { class: 'ends' }, el('span', null, '0'), el('span', null, data.measure), el('span', null, '1'))),
      el('th', null, `${data.measure_title}, 95% interval`), data.apart && el('th', { class: 'num' }, data.apart),
      data.columns.map((title) => el('th', { class: 'num' }, title))];
    const body = data.rows.map((row) => el('tr', { class: row.mine ? 'sel' : null, 'data-key': row.run || 'base' },
      el('td', { class: 'rpick' }, pick(row, local)), el('td', { class: 'who' }, name(row)),
      el('td', { class: 'hide-sm ratecell' }, rate(row, data.mid)), el('td', { class: 'nw', 'data-l': data.measure }, cell(row.first) || (row.versus && el('span', { class: 'q only-sm' }, row.versus))),
      data.apart && el('td', { class: 'num nw', 'data-l': 'less this' }, cell(row.apart)),
      row.cells.map((value, i) => el('td', { class: 'num nw', 'data-l': data.columns[i] }, cell(value)))));
    const busy = Boolean(data.bar);
    const count = (local.picked || []).length;
    const label = busy ? data.act.label : count > 1 ? `Evaluate ${count} runs` : 'Evaluate on held-out pairs';
    return el('section', { class: 'panel', 'aria-label': 'Held-out pairs' },
      el('header', null, el('div', null, el('h2', null, data.title), el('p', null, words(data.sub))),
        el('div', { class: 'acts' }, data.file.length > 0 && ['csv', 'json'].map((kind) => el('button', { type: 'button', class: 'btn sm ghost', 'data-file': kind }, kit().icon('down'), kind.toUpperCase())))),
      el('div', { class: 'judgerow' }, asked(data, local), el('button', { type: 'button', class: 'btn sm', 'data-go': data.act.act, disabled: !busy && !count }, label)),
      bar(data.bar), wrong(data.wrong),
      el('div', { class: 'tablewrap cardrows', id: 'rw-heldout' }, el('table', null, el('thead', null, el('tr', null, head)), el('tbody', null, body))),
      el('div', { class: 'heldbelow' + (data.plot && data.judge ? ' two' : '') }, data.plot && el('div', { class: 'frontier' }, figure(data.plot)),
        data.judge && el('div', { class: 'heldnotes' },
          el('div', null, el('h3', null, `Judged by ${data.judge.name || 'nobody'}`), el('p', { class: 'sm q' }, data.judge.about), data.judge.use && el('p', { class: 'sm q' }, data.judge.use)),
          data.capability.length > 0 && el('div', null, el('h3', null, 'Was anything lost?'), data.text && el('p', { class: 'sm q' }, `Text: ${data.text}.`),
            data.capability.map((one) => el('p', { class: 'sm' }, data.capability.length > 1 && el('b', null, `${one.name}: `), one.text))))),
      data.more.length > 0 && el('details', { class: 'more', id: 'rw-heldout-more' }, el('summary', null, 'All figures', el('small', null, 'Length-controlled win rate, form, margin, facts, fluency, held-out text.')),
        el('div', { class: 'tablewrap cardrows' }, el('table', null,
          el('thead', null, el('tr', null, el('th', null, 'Model'), data.more.map((title) => el('th', { class: 'num' }, title)))),
          el('tbody', null, data.rows.filter((row) => row.rest.some((value) => value)).map((row) => el('tr', { 'data-key': row.run || 'base' }, el('td', { class: 'who' }, name({ ...row, mine: false, own: false, votes: '' })),
            row.rest.map((value, i) => el('td', { class: 'num nw', 'data-l': data.more[i] }, cell(value))))))))));
  }, ({ host, redraw, local, send }) => {
    const chosen = () => ({ picked: local.picked || [], judge: local.judge, where: local.where || '', price: local.price || '' });
    host.addEventListener('change', (event) => {
      const { pick: run, field } = event.target.dataset;
      if (run) local.picked = event.target.checked ? [...(local.picked || []), run] : (local.picked || []).filter((one) => one !== run);
      else if (field) local[field] = event.target.value;
      else return;
      redraw();
      send({ action: 'pick', ...chosen() });
    });
    host.addEventListener('click', (event) => {
      const file = event.target.closest('[data-file]'), go = event.target.closest('[data-go]');
      if (file && local.data) files[file.dataset.file](local.data.file);
      if (go && !go.disabled) send({ action: go.dataset.go, ...chosen() });
    });
  });

  rw.kit.show('compare-baselines', (data, local) => {
    const { el, button, figure } = kit();
    const study = data.study;
    local.methods = local.methods || study.methods.map((one) => one.value);
    local.seeds = local.seeds || 3;
    return el('section', { class: 'panel', id: 'rw-baselines' },
      el('header', null, el('div', null, el('h2', null, 'Is it worth it? The same pairs and budget, other methods'),
        el('p', null, 'Each trains on what this run was trained on, with as many steps and answers, and joins the table above.'))),
      el('div', { class: 'methods' }, data.methods.map((one) => el('div', { class: 'method' },
        button(one.label, 'baseline', { small: true, off: Boolean(one.off), data: { method: one.value }, title: one.off || null }),
        el('span', { class: 'xs q' }, one.off || one.about)))),
      data.runs.map((one) => el('div', { class: 'baserun', 'data-key': one.run }, el('div', { class: 'grow' }, el('b', { class: 'sm' }, one.name),
        one.share === null ? el('p', { class: 'xs q' }, one.text) : bar(one)), button(one.act.label, one.act.act, { small: true, data: { run: one.run } }))),
      el('details', { class: 'more', id: 'rw-study', open: study.busy || study.finding.length > 0 },
        el('summary', null, 'A study', el('small', null, 'Every method, several seeds, judged together; it takes as long as all these runs one after another.')),
        el('div', { class: 'studyrow' }, el('div', { class: 'ticks', role: 'group', 'aria-label': 'Methods of the study' }, study.methods.map((one) => el('label', { class: 's sm tickrow' },
          el('input', { type: 'checkbox', class: 'tick', 'data-method-tick': one.value, checked: local.methods.includes(one.value) }), ' ', one.label))),
        el('label', { class: 's sm tickrow' }, 'Seeds ', el('input', { type: 'number', class: 'in sm seeds', 'data-field': 'seeds', min: 1, max: study.most, value: local.seeds })),
        study.busy ? button('Stop', 'stop-run', { small: true, data: { run: study.run } })
          : study.wrong ? button('Go on', 'go-on', { small: true, data: { run: study.run } }) : null,
        !study.busy && el('button', { type: 'button', class: 'btn sm', 'data-study': '1', disabled: local.methods.length < 2 }, 'Run the study')),
        bar(study.bar), wrong(study.wrong),
        study.finding.length > 0 && el('div', { class: 'found' }, el('h3', null, study.finding[0]), study.finding.slice(1).map((text) => el('p', { class: 'sm' }, text)), study.setting && el('p', { class: 'xs q' }, study.setting)),
        study.plot && el('div', { class: 'frontier' }, figure(study.plot))));
  }, ({ host, redraw, local, send }) => {
    host.addEventListener('change', (event) => {
      const { methodTick, field } = event.target.dataset;
      if (methodTick) local.methods = event.target.checked ? [...local.methods, methodTick] : local.methods.filter((one) => one !== methodTick);
      else if (field) local.seeds = Number(event.target.value) || 3;
      else return;
      redraw();
    });
    host.addEventListener('click', (event) => {
      if (event.target.closest('[data-study]')) send({ action: 'study', methods: local.methods, seeds: local.seeds });
    });
  });
})();
