// The gallery of images and heat maps, and the confusion matrix that filters it

const byId = id => document.getElementById(id);
const data = JSON.parse(byId('gallery-data').textContent), train = data.train ?? null;
const report = data.kind === 'report', first = data.file.length; // the first training image: they follow the test images
if (train) addTraining();
const indices = Array.from(data.file.keys());
const form = byId('tools'), field = form.elements, gallery = byId('gallery'), cards = byId('cards'), more = byId('more');
const cells = [...document.querySelectorAll('.cells button')]; // of the confusion matrix, or of its most confused pairs
const counts = {};
let state = {}, found = [], matrix = null, lifeMap = null;

function addTraining() {
  for (const key of ['file', 'actual', 'image', 'map']) data[key].push(...train[key]);
  for (const [key, column] of Object.entries(train.predictions[0])) data.predictions[0][key].push(...column);
}
const isTrain = i => i >= first;
const ofLife = (key, i) => train[key][i - first]; // of a training image
const sheets = i => isTrain(i) ? train : data; // which sprites have its pictures

// The choices. In a report, A and B are the same run

const isRight = (run, i) => data.predictions[run].predicted[i] === data.actual[i];
const loss = (run, i) => data.predictions[run].loss[i];
const margin = i => data.predictions[state.b].margin[i], entropy = i => data.predictions[state.b].entropy[i];
const change = i => Math.abs(loss(state.b, i) - loss(state.a, i));
const TRAINING = { // kinds of training images
  suspect: i => isTrain(i) && train.kinds.suspect[i - first],
  forgotten: i => isTrain(i) && train.kinds.forgotten[i - first],
  never: i => isTrain(i) && train.kinds.never[i - first],
  late: i => isTrain(i) && train.kinds.late[i - first],
  any: isTrain,
};
const KINDS = report ? {
  misclassified: i => !isTrain(i) && !isRight(0, i),
  correct: i => !isTrain(i) && isRight(0, i),
  doubtful: i => !isTrain(i) && data.predictions[0].p_actual[i] < data.doubtful,
  uncertain: i => !isTrain(i) && data.predictions[0].margin[i] < data.uncertain,
  all: i => !isTrain(i),
  ...(train && TRAINING),
} : {
  fixed: i => !isRight(state.a, i) && isRight(state.b, i),
  broken: i => isRight(state.a, i) && !isRight(state.b, i),
  changed: i => isRight(state.a, i) !== isRight(state.b, i),
  'still wrong': i => !isRight(state.a, i) && !isRight(state.b, i),
  all: () => true,
};
const WORDS = {doubtful: 'suspect', never: 'never learned', any: 'all'}; // kinds whose name isn't their label
const suspicion = i => isTrain(i) ? -ofLife('aum', i) : loss(0, i);
const SORTS = {
  highest: (i, j) => loss(state.b, j) - loss(state.b, i),
  lowest: (i, j) => loss(state.b, i) - loss(state.b, j),
  suspicion: (i, j) => suspicion(j) - suspicion(i),
  margin: (i, j) => margin(i) - margin(j),
  entropy: (i, j) => entropy(j) - entropy(i),
  change: (i, j) => change(j) - change(i),
  elsewhere: (i, j) => (similarity(i) ?? 2) - (similarity(j) ?? 2), // images without maps last
  file: (i, j) => (data.file[i] > data.file[j]) - (data.file[i] < data.file[j]),
};

// Small helpers

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
const span = (className, ...children) => element('span', {class: className}, ...children);
const name = text => element('bdi', {title: text}, text);
const percent = p => `${(100 * p).toFixed(1)} %`;
const number = n => n.toLocaleString('en-GB');
const count = (n, what) => `${number(n)} ${what}${n === 1 ? '' : 's'}`;

// Heat maps: a grey tile of the sprite becomes coloured pixels

const INFERNO = ('000004 0c0826 240c4f 420a68 5d126e 781c6d 932667 ae305c ' +
  'c73e4c dd513a ed6925 f8850f fca50a fac62d f2e661 fcffa4').split(' ');
