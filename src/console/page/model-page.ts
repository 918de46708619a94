import type {
  ModelDescription,
  Snapshot,
  TrialInput,
  TrialOutput,
  TrialRequest,
  TrialResult,
  ValueDescription,
} from '../messages.js';
import { Chart } from './charts.js';
import { amount, bytes, h, milliseconds, reasonOf, setText } from './elements.js';
import type { View } from './overview.js';
import { dropPlace, type PictureForm, pictureForm, pixelsOf, RANGES } from './pictures.js';
import { ask } from './server.js';

/** Most elements that the form fills in by itself. */
const MOST_FILLED = 4_096;

/** The page of one model: what it takes and gives, how it does, and a form to try it. */
export function modelPage(id: string): View {
  const throughput = new Chart('Requests per second', [{ name: 'answered' }, { name: 'failed' }]);
  const latency = new Chart('Latency, ms', [{ name: 'p50' }, { name: 'p95' }, { name: 'p99' }]);
  const facts = h('p', { class: 'faint' }, 'The model is loaded, so that its inputs are known …');
  const trial = h('section', { class: 'card', 'aria-label': 'Try it' }, h('h2', {}, 'Try it'), facts);
  const where = h('p', { class: 'faint' });
  const admin = h('div', { class: 'row', hidden: true });
  const outcome = h('span', { class: 'faint', role: 'status' });
  const change = (what: 'load' | 'unload') => async () => {
    setText(outcome, `${what}ing …`);
    const path = `api/admin/${what}?model=${encodeURIComponent(id)}`;
    const done = await ask(path, { method: 'POST' }).then(
      () => `${what}ed`,
      (error: Error) => error.message,
    );
    setText(outcome, done);
  };
  admin.append(
    h('button', { type: 'button', class: 'act', onclick: () => void change('load')() }, 'Load'),
    h('button', { type: 'button', class: 'act', onclick: () => void change('unload')() }, 'Unload'),
    outcome,
  );
  ask<ModelDescription>(`api/model?model=${encodeURIComponent(id)}`).then(
    (model) => {
      setText(facts, describe(model));
      trial.append(trialForm(model));
    },
    (error: Error) => {
      setText(facts, error.message);
      facts.className = 'bad';
    },
  );
  return {
    title: id,
    elements: [
      h('section', { class: 'card', 'aria-label': id }, h('h2', {}, id), where, admin),
      trial,
      h('div', { class: 'charts' }, throughput.element, latency.element),
    ],
    update(snapshot: Snapshot) {
      const lines = snapshot.models.filter((line) => line.id === id);
      const [line] = lines;
      admin.hidden = !snapshot.isAdmin;
      const holders = snapshot.replicas.filter(({ models }) => models.some((session) => session.id === id));
      const places = holders.length === 0 ? 'no replica' : holders.map((replica) => replica.id).join(', ');
      const versions = lines.map(({ version }) => version).join(', ') || 'unknown';
      setText(where, `version ${versions} · loaded in ${places} · ${amount(line?.queued ?? 0)} waiting`);
      throughput.add(snapshot.at, [line?.requests, line?.errors]);
      latency.add(snapshot.at, [line?.latency?.p50, line?.latency?.p95, line?.latency?.p99]);
    },
  };
}

function describe({ bytes: size, licence, whyNotBatched, outputs }: ModelDescription): string {
  const batches = whyNotBatched === undefined ? 'its requests are batched' : `not batched: ${whyNotBatched}`;
  const gives = outputs.map((output) => `${output.name} ${shapeOf(output)}`).join(', ');
  return [bytes(size), licence, batches, `gives ${gives}`].filter((fact) => fact !== undefined).join(' · ');
}

function shapeOf({ type, shape }: ValueDescription): string {
  return `${type}[${shape.map((size) => (size === '' ? '?' : size)).join(', ')}]`;
}

