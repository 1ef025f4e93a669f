// The square that the second stage should read: moved, resized or drawn anew on a picture, by mouse, touch or keys.
const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
let shown = null; // the answer that the square belongs to
let square = null; // its left and upper edge and side, in pixels of the scan
let drag = null; // what a pointer does to it
const root = () => element.querySelector('.bcx-place');
const numbers = () => ['width', 'height', 'least'].map((name) => Number(root().dataset[name]));
const within = (value, low, high) => Math.min(Math.max(value, low), high);
// A square larger than the scan is high or wide covers all of that side, and as much more on both ends.
const moved = (start, side, length) => (side > length ? (length - side) / 2 : within(start, 0, length - side));
const edges = () => {
  const [width, height] = numbers(), {x, y, side} = square;
  return [Math.max(0, x), Math.max(0, y), Math.min(width, x + side), Math.min(height, y + side)].map(Math.round);
};
const put = (x, y, side) => {
  const [width, height, least] = numbers();
  side = Math.round(within(side, least, Math.max(width, height)));
  square = {x: Math.round(moved(x, side, width)), y: Math.round(moved(y, side, height)), side};
  const [left, top, right, bottom] = edges();
  Object.assign(element.querySelector('.bcx-place-frame').style, {
    left: `${(100 * left) / width}%`,
    top: `${(100 * top) / height}%`,
    width: `${(100 * (right - left)) / width}%`,
    height: `${(100 * (bottom - top)) / height}%`,
  });
  element.querySelector('[role=status]').textContent = `x ${left} to ${right}, y ${top} to ${bottom} (pixels)`;
};
const reset = () => put(...root().dataset.square.split(' ').map(Number));
const send = (hide) => trigger('select', {box: edges(), hide});
const at = (event) => {
  const [width, height] = numbers(), place = element.querySelector('.bcx-place-stage').getBoundingClientRect();
  return {
    x: (within((event.clientX - place.left) / place.width, 0, 1)) * width,
    y: (within((event.clientY - place.top) / place.height, 0, 1)) * height,
  };
};
const stretch = (from, to) => {
  const [width, height] = numbers(), left = to.x < from.x, up = to.y < from.y;
  const room = Math.min(left ? from.x : width - from.x, up ? from.y : height - from.y);
  const side = Math.min(Math.max(Math.abs(to.x - from.x), Math.abs(to.y - from.y), numbers()[2]), room);
  put(left ? from.x - side : from.x, up ? from.y - side : from.y, side);
};
element.addEventListener('pointerdown', (event) => {
  const stage = event.target.closest('.bcx-place-stage');
  if (!stage || event.button) return;
  const from = at(event), corner = event.target.dataset.corner, {x, y, side} = square;
  if (corner) {
    const opposite = {x: corner.includes('w') ? x + side : x, y: corner.includes('n') ? y + side : y};
    drag = (to) => stretch(opposite, to);
  } else if (event.target.closest('.bcx-place-frame')) {
    drag = (to) => put(x + to.x - from.x, y + to.y - from.y, side);
  } else {
    drag = (to) => Math.max(Math.abs(to.x - from.x), Math.abs(to.y - from.y)) > numbers()[2] / 4 && stretch(from, to);
  }
  stage.setPointerCapture(event.pointerId);
  element.querySelector('.bcx-place-frame').focus({preventScroll: true});
  event.preventDefault();
});
element.addEventListener('pointermove', (event) => drag?.(at(event)));
for (const end of ['pointerup', 'pointercancel']) element.addEventListener(end, () => (drag = null));
element.addEventListener('keydown', (event) => {
  const way = ARROWS[event.key];
  if (!event.target.closest('.bcx-place-frame') || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === 'Enter') send(false);
  if (!way) return;
  event.preventDefault();
  const {x, y, side} = square, step = Math.max(1, Math.round(Math.min(...numbers().slice(0, 2)) / 50));
  const grown = event.shiftKey ? 2 * step * (way[0] || -way[1]) : 0;
  const [across, down] = event.shiftKey ? [-grown / 2, -grown / 2] : way.map((sign) => sign * step);
  put(x + across, y + down, side + grown);
});
element.addEventListener('click', (event) => {
  const action = event.target.closest('[data-place]')?.dataset.place;
  if (action === 'read' || action === 'hide') send(action === 'hide');
  if (action === 'own') reset();
});
const start = () => {
  const key = root()?.dataset.key ?? null;
  if (key !== shown && key !== null) reset();
  shown = key;
};
new MutationObserver(start).observe(element, {childList: true, subtree: true, attributes: true, attributeFilter: ['data-key']});
start();
