import { IndexedHeap } from '../../dist/common/indexed-heap.js';
import { type Outcome, Outcomes } from './outcome.js';
import type { Setting } from './setting.js';
import { Workload } from './workload.js';

/** Simulates the best possible router: one queue before all replicas, which have all models. */
export function simulateCentralQueue(setting: Setting, seed: number): Outcome {
  const workload = new Workload(setting, seed);
  const outcomes = new Outcomes(setting);
  const replicas = new IndexedHeap<{ freeAt: number }>((left, right) => left.freeAt < right.freeAt);
  for (let index = 0; index < setting.replicas; index += 1) replicas.set({ freeAt: 0 });
  let now = 0;
  while (!outcomes.isAllArrived) {
    const { gapMs, serviceMs } = workload.next();
    now += gapMs;
    const replica = replicas.pop() as { freeAt: number };
    replica.freeAt = Math.max(now, replica.freeAt) + serviceMs;
    replicas.set(replica);
    outcomes.answered(outcomes.arrived(), replica.freeAt - now);
  }
  return outcomes.result();
}
