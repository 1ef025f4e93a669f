// Inside a component: a click on `data-pick`, `data-show` or `data-compare` reaches Python with that value, the last as
// `select` and the others as `click`; one on `data-copy` copies the text that stands beside it.
element.addEventListener('click', async (event) => {
  const target = event.target.closest('[data-pick], [data-show], [data-compare], [data-copy]');
  if (!target) return;
  if (!('copy' in target.dataset)) {
    trigger('compare' in target.dataset ? 'select' : 'click', {...target.dataset});
    return;
  }
  const text = element.querySelector('[data-text]').textContent;
  const said = element.querySelector('[role=status]');
  try {
    if (navigator.clipboard) await navigator.clipboard.writeText(text);
    else { // pages that came over plain http have no clipboard
      const area = Object.assign(document.createElement('textarea'), {value: text});
      document.body.append(area);
      area.select();
      document.execCommand('copy');
      area.remove();
    }
    said.textContent = 'Copied.';
  } catch {
    said.textContent = 'The browser does not allow copying.';
  }
});
