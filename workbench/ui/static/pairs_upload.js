/* Uploads: how far they are, and a way to stop. Gradio sends a file with fetch(), which can tell neither, so the page's
   uploads (and nothing else) go through XMLHttpRequest instead. */
(() => {
  const plain = window.fetch.bind(window);
  const size = bytes => (bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : bytes >= 1e6 ? `${(bytes / 1e6).toFixed(bytes >= 1e7 ? 0 : 1)} MB` : `${Math.ceil(bytes / 1e3)} kB`);

  function line(file, stop) {
    const { h } = rw;
    const at = h('span', { 'aria-hidden': 'true' });
    const element = h('div', { class: 'rw-host rw-uploading' }, h('div', { class: 'busy' }, h('i', {}), h('span', { role: 'status' }, `Uploading ${file.name}`), at, h('button', { type: 'button', class: 'btn sm', onclick: stop }, 'Stop')));
    (document.querySelector('.gradio-container') || document.body).append(element);
    return { at: (done, total) => { at.textContent = `, ${size(done)} of ${size(total)}`; }, remove: () => element.remove() };
  }

  function upload(url, options) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      const file = [...options.body.values()].find(value => value instanceof File) || { name: 'the file', size: 0 };
      const shown = line(file, () => request.abort());
      shown.at(0, file.size);
      request.open('POST', url);
      request.withCredentials = options.credentials === 'include';
      new Headers(options.headers || {}).forEach((value, name) => request.setRequestHeader(name, value));
      request.upload.onprogress = event => shown.at(event.loaded, event.total || file.size);
      request.onloadend = shown.remove;
      request.onload = () => resolve(new Response(request.responseText, { status: request.status, headers: { 'content-type': request.getResponseHeader('content-type') || 'application/json' } }));
      request.onerror = () => reject(new TypeError('Failed to fetch'));
      request.onabort = () => resolve(new Response('[]', { status: 200, headers: { 'content-type': 'application/json' } }));
      request.send(options.body);
    });
  }

  window.fetch = (url, options) => {
    const address = String((url && url.url) || url);
    const ours = options && options.method === 'POST' && options.body instanceof FormData && /\/upload(\?|$)/.test(address);
    return ours ? upload(address, options) : plain(url, options);
  };
})();
