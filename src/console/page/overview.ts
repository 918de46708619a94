import type { EventLine, ModelLine, ReplicaLine, Snapshot } from '../messages.js';
import { Chart } from './charts.js';
import { amount, clockTime, h, keyed, milliseconds, setClass, setText } from './elements.js';
import { deploymentTable, endpointTable, errorTable, modelTable } from './lists.js';
import { replicaCard } from './replica-card.js';

/** A part of the page: what it shows, and how it is brought up to date. */
export interface View {
  readonly title: string;
  readonly elements: readonly HTMLElement[];
  update(snapshot: Snapshot): void;
}

/** Draws the charts of the last minutes, whichever part of the page is seen. */
export class History {
  readonly throughput = new Chart('Requests per second', [{ name: 'answered' }, { name: 'failed' }]);
  readonly latency = new Chart('Latency, ms', [{ name: 'p50' }, { name: 'p95' }, { name: 'p99' }]);
  readonly queue = new Chart('Requests in progress', [{ name: 'waiting' }, { name: 'with replicas' }]);
  readonly loads = new Chart('Sessions per second', [{ name: 'loaded' }, { name: 'evicted' }]);

  add({ at, total }: Snapshot): void {
    const { requests, errors, latency, queued, ongoing, loads, evictions } = total;
    this.throughput.add(at, [requests, errors]);
    this.latency.add(at, [latency?.p50, latency?.p95, latency?.p99]);
    this.queue.add(at, [queued, ongoing]);
    this.loads.add(at, [loads, evictions]);
  }

  get all(): readonly Chart[] {
    return [this.throughput, this.latency, this.queue, this.loads];
  }
}

export function overview(history: History): View {
  const tiles = tileList();
  const deployments = deploymentTable();
  const endpoints = endpointTable();
  const models = modelTable();
  const errors = errorTable();
  return {
    title: 'Overview',
    elements: [
      tiles.element,
      h('div', { class: 'charts' }, ...history.all.map(({ element }) => element)),
      card('Deployments', deployments.element),
      card('Endpoints', endpoints.element),
      card('Models', models.element),
      card('Errors of requests', errors.element),
    ],
    update(snapshot) {
      tiles.update(snapshot);
      deployments.update(snapshot.deployments);
      endpoints.update(snapshot.endpoints);
      models.update(busiest(snapshot.models));
      errors.update(snapshot.errors.slice(0, 10));
    },
  };
}

function busiest(models: readonly ModelLine[]): readonly ModelLine[] {
  const sorted = [...models].sort((left, right) => right.requests - left.requests || right.replicas - left.replicas);
  return sorted.slice(0, 12);
}

export function modelsView(): View {
  const models = modelTable();
  const count = h('p', { class: 'faint' });
  let latest: Snapshot | undefined;
  const filter = h('input', { type: 'search', id: 'filter', placeholder: 'part of an id', oninput: () => draw() });
  const draw = () => {
    if (latest === undefined) return;
    const wanted = filter.value.toLowerCase();
    const found = latest.models.filter(({ id }) => id.toLowerCase().includes(wanted));
    models.update(found);
    const { modelCount } = latest;
    const shown = latest.models.length < modelCount ? `, the ${latest.models.length} busiest of which are here` : '';
    setText(count, `${modelCount} versions of models${shown}`);
  };
  return {
    title: 'Models',
    elements: [
      card('Models', h('div', { class: 'row' }, h('label', { for: 'filter' }, 'Find'), filter, count), models.element),
    ],
    update(snapshot) {
      latest = snapshot;
      draw();
    },
  };
}

export function replicasView(): View {
  const grid = h('div', { class: 'replicas' });
  const update = keyed<ReplicaLine>(grid, ({ id }) => id, replicaCard);
  return {
    title: 'Replicas',
    elements: [grid],
    update: ({ replicas }) => update(replicas),
  };
}

export function eventsView(): View {
  const list = h('ol', { class: 'events', tabindex: '0', 'aria-label': 'Events, the newest first' });
  const none = h('p', { class: 'faint' }, 'Nothing has happened yet.');
  const update = keyed<EventLine>(
    list,
    ({ number }) => String(number),
    ({ at, kind, text }) => ({
      element: h(
        'li',
        {},
        h('time', { datetime: new Date(at).toISOString() }, clockTime(at)),
        h(
          'span',
          {
            class: ['failure', 'load-failed'].includes(kind)
              ? 'bad'
              : kind === 'warning' || kind === 'eviction'
                ? 'warn'
                : '',
          },
          text,
        ),
      ),
      update: () => undefined,
    }),
  );
  const errors = errorTable();
  return {
    title: 'Events',
    elements: [card('What happened', none, list), card('Errors of requests, since the page is open', errors.element)],
    update(snapshot) {
      none.hidden = snapshot.events.length > 0;
      update([...snapshot.events].reverse());
      errors.update(snapshot.errors);
    },
  };
}

function card(title: string, ...children: readonly HTMLElement[]): HTMLElement {
  return h('section', { class: 'card', 'aria-label': title }, h('h2', {}, title), ...children);
}

function tileList() {
  const list: readonly (readonly [string, (snapshot: Snapshot) => string, ((snapshot: Snapshot) => boolean)?])[] = [
    ['requests / s', ({ total }) => amount(total.requests)],
    ['p50', ({ total }) => milliseconds(total.latency?.p50)],
    ['p99', ({ total }) => milliseconds(total.latency?.p99)],
    ['errors / s', ({ total }) => amount(total.errors), ({ total }) => total.errors > 0],
    ['waiting', ({ total }) => amount(total.queued)],
    ['requests a call', ({ total }) => (total.batch === undefined ? '–' : amount(total.batch))],
    [
      'replicas',
      ({ replicas }) => `${replicas.filter(({ state }) => state === 'running').length} of ${replicas.length}`,
    ],
    ['sessions', ({ replicas }) => String(replicas.reduce((sum, { models }) => sum + models.length, 0))],
  ];
  const values = list.map(() => h('dd'));
  const tiles = list.map(([name], index) => h('div', { class: 'tile' }, h('dt', {}, name), values[index]));
  return {
    element: h('dl', { class: 'tiles', 'aria-label': 'Now' }, ...tiles),
    update(snapshot: Snapshot) {
      for (const [index, [, text, isBad]] of list.entries()) {
        setText(values[index] as Node, text(snapshot));
        setClass(tiles[index] as Element, isBad?.(snapshot) === true ? 'tile bad' : 'tile');
      }
    },
  };
}