interface Field {
  readonly name: string;
  readonly element: HTMLElement;
  /** @throws Error that says what is wrong. */
  read(): TrialInput;
}

function trialForm({ id, inputs }: ModelDescription): HTMLElement {
  const fields = inputs.map(inputField);
  const result = h('div', { 'aria-live': 'polite' });
  const button = h('button', { class: 'act main' }, 'Run');
  const submit = async () => {
    button.disabled = true;
    try {
      const given = Object.fromEntries(fields.map(({ name, read }) => [name, read()]));
      const body: TrialRequest = { target: id, inputs: given };
      result.replaceChildren(
        ...shown(await ask<TrialResult>('api/infer', { method: 'POST', body: JSON.stringify(body) })),
      );
    } catch (error) {
      result.replaceChildren(h('p', { class: 'bad' }, reasonOf(error)));
    } finally {
      button.disabled = false;
    }
  };
  return h(
    'form',
    {
      onsubmit: (event) => {
        event.preventDefault();
        void submit();
      },
    },
    ...fields.map(({ element }) => element),
    button,
    result,
  );
}

function inputField(input: ValueDescription): Field {
  const { name, type, shape } = input;
  const usual = pictureForm(input)?.dims ?? shape.map((size) => (typeof size === 'number' ? size : 1));
  const dims = h('input', { class: 'dims', id: `dims-${name}`, value: usual.join(' × '), autocomplete: 'off' });
  const elements = h('textarea', { id: `data-${name}`, spellcheck: 'false' });
  const readDims = () => {
    const sizes = dims.value.trim() === '' ? [] : dims.value.split(/[\s×x,]+/).map(Number);
    if (sizes.some((size) => !Number.isInteger(size) || size < 0))
      throw new Error(`${name}: the shape must be like 1 × 64`);
    return sizes;
  };
  const fill = (element: () => string) => () => {
    picture = undefined;
    const count = readDims().reduce((product, size) => product * size, 1);
    if (count > MOST_FILLED) filled = { count, element };
    else filled = undefined;
    elements.value =
      Array.from({ length: Math.min(count, MOST_FILLED) }, element).join(' ') + (count > MOST_FILLED ? ' …' : '');
  };
  let picture: Float32Array | undefined;
  /** What stands for elements that are too many to be shown. */
  let filled: { readonly count: number; readonly element: () => string } | undefined;
  const [zero, chance] = fillers(type);
  fill(zero)();
  const form = pictureForm(input);
  const drop =
    form &&
    pictureField(name, type, form, (pixels) => {
      picture = pixels;
      dims.value = form.dims.join(' × ');
      elements.value = 'the picture above';
    });
  elements.addEventListener('input', () => {
    [picture, filled] = [undefined, undefined];
  });
  return {
    name,
    element: h(
      'fieldset',
      {},
      h('legend', {}, `${name} ${shapeOf(input)}`),
      drop,
      h(
        'div',
        { class: 'row' },
        h('label', { for: `dims-${name}` }, 'Shape'),
        dims,
        h('button', { type: 'button', class: 'act', onclick: fill(zero) }, 'Zeros'),
        h('button', { type: 'button', class: 'act', onclick: fill(chance) }, 'Random'),
      ),
      h('label', { for: `data-${name}` }, type === 'string' ? 'Elements, one a line' : 'Elements'),
      elements,
    ),
    read() {
      if (picture !== undefined) return { type, dims: form?.dims ?? [], ...encoded(type, picture) };
      const sizes = readDims();
      if (filled !== undefined)
        return { type, dims: sizes, data: Array.from({ length: filled.count }, filled.element).map(plain(type)) };
      return { type, dims: sizes, data: elementsOf(elements.value, type).map(plain(type)) };
    },
  };
}

