import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type ExpressDemand, type ExpressPlace, expressStep } from '../../../dist/deployments/control/express-step.js';

const needed: ExpressDemand = { isNeeded: true, isAllowed: true, target: { replicas: 2, revision: 1 }, running: 2 };
const at = (state: ExpressPlace['state'], startsInMs = 0, revision = 1): ExpressPlace => ({
  ...{ state, startsInMs, revision },
});

it.each<[string, Partial<ExpressDemand>, ExpressPlace | undefined, string | undefined]>([
  ['begins when it is needed', {}, undefined, 'start'],
  ['is not there when it is not needed', { isNeeded: false }, undefined, undefined],
  ['is not there when it is switched off', { isAllowed: false }, undefined, undefined],
  ['is not there where there are to be no replicas', { target: { replicas: 0, revision: 1 } }, undefined, undefined],
  ['does not begin while no replica runs', { running: 0 }, undefined, undefined],
  ['is left alone while it starts', {}, at('starting'), undefined],
  ['is left alone while it runs', {}, at('running'), undefined],
  ['starts again when it failed', {}, at('waiting'), 'start'],
  ['waits for the pause after a failure', {}, at('waiting', 1), undefined],
  ['does not start again while no replica runs', { running: 0 }, at('waiting'), undefined],
  ['goes on when the other replicas fail', { running: 0 }, at('running'), undefined],
  ['does not go on starting when the other replicas fail', { running: 0 }, at('starting'), 'no replica runs'],
  ['ends when it is not needed', { isNeeded: false }, at('running'), 'not needed'],
  ['ends when it is not needed, though it waits', { isNeeded: false }, at('waiting', 9), 'not needed'],
  ['ends when it is not needed, though it starts', { isNeeded: false }, at('starting'), 'not needed'],
  ['ends when it is switched off', { isAllowed: false }, at('running'), 'switched off'],
  ['ends where there are to be no replicas', { target: { replicas: 0, revision: 1 } }, at('running'), 'no replicas'],
  ['ends when replicas get other settings', { target: { replicas: 2, revision: 2 } }, at('running'), 'other settings'],
  ['ends when it fails with settings of before', {}, at('waiting', 0, 0), 'other settings'],
  ['is waited for while it ends', {}, at('draining', 0, 0), undefined],
  ['is not ended twice', { isNeeded: false }, at('draining'), undefined],
])('%s', (_, demand, place, expected) => {
  const step = expressStep({ ...needed, ...demand }, place);
  expect(step?.kind === 'stop' ? step.reason : step?.kind).toBe(expected);
});

it('comes to rest in whatever state it begins', () => {
  const states = fc.constantFrom(...(['waiting', 'starting', 'running', 'draining'] as const));
  const places = fc.record({ state: states, startsInMs: fc.integer({ min: -1, max: 1 }), revision: fc.nat(1) });
  const demands = fc.record({
    isNeeded: fc.boolean(),
    isAllowed: fc.boolean(),
    target: fc.record({ replicas: fc.nat(1), revision: fc.nat(1) }),
    running: fc.nat(1),
  });
  fc.assert(
    fc.property(demands, fc.option(places, { nil: undefined }), (demand, first) => {
      let place: ExpressPlace | undefined = first;
      let starts = 0;
      for (let steps = 0; steps < 5; steps += 1) {
        const step = expressStep(demand, place);
        if (step?.kind === 'start') {
          starts += 1;
          place = at('running', 0, demand.target.revision);
        } else if (step !== undefined || place?.state === 'draining') place = undefined;
        else break;
      }
      expect(expressStep(demand, place)).toBeUndefined();
      expect(starts).toBeLessThanOrEqual(1);
      const isWanted = demand.isNeeded && demand.isAllowed && demand.target.replicas > 0;
      if (!isWanted) expect(place).toBeUndefined();
      else if (demand.running > 0) expect(place?.revision).toBe(demand.target.revision);
    }),
  );
});
