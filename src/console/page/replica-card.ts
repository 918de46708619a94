import type { ReplicaLine } from '../messages.js';
import { amount, h, keyed, setClass, setText } from './elements.js';

/** A replica: what it does now, and which sessions it has. */
export function replicaCard(first: ReplicaLine) {
  const state = h('span');
  const work = h('div', { class: 'faint' });
  const figures = h('div', { class: 'faint' });
  const chips = h('ul', { class: 'chips', 'aria-label': 'Models' });
  let running: string | undefined;
  const update = keyed<ReplicaLine['models'][number]>(chips, sessionKey, () => {
    const element = h('li');
    return {
      element,
      update(session) {
        const { id, version, isLoading, isWide, isShared } = session;
        const marks = [isWide && 'wide', isShared && 'shared', isLoading && 'loading'].filter((mark) => mark !== false);
        setText(element, `${id}@${version}${marks.length === 0 ? '' : ` (${marks.join(', ')})`}`);
        setClass(element, isLoading ? 'loading' : running === id ? 'running' : '');
      },
    };
  });
  return {
    element: h(
      'article',
      { class: 'replica', 'aria-label': first.id },
      h('header', {}, h('strong', {}, first.id), state),
      work,
      figures,
      chips,
    ),
    update(replica: ReplicaLine) {
      running = replica.work?.model;
      setText(state, replica.state);
      setClass(state, replica.state === 'running' ? 'good' : replica.state === 'failed' ? 'bad' : 'warn');
      setText(work, workOf(replica));
      const { perSecond, ongoing, restarts, isExpress } = replica;
      const more = [isExpress && 'express', restarts > 0 && `${restarts} restarts`].filter((each) => each !== false);
      setText(figures, [`${amount(perSecond)} requests / s`, `${ongoing} with it`, ...more].join(' · '));
      update(replica.models);
    },
  };
}

function sessionKey({ id, version, isWide }: ReplicaLine['models'][number]): string {
  return `${id}@${version}${isWide ? ' wide' : ''}`;
}

function workOf({ work, models }: ReplicaLine): string {
  const loading = models.find(({ isLoading }) => isLoading);
  if (loading !== undefined) return `loads ${loading.id}`;
  if (work === undefined) return 'has nothing to do';
  const what = work.model === '' ? 'its handler' : work.model;
  return `runs ${what}${work.isWide ? ' with several threads' : ''} for ${work.requests === 1 ? 'a request' : `${work.requests} requests`}`;
}
