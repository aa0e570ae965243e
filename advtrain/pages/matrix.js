// The confusion matrix of many classes: a picture to zoom into, on a canvas
'use strict';

const CELL = 36; // widest cell, in pixels
const WHOLE = {light: ['#b3261e', '#14703d'], dark: ['#ff8a80', '#6fcf97']}; // colours of wrong and right predictions

function readCounts(picture) { // The cells with images, by row. The colours of the picture are counts
  const n = picture.width, context = element('canvas', {width: n, height: n}).getContext('2d', {willReadFrequently: true});
  context.drawImage(picture, 0, 0);
  const bytes = context.getImageData(0, 0, n, n).data;
  return Array.from({length: n}, (_, row) => {
    const cells = new Map();
    for (let column = 0, k = 4 * n * row; column < n; column++, k += 4) {
      const count = bytes[k] | bytes[k + 1] << 8 | bytes[k + 2] << 16;
      if (count) cells.set(column, count);
    }
    return cells;
  });
}

const rgb = colour => [1, 3, 5].map(i => parseInt(colour.slice(i, i + 2), 16));

class Matrix {
  constructor(node, picture, classes, least, choose) {
    Object.assign(this, {node, least, choose, counts: readCounts(picture), n: picture.width, zoom: 1, x: 0, y: 0, chosen: null});
    this.classes = classes; // numbers of the classes in the picture
    this.totals = this.counts.map(row => [...row.values()].reduce((a, b) => a + b, 0));
    this.cursor = {row: 0, column: 0};
    this.context = node.getContext('2d');
    const on = (name, f, options) => node.addEventListener(name, f.bind(this), options);
    on('pointerdown', this.grab);
    on('pointermove', this.move);
    on('pointerup', this.drop);
    on('pointercancel', () => { this.held = null; });
    on('pointerleave', () => this.say(this.cursor));
    on('wheel', this.wheel, {passive: false});
    on('keydown', this.key);
    on('focus', () => { this.say(this.cursor); this.draw(); });
    on('blur', this.draw);
    new ResizeObserver(() => this.draw()).observe(node);
    for (const query of ['print', '(prefers-color-scheme: dark)']) matchMedia(query).addEventListener('change', () => this.draw());
  }

  // Places. A cell's place is in pixels of the page, from the corner of the canvas

  get margin() { return this.node.clientWidth < 420 ? 56 : 96; }
  get side() { return Math.max(1, this.node.clientWidth - this.margin); } // of the picture, in pixels of the page
  get scale() { return this.side / this.n * this.zoom; } // width of a cell
  get most() { return Math.max(1, CELL * this.n / this.side); }
  left(column) { return this.margin + (column - this.x) * this.scale; }
  top(row) { return this.margin + (row - this.y) * this.scale; }

  count({row, column}) { return this.counts[row]?.get(column) ?? 0; }

  at(event) { // The cell under the pointer; where cells are small, the nearest one with images
    const column = Math.floor(this.x + (event.offsetX - this.margin) / this.scale), row = Math.floor(this.y + (event.offsetY - this.margin) / this.scale);
    const far = Math.ceil(5 / this.scale) - 1, cell = {row, column};
    if (event.offsetX < this.margin || event.offsetY < this.margin) return null;
    if (row < 0 || column < 0 || row >= this.n || column >= this.n) return null;
    let best = null, nearest = Infinity;
    for (let i = -far; i <= far; i++) for (let j = -far; j <= far; j++) {
      const some = {row: row + i, column: column + j}, distance = i * i + j * j;
      if (distance < nearest && this.count(some)) [best, nearest] = [some, distance];
    }
    return best ?? cell;
  }

  look(zoom, x, y) { // Change the view, within the picture
    this.zoom = Math.min(Math.max(zoom, 1), this.most);
    const last = this.n - this.n / this.zoom;
    [this.x, this.y] = [x, y].map(o => Math.min(Math.max(o, 0), last));
    this.node.style.touchAction = this.zoom > 1 ? 'none' : 'pan-y';
    this.draw();
  }

  zoomBy(factor, x = this.cursor.column + .5, y = this.cursor.row + .5) { // Around a point, in cells; it stays where it is if it's in view
    const span = this.n / this.zoom, zoom = Math.min(Math.max(this.zoom * factor, 1), this.most);
    const inView = x >= this.x && y >= this.y && x <= this.x + span && y <= this.y + span;
    const [u, v] = inView ? [(x - this.x) / span, (y - this.y) / span] : [.5, .5];
    this.look(zoom, x - u * this.n / zoom, y - v * this.n / zoom);
  }

