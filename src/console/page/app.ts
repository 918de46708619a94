/** The console: shows what the engine does, second by second. */
import type { Snapshot } from '../messages.js';
import { setClass, setText } from './elements.js';
import { modelPage } from './model-page.js';
import { eventsView, History, modelsView, overview, replicasView, type View } from './overview.js';
import { follow } from './server.js';

const main = document.querySelector('main') as HTMLElement;
const state = document.querySelector('#state') as HTMLElement;
const history = new History();
const views: Record<string, () => View> = {
  '': () => overview(history),
  models: modelsView,
  replicas: replicasView,
  events: eventsView,
};
/** Made once, so that they keep what the reader has typed or sorted. */
const made = new Map<string, View>();
let view: View | undefined;
let latest: Snapshot | undefined;

/** An address that somebody has typed may not be one. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function viewAt(address: string): View {
  const [, name = '', id = ''] = address.split('/');
  const key = name === 'model' ? address : name;
  const known = made.get(key);
  if (known !== undefined) return known;
  const created = name === 'model' ? modelPage(decoded(id)) : (views[name] ?? (() => overview(history)))();
  made.set(key, created);
  return created;
}

function show(isMove: boolean): void {
  const address = location.hash || '#/';
  view = viewAt(address);
  main.replaceChildren(...view.elements);
  document.title = `${view.title} – infermux`;
  for (const link of document.querySelectorAll('nav a')) {
    if (link.getAttribute('href') === address) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  if (latest !== undefined) view.update(latest);
  for (const chart of history.all) if (chart.element.isConnected) chart.draw();
  if (!isMove) return;
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
}

addEventListener('hashchange', () => show(true));
// The part of the address after the # names the view, so the link must not change it.
document.querySelector('.skip')?.addEventListener('click', (event) => {
  event.preventDefault();
  main.focus();
});
show(false);

void follow(
  (snapshot) => {
    latest = snapshot;
    history.add(snapshot);
    view?.update(snapshot);
    setText(state, snapshot.isReady ? `ready · ${snapshot.version}` : 'not ready');
    setClass(state, snapshot.isReady ? 'good' : 'bad');
  },
  (reason) => {
    setText(state, reason);
    setClass(state, 'bad');
  },
);