const BLUE_RED = '053061 2267ac 4393c3 93c6de d1e5f0 f7f6f6 fddbc7 f3a481 d6604d b1182b 67001f'.split(' ');

function colourTable(stops) { // 256 colours, linear between the stops
  const channel = (stop, c) => parseInt(stops[stop].slice(2 * c, 2 * c + 2), 16);
  return Array.from({length: 256}, (_, value) => {
    const at = value / 255 * (stops.length - 1), low = Math.min(Math.floor(at), stops.length - 2);
    return [0, 1, 2].map(c => channel(low, c) + (at - low) * (channel(low + 1, c) - channel(low, c)));
  });
}
const IMPORTANCE = colourTable(INFERNO), DIFFERENCE = colourTable(BLUE_RED);

const mapsOf = runs => data.targets.length * runs.reduce((n, run) => n + run.layers.length, 0);

function scratch(sheet) { // A canvas for one map
  const {side} = sheet.maps;
  return sheet.scratch ??= element('canvas', {width: side, height: side}).getContext('2d', {willReadFrequently: true});
}

function drawTile(context, sprite, {columns, side}, tile) {
  context.drawImage(sprite, tile % columns * side, Math.floor(tile / columns) * side, side, side, 0, 0, side, side);
}

function greyTile(i, run, layer, target) {
  const within = mapsOf(data.runs.slice(0, run)) + data.targets.indexOf(target) * data.runs[run].layers.length + layer;
  const sheet = sheets(i), context = scratch(sheet);
  drawTile(context, sheet.pictures.maps, sheet.maps, data.map[i] * mapsOf(data.runs) + within);
  return context.getImageData(0, 0, sheet.maps.side, sheet.maps.side);
}

function drawMap(context, i, run, layer) {
  const signed = state.maps === 'difference', image = greyTile(i, run, layer, signed ? 'predicted' : state.maps);
  const minus = signed && greyTile(i, run, layer, 'actual').data, pixels = image.data;
  for (let k = 0; k < pixels.length; k += 4) pixels.set(signed ? DIFFERENCE[(256 + pixels[k] - minus[k]) >> 1] : IMPORTANCE[pixels[k]], k);
  context.putImageData(image, 0, 0);
}

// Cards

const hasPicture = i => Boolean(sheets(i).pictures.images) && data.image[i] >= 0;
const hasMap = i => Boolean(sheets(i).pictures.maps) && data.map[i] >= 0;

function canvas(className, side, draw) {
  const node = element('canvas', {class: className, width: side, height: side});
  draw(node.getContext('2d'));
  return node;
}

function panel(label, caption, ...canvases) {
  return element('div', {class: 'panel'}, element('div', {class: 'stack', role: 'img', 'aria-label': label}, ...canvases),
    element('span', {title: caption}, caption));
}

function panels(i, run) {
  const sheet = sheets(i), actual = `actual class ${data.classes[data.actual[i]]}`, predicted = `predicted class ${data.classes[data.predictions[run].predicted[i]]}`;
  const whose = {actual, predicted, difference: `${predicted} minus the ${actual}`}[state.maps];
  const picture = () => hasPicture(i) ? [canvas('picture', sheet.images.side, c => drawTile(c, sheet.pictures.images, sheet.images, data.image[i]))] : [];
  const plain = picture().map(o => panel(`Image ${data.file[i]}, ${actual}`, 'image', o));
  const maps = hasMap(i) ? data.runs[run].layers.map((layer, l) => panel(`Heat map at ${layer} for the ${whose}, image ${data.file[i]}, run ${data.runs[run].name}`,
    layer, ...picture(), canvas('map', sheet.maps.side, c => drawMap(c, i, run, l)))) : [];
  return element('div', {class: 'panels'}, ...plain, ...maps);
}

// In a comparison: how the maps of run B differ from those of run A, for the actual class

