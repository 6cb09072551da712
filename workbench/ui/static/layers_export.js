/* Step 2: the pictures as files: PNG, SVG, a page that works offline, a table. Made in the browser, saved from there. */
(() => {
  const { h } = rw, L = rw.layers, P = L.picture;

  const save = (name, blob) => {
    const link = h('a', { href: URL.createObjectURL(blob), download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 4000);
  };
  const saveText = (name, type, text) => save(name, new Blob([text], { type: `${type};charset=utf-8` }));

  /** A figure as PNG, `scale` pixels for one of its own. */
  const png = (figure, scale = 2) => new Promise((resolve, reject) => {
    const image = new Image(), url = URL.createObjectURL(new Blob([figure.markup], { type: 'image/svg+xml;charset=utf-8' }));
    image.onload = () => {
      const canvas = h('canvas', { width: Math.round(figure.wide * scale), height: Math.round(figure.high * scale) });
      canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height);
      URL.revokeObjectURL(url);
      canvas.toBlob(blob => blob ? resolve(blob) : reject(new Error('the picture is too large for this browser')), 'image/png');
    };
    image.onerror = () => { URL.revokeObjectURL(url); reject(new Error('the picture could not be drawn')); };
    image.src = url;
  });

  // -- table ---------------------------------------------------------------------------------------------------------
  /** One cell: a text that a spreadsheet would take for a formula is given an apostrophe; quoted where needed. */
  const cell = value => {
    if (value === null || value === undefined) return '';
    if (typeof value === 'number') return Number.isFinite(value) ? String(value) : '';
    const text = /^\s*[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return /[",\n\r;]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
  };
  const table = () => {
    const { c, kind } = L.figure.captions(), at = P.places(), extra = !['side', 'score'].includes(P.colour), round = v => +v.toPrecision(6);
    const head = ['pair', 'side', 'block', 'projection', 'x', 'y', ...(c.z ? ['z'] : []), 'held_out_score', ...(extra ? [P.columnName()] : [])], rows = [];
    for (let i = 0; i < 2 * P.n; i++)
      rows.push([P.ids[i % P.n], i < P.n ? 'chosen' : 'rejected', L.view.blocks[L.layer].l, kind, round(c.x[i]), round(c.y[i]), ...(c.z ? [round(c.z[i])] : []), round(at[i]), ...(extra ? [P.cellOf(i)] : [])]);
    return [head, ...rows].map(row => row.map(cell).join(',')).join('\r\n') + '\r\n';
  };

  // -- a page of its own ---------------------------------------------------------------------------------------------
  /* plotly reads some markup in texts: what a user wrote must stay text there too. */
  const plain = text => text.replace(/[&<>]/g, c => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[c]);
  const folded = text => plain(text.length > 240 ? text.slice(0, 239) + '\u2026' : text).split('\n').map(row => row.replace(/(.{56}[^\s&]*)\s/g, '$1<br>')).join('<br>');
  const inScript = value => JSON.stringify(value).replace(/</g, '\\u003c').replace(/\u2028/g, '\\u2028').replace(/\u2029/g, '\\u2029');

  const END = '<' + '/script>'; // this file itself stands in a script element
  /* What runs in the saved page. It is a function of its own, sent as text: it may use nothing but its argument. */
  const viewer = data => {
    const plot = document.getElementById('plot'), slider = document.getElementById('block'), label = document.getElementById('label'), title = document.getElementById('title'), about = document.getElementById('about');
    const n = data.n, solid = data.blocks[0].xyz.length === 3, calm = matchMedia('(prefers-reduced-motion: reduce)').matches, keys = ['x', 'y', 'z'].slice(0, data.blocks[0].xyz.length);
    const places = block => [1, 0, 2].map(part => {
      const out = {};
      keys.forEach((key, k) => {
        const a = block.xyz[k];
        if (part < 2) { out[key] = a.slice(part * n, (part + 1) * n); return; }
        out[key] = [];
        if (data.lines) for (let i = 0; i < n; i++) out[key].push(a[n + i], a[i], null);
      });
      return out;
    });
    const looks = block => {
      const type = solid ? 'scatter3d' : 'scatter', colour = part => block.colours ? block.colours.slice(part * n, (part + 1) * n) : data.sides[part];
      const side = (part, name, symbol, size) => ({ type, mode: 'markers', name, text: data.texts.slice(part * n, (part + 1) * n), hovertemplate: '%{text}<extra></extra>', marker: { symbol, size, color: colour(part), opacity: part ? 0.85 : 0.65, line: { width: part && !solid ? 1.5 : 0 } } });
      return [side(1, 'rejected', 'square-open', solid ? 4 : 7), side(0, 'chosen', 'circle', solid ? 4 : 7), { type, mode: 'lines', name: 'pair lines', hoverinfo: 'skip', line: { color: '#8b8d90', width: 0.75 }, opacity: 0.5 }];
    };
    const axis = name => ({ title: { text: name, font: { size: 12 } }, zerolinecolor: '#c9c8c2', gridcolor: '#eeeeea', showspikes: false });
    const layout = block => {
      const common = { font: { family: 'IBM Plex Sans, Helvetica Neue, Arial, sans-serif', color: '#4a4e55', size: 13 }, paper_bgcolor: '#ffffff', plot_bgcolor: '#ffffff', hovermode: 'closest', uirevision: 'keep', showlegend: false, hoverlabel: { align: 'left', bgcolor: '#ffffff', bordercolor: '#c9c8c2', font: { color: '#17191c' } } };
      return solid ? { ...common, margin: { l: 0, r: 0, t: 0, b: 0 }, scene: { camera: data.camera, aspectmode: 'cube', xaxis: axis(block.names[0]), yaxis: axis(block.names[1]), zaxis: axis(block.names[2]) } }
        : { ...common, margin: { l: 64, r: 20, t: 10, b: 56 }, xaxis: axis(block.names[0]), yaxis: axis(block.names[1]) };
    };
    const show = at => {
      const block = data.blocks[at];
      title.textContent = block.title;
      about.textContent = block.about;
      label.textContent = `Block ${block.l}`;
      return window.Plotly.react(plot, looks(block).map((look, i) => ({ ...look, ...places(block)[i] })), layout(block), { responsive: true, displaylogo: false, modeBarButtons: [solid ? ['toImage', 'orbitRotation', 'pan3d', 'zoom3d', 'resetCameraDefault3d'] : ['toImage', 'zoom2d', 'pan2d', 'resetScale2d']] });
    };
    slider.max = data.blocks.length - 1;
    slider.value = data.at;
    slider.hidden = label.hidden = data.blocks.length < 2;
    slider.addEventListener('input', () => {
      const block = data.blocks[+slider.value];
      if (solid || calm || block.colours) { show(+slider.value); return; }
      window.Plotly.animate(plot, { data: places(block), traces: [0, 1, 2] }, { transition: { duration: 350 }, frame: { duration: 350, redraw: false }, mode: 'immediate' }).then(() => show(+slider.value)).catch(() => {});
    });
    show(data.at);
  };

  /** The camera, far enough for the whole cube with its axes' numbers. */
  const farther = camera => ({ ...camera, center: { x: 0, y: 0, z: -0.05 }, eye: { x: 1.3 * camera.eye.x, y: 1.3 * camera.eye.y, z: 1.3 * camera.eye.z } });

  const page = async () => {
    const root = (window.gradio_config && window.gradio_config.root) || '', response = await fetch(`${root}/gradio_api/file=${document.querySelector('meta[name=rw-plotly]').content}`);
    if (!response.ok) throw new Error('plotly.js could not be read');
    const library = await response.text(), { title, about } = L.figure.captions(), d = L.data, solid = L.scatter.solid(), round = v => +v.toPrecision(4), side = P.colour === 'side', fixed = P.colours(L.layer, true);
    const blocks = L.view.blocks.map((b, layer) => {
      const c = solid ? P.solid(layer) : P.flat(layer), units = P.unit(L.projection, c);
      return { l: b.l, title: `Block ${b.l}: ${c.finding}`, about: about.replace(/^(.*Probe AUC ).*?( on held-out.*)$/, `$1${b.auc.toFixed(2)} [${b.low.toFixed(2)}, ${b.high.toFixed(2)}]$2`),
        names: c.names.map((name, k) => solid ? name : name + (units[k] || '')), xyz: [c.x, c.y, ...(c.z ? [c.z] : [])].map(a => Array.from(a, round)), colours: side ? null : P.perBlock() ? P.colours(layer, true).all : null };
    });
    if (!side && !P.perBlock()) blocks.forEach(block => { block.colours = fixed.all; });
    const texts = [];
    for (let i = 0; i < 2 * P.n; i++) {
      const k = i % P.n, said = P.valueOf(i);
      texts.push(`<b>Pair ${P.ids[k]}, ${i < P.n ? 'chosen' : 'rejected'}</b>${said && !P.perBlock() ? `, ${plain(said)}` : ''}<br><i>${folded(d.prompts[k])}</i><br>${folded((i < P.n ? d.chosen : d.rejected)[k])}`);
    }
    const data = { n: P.n, at: L.layer, lines: Boolean(P.lines), sides: [P.token('chosen', true), P.token('rejected', true)], texts, blocks, camera: solid ? farther(L.scatter.camera()) : null };
    const key = (part, label) => `<span class="${label}"${side ? ` style="color:${data.sides[part]}"` : ''}><i></i>${label}</span>`;
    const clean = L.figure.clean, said = `<p class="k">${key(0, 'chosen')}${key(1, 'rejected')}</p>\n${legendText(fixed.legend)}`;
    return `<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width,initial-scale=1">\n<title>${clean(title)}</title>\n`
      + '<style>body{margin:0 auto;max-width:1100px;padding:20px 24px;font:14px/1.5 "IBM Plex Sans","Helvetica Neue",Arial,sans-serif;color:#17191c;background:#fff}h1{font-size:20px;margin:0}p{margin:2px 0 12px;color:#4a4e55}#plot{height:min(70vh,640px)}.s{display:flex;gap:14px;align-items:center}.s input{flex:1;accent-color:#17191c}.k{display:flex;flex-wrap:wrap;gap:2px 14px;font-size:12px}.k i{display:inline-block;width:9px;height:9px;border-radius:50%;margin-right:5px}.k .chosen,.k .rejected{font-weight:700}.k .chosen i{background:currentColor}.k .rejected i{border:2px solid;border-radius:1px;width:5px;height:5px}.k{margin:8px 0 0}.s{margin-top:14px}.k u{display:inline-block;width:96px;height:8px;border-radius:4px;margin:0 6px}</style>\n'
      + `<h1 id="title">${clean(title)}</h1>\n<p id="about">${clean(about)}</p>\n<div id="plot"></div>\n${said}<div class="s"><label id="label" for="block">Block</label><input id="block" type="range" min="0" step="1"></div>\n`
      + `<script>${library.replace(/<\/script/gi, '<\\/script')}${END}\n<script>(${viewer})(${inScript(data)});${END}\n</html>\n`;
  };
  const legendText = l => {
    const clean = L.figure.clean;
    if (l.kind === 'scale') return `<p class="k"><b>${clean(l.title)}</b><span>${clean(l.low)}<u style="background:linear-gradient(90deg,${l.steps.join(',')})"></u>${clean(l.high)}</span><span>${clean(l.note || '')}</span></p>\n`;
    if (l.kind === 'kinds') return `<p class="k"><b>${clean(P.perBlock() ? P.columnName() : l.title)}</b>${l.items.map(i => `<span><i style="background:${i.colour}"></i>${clean(i.label)}${P.perBlock() ? '' : ` ${i.count}`}</span>`).join('')}</p>\n`;
    return '';
  };

  // -- the menu ------------------------------------------------------------------------------------------------------
  const called = () => `block-${L.view.blocks[L.layer].l}-${L.projection}${L.scatter && L.scatter.solid() ? '-3d' : ''}`;
  const WORK = {
    png: async () => save(`${called()}.png`, await png(L.figure.picture())),
    svg: async () => saveText(`${called()}.svg`, 'image/svg+xml', L.figure.picture().markup),
    html: async () => saveText(`${called()}.html`, 'text/html', await page()),
    csv: async () => saveText(`${called()}.csv`, 'text/csv', table()),
    'grid-png': async () => save(`all-blocks-${L.projection}.png`, await png(L.figure.grid())),
    'grid-svg': async () => saveText(`all-blocks-${L.projection}.svg`, 'image/svg+xml', L.figure.grid().markup),
    'strip-png': async () => save('separability.png', await png(L.figure.strip())),
    'strip-svg': async () => saveText('separability.svg', 'image/svg+xml', L.figure.strip().markup),
  };

  /** The menu that saves pictures, closed. */
  L.exportMenu = () => {
    const trouble = h('p', { class: 'xs', role: 'alert', hidden: true }), summary = h('summary', { class: 'btn ghost sm', id: 'rw-save' }, L.icon('download', 14), 'Save picture');
    const item = (key, label) => h('button', { type: 'button', class: 'btn ghost sm', 'data-save': key, onclick: async event => {
      trouble.hidden = true;
      event.target.disabled = true;
      try {
        if (!P.ready()) throw new Error('the picture is still on its way');
        await WORK[key]();
        menu.open = false;
        summary.focus();
      } catch (error) {
        trouble.textContent = `It could not be saved: ${error.message}.`;
        trouble.hidden = false;
      }
      event.target.disabled = false;
    } }, label);
    const group = (title, ...items) => [h('h3', {}, title), ...items];
    const menu = h('details', { class: 'rw-save', onkeydown: event => { if (event.key === 'Escape') { menu.open = false; summary.focus(); } } }, summary, h('div', { class: 'rw-menu-list' },
      group('This picture', item('png', 'Image (PNG)'), item('svg', 'Drawing (SVG)'), item('html', 'Interactive page (HTML)'), item('csv', 'Table (CSV)')),
      group('All blocks', item('grid-png', 'Image (PNG)'), item('grid-svg', 'Drawing (SVG)')), group('Strip of scores', item('strip-png', 'Image (PNG)'), item('strip-svg', 'Drawing (SVG)')), trouble));
    menu.addEventListener('focusout', event => { if (event.relatedTarget && !menu.contains(event.relatedTarget)) menu.open = false; });
    document.addEventListener('pointerdown', event => { if (menu.open && !menu.contains(event.target)) menu.open = false; });
    return menu;
  };
})();
