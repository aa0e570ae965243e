// The data map of the training images: variability to the right, confidence upwards. A rectangle chooses images

const MAP_EDGE = {left: 44, bottom: 36, top: 8, right: 8}; // pixels around the map
const MAP_RANGE = {x: .5, y: 1}, MAP_STEP = {x: .01, y: .02}, MAP_CLICK = {x: .01, y: .02};

class LifeMap {
  constructor(node, picture, points, choose) { // points: {x, y}; choose is called with a rectangle, or null for none
    Object.assign(this, {node, picture, points, choose, box: null, held: null});
    this.context = node.getContext('2d');
    const on = (name, f) => node.addEventListener(name, f.bind(this));
    on('pointerdown', this.grab);
    on('pointermove', this.move);
    on('pointerup', this.drop);
    on('pointercancel', () => { this.held = null; });
    on('keydown', this.key);
    new ResizeObserver(() => this.draw()).observe(node);
    for (const query of ['print', '(prefers-color-scheme: dark)']) matchMedia(query).addEventListener('change', () => this.draw());
  }

  // Places. x and y are variability and confidence

  get width() { return Math.max(1, this.node.clientWidth - MAP_EDGE.left - MAP_EDGE.right); }
  get height() { return Math.max(1, this.node.clientHeight - MAP_EDGE.top - MAP_EDGE.bottom); }
  left(x) { return MAP_EDGE.left + x / MAP_RANGE.x * this.width; }
  top(y) { return MAP_EDGE.top + (1 - y / MAP_RANGE.y) * this.height; }

  at({offsetX, offsetY}) {
    const inside = (part, most) => Math.min(Math.max(part, 0), 1) * most;
    return {x: inside((offsetX - MAP_EDGE.left) / this.width, MAP_RANGE.x), y: inside(1 - (offsetY - MAP_EDGE.top) / this.height, MAP_RANGE.y)};
  }

  // Choosing

  set(box) {
    this.box = box;
    this.draw();
    this.choose(box);
  }

  contains(point) {
    return !this.box || ['x', 'y'].every(k => point[k] >= this.box[k][0] && point[k] <= this.box[k][1]);
  }

  grab(event) {
    if (event.button) return;
    this.held = this.at(event);
    this.node.setPointerCapture(event.pointerId);
  }

  between(a, b) {
    const span = k => [Math.min(a[k], b[k]), Math.max(a[k], b[k])];
    return {x: span('x'), y: span('y')};
  }

  move(event) {
    if (!this.held) return;
    this.box = this.between(this.held, this.at(event));
    this.draw();
  }

  drop(event) { // A click is a small rectangle
    if (!this.held) return;
    const box = this.between(this.held, this.at(event));
    this.held = null;
    const small = ['x', 'y'].every(k => box[k][1] - box[k][0] < MAP_CLICK[k]);
    if (small) for (const k of ['x', 'y']) box[k] = [box[k][0] - MAP_CLICK[k], box[k][1] + MAP_CLICK[k]];
    this.set(box);
  }

  key(event) {
    const [axis, sign] = {ArrowLeft: ['x', -1], ArrowRight: ['x', 1], ArrowDown: ['y', -1], ArrowUp: ['y', 1]}[event.key] ?? [];
    if (event.key === 'Escape') {
      this.held = null;
      return this.set(null);
    }
    if (!axis || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    this.set(this.box ? {...this.box, [axis]: this.shifted(axis, sign * MAP_STEP[axis], event.shiftKey)} : this.lowest());
  }

  lowest() { // The first rectangle: images of the lowest confidence
    const low = Math.min(...this.points.map(o => o.y));
    return {x: [0, MAP_RANGE.x], y: [0, Math.min(low + .1, 1)]};
  }

  clear() { // Without choosing
    this.box = null;
    this.draw();
  }

  shifted(axis, by, resizes) { // Shift moves only the far edge
    const [low, high] = this.box[axis], most = MAP_RANGE[axis];
    if (resizes) return [low, Math.min(Math.max(high + by, low + MAP_STEP[axis]), most)];
    const step = Math.min(Math.max(by, -low), most - high);
    return [low + step, high + step];
  }

  // Drawing

  draw() {
    const {node, context} = this, ratio = devicePixelRatio || 1, style = getComputedStyle(node);
    [node.width, node.height] = [node.clientWidth, node.clientHeight].map(o => Math.max(1, Math.round(o * ratio)));
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const colour = o => style.getPropertyValue(o).trim();
    context.imageSmoothingEnabled = false;
    if (this.picture) context.drawImage(this.picture, this.left(0), this.top(1), this.width, this.height);
    this.drawAxes(colour('--line'), colour('--soft'));
    this.drawPoints(colour('--ink'), colour('--paper'));
    if (this.box) this.drawBox(colour('--mark'));
  }

  drawAxes(line, soft) {
    const {context} = this;
    context.strokeStyle = line;
    context.strokeRect(this.left(0), this.top(1), this.width, this.height);
    context.fillStyle = soft;
    context.font = '11px system-ui, sans-serif';
    context.textAlign = 'center';
    for (const x of [0, .1, .2, .3, .4, .5]) context.fillText(x.toFixed(1), this.left(x), this.top(0) + 14);
    context.fillText('variability', this.left(.25), this.top(0) + 29);
    context.textAlign = 'right';
    for (const y of [0, .2, .4, .6, .8, 1]) context.fillText(y.toFixed(1), this.left(0) - 5, this.top(y) + 4);
    context.save();
    context.translate(11, this.top(.5));
    context.rotate(-Math.PI / 2);
    context.textAlign = 'center';
    context.fillText('confidence', 0, 0);
    context.restore();
  }

  drawPoints(ink, paper) {
    const {context} = this;
    context.fillStyle = ink;
    context.strokeStyle = paper;
    for (const point of this.points) {
      context.globalAlpha = this.contains(point) ? 1 : .2;
      context.beginPath();
      context.arc(this.left(point.x), this.top(point.y), 2.5, 0, 7);
      context.fill();
      context.stroke();
    }
    context.globalAlpha = 1;
  }

  drawBox(mark) {
    const {context, box} = this, corner = [this.left(box.x[0]), this.top(box.y[1])];
    const size = [this.left(box.x[1]) - corner[0], this.top(box.y[0]) - corner[1]];
    context.strokeStyle = context.fillStyle = mark;
    context.lineWidth = 2;
    context.strokeRect(...corner, ...size);
    context.lineWidth = 1;
    context.globalAlpha = .12;
    context.fillRect(...corner, ...size);
    context.globalAlpha = 1;
  }
}