const pairKey = () => `${Math.min(state.a, state.b)}-${Math.max(state.a, state.b)}`;
const similarity = i => data.similarity?.[pairKey()]?.[data.map[i]]; // null if a map is constant

function scaledTile(i, run, layer) { // Scaled to the map's own largest value
  const image = greyTile(i, run, layer, 'actual'), top = image.data.reduce((most, v, k) => k % 4 ? most : Math.max(most, v), 1);
  return {image, values: image.data.map(v => 255 * v / top)};
}

function drawDifference(context, i, layerA, layerB) {
  const a = scaledTile(i, state.a, layerA), {image, values} = scaledTile(i, state.b, layerB);
  for (let k = 0; k < values.length; k += 4) image.data.set(DIFFERENCE[(256 + values[k] - a.values[k]) >> 1], k);
  context.putImageData(image, 0, 0);
}

function differences(i) { // One for each layer, or for the last ones of networks with other layers
  const [a, b] = [state.a, state.b].map(run => data.runs[run].layers), found = similarity(i);
  if (!hasMap(i) || found === undefined) return [];
  const pairs = String(a) === String(b) ? a.map((_, l) => [l, l]) : [[a.length - 1, b.length - 1]];
  const shown = pairs.map(([k, l]) => panel(`Heat map of B minus that of A at ${b[l]} for the actual class, image ${data.file[i]}`, b[l],
    canvas('difference', data.maps.side, c => drawDifference(c, i, k, l))));
  const words = found === null ? 'no similarity: a map is constant' : `similarity ${found.toFixed(2).replace('-', '−')}`;
  const line = element('p', {class: 'line'}, element('b', {}, 'B − A'), `for the actual class, ${words}`), below = element('div', {class: 'panel'});
  return [element('div', {class: 'between'}, line, element('div', {class: 'panels'}, below, ...shown))]; // each below its layer
}

function prediction(i, run) {
  const p = data.predictions[run], right = isRight(run, i);
  const sure = share => span('sure', `(${percent(share)})`);
  const actual = [name(data.classes[data.actual[i]]), ' ', sure(p.p_actual[i])];
  const predicted = [name(data.classes[p.predicted[i]]), ' ', sure(p.p[i])];
  const own = isTrain(i) ? 'label' : 'actual';
  return [right ? span('', `${own} and predicted `, ...actual) : span('', `${own} `, ...actual, ', predicted ', ...predicted),
    span(right ? 'right' : 'wrong', right ? '✓ right' : '✗ wrong'), span('loss', `loss ${p.loss[i].toFixed(2)}`)];
}

function lifeLine(i) { // What happened to a training image
  const learned = ofLife('learned', i), forgotten = ofLife('forgotten', i), was = ofLife('was', i);
  const changed = was && [span('wrong', 'label changed on purpose, from ', name(was))];
  return element('p', {class: 'line life'}, ...(changed || []), span('', learned ? `learned in epoch ${learned} of ${train.epochs}` : 'not learned'),
    span('', forgotten ? `forgotten ${count(forgotten, 'time')}` : 'never forgotten'), span('', `mean margin ${ofLife('aum', i).toFixed(2).replace('-', '−')}`));
}

function svg(tag, attributes) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function confidenceCurve(i) { // In percent by epoch; -1 where the image wasn't seen
  const values = ofLife('curve', i), seen = values.filter(v => v >= 0), last = Math.max(values.length - 1, 1);
  const label = `Confidence in the label over ${count(values.length, 'epoch')}: from ${seen[0]} % to ${seen.at(-1)} %, at most ${Math.max(...seen)} %`;
  const node = svg('svg', {viewBox: '-3 -3 106 36', role: 'img', 'aria-label': label});
  const points = values.flatMap((v, e) => v < 0 ? [] : [[100 * e / last, 30 - .3 * v].map(o => o.toFixed(1))]), [cx, cy] = points.at(-1);
  node.append(svg('path', {class: 'scale', d: 'M0 0H100M0 15H100M0 30H100'}), svg('path', {d: `M${points.join('L')}`}), svg('circle', {cx, cy, r: 2}));
  return element('p', {class: 'confidence'}, node, `confidence in the label: ${seen.at(-1)} % in the last epoch`);
}

