// The browser asks before the page is left while a batch runs. Gradio ends its connection at this event, also where the
// person then stays; so it must not hear of it, and whoever listens first decides. Gradio adds `page.js` only later.
window.addEventListener('beforeunload', (event) => {
  if (!document.querySelector('.bcx-progress[data-finished=false]')) return;
  event.preventDefault();
  event.stopImmediatePropagation();
});
