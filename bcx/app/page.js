// What the page does before any tab: it shows itself when it stands still, takes a pasted picture anywhere, and gives
// Gradio's parts the names and keys that they lack.
(() => {
  const root = document.documentElement;
  const QUIET = 150;  // milliseconds without a change

  // Until everything has its place nothing is shown, so that nothing jumps; the style sheet ends this after some seconds.
  let waiting;
  const settled = () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => document.querySelector('.bcx-footer') && root.classList.add('bcx-ready'), QUIET);
  };

  // A button whose words are read as they stand there.
  const rename = () => document.querySelectorAll('.upload-container[aria-label]').forEach((button) => {
    button.removeAttribute('aria-label');
  });

  // The line between two pictures: Gradio moves it by pointer alone.
  const KEYS = {ArrowLeft: -2, ArrowRight: 2, PageDown: -10, PageUp: 10, Home: -100, End: 100};  // per cent
  const at = (line) => parseFloat(line.style.transform.slice('translateX('.length)) || 0;
  const width = (line) => line.parentElement.clientWidth || 1;
  const move = (line, pixels) => {
    const left = line.parentElement.getBoundingClientRect().left, top = line.getBoundingClientRect().top;
    const send = (to, type, x) => to.dispatchEvent(
      new MouseEvent(type, {clientX: left + x, clientY: top + 1, bubbles: true, view: window}),
    );
    send(line, 'mousedown', at(line));
    send(window, 'mousemove', pixels);
    send(window, 'mouseup', pixels);
  };
  const lines = () => document.querySelectorAll('.bcx-viewer [data-testid=slider]').forEach((line) => {
    const now = String(Math.round(100 * at(line) / width(line)));
    if (line.ariaValueNow !== now) line.ariaValueNow = now;
    if (line.tabIndex === 0) return;
    Object.assign(line, {tabIndex: 0, role: 'slider', ariaLabel: 'Line between scan and overlay'});
    Object.assign(line, {ariaValueMin: '0', ariaValueMax: '100'});
    line.addEventListener('keydown', (event) => {
      if (!(event.key in KEYS)) return;
      event.preventDefault();
      move(line, at(line) + KEYS[event.key] * width(line) / 100);
    });
  });

  // Gradio gives the pictures of a viewer an empty alternative text; people who cannot see them need a true one.
  const describe = () => document.querySelectorAll('.bcx-viewer').forEach((viewer) => {
    const laid = viewer.querySelector('[data-laid-over]')?.dataset.laidOver ?? '';
    viewer.querySelectorAll('[data-testid="imageslider-image"]').forEach((picture, place) => {
      const text = place ? `The scan, showing ${laid}` : 'The scan as it was read';
      if (picture.alt !== text) picture.alt = text;
    });
  });

  new MutationObserver(() => {
    if (!root.classList.contains('bcx-ready')) settled();
    rename();
    lines();
    describe();
  }).observe(root, {childList: true, subtree: true, attributes: true, attributeFilter: ['style', 'data-laid-over']});

  // What events of the page do in the browser alone.
  const part = (id) => document.getElementById(id);
  window.bcx = {
    title: () => { document.title = document.querySelector('.bcx-header').dataset.title; },
    // On a narrow page a result stands below the fold.
    show: (id) => window.innerWidth < 800 && part(id)?.scrollIntoView({behavior: 'smooth'}),
    showBeside: (viewer) => part(`${viewer}-compare`)?.querySelector('section')?.scrollIntoView({behavior: 'smooth'}),
    overlay: (viewer, on) => part(`${viewer}-viewer`).classList.toggle('bcx-bare', !on),
    // The strength of a slide's map: no image is sent again for it.
    strength: (percent) => part('slide-map')?.style.setProperty('--map-opacity', percent / 100),
    // To the row before or after the open one.
    step: (by) => document.dispatchEvent(new CustomEvent('bcx-step', {detail: by})),
    // The rows that were picked are combined; their boxes are emptied here, since their HTML may be what it was before.
    unmark: () => document.querySelectorAll('[data-mark][checked]').forEach((mark) => mark.removeAttribute('checked')),
    // Saves a file that was written, as the browser does with any download.
    save: (file) => {
      if (!file) return;
      const link = Object.assign(document.createElement('a'), {href: file.url, download: file.orig_name ?? ''});
      document.body.append(link);
      link.click();
      link.remove();
    },
  };

  // Gradio's client warns of this each time that an answer's stream ends; nothing is amiss.
  const warn = console.warn;
  console.warn = (...said) => said[0] === 'Method not implemented.' || warn(...said);

  document.addEventListener('paste', (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((each) => each.type.startsWith('image/'));
    if (!file || event.target.closest('input, textarea, [contenteditable]')) return;
    const tab = document.querySelector('#batch-upload')?.checkVisibility() ? 'batch' : 'classify';
    if (tab === 'classify') document.querySelector('#bcx-tabs [role=tab]')?.click();
    const input = document.querySelector(`#${tab}-upload input[type=file]`);
    if (!input) return;
    const files = new DataTransfer();
    files.items.add(file);
    input.files = files.files;
    input.dispatchEvent(new Event('change', {bubbles: true}));
  });
})();