function cardParts(i) {
  const file = element('p', {class: 'file'}, element('bdi', {}, data.file[i]));
  const past = isTrain(i) ? [lifeLine(i), confidenceCurve(i)] : [];
  if (report) return [element('h3', {class: 'line'}, ...prediction(i, 0)), file, ...past, panels(i, 0)];
  const rows = [state.a, state.b].map(run => element('div', {class: 'run'},
    element('p', {class: 'line'}, element('b', {}, name(data.runs[run].name)), ...prediction(i, run)), panels(i, run)));
  return [element('h3', {class: 'line'}, span('', 'actual ', name(data.classes[data.actual[i]]))), file, ...rows, ...differences(i)];
}

function card(i) {
  const enlarge = element('button', {type: 'button', class: 'enlarge', 'aria-label': `Enlarge ${data.file[i]}`, title: 'Enlarge'}, '⤢');
  const node = element('li', {tabindex: '-1'}, ...cardParts(i), enlarge);
  enlarge.addEventListener('click', () => enlargeImage(i));
  for (const o of node.querySelectorAll('.stack')) o.addEventListener('click', () => enlargeImage(i));
  return node;
}

// One image alone, large. The arrow keys go to the next and the previous one of those found

function enlargeImage(i) {
  const dialog = byId('large'), at = found.indexOf(i);
  dialog.dataset.image = i;
  byId('large-card').replaceChildren(...cardParts(i));
  byId('large-place').textContent = `${number(at + 1)} of ${number(found.length)}`;
  byId('large-before').disabled = at <= 0;
  byId('large-after').disabled = at >= found.length - 1;
  if (!dialog.open) dialog.showModal();
  remember();
}

function step(by) {
  const next = found[found.indexOf(+byId('large').dataset.image) + by];
  if (next !== undefined) enlargeImage(next);
}

function keyOfLarge(event) {
  const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  if (!by) return;
  event.preventDefault();
  step(by);
}

function showMore() {
  const from = cards.children.length;
  cards.append(...found.slice(from, from + data.step).map(card));
  const left = found.length - cards.children.length;
  more.hidden = left === 0;
  more.textContent = `Show more (${number(left)} left)`;
  if (more.hidden && from) cards.children[from].focus({preventScroll: true});
  byId('status').textContent = statusText();
}

// The controls, and the images that they choose

function matches(i) {
  return KINDS[state.kind](i) && !state.problem && (state.actual === '' || data.actual[i] === +state.actual) &&
    (state.predicted === '' || data.predictions[state.b].predicted[i] === +state.predicted) &&
    data.file[i].toLowerCase().includes(state.text.toLowerCase()) && (!isTrain(i) || !lifeMap || lifeMap.contains(point(i)));
}

const point = i => ({x: ofLife('variability', i), y: ofLife('confidence', i)}); // on the data map

