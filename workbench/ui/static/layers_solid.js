/* Step 2: the scatter in three dimensions. Browsers keep few WebGL contexts, so there is one plot and never a second
   context: what is left behind is given back at once. */
(() => {
  const L = rw.layers, P = L.picture;
  /** Where the camera stands at first: farther away where there is little room. */
  const start = narrow => {
    const far = narrow ? 1.4 : 1;
    return { eye: { x: 1.05 * far, y: -1.2 * far, z: 0.6 * far }, up: { x: 0, y: 0, z: 1 }, center: { x: 0, y: 0, z: -0.08 } };
  };
  let able = null;

  /** Give back the contexts of canvases that are no longer used. */
  const release = canvases => canvases.forEach(canvas => {
    const context = canvas.getContext('webgl') || canvas.getContext('webgl2');
    const lose = context && context.getExtension('WEBGL_lose_context');
    if (lose) lose.loseContext();
  });

  /** Whether this browser draws in three dimensions at all. Tried once, on a canvas that is given back. */
  const possible = () => {
    if (able === null) {
      const canvas = document.createElement('canvas');
      able = Boolean(canvas.getContext('webgl'));
      if (able) release([canvas]);
    }
    return able;
  };

  const lines = (xyz, n, on) => {
    if (!on) return { x: [], y: [], z: [] };
    const axis = a => { const out = new Array(3 * n); for (let i = 0; i < n; i++) { out[3 * i] = a[n + i]; out[3 * i + 1] = a[i]; out[3 * i + 2] = null; } return out; };
    return { x: axis(xyz[0]), y: axis(xyz[1]), z: axis(xyz[2]) };
  };

  /** The places of the five traces (rejected, chosen, means, the open pair, pair lines) in the cube from -1 to 1. */
  const places = (c, at, on) => {
    const n = P.n, xyz = P.cube(c), part = (from, to) => ({ x: xyz[0].slice(from, to), y: xyz[1].slice(from, to), z: xyz[2].slice(from, to) });
    const mean = (a, from) => { let s = 0; for (let i = from; i < from + n; i++) s += a[i]; return s / n; };
    const means = xyz.map(a => [mean(a, 0), mean(a, n)]), open = xyz.map(a => at === undefined ? [] : [a[at], a[n + at]]);
    return [part(n, 2 * n), part(0, n), { x: means[0], y: means[1], z: means[2] }, { x: open[0], y: open[1], z: open[2] }, lines(xyz, n, on)];
  };

  const looks = (colours, narrow) => {
    const n = P.n, ink = P.token('ink'), chosen = P.token('chosen'), rejected = P.token('rejected'), plain = P.colour === 'side', k = narrow ? 0.7 : 1;
    const side = { type: 'scatter3d', mode: 'markers', hoverinfo: 'none', customdata: P.ids }, over = { type: 'scatter3d', hoverinfo: 'skip', mode: 'lines+markers' };
    return [
      { ...side, name: 'rejected', marker: { symbol: 'square-open', size: 4 * k, color: plain ? rejected : colours.all.slice(n), opacity: 0.9 } },
      { ...side, name: 'chosen', marker: { symbol: 'circle', size: 4.5 * k, color: plain ? chosen : colours.all.slice(0, n), opacity: 0.75, line: { width: 0 } } },
      { ...over, name: 'means', line: { color: ink, width: 3, dash: 'dot' }, marker: { symbol: ['circle', 'square'], size: 9, color: [chosen, rejected], opacity: 1, line: { width: 2, color: P.token('surface') } } },
      { ...over, name: 'pair', line: { color: ink, width: 3, dash: 'dash' }, marker: { symbol: 'circle-open', size: 11, color: ink, line: { width: 2, color: ink } } },
      { ...over, name: 'lines', mode: 'lines', line: { color: P.token('line-strong'), width: 1 } },
    ];
  };

  const axis = (name, ink, line) => ({ title: { text: name, font: { size: 12, color: ink } }, range: [-1.08, 1.08], autorange: false, showticklabels: false, ticks: '', showspikes: false,
    showbackground: false, gridcolor: line, zerolinecolor: line, zerolinewidth: 2, nticks: 5, showline: true, linecolor: line });

  const layout = (camera, kind) => {
    const ink = P.token('ink-3'), line = P.token('line'), names = kind === 'axis' ? ['preference axis', 'other axis 1', 'other axis 2'] : ['PCA 1', 'PCA 2', 'PCA 3'];
    return {
      margin: { l: 0, r: 0, t: 0, b: 0 }, paper_bgcolor: 'rgba(0,0,0,0)', showlegend: false, autosize: true, uirevision: 'keep', hovermode: 'closest', font: { family: 'IBM Plex Sans, sans-serif' },
      modebar: { orientation: 'v', bgcolor: 'rgba(0,0,0,0)', color: P.token('control-line'), activecolor: P.token('ink') },
      scene: { uirevision: 'keep', aspectmode: 'manual', aspectratio: { x: 1.15, y: 1.15, z: 0.95 }, dragmode: 'orbit', camera, hovermode: 'closest',
        xaxis: axis(names[0], ink, line), yaxis: axis(names[1], ink, line), zaxis: axis(names[2], ink, line) },
    };
  };
  const config = { responsive: true, displaylogo: false, displayModeBar: 'hover', showTips: false, modeBarButtons: [['orbitRotation', 'pan3d', 'zoom3d', 'resetCameraDefault3d']] };

  L.solid = { start, possible, release, places, looks, layout, config };
})();
