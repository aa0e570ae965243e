// The film of a run: heat maps of validation images, epoch by epoch

class Player { // A slider over frames, and a button that plays them, or shows the next one if motion is to be reduced
  constructor(frames, label, show) {
    this.show = show;
    this.still = matchMedia('(prefers-reduced-motion: reduce)');
    this.slider = element('input', {type: 'range', min: 0, max: frames - 1, value: frames - 1, 'aria-label': label});
    this.button = element('button', {type: 'button'});
    this.node = element('div', {class: 'player'}, this.button, this.slider);
    this.slider.addEventListener('input', () => this.stopAt(+this.slider.value));
    this.button.addEventListener('click', () => this.timer ? this.pause() : this.play());
    this.pause();
  }

  get frame() { return +this.slider.value; }
  get atEnd() { return this.frame >= +this.slider.max; }

  go(frame) {
    this.slider.value = frame;
    this.slider.setAttribute('aria-valuetext', this.show(frame));
  }

  stopAt(frame) {
    this.pause();
    this.go(frame);
  }

  play() {
    this.go(this.atEnd ? 0 : this.frame + 1);
    if (this.still.matches) return;
    this.timer = setInterval(() => this.atEnd ? this.pause() : this.go(this.frame + 1), 600);
    this.name('Pause', '⏸');
  }

  pause() {
    clearInterval(this.timer);
    this.timer = null;
    this.still.matches ? this.name('Next epoch', '⏭') : this.name('Play', '▶');
  }

  name(text, sign) {
    this.button.setAttribute('aria-label', text);
    this.button.title = text;
    this.button.textContent = sign;
  }
}

class FilmCard { // An image with its maps, a slider and a button
  constructor(film, i, classes, targets) {
    Object.assign(this, {film, i, classes, targets});
    const actual = classes[film.actual[i]], settled = film.settled[i];
    this.caption = element('p', {class: 'line'});
    this.maps = film.layers.map(layer => this.mapPanel(layer, `Heat map at ${layer}, image ${film.file[i]}, actual class ${actual}`));
    const image = panel(`Image ${film.file[i]}, actual class ${actual}`, 'image', this.picture());
    this.player = new Player(film.epochs.length, `Epoch of ${film.file[i]}`, frame => this.show(frame));
    this.node = element('li', {}, element('h3', {class: 'line'}, span('', 'actual ', name(actual))), element('p', {class: 'file'}, element('bdi', {}, film.file[i])),
      this.caption, element('p', {class: 'line life'}, span('', `for the actual class, the map at ${film.layers.at(-1)} ${settled ? `settled by epoch ${settled}` : 'has not settled'}`)),
      element('div', {class: 'panels'}, image, ...this.maps.map(o => o.node)), this.player.node);
  }

  picture() {
    const {images, pictures} = this.film;
    return canvas('picture', images.side, c => drawTile(c, pictures.images, images, this.i));
  }

  mapPanel(layer, label) {
    const map = element('canvas', {class: 'map', width: this.film.maps.side, height: this.film.maps.side});
    return {map, node: panel(label, layer, this.picture(), map)};
  }

  show(frame) {
    const {film, i, classes} = this, predicted = film.predicted[i][frame], right = predicted === film.actual[i];
    const text = `epoch ${film.epochs[frame]}: ${classes[predicted]} ${Math.round(100 * film.p[i][frame])} %`;
    this.maps.forEach(({map}, layer) => this.draw(map.getContext('2d'), frame, layer));
    this.caption.replaceChildren(span('', text), span(right ? 'right' : 'wrong', right ? '✓ right' : '✗ wrong'));
    return text;
  }

  draw(context, frame, layer) {
    const {film, i} = this, target = film.targets.indexOf(this.targets.value), sheet = scratch(film);
    const tile = ((i * film.epochs.length + frame) * film.targets.length + target) * film.layers.length + layer;
    drawTile(sheet, film.pictures.maps, film.maps, tile);
    const image = sheet.getImageData(0, 0, film.maps.side, film.maps.side), pixels = image.data;
    for (let k = 0; k < pixels.length; k += 4) pixels.set(IMPORTANCE[pixels[k]], k);
    context.putImageData(image, 0, 0);
  }
}

async function showFilm(film, classes) {
  if (!film) return;
  await decodePictures(film);
  const root = byId('film'), targets = root.querySelector('select'), all = film.file.map((_, i) => new FilmCard(film, i, classes, targets));
  const player = new Player(film.epochs.length, 'Epoch of all images', frame => {
    for (const o of all) o.player.stopAt(frame);
    return byId('film-epoch').textContent = `All images: epoch ${film.epochs[frame]}, learning rate ${film.lr[frame]}`;
  });
  player.go(player.frame);
  targets.addEventListener('input', () => all.forEach(o => o.player.go(o.player.frame)));
  root.style.setProperty('--panels', 1 + film.layers.length);
  root.style.setProperty('--rendering', film.images.side < 80 ? 'pixelated' : 'auto');
  byId('film-player').append(player.node);
  byId('film-cards').append(...all.map(o => o.node));
  root.hidden = false;
}