function statusText() {
  const training = isOfTraining(state.kind), which = ['all', 'any'].includes(state.kind) ? '' : `${(WORDS[state.kind] ?? state.kind).replace(' ', '-')} `;
  const what = which + (training ? 'training image' : state.kind === 'doubtful' ? 'test image' : 'image'), all = indices.filter(KINDS[state.kind]).length;
  const {images, maps} = (training ? train : data).pictures;
  const plain = images ? found.filter(i => !hasPicture(i)).length : 0;
  const bare = maps ? found.filter(i => !hasMap(i)).length : 0;
  if (state.problem) return `${state.problem} No image is shown.`;
  if (!all) return `No ${what}s.`;
  if (!found.length) return `No match among ${count(all, what)}. ${missingOfPair()}Change a filter or press Reset.`;
  return (found.length < all ? `${number(found.length)} of ` : '') + count(all, what) +
    (more.hidden ? '. ' : `, showing the first ${number(cards.children.length)}. `) +
    (images ? '' : 'This page was written without its images. ') +
    (data.runs.some(run => run.layers.length) ? '' : 'No layer has maps, so there are no heat maps. ') +
    (plain ? `${number(plain)} without a picture: this page has room for ${number((training ? train : data).images.n)}. ` : '') +
    (bare ? `${number(bare)} without heat maps: this page has them for ${count(indices.filter(i => hasMap(i) && isTrain(i) === training).length, 'image')}. ` : '') +
    missingOfPair() +
    (training ? unlistedTraining(all) : '') +
    (!training && data.unlisted && (data.cut || state.kind === 'all') ? `Not on this page: ${data.unlisted}.` : '');
}

function unlistedTraining(all) { // How many of this kind the page leaves out
  const n = totalOf(state.kind);
  return (lifeMap?.box ? 'Chosen on the data map. ' : '') + (n > all ? `Not on this page: ${count(n - all, 'more such training image')}.` : '');
}

function missingOfPair() { // Images of a cell of the matrix that this page leaves out
  if (!data.cut || !report || state.kind !== 'all' || state.actual === '' || state.predicted === '') return '';
  const left = pairCount(+state.actual, +state.predicted) - indices.filter(i => !isTrain(i) && data.actual[i] === +state.actual && data.predictions[0].predicted[i] === +state.predicted).length;
  return left > 0 ? `${count(left, 'image')} of these two classes ${left === 1 ? "isn't" : "aren't"} on this page. ` : '';
}

function pairCount(actual, predicted) {
  const cell = cells.find(o => +o.dataset.actual === actual && +o.dataset.predicted === predicted);
  if (cell) return +cell.dataset.n;
  return matrix ? matrix.count({row: matrix.classes.indexOf(actual), column: matrix.classes.indexOf(predicted)}) : 0;
}

function showLegend() {
  const signed = state.maps === 'difference', [low, bar, high] = byId('legend').children;
  [low.textContent, high.textContent] = signed ? ['for the actual class', 'for the predicted class'] : ['unimportant', 'important'];
  bar.style.background = `linear-gradient(to right, ${(signed ? BLUE_RED : INFERNO).map(o => `#${o}`)})`;
}

function showPair() {
  const [a, b] = [state.a, state.b].map(run => element('b', {}, name(data.runs[run].name)));
  byId('pair').replaceChildren('A is ', a, ', B is ', b, '. Fixed: wrong in A, right in B. Broken: right in A, wrong in B.',
    data.similarity?.[pairKey()] ? ' B − A is red where the heat map of B is higher for the actual class, and blue where that of A is. The similarity is that of the last layer.' : '');
}

function look() { // Changes that need no new cards
  gallery.style.setProperty('--blend', field.blend.value / 100);
  gallery.style.setProperty('--size', `${field.size.value}px`);
  gallery.style.setProperty('--rendering', data.images.side < field.size.value ? 'pixelated' : 'auto');
}

function update() {
  const classes = ['actual', 'predicted'].map(o => [o, chosenClass(field[o])]);
  state = {a: 0, b: 0, ...Object.fromEntries(new FormData(form)), ...Object.fromEntries(classes.map(([o, {chosen}]) => [o, chosen]))};
  state.problem = classes.map(([, {problem}]) => problem).find(Boolean);
  found = indices.filter(matches).sort(SORTS[state.sort]);
  for (const kind in KINDS) counts[kind].textContent = countText(kind);
  showBox();
  if (!report) showPair();
  showLegend();
  look();
  markCell();
  cards.replaceChildren();
  showMore();
  remember();
}

function countText(kind) { // Of the run's training images, a page may leave out some
  const n = indices.filter(KINDS[kind]).length, all = isOfTraining(kind) ? totalOf(kind) : n;
  return n < all ? `${number(n)} of ${number(all)}` : number(n);
}

