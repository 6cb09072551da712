/* The page's own JavaScript: views for the constant gr.HTML templates, the theme, plotly.js on demand.
   Text is set with textContent; markup arrives escaped from Python and is applied as a difference. */
(() => {
  const views = {}, waiting = {};
  const rw = window.rw = {};

  /** Make an element. Attributes: class, data-*, aria-*, on<event> functions, style as a string or an object. */
  rw.h = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith('on') && typeof value === 'function') element.addEventListener(name.slice(2), value);
      else if (name === 'style' && typeof value === 'object') for (const [k, v] of Object.entries(value)) element.style.setProperty(k, v);
      else element.setAttribute(name, value === true ? '' : value);
    }
    for (const child of children.flat(Infinity)) if (child !== null && child !== undefined && child !== false) element.append(child);
    return element;
  };

  /** The same for SVG. */
  rw.svg = (tag, attributes = {}, ...children) => {
    const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
    for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== undefined) element.setAttribute(name, value);
    element.append(...children.flat(Infinity).filter(c => c !== null && c !== undefined && c !== false));
    return element;
  };

  /** Change `from` into `to` in place, so that focus, scrolling, typed text and open details survive. */
  const morph = (from, to) => {
    for (const { name } of [...from.attributes]) if (!to.hasAttribute(name) && !(name === 'open' && from.nodeName === 'DETAILS')) from.removeAttribute(name);
    for (const { name, value } of [...to.attributes]) if (from.getAttribute(name) !== value && !(name === 'open' && from.dataset.keep !== undefined)) from.setAttribute(name, value);
    children(from, to);
  };
  const children = (from, to) => {
    const now = [...from.childNodes], next = [...to.childNodes];
    next.forEach((node, i) => {
      const old = now[i];
      if (!old) from.append(node);
      else if (old.nodeName !== node.nodeName || old.nodeType !== node.nodeType || (old.id || '') !== (node.id || '')) old.replaceWith(node);
      else if (node.nodeType === Node.ELEMENT_NODE) morph(old, node);
      else if (old.nodeValue !== node.nodeValue) old.nodeValue = node.nodeValue;
    });
    now.slice(next.length).forEach(node => node.remove());
  };

  rw.define = (name, make) => { views[name] = make; (waiting[name] || []).splice(0).forEach(start => start()); };

  /** Called by every gr.HTML of this page when it is mounted. */
  rw.mount = (element, props, watch, send, view) => {
    const start = () => {
      const host = element.querySelector('.rw-host') || element;
      const draw = views[view](host, send, props) || (() => {});
      let shown;
      const update = () => {
        const text = props.value;
        if (text === shown) return;
        shown = text;
        draw(text ? JSON.parse(text) : null);
      };
      watch('value', update);
      update();
    };
    if (views[view]) start();
    else (waiting[view] = waiting[view] || []).push(start);
  };

  /* The error line stands at the page's top; where that is out of sight, the line comes along. */
  const along = () => {
    const line = document.getElementById('rw-error');
    line.classList.remove('rw-along');
    line.classList.toggle('rw-along', Boolean(line.querySelector('[role=alert]')) && line.getBoundingClientRect().top < 0);
  };
  addEventListener('scroll', () => { if (document.querySelector('#rw-error.rw-along')) along(); }, { passive: true });

  rw.define('markup', (host, send) => {
    host.addEventListener('click', event => {
      const button = event.target.closest('[data-send]');
      if (!button || !host.contains(button) || button.disabled || button.getAttribute('aria-disabled') === 'true') return;
      event.preventDefault();
      send(JSON.parse(button.dataset.send));
    });
    return data => {
      const next = document.createElement('div');
      next.innerHTML = (data && data.html) || '';
      children(host, next);
      if (host.closest('#rw-error')) along();
    };
  });

  /** plotly.js from the installed wheel, loaded once, when a plot is first needed. */
  let plotly = null;
  rw.plotly = () => plotly = plotly || new Promise((resolve, reject) => {
    const script = document.createElement('script');
    const root = (window.gradio_config && window.gradio_config.root) || '';
    script.src = `${root}/gradio_api/file=${document.querySelector('meta[name=rw-plotly]').content}`;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => { plotly = null; reject(new Error('plotly.js could not be loaded')); };
    document.head.append(script);
  });

  /** Read a colour or size of the design, for plots. */
  rw.token = name => getComputedStyle(document.body).getPropertyValue(`--rw-${name}`).trim();
  rw.calm = () => matchMedia('(prefers-reduced-motion: reduce)').matches;

  /* Theme: the system's until the visitor chooses; the choice is kept in this browser. Gradio sets the class too, from
     the system alone, so the choice is put back whenever the class changes. Views listen to 'rw-theme' on window. */
  const KEY = 'rahf-workbench-theme';
  const chosen = () => { try { return localStorage.getItem(KEY); } catch { return null; } };
  const isDark = () => document.body.classList.contains('dark');
  const keep = () => {
    const want = chosen();
    if (want && (want === 'dark') !== isDark()) document.body.classList.toggle('dark', want === 'dark');
  };
  let was = isDark();
  new MutationObserver(() => {
    keep();
    if (isDark() !== was) { was = isDark(); window.dispatchEvent(new CustomEvent('rw-theme', { detail: was ? 'dark' : 'light' })); }
  }).observe(document.body, { attributes: true, attributeFilter: ['class'] });
  keep();
  rw.toggleTheme = () => {
    const next = isDark() ? 'light' : 'dark';
    try { localStorage.setItem(KEY, next); } catch { /* private window: it holds until the page is left */ }
    document.body.classList.toggle('dark', next === 'dark');
  };
})();
