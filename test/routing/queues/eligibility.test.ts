import { expect, it } from 'vitest';
import { eligibilityOf, type WaitingModel } from '../../../dist/routing/queues/eligibility.js';

const model = ({ waitedMs = 0, expectedLoadMs = 100, ...changes }: Partial<WaitingModel>): WaitingModel => ({
  waitedMs,
  expectedLoadMs,
  spillOf: () => ({ atOnce: false, inMs: expectedLoadMs - waitedMs }),
  warmReplicas: 1,
  replicas: 4,
  mayLoadInMs: 0,
  isOnTrial: false,
  goesByRequest: false,
  gatherMs: undefined,
  ...changes,
});

it.each<[string, Partial<WaitingModel>, string, number | undefined]>([
  ['no replica has it', { warmReplicas: 0 }, 'anywhere', undefined],
  ['every replica has it', { warmReplicas: 4, waitedMs: 9_999 }, 'warm', undefined],
  ['its requests wait for company', { gatherMs: 3, warmReplicas: 0 }, 'gathering', 3],
  ['that wait is over, but nobody has looked again', { gatherMs: -1 }, 'gathering', 0],
  ['it has just begun to wait', {}, 'warm', 100],
  ['it has waited almost as long as a load takes', { waitedMs: 99 }, 'warm', 1],
  ['it has waited as long as a load takes', { waitedMs: 100 }, 'spilling', 25],
  ['it is saturated', { spillOf: () => ({ atOnce: true, inMs: 70 }) }, 'spilling', 70],
  ['it is being loaded', { spillOf: () => ({ atOnce: false, inMs: Number.POSITIVE_INFINITY }) }, 'warm', 2_000],
  [
    'it is being loaded without an end',
    { waitedMs: 2_000, spillOf: () => ({ atOnce: false, inMs: Number.POSITIVE_INFINITY }) },
    'anywhere',
    undefined,
  ],
  ['it is saturated and its load failed', { mayLoadInMs: 9, spillOf: () => ({ atOnce: true, inMs: 70 }) }, 'warm', 9],
  ['its load failed a short while ago', { waitedMs: 100, mayLoadInMs: 700 }, 'warm', 700],
  ['it is tried for the first time', { isOnTrial: true, waitedMs: 9_999 }, 'trying', undefined],
  ['it has waited twenty loads', { waitedMs: 2_000 }, 'anywhere', undefined],
  ['it has waited twenty short loads', { waitedMs: 40, expectedLoadMs: 2 }, 'spilling', 10],
  ['its router goes by requests', { goesByRequest: true }, 'warm', 1],
  ['likewise, and it has waited', { goesByRequest: true, waitedMs: 30, warmReplicas: 4 }, 'warm', 30],
  [
    'likewise, and its load failed a short while ago',
    { goesByRequest: true, waitedMs: 1_500, mayLoadInMs: 700 },
    'warm',
    500,
  ],
  ['likewise, and it has waited twenty loads', { goesByRequest: true, waitedMs: 2_000 }, 'anywhere', 2_000],
  ['it has waited a second, and loads are short', { waitedMs: 1_000, expectedLoadMs: 2 }, 'anywhere', undefined],
])('when %s', (_, changes, eligibility, changesInMs) => {
  expect(eligibilityOf(model(changes))).toEqual({ eligibility, changesInMs });
});