const totalOf = kind => kind === 'any' ? train.n : train.totals[kind];

function changed({target}) {
  if (target.type === 'range') {
    look();
    return remember();
  }
  // A run isn't compared with itself: the other select takes the run that this one had
  if (!report && field.a.value === field.b.value) field[target.name === 'a' ? 'b' : 'a'].value = state[target.name];
  if (target.name === 'kind') sortFor(target.value);
  if (target.name === 'sort' && target.value === 'elsewhere') field.maps.value = 'actual'; // the maps that were compared
  update();
}

const isOfTraining = kind => Boolean(train && kind in TRAINING);
const usualSort = kind => isOfTraining(kind) ? 'suspicion' : 'highest';

function sortFor(kind) { // Training images have another usual order than test images
  if (report && field.sort.value === usualSort(state.kind)) field.sort.value = usualSort(kind);
}

function chooseOnMap(box) { // Show the training images in a rectangle
  if (box && !isOfTraining(state.kind)) {
    field.kind.value = 'any';
    sortFor('any');
  }
  update();
}

function showBox() { // What the rectangle of the map chose; test images have no place in it
  if (!lifeMap) return;
  if (!isOfTraining(state.kind)) lifeMap.clear();
  const {box} = lifeMap, span = ([low, high]) => `${Math.max(low, 0).toFixed(2)} to ${high.toFixed(2)}`;
  byId('map-status').textContent = box ? `Variability ${span(box.x)}, confidence ${span(box.y)}: ${count(found.length, 'image')} shown.` : '';
  byId('map-clear').hidden = !box;
}

// The address: a link shows what you saw

const isDefault = node => node.tagName === 'SELECT' ? node.selectedIndex === Math.max([...node.options].findIndex(o => o.defaultSelected), 0) : node.value === node.defaultValue;

function remember() { // Write the choices that aren't defaults into the address
  const parts = new URLSearchParams(), first = Object.keys(KINDS)[0];
  if (state.kind !== first) parts.set('kind', state.kind);
  for (const node of form.elements) if (node.name && node.type !== 'radio' && !isDefault(node)) parts.set(node.name, classNames(node));
  if (lifeMap?.box) parts.set('box', [...lifeMap.box.x, ...lifeMap.box.y].map(o => o.toFixed(3)).join(','));
  if (byId('large').open) parts.set('image', data.file[+byId('large').dataset.image]);
  const known = String(parts);
  if (known || location.hash.includes('=')) try { history.replaceState(null, '', `#${known}`); } catch { } // not in a frame without an address
}

const classNames = node => ['actual', 'predicted'].includes(node.name) && node.tagName === 'SELECT' ? data.classes[node.value] : node.value;

function recall() { // Choose what the address says
  const parts = new URLSearchParams(location.hash.slice(1));
  for (const [key, value] of parts) if (location.hash.includes('=')) recallOne(key, value);
  update();
  const box = (parts.get('box') ?? '').split(',').map(Number);
  if (lifeMap && box.length === 4 && box.every(Number.isFinite)) lifeMap.set({x: box.slice(0, 2), y: box.slice(2)});
  const image = found.find(i => data.file[i] === parts.get('image'));
  if (image !== undefined) enlargeImage(image);
}

function recallOne(key, value) {
  if (key === 'kind' && value in KINDS) field.kind.value = value;
  const node = ['kind', 'box', 'image'].includes(key) ? null : field.namedItem(key);
  if (!node || !('value' in node)) return;
  const chosen = node.tagName === 'SELECT' && ['actual', 'predicted'].includes(key) ? String(data.classes.indexOf(value)) : value;
  if (node.tagName !== 'SELECT' || [...node.options].some(o => o.value === chosen)) node.value = chosen;
}

// Choosing a class. With many, you type the beginning of its name

const MANY = 30, SUGGESTED = 50;
const lower = data.classes.map(o => o.toLowerCase());

