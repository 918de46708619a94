import { expect, it } from 'vitest';
import type { PendingRequest } from '../../../dist/routing/pending-request.js';
import { AbortSignals } from '../../../dist/routing/queues/abort-signals.js';

/** A signal that is none of Node's, and counts what is done to it. */
class CountingSignal {
  readonly calls: string[] = [];
  readonly listeners = new Set<() => void>();
  readonly signal: AbortSignal;

  constructor() {
    this.signal = {
      aborted: false,
      addEventListener: (_: string, listener: () => void) => {
        this.calls.push('add');
        this.listeners.add(listener);
      },
      removeEventListener: (_: string, listener: () => void) => {
        this.calls.push('remove');
        this.listeners.delete(listener);
      },
    } as unknown as AbortSignal;
  }

  abort(): void {
    for (const listener of [...this.listeners]) listener();
  }
}

const pending = (sequence: number) => ({ sequence }) as PendingRequest;

it('adds one listener for all requests of a signal, and removes it with the last of them', () => {
  const shared = new CountingSignal();
  const signals = new AbortSignals(() => undefined);
  const ends = Array.from({ length: 1_000 }, (_, index) => signals.listen(shared.signal, pending(index)));
  for (const end of ends.slice(1)) end();
  expect(shared.calls).toEqual(['add']);
  ends[0]?.();
  expect(shared.calls).toEqual(['add', 'remove']);
  // As good as new: nothing is kept of the requests before.
  signals.listen(shared.signal, pending(0))();
  expect({ calls: shared.calls, listeners: shared.listeners.size }).toEqual({
    calls: ['add', 'remove', 'add', 'remove'],
    listeners: 0,
  });
});

it('tells of the requests of an aborted signal that still listen, once, in the order of their arrival', () => {
  const [shared, other] = [new CountingSignal(), new CountingSignal()];
  const aborted: number[] = [];
  const ends = new Map<number, () => void>();
  const signals = new AbortSignals(({ sequence }) => {
    aborted.push(sequence);
    ends.get(sequence)?.();
  });
  for (let index = 0; index < 6; index += 1) {
    const { signal } = index === 3 ? other : shared;
    ends.set(index, signals.listen(signal, pending(index)));
  }
  for (const index of [0, 4]) ends.get(index)?.();
  shared.abort();
  shared.abort();
  expect(aborted).toEqual([1, 2, 5]);
  // The signal does not know `once`.
  expect(shared.calls).toEqual(['add', 'remove']);
});

it('keeps nothing of a signal that refuses to be listened to', () => {
  const shared = new CountingSignal();
  const signals = new AbortSignals(() => undefined);
  const { addEventListener } = shared.signal;
  shared.signal.addEventListener = () => {
    throw new TypeError('not now');
  };
  expect(() => signals.listen(shared.signal, pending(0))).toThrow('not now');
  shared.signal.addEventListener = addEventListener;
  signals.listen(shared.signal, pending(1))();
  expect(shared.calls).toEqual(['add', 'remove']);
});