  goTo(cell) { // Move the cursor, and the view with it
    const span = this.n / this.zoom, edge = Math.min(1, span / 4);
    const follow = (place, start) => Math.min(Math.max(start, place + 1 + edge - span), place - edge);
    this.cursor = cell;
    this.look(this.zoom, follow(cell.column, this.x), follow(cell.row, this.y));
    this.say(cell);
  }

  next(down, right) { // The next cell with images, in a direction
    const {row, column} = this.cursor;
    for (let i = row + down, j = column + right; i >= 0 && j >= 0 && i < this.n && j < this.n; i += down, j += right) if (this.counts[i].has(j)) return {row: i, column: j};
    return this.cursor;
  }

  // Words

  say(cell) { byId('matrix-cell').textContent = this.words(cell); }

  words(cell) {
    const [actual, predicted] = [cell.row, cell.column].map(o => data.classes[this.classes[o]]), n = this.count(cell);
    const images = n ? `${count(n, 'image')}, ${percent(n / this.totals[cell.row])} of the class` : this.least > 1 ? `fewer than ${number(this.least)} images` : 'no image';
    return cell.row === cell.column ? `${actual}, predicted right: ${images}` : `${actual}, predicted as ${predicted}: ${images}`;
  }

  take(cell) {
    this.cursor = cell;
    this.say(cell);
    this.draw();
    if (this.count(cell)) this.choose(this.classes[cell.row], this.classes[cell.column]);
  }

  // Pointer, wheel and keys

  grab(event) {
    if (event.button) return;
    this.held = {x: this.x, y: this.y, startX: event.offsetX, startY: event.offsetY, moved: false};
    this.node.setPointerCapture(event.pointerId);
  }

  move(event) {
    const held = this.held;
    if (held && Math.hypot(event.offsetX - held.startX, event.offsetY - held.startY) > 4) held.moved = true;
    if (held?.moved) return this.look(this.zoom, held.x - (event.offsetX - held.startX) / this.scale, held.y - (event.offsetY - held.startY) / this.scale);
    const cell = this.at(event);
    if (cell) this.say(cell);
  }

  drop(event) {
    const held = this.held, cell = this.at(event);
    this.held = null;
    if (held && !held.moved && cell) this.take(cell);
  }