function typedClass(select) { // Replace a list of many classes by a field for text
  const input = element('input', {type: 'text', name: select.name, list: 'class-names', placeholder: 'any', autocomplete: 'off', spellcheck: 'false'});
  input.addEventListener('input', () => suggest(input));
  input.addEventListener('focus', () => suggest(input));
  select.replaceWith(input);
}

function suggest(input) {
  const text = input.value.trim().toLowerCase(), starts = [], contains = [];
  for (const [i, name] of lower.entries()) {
    if (name.startsWith(text)) starts.push(i);
    else if (name.includes(text)) contains.push(i);
    if (starts.length >= SUGGESTED) break;
  }
  byId('class-names').replaceChildren(...[...starts, ...contains].slice(0, SUGGESTED).map(i => new Option('', data.classes[i])));
}

function chosenClass(node) { // The number of a class as text, '' for any, and what's wrong with what was typed
  if (node.tagName === 'SELECT') return {chosen: node.value};
  const text = node.value.trim(), small = text.toLowerCase(), numbers = [...lower.keys()];
  const given = node.dataset.chosen, exact = data.classes.indexOf(text);
  if (text === '') return typed(node, '');
  if (given !== undefined && data.classes[given] === node.value) return typed(node, given);
  if (exact >= 0) return typed(node, exact);
  for (const fits of [i => lower[i] === small, i => lower[i].startsWith(small)]) {
    const some = numbers.filter(fits);
    if (some.length === 1) return typed(node, some[0]);
    if (some.length) return typed(node, '', `“${text}” is the beginning of ${number(some.length)} classes: type more.`);
  }
  return typed(node, '', `No class begins with “${text}”.`);
}

function typed(node, chosen, problem) {
  node.setAttribute('aria-invalid', Boolean(problem));
  return {chosen: String(chosen), problem};
}

function setClass(node, chosen) {
  node.value = node.tagName === 'SELECT' ? chosen : data.classes[chosen];
  node.dataset.chosen = chosen;
}

function fillControls() {
  const fill = (select, texts, chosen) => select.append(...texts.map((text, i) => new Option(text, i, i === chosen, i === chosen)));
  for (const o of ['actual', 'predicted']) data.classes.length > MANY ? typedClass(field[o]) : fill(field[o], data.classes);
  if (data.images.side > 64) field.size.defaultValue = Math.min(data.images.side, 128);
  for (const [chosen, select] of [field.a, field.b].filter(Boolean).entries()) {
    fill(select, data.runs.map(run => run.name), chosen);
    select.parentNode.hidden = data.runs.length === 2;
  }
  field.maps.append(...data.targets.map(o => new Option(`${o} class`, o)));
  if (data.targets.length > 1) field.maps.append(new Option('predicted − actual', 'difference'));
  for (const node of [field.maps.parentNode, field.blend.parentNode, byId('legend')]) node.hidden = !data.pictures.maps;
  for (const kind in KINDS) {
    counts[kind] = element('b');
    const kinds = byId(isOfTraining(kind) ? 'training-kinds' : 'kinds'), label = span('', `${WORDS[kind] ?? kind} `, counts[kind]);
    kinds.append(element('label', {}, element('input', {type: 'radio', name: 'kind', value: kind}), label));
  }
  byId('kinds').querySelector('input').defaultChecked = true;
  gallery.style.setProperty('--panels', 1 + (data.pictures.maps ? Math.max(...data.runs.map(run => run.layers.length)) : 0));
}

// The confusion matrix: one Tab stop, arrow keys between cells

function markCell() {
  const exact = state.kind === 'all' && state.text === '';
  matrix?.mark(...['actual', 'predicted'].map(o => exact && state[o] !== '' ? +state[o] : null));
  for (const o of cells) o.setAttribute('aria-pressed', exact && o.dataset.actual === state.actual && o.dataset.predicted === state.predicted);
}

