/* Step 2: the scatter of one block. The coordinates of all blocks arrive once; moving to another block is work of the
   browser alone. Points are plotly traces; words around them are HTML, so that no text of a user meets plotly's markup. */
(() => {
  const { h } = rw, L = rw.layers;
  const GLIDE = 420, WAIT = 900; // milliseconds

  const floats = text => {
    const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
    return new Float32Array(bytes.buffer);
  };

  L.makeScatter = panel => {
    const block = h('span', { 'data-layer': '' }), finding = h('span', { 'data-finding': '' }), auc = h('span', { 'data-auc': '' }), count = h('span', {});
    const plot = h('div', { class: 'rw-plot' }), tip = h('div', { class: 'rw-tip', hidden: true }), status = h('p', { class: 'rw-standin', role: 'status', hidden: true });
    const xName = h('span', { class: 'lb', style: 'right:0;bottom:2px' }), yName = h('span', { class: 'lb', style: 'left:calc(50% + 8px);top:2px' });
    const canvas = h('canvas', { class: 'rw-glide', 'aria-hidden': 'true' });
    const box = h('div', { class: 'scat', style: '--h:414px', role: 'group' }, plot, canvas,
      h('span', { class: 'lb b c-chosen key', style: 'right:4px;top:2px' }, 'chosen'), h('span', { class: 'lb b c-rejected key', style: 'left:4px;top:2px' }, 'rejected'), xName, yName, tip);
    const last = L.view.blocks.length - 1, names = L.view.blocks.map(b => b.l);
    const slider = h('input', { id: 'rw-layer', type: 'range', min: 0, max: last, step: 1 });
    const label = h('label', { for: 'rw-layer', class: 'b sm nw' });
    const play = h('button', { type: 'button', class: 'btn ghost sm hide-sm', id: 'rw-layer-play' }, 'Play');
    panel.replaceChildren(
      h('header', {}, h('div', {}, h('h2', {}, 'Block ', block, ': ', finding), h('p', {}, count, ' A picture, not evidence: the probe above (AUC ', auc, ') is the measure.')),
        L.segments('Projection', [['pca', 'PCA'], ['umap', 'UMAP'], ['axis', 'Preference axis']], L.projection, key => { L.projection = key; move(); L.show(L.layer); })),
      status, box, h('div', { class: 'rw-slider' }, label, slider, play));

    let plotly = null, ready = false, sets = {}, index = new Map(), timer = 0, wanted = 0, asked = new Set(), picked = [], look = null, shown = null;

    // -- coordinates -----------------------------------------------------------------------------------------------
    const unpack = () => {
      const d = L.data;
      sets = {};
      index = new Map();
      if (!d || d.run !== L.view.run) return false;
      for (const [name, set] of Object.entries(d.sets)) sets[name] = { ...set, xy: floats(set.xy) };
      d.ids.forEach((id, i) => index.set(id, i));
      return true;
    };
    /** Coordinates of one block: {x, y} of 2N points, chosen first. */
    const of = (set, layer) => {
      const n = 2 * L.data.ids.length, from = 2 * n * layer, x = new Float32Array(n), y = new Float32Array(n);
      for (let i = 0; i < n; i++) { x[i] = set.xy[from + 2 * i]; y[i] = set.xy[from + 2 * i + 1]; }
      return { x, y, finding: set.findings[layer], names: set.names[layer], same: set.same };
    };
    const umapOf = layer => {
      const u = L.umap, got = u && u.run === L.view.run && u.done[layer];
      if (!got) return null;
      return { ...of({ xy: got.floats = got.floats || floats(got.xy), findings: [got.finding], names: [got.names], same: false }, 0), centred: false };
    };
    const current = () => {
      if (L.projection !== 'umap') return of(sets[L.projection], L.layer);
      return umapOf(L.layer) || { ...of(sets.pca, L.layer), standIn: true };
    };
    /** To [-1, 1], as large as fits; in PCA neither direction is stretched more than 1.6 times the other. */
    const fit = c => {
      const middle = a => { let lo = Infinity, hi = -Infinity; for (const v of a) { if (v < lo) lo = v; if (v > hi) hi = v; } return [(lo + hi) / 2, Math.max((hi - lo) / 2, 1e-9)]; };
      const most = a => { let m = 1e-9; for (const v of a) if (Math.abs(v) > m) m = Math.abs(v); return m; };
      const w = Math.max(plot.clientWidth - 24, 50) / 2, t = Math.max(plot.clientHeight - 64, 50) / 2;
      const [mx, rx] = c.centred === false ? middle(c.x) : [0, most(c.x)], [my, ry] = c.centred === false ? middle(c.y) : [0, most(c.y)];
      const limit = c.same ? 1.6 * Math.min(w / rx, t / ry) : Infinity, sx = Math.min(w / rx, limit) / (plot.clientWidth / 2), sy = Math.min(t / ry, limit) / (plot.clientHeight / 2);
      return { x: Array.from(c.x, v => (v - mx) * sx), y: Array.from(c.y, v => (v - my) * sy) };
    };

    // -- drawing ---------------------------------------------------------------------------------------------------
    const traces = () => {
      const n = L.data.ids.length, { x, y } = fit(current());
      const mean = (a, from, to) => { let s = 0; for (let i = from; i < to; i++) s += a[i]; return s / (to - from); };
      const mx = [mean(x, 0, n), mean(x, n, 2 * n)], my = [mean(y, 0, n), mean(y, n, 2 * n)];
      const at = L.pair && L.pair.kind === 'pair' ? index.get(L.pair.id) : undefined;
      const px = at === undefined ? [] : [x[at], x[n + at]], py = at === undefined ? [] : [y[at], y[n + at]];
      return [{ x: x.slice(n), y: y.slice(n) }, { x: x.slice(0, n), y: y.slice(0, n) }, { x: mx, y: my }, { x: px, y: py }];
    };
    const styles = () => {
      const ink = rw.token('ink'), chosen = rw.token('chosen'), rejected = rw.token('rejected'), surface = rw.token('surface');
      const many = L.data.ids.length > 400, side = { type: 'scatter', mode: 'markers', hoverinfo: 'none', cliponaxis: false, selected: { marker: { opacity: 1 } }, unselected: { marker: { opacity: 0.14 } } };
      const over = { type: 'scatter', mode: 'lines+markers', hoverinfo: 'skip', selected: { marker: { opacity: 1 } }, unselected: { marker: { opacity: 1 } } };
      return [
        { ...side, name: 'rejected', customdata: L.data.ids, marker: { symbol: 'square-open', size: many ? 6 : 7.5, color: rejected, opacity: 0.8, line: { width: 1.5, color: rejected } } },
        { ...side, name: 'chosen', customdata: L.data.ids, marker: { symbol: 'circle', size: many ? 6.5 : 8, color: chosen, opacity: 0.62, line: { width: 0 } } },
        { ...over, name: 'means', line: { color: ink, width: 1.5, dash: '1.5px 4px' }, marker: { symbol: ['circle', 'square'], size: 13, color: [chosen, rejected], opacity: 1, line: { width: 3, color: surface } } },
        { ...over, name: 'pair', line: { color: ink, width: 1.25, dash: '3px 3px' }, marker: { symbol: 'circle-open', size: 18, color: ink, line: { width: 2, color: ink } } },
      ];
    };
    const narrow = () => plot.clientWidth < 520;
    const axisLook = () => ({ zeroline: true, zerolinecolor: rw.token('line'), zerolinewidth: 1, showgrid: false, showticklabels: false, showline: false, fixedrange: false });
    const layout = () => ({
      margin: { l: 0, r: 0, t: 0, b: 0 }, paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', showlegend: false, hovermode: 'closest', hoverdistance: 12, autosize: true,
      dragmode: narrow() ? false : 'lasso', uirevision: 'keep', xaxis: { ...axisLook(), range: [-1, 1] }, yaxis: { ...axisLook(), range: [-1, 1] },
      modebar: { orientation: 'v', bgcolor: 'rgba(0,0,0,0)', color: rw.token('control-line'), activecolor: rw.token('ink') },
      newselection: { line: { color: rw.token('ink'), width: 1.25, dash: 'dot' } },
    });
    const config = { responsive: true, displaylogo: false, displayModeBar: 'hover', scrollZoom: false, showTips: false, doubleClick: 'reset',
      modeBarButtons: [['lasso2d', 'select2d', 'zoom2d', 'pan2d', 'resetScale2d']] };

    const draw = async () => {
      if (!Object.keys(sets).length) return;
      try {
        plotly = plotly || await rw.plotly();
      } catch (error) {
        plot.textContent = 'The plot library could not be loaded: reload the page.';
        return;
      }
      if (!plot.isConnected || !plot.clientWidth) return;
      look = styles();
      shown = traces();
      await plotly.react(plot, shown.map((t, i) => ({ ...look[i], ...t })), layout(), config);
      if (!ready) {
        ready = true;
        plot.on('plotly_click', event => { const p = event.points.find(p => p.curveNumber < 2); if (p) { hideTip(); L.send({ action: 'open', id: p.customdata }); } });
        plot.on('plotly_selected', event => {
          if (!event || !event.points) return;
          picked = [...new Set(event.points.filter(p => p.curveNumber < 2).map(p => p.customdata))];
          if (picked.length) L.send({ action: 'lasso', ids: picked });
        });
        plot.on('plotly_deselect', () => { if (picked.length) { picked = []; L.send({ action: 'clear' }); } });
        plot.on('plotly_hover', showTip);
        plot.on('plotly_unhover', hideTip);
      }
      plot.dataset.drawn = L.layer;
    };
    /** The points of `at` on the canvas, as plotly draws them. */
    const sketch = at => {
      const ratio = window.devicePixelRatio || 1, wide = plot.clientWidth, high = plot.clientHeight, pen = canvas.getContext('2d'), { xaxis, yaxis } = plot._fullLayout;
      if (canvas.width !== wide * ratio || canvas.height !== high * ratio) { canvas.width = wide * ratio; canvas.height = high * ratio; }
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, wide, high);
      const px = v => xaxis._offset + xaxis.l2p(v), py = v => yaxis._offset + yaxis.l2p(v), chosenOnes = new Set(picked), faint = i => picked.length && !chosenOnes.has(L.data.ids[i]);
      look.slice(0, 2).forEach(({ marker }, t) => {
        const half = marker.size / 2, { x, y } = at[t];
        pen.strokeStyle = pen.fillStyle = marker.color;
        pen.lineWidth = marker.line.width;
        for (let i = 0; i < x.length; i++) {
          pen.globalAlpha = faint(i) ? 0.14 : picked.length ? 1 : marker.opacity;
          if (t === 0) pen.strokeRect(px(x[i]) - half, py(y[i]) - half, 2 * half, 2 * half);
          else { pen.beginPath(); pen.arc(px(x[i]), py(y[i]), half, 0, 7); pen.fill(); }
        }
      });
      pen.globalAlpha = 1;
      look.slice(2).forEach(({ marker, line }, t) => {
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
      const mix = key => trace[key].map((v, i) => { const old = from[t][key][i]; return old === undefined ? v : old + (v - old) * share; });
      return { x: mix('x'), y: mix('y') };
    });
    /** Go to the block on view. While points glide a canvas shows them, which follows at once however many there are
        and however fast the slider moves; when they have arrived plotly takes over. */
    const move = () => {
      words();
      if (!ready) return;
      hideTip();
      const from = shown, to = traces(), length = rw.calm() ? 0 : GLIDE, layer = L.layer;
      cancelAnimationFrame(wanted);
      let began = 0;
      const step = now => {
        began = began || now;
        const t = length ? Math.min(1, (now - began + 16) / length) : 1;
        shown = between(from, to, 1 - (1 - t) ** 3);
        sketch(shown);
        box.classList.add('gliding');
        plot.dataset.drawn = layer;
        wanted = requestAnimationFrame(t < 1 ? step : arrive);
      };
      const arrive = async () => {
        wanted = 0;
        if ((plot._fullLayout.selections || []).length) await plotly.relayout(plot, { selections: [] });
        await plotly.animate(plot, { data: to, traces: [0, 1, 2, 3] },
          { transition: { duration: 0 }, frame: { duration: 0, redraw: false }, mode: 'immediate' }).catch(() => {});
        if (!wanted) box.classList.remove('gliding');
      };
      wanted = requestAnimationFrame(step);
    };

    // -- words -----------------------------------------------------------------------------------------------------
    const words = () => {
      const b = L.view.blocks[L.layer];
      block.textContent = b.l;
      auc.textContent = b.auc.toFixed(2);
      label.textContent = `Block ${b.l} of ${names[0]} to ${names[last]}`;
      slider.value = L.layer;
      slider.style.setProperty('--f', `${last ? 100 * L.layer / last : 100}%`);
      slider.setAttribute('aria-valuetext', `Block ${b.l}, AUC ${b.auc.toFixed(2)}`);
      if (!Object.keys(sets).length) { finding.textContent = 'the picture is on its way'; return; }
      const c = current();
      finding.textContent = c.finding;
      [xName.textContent, yName.textContent] = c.names;
      box.setAttribute('aria-label', `Scatter of ${L.data.ids.length} chosen and ${L.data.ids.length} rejected answers at block ${b.l}: ${c.finding}`);
      count.textContent = L.data.caption;
      const u = L.umap && L.umap.run === L.view.run ? L.umap : null, failed = u && u.failed[L.layer];
      status.hidden = !c.standIn;
      status.textContent = !c.standIn ? '' : failed ? failed : `UMAP of block ${b.l} is being computed, which takes some seconds; until then this is PCA.`;
      if (c.standIn && !failed && !asked.has(L.layer)) { asked.add(L.layer); L.send({ action: 'umap', layer: L.layer }); }
    };
    const short = text => text.length > 220 ? text.slice(0, 219) + '\u2026' : text;
    const showTip = event => {
      const p = event.points.find(p => p.curveNumber < 2);
      if (!p) return;
      const i = index.get(p.customdata), chosen = p.curveNumber === 1, d = L.data;
      tip.replaceChildren(h('p', { class: 'q' }, `Pair ${p.customdata}, `, h('b', { class: chosen ? 'c-chosen' : 'c-rejected' }, chosen ? 'chosen' : 'rejected')),
        h('p', { class: 's' }, short(d.prompts[i])), h('p', {}, short((chosen ? d.chosen : d.rejected)[i])));
      tip.hidden = false;
      const x = p.xaxis.l2p(p.x) + p.xaxis._offset, y = p.yaxis.l2p(p.y) + p.yaxis._offset, right = x > plot.clientWidth / 2, low = y > plot.clientHeight / 2;
      Object.assign(tip.style, { left: right ? '' : `${x + 14}px`, right: right ? `${plot.clientWidth - x + 14}px` : '', top: low ? '' : `${y + 10}px`, bottom: low ? `${plot.clientHeight - y + 10}px` : '' });
    };
    const hideTip = () => { tip.hidden = true; };

    // -- controls --------------------------------------------------------------------------------------------------
    const stop = () => { clearInterval(timer); timer = 0; play.textContent = 'Play'; };
    slider.addEventListener('input', () => { stop(); L.show(+slider.value); });
    play.addEventListener('click', () => {
      if (timer) return stop();
      play.textContent = 'Pause';
      if (L.layer >= last) L.show(0);
      timer = setInterval(() => {
        if (!plot.isConnected) return stop();
        if (L.layer >= last) return stop();
        L.show(L.layer + 1);
      }, WAIT);
    });
    const themed = () => { if (!plot.isConnected) return window.removeEventListener('rw-theme', themed); draw(); };
    window.addEventListener('rw-theme', themed);
    let width = 0;
    new ResizeObserver(() => { if (plot.clientWidth && plot.clientWidth !== width) { width = plot.clientWidth; draw(); } }).observe(plot);

    const api = {
      load: () => { if (unpack()) { words(); draw(); if (L.pair && L.pair.kind === 'pair') L.redrawPair(); } },
      show: move,
      pair: () => { if (ready) move(); },
      umap: () => { if (L.projection === 'umap') move(); },
      clear: () => { if (!picked.length) return; picked = []; if (ready) plotly.restyle(plot, { selectedpoints: [null] }, [0, 1]).then(() => plotly.relayout(plot, { selections: [] })); },
      /** The drawn pair that comes `by` after this one; the first if there is none. */
      neighbour: (id, by) => { const { ids } = L.data, at = index.get(id); return at === undefined ? ids[0] : ids[(at + by + ids.length) % ids.length]; },
      /** How far along the preference axis a pair lies at a block: -1 the rejected mean, +1 the chosen mean. */
      axisOf: (id, layer) => {
        const i = index.get(id);
        if (i === undefined || !sets.axis) return null;
        const n = L.data.ids.length, x = of(sets.axis, layer).x;
        return [x[i], x[n + i]];
      },
    };
    queueMicrotask(api.load);
    return api;
  };
})();
