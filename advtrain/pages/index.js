// Sort the table of runs, highlight rows and curves together, and reload a live page
'use strict';

const table = byId('runs'), body = table.tBodies[0], written = [...body.rows], heads = [...table.tHead.rows[0].cells];
const charts = document.querySelector('.charts');
const curves = [...document.querySelectorAll('.curve')], boxes = [...document.querySelectorAll('.scroll')];
const details = [...document.querySelectorAll('details')];

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

// Sorting: the page's address keeps the order, so you can share it

const ORDERS = ['ascending', 'descending'];

function wanted() {
  const words = new URLSearchParams(location.hash.slice(1)), order = words.get('order');
  return {head: heads.find(o => o.dataset.key === words.get('sort')), order: ORDERS.includes(order) ? order : ORDERS[0]};
}

function sorted(column, order) { // Cells without a value come last, whatever the order
  const rank = row => row.cells[column].dataset.rank, sign = order === 'ascending' ? 1 : -1;
  return [...written].sort((a, b) => (rank(a) === '') - (rank(b) === '') || sign * (rank(a) - rank(b)));
}

function showOrder() {
  const {head, order} = wanted();
  for (const o of heads) o.removeAttribute('aria-sort');
  if (head) head.setAttribute('aria-sort', order);
  body.append(...head ? sorted(heads.indexOf(head), order) : written);
}

function changeOrder(head) { // One order, the other, none
  const first = Number(head.classList.contains('number')); // The highest number first
  const orders = [null, ORDERS[first], ORDERS[1 - first]];
  const order = orders[(orders.indexOf(head.getAttribute('aria-sort')) + 1) % 3];
  history.replaceState(history.state, '', order ? `#${new URLSearchParams({sort: head.dataset.key, order})}` : '#');
  showOrder();
}

// Highlights: a row shows its curves, a curve shows its row, and a swatch keeps both lit

const pinned = new Set();
let hovered = [];

const runsOf = node => node.dataset.runs.split(' ').map(Number);
const rows = [...document.querySelectorAll('tr[data-runs]')]; // Of both tables

function shine() {
  const lit = new Set([...pinned, ...hovered]);
  charts?.classList.toggle('some', curves.some(o => lit.has(Number(o.dataset.run))));
  for (const o of curves) o.classList.toggle('lit', lit.has(Number(o.dataset.run)));
  for (const o of rows) o.classList.toggle('lit', lit.size > 0 && runsOf(o).every(run => lit.has(run)));
  for (const o of document.querySelectorAll('button.swatch')) o.setAttribute('aria-pressed', runsOf(o.closest('tr')).every(run => pinned.has(run)));
  const titles = [...new Set(curves.filter(o => o.classList.contains('lit')).map(o => o.querySelector('title').textContent))];
  if (charts) byId('reading').textContent = titles.join(' · ') || 'Point at a curve or a table row to highlight it.';
}

function hover(runs) {
  if (String(runs) === String(hovered)) return;
  hovered = runs;
  shine();
}

function pin(row) {
  const runs = runsOf(row), all = runs.every(run => pinned.has(run));
  for (const run of runs) all ? pinned.delete(run) : pinned.add(run);
  shine();
}

const pointsOf = new Map(curves.map(o => [o, [...o.querySelector('path').getAttribute('d').matchAll(/[ML](-?[\d.]+),(-?[\d.]+)/g)].map(p => [+p[1], +p[2]])]));

function nearest(chart, event) { // The run whose curve has a point near the pointer
  const {x, y} = new DOMPoint(event.clientX, event.clientY).matrixTransform(chart.getScreenCTM().inverse());
  let best = 15, run = null;
  for (const o of chart.querySelectorAll('.curve')) for (const [u, v] of pointsOf.get(o)) {
    const far = Math.hypot(u - x, v - y);
    if (far < best) [best, run] = [far, Number(o.dataset.run)];
  }
  return run === null ? [] : [run];
}

function startLight() {
  for (const row of rows) {
    row.addEventListener('pointerenter', () => hover(runsOf(row)));
    row.addEventListener('pointerleave', () => hover([]));
    row.addEventListener('focusin', () => hover(runsOf(row)));
    row.addEventListener('focusout', () => hover([]));
    const swatch = row.querySelector('.swatch[style]'), name = row.querySelector('bdi').textContent;
    if (!swatch) continue;
    const button = element('button', {type: 'button', class: swatch.className, style: swatch.getAttribute('style'), 'aria-label': `Highlight ${name}`, title: 'keep this curve highlighted'});
    button.addEventListener('click', () => pin(row));
    swatch.replaceWith(button);
  }
  for (const chart of document.querySelectorAll('.chart')) {
    chart.addEventListener('pointermove', event => hover(nearest(chart, event)));
    chart.addEventListener('pointerleave', () => hover([]));
  }
  if (charts) byId('reading').hidden = false;
  shine();
}

// Reloading keeps the reader's changes

const nameOf = node => node?.closest('[data-name]')?.dataset.name;

function remember() {
  const focus = document.activeElement;
  history.replaceState({
    boxes: boxes.map(o => [o.scrollLeft, o.scrollTop]), open: details.filter(o => o.open).map(nameOf), paused: live?.querySelector('input').checked,
    pinned: written.filter(o => pinned.has(runsOf(o)[0])).map(nameOf), focus: [focus.tagName, focus.closest('[data-key]')?.dataset.key, nameOf(focus)],
  }, '');
}

function recall({boxes: places = [], open = [], paused = false, pinned: names = [], focus: [tag, key, name] = []}) {
  places.forEach(([left, top], i) => boxes[i]?.scrollTo(left, top));
  for (const o of details) if (open.includes(nameOf(o))) o.open = true;
  for (const row of written) if (names.includes(nameOf(row))) pinned.add(runsOf(row)[0]);
  const same = o => o.closest('[data-key]')?.dataset.key === key && nameOf(o) === name;
  if (key || name) [...document.querySelectorAll(tag)].find(same)?.focus({preventScroll: true});
  if (live) live.querySelector('input').checked = paused;
  history.replaceState({paused}, '');
  shine();
}

// Start

for (const head of heads) {
  const button = element('button', {type: 'button'}, head.textContent);
  button.addEventListener('click', () => changeOrder(head));
  head.replaceChildren(button);
}
for (const link of document.querySelectorAll('#contents a')) link.addEventListener('click', event => { // The address keeps the order
  event.preventDefault();
  const section = document.querySelector(link.hash);
  section.tabIndex = -1;
  section.focus({preventScroll: true});
  section.scrollIntoView();
});
startLight();
addEventListener('hashchange', showOrder);
showOrder();
recall(history.state ?? {});
if (live) startLive(remember);