function enterCell(cell) {
  for (const o of cells) o.tabIndex = o === cell ? 0 : -1;
}

function showCell(cell) {
  enterCell(cell);
  showPairOf(cell.dataset.actual, cell.dataset.predicted);
}

function showPairOf(actual, predicted) {
  setClass(field.actual, actual);
  setClass(field.predicted, predicted);
  [field.kind.value, field.text.value] = ['all', ''];
  update();
  byId('gallery-title').focus({preventScroll: true});
  gallery.scrollIntoView();
}

function nearest(cell, rows) { // The nearest cell of the first row that has any
  const row = rows.map(o => [...o.querySelectorAll('button')]).find(o => o.length) ?? [];
  const far = o => Math.abs(o.dataset.predicted - cell.dataset.predicted);
  return row.sort((a, b) => far(a) - far(b))[0];
}

function moveInMatrix(event) {
  const cell = event.target, at = cells.indexOf(cell), own = cell.closest('tr'), rows = [...own.parentNode.rows], row = rows.indexOf(own);
  const inRow = own.querySelectorAll('button');
  const next = {
    ArrowLeft: () => cells[at - 1], ArrowRight: () => cells[at + 1], Home: () => inRow[0], End: () => inRow[inRow.length - 1],
    ArrowUp: () => nearest(cell, rows.slice(0, row).reverse()), ArrowDown: () => nearest(cell, rows.slice(row + 1)),
  }[event.key]?.();
  if (!next) return;
  event.preventDefault();
  enterCell(next);
  next.focus();
}

// Start

async function decoded(url) {
  if (!url) return null;
  const image = new Image();
  image.src = url;
  await image.decode();
  return createImageBitmap(image, {colorSpaceConversion: 'none'});
}

async function showMatrix() { // The picture of many classes, if there is one
  const node = byId('matrix');
  if (!node) return;
  const picture = await decoded(node.dataset.url), some = JSON.parse(node.dataset.classes);
  matrix = new Matrix(byId('matrix-picture'), picture, some ?? [...data.classes.keys()], +node.dataset.least, showPairOf);
  for (const button of node.querySelectorAll('[data-zoom]')) button.addEventListener('click', () => matrix.zoomBy(+button.dataset.zoom));
  node.hidden = false;
}

async function showMap() { // The data map, if the page has training images
  if (!train) return;
  lifeMap = new LifeMap(byId('life-map'), await decoded(train.density), indices.filter(isTrain).map(point), chooseOnMap);
  byId('map-clear').addEventListener('click', () => lifeMap.set(null));
  for (const id of ['data-map', 'training-row']) byId(id).hidden = false;
}

async function decodePictures(sheet) {
  const [images, maps] = await Promise.all([sheet.images.url, sheet.maps.url].map(decoded));
  sheet.pictures = {images, maps};
}

async function start() {
  await Promise.all([data, train].filter(Boolean).map(decodePictures));
  await showMatrix();
  await showMap();
  await showFilm(data.film, data.classes);
  fillControls();
  form.addEventListener('input', changed);
  form.addEventListener('submit', event => event.preventDefault());
  form.addEventListener('reset', () => setTimeout(() => lifeMap?.box ? lifeMap.set(null) : update()));
  more.addEventListener('click', showMore);
  for (const cell of cells) cell.addEventListener('click', () => showCell(cell));
  for (const cell of cells) cell.addEventListener('keydown', moveInMatrix);
  if (cells.length) enterCell(cells[0]);
  byId('chosen').textContent = data.chosen;
  byId('chosen').hidden = !data.chosen;
  form.hidden = false;
  byId('large').addEventListener('keydown', keyOfLarge);
  byId('large').addEventListener('close', remember);
  for (const [id, by] of [['large-before', -1], ['large-after', 1]]) byId(id).addEventListener('click', () => step(by));
  byId('large-close').addEventListener('click', () => byId('large').close());
  addEventListener('hashchange', () => location.hash.includes('=') && recall());
  recall();
}

start();