function pictureField(
  name: string,
  type: string,
  form: PictureForm,
  chosen: (pixels: Float32Array) => void,
): HTMLElement {
  let latest: ImageBitmap | undefined;
  const usual = form.dims.length === 2 ? 'ink, 0 to 16' : type.includes('int') ? '0 to 255' : '0 to 1';
  const options = Object.keys(RANGES).map((range) => h('option', { selected: range === usual }, range));
  const range = h('select', { id: `range-${name}`, onchange: () => draw() }, ...options);
  const draw = () => {
    if (latest !== undefined) chosen(pixelsOf(canvas, latest, form, range.value));
  };
  const { element, canvas } = dropPlace(name, (picture) => {
    latest = picture;
    draw();
  });
  element.append(h('p', {}, h('label', { for: `range-${name}` }, 'Pixels become '), range));
  return element;
}

function fillers(type: string): readonly [() => string, () => string] {
  if (type === 'string') return [() => 'text', () => Math.random().toString(36).slice(2, 8)];
  if (type === 'bool') return [() => 'false', () => String(Math.random() < 0.5)];
  if (/int/.test(type)) return [() => '0', () => String(Math.floor(100 * Math.random()))];
  return [() => '0', () => Math.random().toFixed(3)];
}

function elementsOf(text: string, type: string): string[] {
  if (type === 'string') return text.split(/\n/);
  return text.split(/[\s,[\]]+/).filter((part) => part !== '');
}

/** Large integers stay text, which the server reads exactly. */
function plain(type: string): (text: string) => string | number | boolean {
  if (type === 'string' || type === 'int64' || type === 'uint64') return (text) => text;
  if (type === 'bool') return (text) => text === 'true' || text === '1';
  return (text) => {
    const value = Number(text);
    if (Number.isNaN(value)) throw new Error(`${JSON.stringify(text)} is not a number`);
    return value;
  };
}

function encoded(type: string, pixels: Float32Array): { base64: string } | { data: number[] } {
  if (type !== 'float32')
    return { data: Array.from(pixels, (value) => (type === 'float64' ? value : Math.round(value))) };
  const view = new Uint8Array(pixels.buffer);
  let text = '';
  // In parts: a call takes only so many arguments.
  for (let at = 0; at < view.length; at += 32_768) text += String.fromCharCode(...view.subarray(at, at + 32_768));
  return { base64: btoa(text) };
}

function shown({ outputs, replica, batchSize, timings }: TrialResult): HTMLElement[] {
  const { queueMs, loadMs, runMs, totalMs } = timings;
  const times = [
    `${milliseconds(totalMs)} in all`,
    `${milliseconds(queueMs)} waiting`,
    loadMs > 0 && `${milliseconds(loadMs)} loading`,
    `${milliseconds(runMs)} running`,
  ];
  const facts = [
    ...times.filter((each) => each !== false),
    `in ${replica}`,
    batchSize > 1 && `with ${batchSize - 1} others`,
  ];
  return [
    h('p', { class: 'good' }, facts.filter((fact) => fact !== false).join(' · ')),
    ...Object.entries(outputs).flatMap(([name, output]) => [
      h('h3', {}, `${name} ${output.type}[${output.dims.join(', ')}]`),
      ...outputElements(output),
    ]),
  ];
}

function outputElements({ data, length, top }: TrialOutput): HTMLElement[] {
  const most = Math.max(...top.map(({ value }) => Math.abs(value)), 1e-9);
  const rows = top.flatMap(({ index, value }) => {
    const bar = h('i');
    bar.style.width = `${Math.max(0, (100 * value) / most)}%`;
    return [h('span', {}, `#${index}`), h('div', { class: 'bar' }, bar), h('span', {}, amountOf(value))];
  });
  const text = `${data.join(' ')}${length > data.length ? ` … (${length} in all)` : ''}`;
  return [...(top.length === 0 ? [] : [h('div', { class: 'top' }, ...rows)]), h('pre', { tabindex: '0' }, text)];
}

function amountOf(value: number): string {
  return value.toLocaleString('en', { maximumSignificantDigits: 4 });
}
