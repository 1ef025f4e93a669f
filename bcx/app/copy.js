// Inside the buttons under an answer: a click on `data-copy` copies the text that stands beside it.
element.addEventListener('click', async (event) => {
  if (!event.target.closest('[data-copy]')) return;
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