  wheel(event) { // Without Ctrl, only after a click, so that the page still scrolls
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== this.node) return;
    event.preventDefault();
    this.zoomBy(Math.exp(-event.deltaY / 300), this.x + (event.offsetX - this.margin) / this.scale, this.y + (event.offsetY - this.margin) / this.scale);
  }

  key(event) {
    const {row, column} = this.cursor, step = Math.max(1, Math.round(4 / this.scale)), last = this.n - 1;
    const to = (i, j) => ({row: Math.min(Math.max(i, 0), last), column: Math.min(Math.max(j, 0), last)});
    const arrow = (down, right) => this.goTo(event.shiftKey ? this.next(down, right) : to(row + down * step, column + right * step));
    const act = {
      ArrowLeft: () => arrow(0, -1), ArrowRight: () => arrow(0, 1), ArrowUp: () => arrow(-1, 0), ArrowDown: () => arrow(1, 0),
      Home: () => this.goTo({row, column: 0}), End: () => this.goTo({row, column: last}),
      '+': () => this.zoomBy(1.5), '=': () => this.zoomBy(1.5), '-': () => this.zoomBy(1 / 1.5), 0: () => this.zoomBy(0),
      Enter: () => this.take(this.cursor), ' ': () => this.take(this.cursor),
    }[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  }

  // Drawing

  draw() {
    const {node, context} = this, width = node.clientWidth, dots = window.devicePixelRatio || 1;
    if (!width) return;
    node.width = node.height = Math.round(width * dots);
    const style = getComputedStyle(node), colours = ['--paper', '--ink', '--soft', '--mark'].map(o => style.getPropertyValue(o).trim());
    const [paper, ink, soft, mark] = colours.map(o => /^#[0-9a-f]{3}$/i.test(o) ? '#' + [...o.slice(1)].map(c => c + c).join('') : o);
    context.fillStyle = paper;
    context.fillRect(0, 0, node.width, node.height);
    const dark = rgb(paper)[0] < 128, size = Math.round(this.side * dots);
    const image = this.pixels(size, dots, rgb(paper), WHOLE[dark ? 'dark' : 'light'].map(rgb));
    context.putImageData(image, node.width - size, node.height - size);
    context.setTransform(dots, 0, 0, dots, 0, 0);
    this.names(soft);
    if (this.chosen) this.frame(this.chosen, mark);
    if (document.activeElement === node) this.frame(this.cursor, ink);
  }

  pixels(size, dots, paper, colours) { // Cells as pixels. Where several share a pixel, the strongest shows
    const image = new ImageData(size, size), pixels = new Uint32Array(image.data.buffer), scale = this.scale * dots, strongest = new Uint8Array(size * size);
    const solid = c => 255 << 24 | c[2] << 16 | c[1] << 8 | c[0];
    const shades = colours.map(c => Array.from({length: 256}, (_, s) => solid(c.map((o, i) => Math.round(paper[i] + (o - paper[i]) * s / 255)))));
    const gap = scale >= 8 * dots ? 1 : 0, span = (place, start) => [Math.max(0, Math.floor((place - start) * scale)), Math.min(size, Math.max(Math.floor((place - start) * scale) + 1, Math.ceil((place + 1 - start) * scale) - gap))];
    pixels.fill(solid(paper.map(o => Math.round(o + (128 - o) * .09))));
    for (let row = Math.max(0, Math.floor(this.y)); row < this.n && row < this.y + this.n / this.zoom + 1; row++) {
      const [top, bottom] = span(row, this.y), total = this.totals[row];
      for (const [column, n] of this.counts[row]) {
        const [left, right] = span(column, this.x);
        if (left >= right || right <= 0) continue;
        const strength = Math.round(255 * Math.min(1, .3 + .7 * Math.sqrt(n / total) * (row === column ? .9 : 1.6))), shade = shades[+(row === column)][strength];
        for (let y = top; y < bottom; y++) for (let k = y * size + left; k < y * size + right; k++) if (strength > strongest[k]) [strongest[k], pixels[k]] = [strength, shade];
      }
    }
    return image;
  }

  names(colour) { // Names of as many rows and columns as fit
    const {context, margin} = this, every = Math.max(1, Math.ceil(15 / this.scale)), room = margin - 8;
    context.fillStyle = colour;
    context.font = '11px system-ui, sans-serif';
    context.textAlign = 'right';
    context.textBaseline = 'middle';
    const fitting = text => {
      if (context.measureText(text).width <= room) return text;
      const cut = length => `${text.slice(0, Math.ceil(length / 2))}…${text.slice(text.length - Math.floor(length / 2))}`; // Names often differ at the end
      let length = Math.min(text.length, 40);
      while (length && context.measureText(cut(length)).width > room) length--;
      return cut(length);
    };
    const each = (start, f) => {
      for (let i = Math.ceil(start / every) * every; i < this.n && i < start + this.n / this.zoom; i += every) f(i, fitting(data.classes[this.classes[i]]));
    };
    each(this.y, (row, text) => context.fillText(text, margin - 5, Math.min(this.top(row + .5), margin + this.side - 6)));
    each(this.x, (column, text) => {
      context.save();
      context.translate(Math.min(this.left(column + .5), margin + this.side - 6), margin - 5);
      context.rotate(Math.PI / 2);
      context.fillText(text, 0, 0);
      context.restore();
    });
  }

  frame({row, column}, colour) { // Mark a cell; a small one gets a larger frame
    const {context, margin, side} = this, size = Math.max(this.scale, 9), inset = (size - this.scale) / 2;
    const [x, y] = [this.left(column) - inset, this.top(row) - inset];
    if (x + size < margin || y + size < margin || x > margin + side || y > margin + side) return;
    context.strokeStyle = colour;
    context.lineWidth = 2;
    context.strokeRect(x, y, size, size);
  }

  mark(actual, predicted) { // Mark the cell of two classes, or none
    const cell = {row: this.classes.indexOf(actual), column: this.classes.indexOf(predicted)};
    this.chosen = cell.row >= 0 && cell.column >= 0 ? cell : null;
    if (this.chosen) this.cursor = cell;
    this.draw();
  }
}
