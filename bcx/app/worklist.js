// Inside the list of rows: clicks, own labels, the way from row to row, and focus that survives a new list.
let last = null; // what has focus here, as a selector
let ahead = null; // a page that was asked for, and on which of its ends to go on
const rows = () => [...element.querySelectorAll('button[data-pick]')];
const selector = (target) =>
  ['pick', 'own', 'mark', 'turn'].filter((key) => key in target.dataset).map((key) => `[data-${key}="${target.dataset[key]}"]`)[0];
const open = (row, focus) => {
  rows().forEach((other) => other.removeAttribute('aria-current'));
  row.setAttribute('aria-current', 'true');
  if (focus) row.focus();
  else if (window.innerWidth >= 900) row.scrollIntoView({block: 'nearest'});
  trigger('click', {pick: row.dataset.pick});
};
const step = (by, focus) => {
  if (!element.isConnected) return;
  const all = rows();
  const focused = all.indexOf(document.activeElement);
  const at = focused >= 0 ? focused : all.findIndex((row) => row.ariaCurrent === 'true');
  const next = at < 0 ? all[by > 0 ? 0 : all.length - 1] : all[at + by];
  if (next) return open(next, focus);
  const turn = element.querySelector(`[data-turn="${by}"]:not([disabled])`);
  if (!turn) return;
  ahead = {page: turn.dataset.page, by, focus};
  trigger('select', {page: turn.dataset.page});
};
element.addEventListener('click', (event) => {
  const target = event.target.closest('[data-pick], [data-page]');
  if (!target || target.disabled) return;
  if (target.dataset.pick) open(target, true);
  else trigger('select', {page: target.dataset.page});
});
element.addEventListener('change', (event) => {
  const mark = event.target.closest('[data-mark]');
  if (mark) {
    mark.toggleAttribute('checked', mark.checked);
    trigger('edit', {row: mark.dataset.mark, picked: mark.checked});
  }
  const target = event.target.closest('[data-own]');
  if (!target) return;
  for (const option of target.options) option.toggleAttribute('selected', option.value === target.value);
  trigger('input', {row: target.dataset.own, label: target.value});
});
element.addEventListener('keydown', (event) => {
  const by = {ArrowDown: 1, j: 1, ArrowUp: -1, k: -1}[event.key];
  if (!by || event.target.closest('select') || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  step(by, true);
});
document.addEventListener('bcx-step', (event) => step(event.detail, false));
document.addEventListener('focusin', (event) => {
  last = element.contains(event.target) ? selector(event.target) : null;
});
// The page changes the list in place, so that what a person chose or focused in one row would pass to another.
new MutationObserver(() => {
  const list = element.querySelector('.bcx-rows');
  element.querySelectorAll('[data-own]').forEach((select) => {
    select.value = select.querySelector('[selected]')?.value ?? '';
  });
  element.querySelectorAll('[data-mark]').forEach((mark) => (mark.checked = mark.hasAttribute('checked')));
  if (ahead && list?.dataset.on === ahead.page) {
    const {by, focus} = ahead;
    ahead = null;
    const all = rows();
    if (all.length) open(all[by > 0 ? 0 : all.length - 1], focus);
  } else if (last && (document.activeElement === document.body || element.contains(document.activeElement))) {
    const target = element.querySelector(last);
    if (target && target !== document.activeElement) target.focus({preventScroll: true});
  }
}).observe(element, {childList: true, subtree: true, attributeFilter: ['data-on', 'data-row', 'selected', 'checked']});
// The browser calls a file of a folder by its name alone; here it is called by its path below the chosen folder.
document.addEventListener('change', (event) => {
  if (!event.target.webkitdirectory) return;
  for (const file of event.target.files) {
    const path = file.webkitRelativePath.split('/').slice(1).join('/');
    if (path) Object.defineProperty(file, 'name', {value: path, configurable: true});
  }
}, true);
