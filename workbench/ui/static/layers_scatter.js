/* Step 2: the scatter of one block. The coordinates of all blocks arrive once; moving to another block is work of the
   browser alone. Points are plotly traces; words around them are HTML, so that no text of a user meets plotly's markup. */
(() => {
  const { h } = rw, L = rw.layers, P = L.picture;
  const GLIDE = 420, WAIT = 950, NARROW = 520; // milliseconds, and pixels below which a finger scrolls instead of drawing
  let alive = null;

  L.makeScatter = panel => {
    if (alive) alive.end();
    P.begin();
    const block = h('span', { 'data-layer': '' }), finding = h('span', { 'data-finding': '' }), auc = h('span', { 'data-auc': '' }), count = h('span', {});
    const plot = h('div', { class: 'rw-plot' }), tip = h('div', { class: 'rw-tip', hidden: true }), card = h('div', { class: 'rw-umap', role: 'status', hidden: true });
    const xName = h('span', { class: 'lb', style: 'right:0;bottom:2px' }), yName = h('span', { class: 'lb', style: 'left:calc(50% + 8px);top:2px' });
    const canvas = h('canvas', { class: 'rw-glide', 'aria-hidden': 'true' });
    const keys = [h('span', { class: 'lb b key', style: 'right:4px;top:2px' }, 'chosen'), h('span', { class: 'lb b key rw-key-rejected', style: 'left:4px;top:2px' }, 'rejected')];
    const box = h('div', { class: 'scat', style: '--h:414px', role: 'group' }, plot, canvas, keys, xName, yName, card, tip);
    const last = L.view.blocks.length - 1, names = L.view.blocks.map(b => b.l);
    const slider = h('input', { id: 'rw-layer', type: 'range', min: 0, max: last, step: 1 }), label = h('label', { for: 'rw-layer', class: 'b sm nw' });
    const play = h('button', { type: 'button', class: 'btn ghost sm', id: 'rw-layer-play', title: 'Through all blocks (Space on the slider)' }, 'Play');
    const legend = h('div', { class: 'rw-legend', id: 'rw-legend' }), hint = h('p', { class: 'rw-how' });
    const colour = h('select', { id: 'rw-colour', class: 'in', onchange: () => { P.setColour(colour.value); recolour(); } });
    const lines = h('button', { type: 'button', class: 'btn ghost sm rw-toggle', id: 'rw-lines', 'aria-pressed': 'false', title: 'A line from the rejected to the chosen answer of every pair',
      onclick: () => { P.lines = !P.lines; P.keep(); tools(); draw(); L.smalls && L.smalls.draw(); } }, 'Pair lines');
    const pick = key => { L.projection = key; if (key === 'umap' && !P.hasUmap()) askUmap(); tools(); turn(); L.show(L.layer); L.smalls && L.smalls.draw(); };
    panel.replaceChildren(
      h('header', {}, h('div', {}, h('h2', {}, 'Block ', block, ': ', finding), h('p', {}, count, ' A picture, not evidence: the probe above (AUC ', auc, ') is the measure.')),
        L.segments('Projection', [['pca', 'PCA'], ['umap', 'UMAP'], ['axis', 'Preference axis']], L.projection, pick)),
      h('div', { class: 'rw-tools' }, L.segments('Dimensions', [['2', '2D'], ['3', '3D']], String(P.dims), key => { P.dims = +key; P.keep(); tools(); turn(); }),
        h('label', { class: 'rw-colour', for: 'rw-colour' }, h('span', {}, 'Colour'), colour), lines, h('span', { class: 'rw-gap' }), L.exportMenu ? L.exportMenu() : null),
      box, h('div', { class: 'rw-under' }, legend, hint), h('div', { class: 'rw-slider' }, label, slider, play));

    let plotly = null, ready = false, timer = 0, wanted = 0, picked = [], look = null, shown = null, inked = null, drawn = 0, camera = null, turning = 0, pointer = [0, 0], pressed = [0, 0], over = null, kind = '', hadUmap = false, askedUmap = false, ended = false;
    const solid = () => P.dims === 3 && P.hasSolid() && L.solid.possible();
    const openAt = () => L.pair && L.pair.kind === 'pair' ? P.index.get(L.pair.id) : undefined;
    const narrow = () => plot.clientWidth < NARROW;

    // -- flat drawing ----------------------------------------------------------------------------------------------
    const traces = () => {
      const n = P.n, c = P.flat(), wide = Math.max(plot.clientWidth, 60), high = Math.max(plot.clientHeight, 60), f = P.fit(c, Math.max(wide - 24, 50), Math.max(high - 64, 50));
      const x = Array.from(c.x, v => (v - f.mx) * f.kx / (wide / 2)), y = Array.from(c.y, v => (v - f.my) * f.ky / (high / 2));
      const mean = (a, from, to) => { let s = 0; for (let i = from; i < to; i++) s += a[i]; return s / (to - from); };
      const mx = [mean(x, 0, n), mean(x, n, 2 * n)], my = [mean(y, 0, n), mean(y, n, 2 * n)], at = openAt();
      const joined = a => { if (!P.lines) return []; const out = new Array(3 * n).fill(null); for (let i = 0; i < n; i++) { out[3 * i] = a[n + i]; out[3 * i + 1] = a[i]; } return out; };
      return [{ x: x.slice(n), y: y.slice(n) }, { x: x.slice(0, n), y: y.slice(0, n) }, { x: mx, y: my },
        { x: at === undefined ? [] : [x[at], x[n + at]], y: at === undefined ? [] : [y[at], y[n + at]] }, { x: joined(x), y: joined(y) }];
    };
    const styles = colours => {
      const n = P.n, ink = P.token('ink'), chosen = P.token('chosen'), rejected = P.token('rejected'), plain = P.colour === 'side', many = n > 400;
      const side = { type: 'scatter', mode: 'markers', hoverinfo: 'none', cliponaxis: false, customdata: P.ids, selected: { marker: { opacity: 1 } }, unselected: { marker: { opacity: 0.14 } } };
      const over = { type: 'scatter', mode: 'lines+markers', hoverinfo: 'skip', selected: { marker: { opacity: 1 } }, unselected: { marker: { opacity: 1 } } };
      const strength = (from, usual) => colours.above ? P.ids.map((_, i) => colours.above(from + i) ? 1 : 0.6) : usual;
      return [
        { ...side, name: 'rejected', marker: { symbol: 'square-open', size: many ? 6 : 7.5, color: plain ? rejected : colours.all.slice(n), opacity: strength(n, plain ? 0.8 : 0.95), line: { width: 1.5 } } },
        { ...side, name: 'chosen', marker: { symbol: 'circle', size: many ? 6.5 : 8, color: plain ? chosen : colours.all.slice(0, n), opacity: strength(0, plain ? 0.62 : 0.85), line: { width: 0 } } },
        { ...over, name: 'means', line: { color: ink, width: 1.5, dash: '1.5px 4px' }, marker: { symbol: ['circle', 'square'], size: 13, color: [chosen, rejected], opacity: 1, line: { width: 3, color: P.token('surface') } } },
        { ...over, name: 'pair', line: { color: ink, width: 1.25, dash: '3px 3px' }, marker: { symbol: 'circle-open', size: 18, color: ink, line: { width: 2, color: ink } } },
        { ...over, name: 'lines', mode: 'lines', zorder: -1, connectgaps: false, opacity: many ? 0.3 : 0.5, line: { color: P.token('control-line'), width: 0.75 } },
      ];
    };
    const axisLook = () => ({ zeroline: true, zerolinecolor: P.token('line'), zerolinewidth: 1, showgrid: false, showticklabels: false, showline: false, fixedrange: false, range: [-1, 1] });
    const layout = () => ({
      margin: { l: 0, r: 0, t: 0, b: 0 }, paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', showlegend: false, hovermode: 'closest', hoverdistance: 12, autosize: true,
      dragmode: narrow() ? false : 'lasso', uirevision: 'keep', xaxis: axisLook(), yaxis: axisLook(),
      modebar: { orientation: 'v', bgcolor: 'rgba(0,0,0,0)', color: P.token('control-line'), activecolor: P.token('ink') },
      newselection: { line: { color: P.token('ink'), width: 1.25, dash: 'dot' } },
    });
    const config = { responsive: true, displaylogo: false, displayModeBar: 'hover', scrollZoom: false, showTips: false, doubleClick: 'reset',
      modeBarButtons: [['lasso2d', 'select2d', 'zoom2d', 'pan2d', 'resetScale2d']] };

    const listen = () => {
      ready = true;
      const open = i => { hideTip(); L.send({ action: 'open', id: P.ids[i] }); };
      plot.on('plotly_click', event => { const p = event.points.find(p => p.curveNumber < 2); if (p && drawn === 2) open(p.pointNumber); });
      // In three dimensions plotly misses quick clicks and takes the start of a turn for one.
      plot.addEventListener('pointerdown', event => { pressed = [event.clientX, event.clientY]; }, true);
      plot.addEventListener('click', event => { if (drawn === 3 && over !== null && Math.hypot(event.clientX - pressed[0], event.clientY - pressed[1]) < 4) open(over); });
      plot.on('plotly_selected', event => {
        if (!event || !event.points) return;
        picked = [...new Set(event.points.filter(p => p.curveNumber < 2).map(p => p.customdata))];
        if (picked.length) L.send({ action: 'lasso', ids: picked });
      });
      plot.on('plotly_deselect', () => { if (picked.length) { picked = []; L.send({ action: 'clear' }); } });
      plot.on('plotly_hover', showTip);
      plot.on('plotly_unhover', hideTip);
      plot.on('plotly_relayout', event => { if (event['scene.camera']) camera = event['scene.camera']; });
      plot.addEventListener('mousemove', event => { const r = plot.getBoundingClientRect(); pointer = [event.clientX - r.left, event.clientY - r.top]; }, true);
    };

    /** Draw what is on view as it is, without gliding. */
    const draw = async () => {
      if (!P.ready() || ended) return;
      try {
        plotly = plotly || await rw.plotly();
      } catch (error) {
        plot.textContent = 'The plot library could not be loaded: reload the page.';
        return;
      }
      if (!plot.isConnected || !plot.clientWidth) return;
      const colours = P.colours(), dims = solid() ? 3 : 2, layer = L.layer, before = drawn === 3 && dims === 2 ? [...plot.querySelectorAll('canvas')] : [];
      inked = colours;
      drawn = dims;
      kind = L.projection;
      turning += 1;
      words();
      cancelAnimationFrame(wanted);
      wanted = 0;
      box.classList.remove('gliding');
      if (dims === 3) {
        shown = L.solid.places(P.solid(), openAt(), P.lines);
        await plotly.react(plot, L.solid.looks(colours, narrow()).map((look, i) => ({ ...look, ...shown[i] })), L.solid.layout(camera || (camera = L.solid.start(narrow())), L.projection), L.solid.config);
      } else {
        look = styles(colours);
        shown = traces();
        await plotly.react(plot, shown.map((t, i) => ({ ...look[i], ...t })), layout(), config);
      }
      L.solid.release(before.filter(c => !c.isConnected));
      if (!ready) listen();
      plot.dataset.drawn = layer;
      plot.dataset.dims = dims;
    };

    // -- gliding ---------------------------------------------------------------------------------------------------
    /** The points of `at` on the canvas, as plotly draws them. */
    const sketch = at => {
      const ratio = window.devicePixelRatio || 1, wide = plot.clientWidth, high = plot.clientHeight, pen = canvas.getContext('2d'), { xaxis, yaxis } = plot._fullLayout;
      if (canvas.width !== Math.round(wide * ratio) || canvas.height !== Math.round(high * ratio)) { canvas.width = Math.round(wide * ratio); canvas.height = Math.round(high * ratio); }
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, wide, high);
      const px = v => xaxis._offset + xaxis.l2p(v), py = v => yaxis._offset + yaxis.l2p(v), chosenOnes = new Set(picked), faint = i => picked.length && !chosenOnes.has(P.ids[i]);
      const joined = at[4];
      if (joined.x.length) {
        pen.globalAlpha = look[4].opacity;
        pen.strokeStyle = look[4].line.color;
        pen.lineWidth = look[4].line.width;
        pen.beginPath();
        for (let i = 0; i < joined.x.length; i += 3) { pen.moveTo(px(joined.x[i]), py(joined.y[i])); pen.lineTo(px(joined.x[i + 1]), py(joined.y[i + 1])); }
        pen.stroke();
      }
      look.slice(0, 2).forEach(({ marker }, t) => {
        const half = marker.size / 2, { x, y } = at[t], colourOf = Array.isArray(marker.color) ? i => marker.color[i] : () => marker.color, strong = Array.isArray(marker.opacity) ? i => marker.opacity[i] : () => marker.opacity;
        pen.lineWidth = marker.line.width;
        for (let i = 0; i < x.length; i++) {
          pen.globalAlpha = faint(i) ? 0.14 : picked.length ? 1 : strong(i);
          pen.strokeStyle = pen.fillStyle = colourOf(i);
          if (t === 0) pen.strokeRect(px(x[i]) - half, py(y[i]) - half, 2 * half, 2 * half);
          else { pen.beginPath(); pen.arc(px(x[i]), py(y[i]), half, 0, 7); pen.fill(); }
        }
      });
      pen.globalAlpha = 1;
      look.slice(2, 4).forEach(({ marker, line }, t) => {
        const { x, y } = at[t + 2];
        if (!x.length) return;
        pen.setLineDash(t === 0 ? [1.5, 4] : [3, 3]);
        pen.lineWidth = line.width; pen.strokeStyle = line.color;
        pen.beginPath(); pen.moveTo(px(x[0]), py(y[0])); pen.lineTo(px(x[1]), py(y[1])); pen.stroke();
        pen.setLineDash([]);
        x.forEach((_, i) => {
          const half = marker.size / 2;
          pen.beginPath();
          if (t === 0 && i === 1) pen.rect(px(x[i]) - half, py(y[i]) - half, 2 * half, 2 * half); else pen.arc(px(x[i]), py(y[i]), half, 0, 7);
          pen.lineWidth = marker.line.width; pen.strokeStyle = marker.line.color;
          if (t === 0) { pen.fillStyle = marker.color[i]; pen.fill(); }
          pen.stroke();
        });
      });
    };
    const between = (from, to, share) => to.map((trace, t) => {
      const mix = key => trace[key].map((v, i) => { const old = from[t] && from[t][key] && from[t][key][i]; return v === null || old === undefined || old === null ? v : old + (v - old) * share; });
      return trace.z ? { x: mix('x'), y: mix('y'), z: mix('z') } : { x: mix('x'), y: mix('y') };
    });
    const eased = t => 1 - (1 - t) ** 3;
    /** Go to the block on view. While points glide a canvas shows them, which follows at once however many there are
        and however fast the slider moves; when they have arrived plotly takes over. */
    const move = () => {
      words();
      if (!ready || ended) return;
      hideTip();
      if (drawn !== (solid() ? 3 : 2)) return draw();
      if (drawn === 3) return L.projection === kind ? roll() : draw();
      const from = shown, to = traces(), length = rw.calm() ? 0 : GLIDE, layer = L.layer, colours = P.colours(), repaint = colours !== inked;
      if (repaint) { inked = colours; look = styles(colours); }
      cancelAnimationFrame(wanted);
      let began = 0;
      const step = now => {
        if (ended) return; // a new picture has taken the place of this one
        began = began || now;
        const t = length ? Math.min(1, (now - began + 16) / length) : 1;
        shown = between(from, to, eased(t));
        sketch(shown);
        box.classList.add('gliding');
        plot.dataset.drawn = layer;
        wanted = requestAnimationFrame(t < 1 ? step : arrive);
      };
      const arrive = async () => {
        wanted = 0;
        if (ended) return;
        if ((plot._fullLayout.selections || []).length) await plotly.relayout(plot, { selections: [] });
        if (ended) return;
        if (repaint) await plotly.react(plot, to.map((t, i) => ({ ...look[i], ...t })), layout(), config);
        else await plotly.animate(plot, { data: to, traces: [0, 1, 2, 3, 4] },
          { transition: { duration: 0 }, frame: { duration: 0, redraw: false }, mode: 'immediate' }).catch(() => {});
        if (!wanted) box.classList.remove('gliding');
      };
      wanted = requestAnimationFrame(step);
    };
    /** The same in three dimensions, where plotly draws every step itself: as many steps as it manages in the time. */
    const roll = async () => {
      const mine = ++turning, from = shown, to = L.solid.places(P.solid(), openAt(), P.lines), colours = P.colours(), layer = L.layer, began = performance.now();
      for (;;) {
        const t = rw.calm() ? 1 : Math.min(1, (performance.now() - began + 60) / GLIDE);
        shown = t < 1 ? between(from, to, eased(t)) : to;
        const update = { x: shown.map(s => s.x), y: shown.map(s => s.y), z: shown.map(s => s.z) };
        if (t === 1 && colours !== inked) { inked = colours; update['marker.color'] = L.solid.looks(colours, narrow()).map(look => look.marker ? look.marker.color : undefined); }
        await plotly.restyle(plot, update);
        if (mine !== turning || drawn !== 3 || ended) return;
        plot.dataset.drawn = layer;
        if (t === 1) return;
        await new Promise(requestAnimationFrame);
        if (mine !== turning || drawn !== 3 || ended) return;
      }
    };
    /** After a change between flat and solid. */
    const turn = () => { turning += 1; if (ready && drawn !== (solid() ? 3 : 2)) { hideTip(); draw(); } else words(); };
    const recolour = () => { if (P.ready()) { draw(); L.smalls && L.smalls.draw(); } };

    // -- words -----------------------------------------------------------------------------------------------------
    const askUmap = () => { askedUmap = true; L.send({ action: 'umap' }); };
    const drawUmap = () => {
      const u = P.umap(), on = L.projection === 'umap' && P.ready() && !P.hasUmap();
      card.hidden = !on;
      if (!on) return;
      if (u.state === 'none' && L.umap && !askedUmap) askUmap();
      const button = (text, action) => h('button', { type: 'button', class: 'btn sm', onclick: action }, text);
      if (u.state === 'stopped' || u.state === 'failed') {
        card.replaceChildren(h('p', {}, u.state === 'failed' ? u.why : 'UMAP was stopped; this is PCA.'), button(u.state === 'failed' ? 'Try again' : 'Compute UMAP', askUmap));
        return;
      }
      // Each block is laid out, which is half of the steps; then all of them together.
      const bar = h('i', {}), n = last + 1, words = u.state === 'waiting' ? 'UMAP waits for another one to finish' : !u.total ? 'UMAP is starting'
        : u.step < n ? `UMAP: block ${u.step + 1} of ${n}` : `UMAP: all blocks together, ${Math.round(100 * (u.step - n) / Math.max(1, u.total - n))}%`;
      bar.style.setProperty('--p', `${u.total ? Math.round(100 * u.step / u.total) : 0}%`);
      card.replaceChildren(h('p', {}, h('b', {}, words), '. Until it is there this is PCA.'), h('div', { class: 'bar', role: 'progressbar', 'aria-label': 'UMAP', 'aria-valuemin': 0, 'aria-valuemax': u.total || 1, 'aria-valuenow': u.step }, bar),
        button('Stop', () => L.send({ action: 'umap_stop' })));
    };
    /** The controls as the state has them. */
    const tools = () => {
      const wish = P.columns();
      if (colour.options.length !== wish.length || [...colour.options].some((o, i) => o.value !== wish[i][0]))
        colour.replaceChildren(...wish.map(([key, name]) => h('option', { value: key }, name)));
      colour.value = P.colour;
      lines.setAttribute('aria-pressed', String(Boolean(P.lines)));
      panel.querySelectorAll('input[name="rw-Dimensions"]').forEach(input => { input.checked = +input.value === P.dims; });
    };
    const words = () => {
      const b = L.view.blocks[L.layer];
      block.textContent = b.l;
      auc.textContent = b.auc.toFixed(2);
      label.textContent = `Block ${b.l} of ${names[0]} to ${names[last]}`;
      slider.value = L.layer;
      slider.style.setProperty('--f', `${last ? 100 * L.layer / last : 100}%`);
      slider.setAttribute('aria-valuetext', `Block ${b.l}, AUC ${b.auc.toFixed(2)}`);
      if (!P.ready()) { finding.textContent = 'the picture is on its way'; return; }
      const c = solid() ? P.solid() : P.flat(), plain = P.colour === 'side';
      finding.textContent = c.finding;
      [xName.textContent, yName.textContent] = solid() ? [c.names.join('; '), ''] : c.names;
      xName.title = yName.title = c.same ? `The ${solid() ? 'space of the first three' : 'plane of the first two'} principal components, turned so that neighbouring blocks agree` : '';
      xName.classList.toggle('rw-solid', solid());
      keys[0].classList.toggle('c-chosen', plain);
      keys[1].classList.toggle('c-rejected', plain);
      box.setAttribute('aria-label', `Scatter of ${P.n} chosen and ${P.n} rejected answers at block ${b.l}: ${c.finding}`);
      count.textContent = L.data.caption;
      legend.replaceChildren(...P.legend(P.colours().legend));
      const flatOnly = P.dims === 3 && !solid();
      hint.textContent = solid() ? narrow() ? 'Drag to turn.' : 'Drag to turn, scroll to zoom; the lasso works in 2D.'
        : flatOnly ? L.projection === 'umap' ? 'UMAP is drawn in two dimensions.' : !P.hasSolid() ? 'This capture has no third dimension: capture again for 3D.' : 'This browser has no WebGL, which 3D needs.'
          : narrow() ? 'Tap a point to read its pair.' : 'Draw around points to inspect or drop pairs.';
      drawUmap();
    };
    const short = text => text.length > 220 ? text.slice(0, 219) + '\u2026' : text;
    const showTip = event => {
      const p = event.points.find(p => p.curveNumber < 2);
      if (!p) return;
      const i = p.pointNumber, chosen = p.curveNumber === 1, d = L.data, said = P.valueOf(chosen ? i : P.n + i);
      tip.replaceChildren(h('p', { class: 'q' }, `Pair ${P.ids[i]}, `, h('b', { class: chosen ? 'c-chosen' : 'c-rejected' }, chosen ? 'chosen' : 'rejected'), said && `, ${said}`),
        h('p', { class: 's' }, short(d.prompts[i])), h('p', {}, short((chosen ? d.chosen : d.rejected)[i])));
      over = i;
      tip.hidden = false;
      const [x, y] = drawn === 3 ? pointer : [p.xaxis.l2p(p.x) + p.xaxis._offset, p.yaxis.l2p(p.y) + p.yaxis._offset], right = x > plot.clientWidth / 2, low = y > plot.clientHeight / 2;
      Object.assign(tip.style, { left: right ? '' : `${x + 14}px`, right: right ? `${plot.clientWidth - x + 14}px` : '', top: low ? '' : `${y + 10}px`, bottom: low ? `${plot.clientHeight - y + 10}px` : '' });
    };
    const hideTip = () => { tip.hidden = true; over = null; };

    // -- slider and play -------------------------------------------------------------------------------------------
    const stop = () => { clearInterval(timer); timer = 0; play.textContent = 'Play'; };
    const toggle = () => {
      if (timer) return stop();
      play.textContent = 'Pause';
      L.show(L.layer >= last ? 0 : L.layer + 1);
      timer = setInterval(() => {
        if (!plot.isConnected || L.layer >= last) return stop();
        L.show(L.layer + 1);
        if (L.layer >= last) stop();
      }, WAIT);
    };
    slider.addEventListener('input', () => { stop(); L.show(+slider.value); });
    slider.addEventListener('keydown', event => { if (event.key === ' ') { event.preventDefault(); toggle(); } });
    play.addEventListener('click', toggle);
    const hidden = () => { if (document.hidden) stop(); };
    const themed = () => { P.forget(); draw(); L.smalls && L.smalls.draw(); };
    document.addEventListener('visibilitychange', hidden);
    window.addEventListener('rw-theme', themed);
    let size = '';
    const sized = new ResizeObserver(() => { const now = `${plot.clientWidth} ${plot.clientHeight}`; if (plot.clientWidth && now !== size) { size = now; draw(); } });
    sized.observe(plot);

    const api = alive = {
      load: () => { if (P.load()) { tools(); words(); draw(); L.smalls && L.smalls.draw(); if (L.pair && L.pair.kind === 'pair') L.redrawPair(); } },
      show: () => { move(); L.smalls && L.smalls.mark(); },
      pair: () => { if (ready) move(); },
      umap: () => {
        if (L.projection !== 'umap') return;
        words();
        if (P.hasUmap() && !hadUmap) { hadUmap = true; move(); L.smalls && L.smalls.draw(); }
      },
      colour: () => { P.forget(); recolour(); },
      camera: () => camera || L.solid.start(false),
      solid,
      clear: () => { if (!picked.length) return; picked = []; if (ready && drawn === 2) plotly.restyle(plot, { selectedpoints: [null] }, [0, 1]).then(() => plotly.relayout(plot, { selections: [] })); },
      /** The drawn pair that comes `by` after this one; the first if there is none. */
      neighbour: (id, by) => { const at = P.index.get(id); return at === undefined ? P.ids[0] : P.ids[(at + by + P.n) % P.n]; },
      /** How far along the preference axis a pair lies at a block: -1 the rejected mean, +1 the chosen mean. */
      axisOf: (id, layer) => { const i = P.index.get(id); if (i === undefined) return null; const at = P.places(layer); return [at[i], at[P.n + i]]; },
      end: () => {
        ended = true;
        cancelAnimationFrame(wanted);
        stop();
        sized.disconnect();
        document.removeEventListener('visibilitychange', hidden);
        window.removeEventListener('rw-theme', themed);
        const canvases = drawn === 3 ? [...plot.querySelectorAll('canvas')] : [];
        if (plotly && ready) plotly.purge(plot);
        L.solid.release(canvases);
      },
    };
    queueMicrotask(api.load);
    return api;
  };
})();
